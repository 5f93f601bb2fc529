"""A Debian root in which a real systemd is booted, in namespaces of its own (as root only).

It shares the network with this machine, so that private servers on loopback can be reached, and
nothing else: processes, mounts, host name and control groups are its own, and are gone with it. No
test has to wait for a virtual machine, and no unit of this machine is touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cdc_daemon.demo.processes import children, die_with, lives
from tests.support.waiting import until

SUITE: Final = "bookworm"
PACKAGES: Final = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "logrotate")
PROGRAM: Final = "/opt/cdc-daemon/bin/cdc-daemon"
ROOT: Final = Path(__file__).parents[2]

_OUTSIDE = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$1.cgroup"
mount -t cgroup -o none,name=systemd cgroup "$1.cgroup" 2>/dev/null \\
    || mount -t cgroup2 cgroup2 "$1.cgroup"
mkdir -p "$1.cgroup/$2"
echo $$ > "$1.cgroup/$2/cgroup.procs"
exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup bash -euc "$3" bash "$1"
"""
_INSIDE = """
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /dev dev
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
if ! mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd 2>/dev/null; then
    umount sys/fs/cgroup
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
hostname booted
mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
mount --make-rshared /
export container=other
exec /sbin/init --log-target=journal
"""
_CLEAN = """
mount --make-rprivate /
mount -t cgroup -o none,name=systemd cgroup "$1.cgroup" 2>/dev/null \\
    || mount -t cgroup2 cgroup2 "$1.cgroup"
find "$1.cgroup/$2" -depth -type d -exec rmdir {} +
"""


def mirror() -> str:
    """Where this machine's own apt gets Debian's packages of that suite from."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT) $(ORIGIN)"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        site, codename, component, *_ = [*line.split(), "", "", ""]
        if codename == SUITE and component == "main":
            return site
    raise AssertionError(f"no source of this machine's apt has the suite {SUITE}:\n{done.stdout}")


def debootstrap(root: Path) -> None:
    """A minimal Debian with systemd and Python in an empty folder."""
    include = f"--include={','.join(PACKAGES)}"
    done = subprocess.run(
        ["/usr/sbin/debootstrap", "--variant=minbase", include, SUITE, str(root), mirror()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def install(root: Path) -> None:
    """The program, as the README says, but without a network: packages are copied from ours."""
    _inside(root, "python3", "-m", "venv", "/opt/cdc-daemon")
    (place,) = (root / "opt/cdc-daemon/lib").glob("python3.*/site-packages")
    for name in sorted(_needed("cdc-daemon")):
        _copy_package(name, place)
    wheels = root / "opt/wheels"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--wheel-dir", str(wheels), str(ROOT)], check=True)
    (wheel,) = wheels.glob("cdc_daemon-*.whl")
    inside = f"/opt/wheels/{wheel.name}"
    _inside(root, "/opt/cdc-daemon/bin/pip", "install", "-q", "--no-index", "--no-deps", inside)


def installation_commands() -> Iterator[str]:
    """The commands of the page by which units, account and folders are installed."""
    page = (ROOT / "docs/operations/service.md").read_text("utf-8")
    block = page.split("<!-- install -->\n```console\n")[1].split("```")[0]
    for line in block.splitlines():
        yield line.removeprefix("$ sudo ")


def _inside(root: Path, *command: str) -> None:
    subprocess.run(["chroot", str(root), *command], check=True, env={"PATH": os.defpath + ":/sbin"})


def _needed(name: str) -> set[str]:
    """What a distribution needs, and what that needs, without extras; not itself."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for requirement in metadata.requires(waiting.pop()) or ():
            own = re.split(r"[\s<>=!~;\[(]", requirement, maxsplit=1)[0]
            extras = re.findall(r"\[([\w,]+)\]", requirement.partition(";")[0])
            wanted = "extra ==" not in requirement and _installed(own) and own not in found
            if wanted:
                found.add(own)
                waiting.append(own)
            found |= {f"{own}-{extra}" for extra in extras if _installed(f"{own}-{extra}")}
    return found


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _copy_package(name: str, place: Path) -> None:
    for file in metadata.distribution(name).files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = place / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)


