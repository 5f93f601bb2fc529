"""Collation numbers, their character sets, and how a text in one becomes UTF-8.

The numbers are MySQL's and MariaDB's (``information_schema.collations``), which never give one
number to two character sets. A character is what the server's own table makes of it: where Python's
codec differs, the difference stands here (a test compares every character on both servers). Bytes
that the server's table does not hold give :class:`Invalid`, never another text.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from cdc_daemon.model.changes import Invalid
from cdc_daemon.sources.mysql.charset_tables import COLLATIONS, IBM, NONE, SINGLE, WIDTHS

Text = bytes | Invalid
"""UTF-8, or what cannot become UTF-8."""
Reader = Callable[[bytes], Text]

BINARY: Final = "binary"
UTF8: Final = frozenset({"utf8", "utf8mb3", "utf8mb4"})
"""``utf8`` is what older catalogues call utf8mb3."""
_UNICODE: Final = {"utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be"}
_NO_PAD: Final = range(1025, 2048)  # MariaDB's NO PAD variant of the collation 1,024 below


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wide:
    """A character set of several bytes a character, beside Python's codec.

    ``others``: characters that the server reads in another way (None: not at all); ``more``: those
    that only the server knows; ``length``: bytes of the character that begins at an offset.
    """

    codec: str
    length: Callable[[bytes, int], int]
    others: Mapping[bytes, str | None] = field(default_factory=dict)
    more: Callable[[bytes], str | None] = lambda _: None


def charset_of(collation: int) -> str | None:
    """The character set of a collation number; None: nobody here knows the number."""
    return _by_number().get(collation - 1024 if collation in _NO_PAD else collation)


def width_of(charset: str) -> int:
    """The most bytes that one of its characters takes."""
    return WIDTHS.get(charset, 1)


def known() -> frozenset[str]:
    """All character sets that can be read, and ``binary``."""
    return UTF8.union(COLLATIONS)


@cache
def reader_of(charset: str) -> Reader:
    """What makes UTF-8 of a text in this character set. Raises KeyError for ``binary``."""
    if charset in UTF8:
        return _read_utf8
    if charset in _UNICODE or charset == "ucs2":
        return _unicode(charset)
    return _single(charset) if charset in SINGLE else _wide(charset)


def keeps_ascii(charset: str) -> bool:
    """Whether a text of ASCII's bytes is the same text in UTF-8."""
    return charset not in _UNICODE and charset not in {"ucs2", "swe7"}


@cache
def _by_number() -> dict[int, str]:
    return {number: name for name, text in COLLATIONS.items() for number in _numbers(text)}


def _numbers(text: str) -> Iterator[int]:
    for word in text.split():
        first, _, last = word.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _invalid(raw: bytes, charset: str, codec: str) -> Invalid:
    return Invalid(raw, f"the text is not valid in its character set ({charset})", codec)


def _read_utf8(raw: bytes) -> Text:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _invalid(raw, "utf8", "utf-8")
    return raw


def _unicode(charset: str) -> Reader:
    codec = _UNICODE.get(charset, "utf-16-be")
    planes = charset != "ucs2"  # ucs2 has no characters beyond the first one

    def read(raw: bytes) -> Text:
        try:
            text = raw.decode(codec)
        except UnicodeDecodeError:
            return _invalid(raw, charset, codec)
        if planes or len(text) * 2 == len(raw):
            return text.encode()
        return _invalid(raw, charset, codec)

    return read


def _single(charset: str) -> Reader:
    codec, others = SINGLE[charset]
    table = "".join(others.get(byte) or _character(byte, codec) for byte in range(256))

    def read(raw: bytes) -> Text:
        try:
            return codecs.charmap_decode(raw, "strict", table)[0].encode()
        except UnicodeDecodeError:
            return _invalid(raw, charset, codec)

    return read


def _character(byte: int, codec: str) -> str:
    try:
        return bytes([byte]).decode(codec)
    except UnicodeDecodeError:
        return NONE


def _wide(charset: str) -> Reader:
    how = _WIDE[charset]

    def read(raw: bytes) -> Text:
        try:
            if not any(map(raw.__contains__, how.others)):
                return raw.decode(how.codec).encode()
        except UnicodeDecodeError:
            pass
        text = _one_by_one(raw, how)
        return _invalid(raw, charset, how.codec) if text is None else text.encode()

    return read


