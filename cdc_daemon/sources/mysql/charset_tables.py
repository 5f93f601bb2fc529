"""What MySQL and MariaDB say of their character sets: numbers, widths, and characters.

Taken from the servers (``information_schema.collations``, and CONVERT of every byte).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COLLATIONS: Final = {
    "armscii8": "32 64", "ascii": "11 65", "big5": "1 84", "binary": "63",
    "cp1250": "26 34 44 66 99", "cp1251": "14 23 50-52", "cp1256": "57 67", "cp1257": "29 58-59",
    "cp850": "4 80", "cp852": "40 81", "cp866": "36 68", "cp932": "95-96", "dec8": "3 69",
    "eucjpms": "97-98", "euckr": "19 85", "gb18030": "248-250", "gb2312": "24 86", "gbk": "28 87",
    "geostd8": "92-93", "greek": "25 70", "hebrew": "16 71", "hp8": "6 72", "keybcs2": "37 73",
    "koi8r": "7 74", "koi8u": "22 75", "latin1": "5 8 15 31 47-49 94", "latin2": "2 9 21 27 77",
    "latin5": "30 78", "latin7": "20 41-42 79", "macce": "38 43", "macroman": "39 53",
    "sjis": "13 88", "swe7": "10 82", "tis620": "18 89", "ujis": "12 91",
    "ucs2": "35 90 128-151 159 640-642 2560-2815", "utf16": "54-55 101-124 672-674 2816-3071",
    "utf16le": "56 62", "utf32": "60-61 160-183 736-738 3072-3327",
    "utf8mb3": "33 76 83 192-215 223 576-578 2048-2303",
    "utf8mb4": "45-46 224-247 255-323 608-610 2304-2559",
}  # fmt: skip
"""576 and more: MariaDB's own; from 2048 on 256 numbers for each set's UCA 14.0.0 collations."""

WIDTHS: Final = {
    "big5": 2, "cp932": 2, "euckr": 2, "gb2312": 2, "gbk": 2, "sjis": 2, "ucs2": 2,
    "eucjpms": 3, "ujis": 3, "utf8mb3": 3,
    "gb18030": 4, "utf16": 4, "utf16le": 4, "utf32": 4, "utf8mb4": 4,
}  # fmt: skip

NONE: Final = "\ufffe"
"""Stands for "no character" in a charmap."""
_CP1256_HOLES: Final = dict.fromkeys((0x8A, 0x8F, 0x98, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF), NONE)
SINGLE: Final[Mapping[str, tuple[str, Mapping[int, str]]]] = {
    "armscii8": ("latin-1", dict(enumerate(
        "❁§։)(»«—.՝,-՟…՜՛՞ԱաԲբԳգԴդԵեԶզԷէԸըԹթԺժԻիԼլԽխԾծԿկՀհՁձՂղՃճՄմՅյՆնՇշՈոՉչՊպՋջՌռՍսՎվՏտՐրՑցՒւՓփՔքՕօՖֆ’'",
        0xA1,
    ))),
    "ascii": ("ascii", {}),
    "cp1250": ("cp1250", {}),
    "cp1251": ("cp1251", {}),
    "cp1256": ("cp1256", _CP1256_HOLES),
    "cp1257": ("cp1257", {}),
    "cp850": ("cp850", {}),
    "cp852": ("cp852", {}),
    "cp866": ("cp866", {0xFC: "ⁿ", 0xFD: "²"}),
    "dec8": ("latin-1", dict(zip(
        b"\xa4\xa6\xa8\xac\xad\xae\xaf\xb4\xb8\xbe\xd0\xd7\xdd\xde\xf0\xf7\xfd\xfe\xff",
        "\ufffe\ufffe¤\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffeŒŸ\ufffe\ufffeœÿ\ufffe\ufffe",
        strict=True,
    ))),
    "geostd8": ("cp1252", {
        **dict(zip(b"\x83\x88\x8a\x8c\x8e\x98\x99\x9a\x9c\x9e\x9f", NONE * 11, strict=True)),
        **dict(enumerate("აბგდევზჱთიკლმნჲოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ", 0xC0)),
        **dict.fromkeys(range(0xE6, 0x100), NONE),
        0xFD: "№",
    }),
    "greek": ("iso8859-7", {0xA1: "ʽ", 0xA2: "ʼ", 0xA4: NONE, 0xA5: NONE, 0xAA: NONE}),
    "hebrew": ("iso8859-8", {0xAF: "‾"}),
    "hp8": ("hp-roman8", {}),
    "keybcs2": ("cp437", dict(enumerate(
        "ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘťáíóúňŇŮÔšřŕŔ", 0x80
    ))),
    "koi8r": ("koi8-r", {}),
    "koi8u": ("koi8-u", {0x95: "•"}),
    "latin1": ("cp1252", {hole: chr(hole) for hole in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}),
    "latin2": ("iso8859-2", {}),
    "latin5": ("iso8859-9", {}),
    "latin7": ("iso8859-13", {}),
    "macce": ("mac-latin2", {}),
    "macroman": ("mac-roman", {}),
    "swe7": ("ascii", dict(zip(b"@[\\]^`{|}~\x7f", "ÉÄÖÅÜéäöåü\ufffe", strict=True))),
    "tis620": ("tis-620", {}),
}  # fmt: skip
"""Codec, and the bytes that the server reads in another way."""

IBM: Final = (
    "ⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ＇＂㈱№℡炻仼僴凬匇匤﨎咊坙﨏塚增寬峵嵓"
    "﨑德悅愠敎昻晥晴朗栁﨓﨔橫櫢淸淲瀨凞猪甁皂皞益礰礼神祥福竧靖精綠緖羽荢﨟薰蘒﨡蠇"
    "諸譿賴赶﨣﨤逸郞都鄕﨧﨨閒隆﨩霻靍靑飯飼館馞髙魲鶴黑"
)
"""IBM's characters behind 8F, from F3F3 on."""
