"""Small file systems that fill up, for tests that run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdc_daemon.demo.installation import server_account, workshop

FILLER = "filler"
NOISE = (
    "INSERT INTO t_material SELECT n, 'M' || n, 'Material', 'KG', n,"
    " (SELECT string_agg(md5(random()::text || g || n), '') FROM generate_series(1, 60) g)"
    " FROM generate_series({}, {}) n"
)
"""Materials of a source on PostgreSQL: about 2 KB a row that no compression makes smaller."""


class SmallDisk:
    """A tmpfs of so many MiB at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.path / FILLER).open("wb", buffering=0) as file:
            size = 1 << 16
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Take back what `fill` wrote."""
        (self.path / FILLER).unlink()

    def read_only(self) -> None:
        """Nobody may write any more; there must be no file open for writing."""
        _run("mount", "-o", "remount,ro", str(self.path))

    def writable(self) -> None:
        """As it was."""
        _run("mount", "-o", "remount,rw", str(self.path))

    def resize(self, mebibytes: int) -> None:
        """Another size."""
        _run("mount", "-o", f"remount,size={mebibytes}m", str(self.path))


@contextmanager
def small_disk(mebibytes: int) -> Iterator[SmallDisk]:
    """Mount it; it belongs to the account of the private servers."""
    root_only()
    with servers_folder() as path:
        _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path))
        try:
            server_account().own(path)
            yield SmallDisk(path)
        finally:
            _run("umount", "--lazy", str(path))


def root_only() -> None:
    """Skip where file systems may not be mounted; in CI they may."""
    mounting = ("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    if subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        if os.environ.get("CI"):
            pytest.fail("root may not mount file systems here")
        pytest.skip("root may not mount file systems here")


@contextmanager
def servers_folder() -> Iterator[Path]:
    """An empty folder that the private servers can reach, which cannot enter pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="shared-", dir=workshop()))
    server_account().own(path)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
