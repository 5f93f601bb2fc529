"""Which file lies at a path: enough to tell a file from another that took its place.

A number of an inode is given again as soon as its file is gone, so the moment at which the file was
made is asked for as well, where the system tells it. The file itself is never opened for this:
closing it would take away the locks that SQLite keeps on it in this process.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BIRTH = struct.Struct("=80xqI")
"""Where ``struct statx`` (linux/stat.h) has the time of birth: seconds, nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """A file. ``born``: nanoseconds since 1970; 0: the system does not tell."""

    device: int
    inode: int
    born: int

    def is_same(self, other: FileIdentity) -> bool:
        """Whether it is the same file."""
        return self.device == other.device and self.lasts_as(other.inode, other.born)

    def lasts_as(self, inode: int, born: int) -> bool:
        """Whether it is the file that was noted so: devices have other numbers after a restart."""
        return self.inode == inode and (self.born == born or not self.born or not born)


def file_identity(path: str) -> FileIdentity | None:
    """Which file is at a path now; None: none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return FileIdentity(device=found.st_dev, inode=found.st_ino, born=_born(path))


def _born(path: str) -> int:
    """When a file was made; Python tells it from version 3.12 on, and on some systems only."""
    statx = _statx()
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if statx is None or statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, found) != 0:
        return 0
    (mask,) = struct.unpack_from("=I", found)
    seconds, nanoseconds = _BIRTH.unpack_from(found)
    return int(seconds * 10**9 + nanoseconds) if mask & _STATX_BTIME else 0


@cache
def _statx() -> Any:
    return getattr(ctypes.CDLL(None), "statx", None)