class Booted:
    """The running systemd; its context boots it and leaves no process, mount or group behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._group = f"booted-{os.getpid()}"
        self._console = root.with_name(f"{root.name}.console")
        self._cgroups = Path(f"{root}.cgroup")
        self._outer: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        self._cgroups.mkdir()
        command = ["unshare", "--mount", "bash", "-euc", _OUTSIDE, "bash", str(self.root)]
        with self._console.open("wb") as console:
            self._outer = subprocess.Popen(
                [*command, self._group, _INSIDE],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                preexec_fn=die_with(os.getpid(), signal.SIGKILL),  # noqa: PLW1509 - see there
            )
        try:
            until(self._up, seconds=120, what="systemd is up")
        except BaseException as error:
            self.__exit__(None, None, None)
            raise AssertionError(self._console.read_text(errors="replace")[-3000:]) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._outer is not None
        inits = children(self._outer.pid)
        self._outer.kill()  # and the kernel its child, and with that the namespace's first process
        self._outer.wait()
        until(lambda: not any(map(lives, inits)), what="the booted systemd is gone")
        clean = ["unshare", "--mount", "bash", "-uc", _CLEAN, "bash", str(self.root), self._group]
        done = subprocess.run(clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self._cgroups.rmdir()

    def _up(self) -> bool:
        assert self._outer is not None
        assert self._outer.poll() is None, "it ended"
        inits = children(self._outer.pid)
        if not inits:
            return False
        self._init = inits[0]
        return self.call("systemctl", "is-system-running", ok=(0, 1)).strip() in {
            "running",
            "degraded",
        }

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command inside, by root."""
        enter = ["nsenter", "-t", str(self._init), "-m", "-p", "-u", "-i", "-C"]
        return subprocess.run(
            [*enter, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
            env={"PATH": f"{os.defpath}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", **environment},
            cwd="/",
        )

    def call(self, *command: str, ok: Sequence[int] = (0,)) -> str:
        """Its stdout; AssertionError with everything that it said if it fails."""
        done = self.run(*command)
        assert done.returncode in ok, f"{command}: {done}\n{self._log(command)}"
        return done.stdout

    def properties(self, unit: str) -> dict[str, str]:
        """What `systemctl show` says."""
        lines = self.call("systemctl", "show", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def journal(self, unit: str, *more: str) -> list[dict[str, Any]]:
        """The entries of a unit, and of systemd about it."""
        text = self.call("journalctl", "-o", "json", "-a", "-u", unit, "--no-pager", *more)
        return [json.loads(line) for line in text.splitlines()]

    def said(self, unit: str, event: str, *, times: int = 1) -> list[dict[str, Any]]:
        """Wait until the daemon said this so often; the entries."""

        def found() -> list[dict[str, Any]]:
            entries = [one for one in self.journal(unit) if one.get("CDC_EVENT") == event]
            return entries if len(entries) >= times else []

        return until(found, seconds=60, what=f"{unit} says {event!r}")

    def outside(self, pid: int) -> int:
        """This machine's number of a process that has that number inside."""
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                text = path.read_text()
            except OSError:
                continue
            numbers = re.search(r"^NSpid:\s+(.*)$", text, re.M)
            own = path.parent / "ns" / "pid"
            if numbers and numbers[1].split()[1:] == [str(pid)] and self._is_ours(own):
                return int(path.parent.name)
        raise AssertionError(f"there is no process {pid} inside")

    def _is_ours(self, namespace: Path) -> bool:
        try:
            return namespace.readlink() == Path(f"/proc/{self._init}/ns/pid").readlink()
        except OSError:
            return False

    def _log(self, command: Sequence[str]) -> str:
        units = [word for word in command if word.startswith("cdc-daemon")]
        if not units:
            return ""
        return self.run("journalctl", "--no-pager", "-n", "60", "-u", units[0]).stdout