def _one_by_one(raw: bytes, how: _Wide) -> str | None:
    """The text, read a character at a time; None where there is one that the server lacks."""
    found: list[str] = []
    offset = 0
    while offset < len(raw):
        end = offset + how.length(raw, offset)
        one = _one(raw[offset:end], how)
        if one is None or end > len(raw):
            return None
        found.append(one)
        offset = end
    return "".join(found)


def _one(character: bytes, how: _Wide) -> str | None:
    if character in how.others:
        return how.others[character]
    try:
        return character.decode(how.codec)
    except UnicodeDecodeError:
        return how.more(character)


def _two(raw: bytes, offset: int) -> int:
    return 2 if raw[offset] > 0x80 else 1


def _shifted(raw: bytes, offset: int) -> int:
    lead = raw[offset]
    return 1 if lead <= 0x80 or 0xA0 <= lead <= 0xDF or lead >= 0xFD else 2


def _euc(raw: bytes, offset: int) -> int:
    lead = raw[offset]
    return 3 if lead == 0x8F else 2 if lead > 0x80 else 1


def _four(raw: bytes, offset: int) -> int:
    if raw[offset] <= 0x80:
        return 1
    return 4 if raw[offset + 1 : offset + 2].isdigit() else 2


_CELLS: Final = range(0xA1, 0xFF)
_PRIVATE_ROWS: Final = range(0xF5, 0xFF)


def _private(character: bytes) -> str | None:
    """EUC's rows 85 to 94, plain and behind 8F, which the server maps to U+E000 and on."""
    behind = len(character) - 2
    if behind < 0:
        return None
    row, cell = character[behind], character[behind + 1]
    if row not in _PRIVATE_ROWS or cell not in _CELLS:
        return None
    return chr(0xE000 + behind * 940 + (row - 0xF5) * 94 + cell - 0xA1)


def _private_or_vendor(character: bytes) -> str | None:
    """The same, NEC's row 13, which is that of cp932, and IBM's characters."""
    if len(character) == 3 and character >= b"\x8f\xf3\xf3" and character[1] < 0xF5:
        row, cell = character[1] - 0xF3, character[2] - 0xF3
        return IBM[row * 94 + cell] if character[2] in _CELLS else None
    if len(character) == 2 and character[0] == 0xAD and character[1] in _CELLS:
        cell = character[1] - 0xA1
        shifted = bytes([0x87, 0x40 + cell + (cell >= 63)])
        return shifted.decode("cp932", "ignore") or None
    return _private(character)


_WIDE: Final = {
    "big5": _Wide(codec="big5", length=_two, others=dict.fromkeys((
        b"\xa1\x5a", b"\xa1\xc3", b"\xa1\xc5", b"\xa1\xfe", b"\xa2\x40", b"\xa2\xcc", b"\xa2\xce",
    )), more={
        bytes([0xF9, 0xD6 + index]): one for index, one in enumerate("碁銹裏墻恒粧嫺")
    }.get),
    "cp932": _Wide(codec="cp932", length=_shifted, others=dict.fromkeys((
        b"\x80", b"\xa0", b"\xfd", b"\xfe", b"\xff",
    ))),
    "eucjpms": _Wide(codec="euc_jp", length=_euc, others={
        b"\xa1\xc1": "～", b"\xa1\xc2": "∥", b"\xa1\xdd": "－", b"\xa1\xf1": "￠",
        b"\xa1\xf2": "￡", b"\xa2\xcc": "￢", b"\x8f\xa2\xb7": "～", b"\x8f\xa2\xc3": "￤",
    }, more=_private_or_vendor),
    "euckr": _Wide(codec="cp949", length=_two),
    "gb18030": _Wide(codec="gb18030", length=_four, others={
        b"\xa8\xbc": "ḿ", b"\x81\x35\xf4\x37": "\ue7c7",
    }),
    "gb2312": _Wide(codec="gb2312", length=_two),
    "gbk": _Wide(codec="gbk", length=_two),
    "sjis": _Wide(codec="shift_jis", length=_shifted, others={b"\x81\x5f": "\\"}),
    "ujis": _Wide(codec="euc_jp", length=_euc, others={b"\xa1\xc0": "\\"}, more=_private),
}  # fmt: skip
