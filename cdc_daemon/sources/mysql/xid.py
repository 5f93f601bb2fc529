"""The name of an XA transaction: a number and two strings of at most 64 bytes."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from cdc_daemon.model.errors import Stop

_TEXT: Final = re.compile(r"([0-9]{1,10})\.((?:[0-9a-f]{2}){0,64})\.((?:[0-9a-f]{2}){0,64})")


class Xid(NamedTuple):
    """``X'7831',X'',1`` of an XA statement; its text is ``1.7831.``, without quotes and blanks."""

    format: int
    global_part: bytes
    branch: bytes

    def __str__(self) -> str:
        return f"{self.format}.{self.global_part.hex()}.{self.branch.hex()}"


def parse_xid(text: str) -> Xid:
    """The name of ``1.7831.``. Raises Stop for any other text."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise Stop(f"{text[:300]!r} is not the name of an XA transaction")
    return Xid(int(found[1]), bytes.fromhex(found[2]), bytes.fromhex(found[3]))
