"""Types × values of MySQL and MariaDB, and the query by which the server itself says their text."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.changes import Invalid, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A column type, SQL literals of its values, and SQL that shows a value of the column ``{c}``.

    ``kind``: how what the server shows is compared with what was decoded.
    """

    sql_type: str
    values: Sequence[str]
    shown: str = "CAST({c} AS CHAR)"
    kind: str = "text"


_HEX: Final = r"CONCAT('\\x', LOWER(HEX({c})))"
_TEXT: Final = "CONVERT({c} USING utf8mb4)"


def _integers(word: str, bits: int) -> list[Case]:
    half = 1 << bits - 1
    signed = [str(n) for n in (0, 1, -1, half - 1, -half, half // 3, -half // 7)]
    unsigned = [str(n) for n in (0, 1, half - 1, half, 2 * half - 1)]
    return [
        Case(sql_type=word, values=signed),
        Case(sql_type=f"{word} unsigned", values=unsigned),
    ]


def _decimals() -> list[Case]:
    found = []
    for precision, scale in ((65, 30), (18, 4), (14, 2), (9, 0), (10, 0), (1, 0), (5, 5), (20, 19),
                             (65, 0), (30, 30), (38, 9), (3, 1)):  # fmt: skip
        digits = ("1234567890" * 7)[: precision - scale] or "0"
        rest = ("9876543210" * 7)[:scale]
        some = f"{digits}.{rest}" if scale else digits
        small = f"0.{'0' * (scale - 1)}1" if scale else "1"
        most = "9" * (precision - scale) + ("." + "9" * scale if scale else "")
        values = ["0", some, f"-{some}", small, f"-{small}", most, f"-{most}"]
        found.append(Case(sql_type=f"decimal({precision},{scale})", values=values))
    found.append(Case(sql_type="decimal(10,2) unsigned", values=["0", "12.5", "99999999.99"]))
    return found


def _floats() -> list[Case]:
    both = ["0", "1", "-1.5", "0.1", "123456", "1234567", "1e15", "999999999999999", "1e14",
            "1e-4", "1e-5", "-2.5e-7", "16777216", "8388608.5", "1e30", "3.4028234e38"]  # fmt: skip
    large = ["1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "123456789.12345678",
             "0.30000000000000004", "-1e22"]  # fmt: skip
    return [
        Case(sql_type="float", values=[*both, "1.17549435e-38", "1e-45"], kind="float"),
        Case(sql_type="double", values=both + large, kind="double"),
        Case(sql_type="float unsigned", values=["0", "2.5"], kind="float"),
    ]


def _bits() -> list[Case]:
    found = [Case(sql_type="bit(1)", values=["b'0'", "b'1'"], shown="ELT({c} + 1, 'f', 't')")]
    for bits in (2, 8, 9, 16, 23, 31, 32, 40, 63, 64):
        values = ["0", "1", str((1 << bits) - 1), str(1 << bits - 1)]
        found.append(Case(sql_type=f"bit({bits})", values=values, shown="CAST({c}+0 AS CHAR)"))
    return found


def _times() -> list[Case]:
    found = [
        Case(sql_type="year", values=["0", "1901", "2155", "2026"], kind="year"),
        Case(
            sql_type="date",
            values=["'1000-01-01'", "'9999-12-31'", "'0001-01-01'", "'2024-02-29'", "'2026-11-27'",
                    "'0000-00-00'", "'2020-00-10'", "'2020-01-00'", "'2021-02-29'",
                    "'0000-01-01'"],
            kind="moment",
        ),
    ]  # fmt: skip
    for digits in range(7):
        precision = f"({digits})" if digits else ""
        fractions = ["", ".5", ".123456", ".000001", ".100000", ".999999"]
        moments = [f"'2026-11-27 18:05:09{f}'" for f in fractions]
        datetimes = [*moments, "'0000-00-00 00:00:00'", "'2020-00-10 01:02:03.5'",
                     "'9999-12-31 23:59:59'", "'0001-01-01 00:00:00'"]  # fmt: skip
        timestamps = [*moments, "'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'",
                      "'2038-01-19 03:14:07'", "'2024-02-29 23:59:59.999'"]  # fmt: skip
        times = ["'00:00:00'", "'838:59:59'", "'-838:59:59'", "'-00:00:01.10'",
                 "'-00:00:00.000001'", "'00:00:00.5'", "'-12:34:56.123456'", "'23:59:59.999999'",
                 "'100:00:00.01'",
                 "'-00:00:01'"]  # fmt: skip
        found += [
            Case(sql_type=f"datetime{precision}", values=datetimes, kind="moment"),
            Case(sql_type=f"timestamp{precision} NULL", values=timestamps, kind="zoned"),
            Case(sql_type=f"time{precision}", values=times, kind="moment"),
        ]
    return found


SAMPLES: Final = {
    "armscii8": "Բարև", "ascii": "plain", "big5": "簡體，功許蓋", "cp1250": "Žluťoučký €",
    "cp1251": "Привет №", "cp1256": "مرحبا", "cp1257": "Ąžuolas", "cp850": "Çüé½",
    "cp852": "Čeština", "cp866": "Привет", "cp932": "日本語①㈱～ｱ", "dec8": "Œuvre",
    "eucjpms": "日本語①㈱～ｱ髙", "euckr": "한국어 뷁", "gb18030": "简体繁體㎡€😀",
    "gb2312": "简体中文", "gbk": "简体繁體㎡€", "geostd8": "გამარჯობა", "greek": "Γειά σου",
    "hebrew": "שלום", "hp8": "Äé£", "keybcs2": "Žluťoučký", "koi8r": "Привет",
    "koi8u": "Привіт Їжак", "latin1": "café € \u0081", "latin2": "Łódź", "latin5": "İstanbul",
    "latin7": "Žąsis", "macce": "Čeština", "macroman": "Café", "sjis": "日本語ｱ\\",
    "swe7": "ÅÄÖ åäö", "tis620": "สวัสดี", "ucs2": "häß日本", "ujis": "日本語",
    "utf16": "a日😀", "utf16le": "a日😀", "utf32": "a日😀", "utf8mb3": "ä日",
    "utf8mb4": "ä日😀",
}  # fmt: skip
"""A text of every character set."""


def _strings(charsets: Sequence[str]) -> list[Case]:
    found = [
        Case(
            sql_type=f"varchar(20) CHARACTER SET {charset}",
            values=["''", f"'{_quoted(SAMPLES[charset])}'", "'abc  '", "'~ @ x'"],
            shown=_TEXT,
        )
        for charset in charsets
    ]
    long = "REPEAT('ä', 300)"
    plain = ["''", "'abc'", "'abc   '", "'ä日😀'", "'it''s \\\\ \"x\"\\n\\t'"]
    for word in ("char(10)", "varchar(10)", "varchar(300)", "tinytext", "text", "mediumtext",
                 "longtext"):  # fmt: skip
        values = plain if "10" in word or word == "tinytext" else [*plain, long]
        found.append(Case(sql_type=word, values=values, shown=_TEXT))
    found += [
        Case(sql_type=f"char(10) CHARACTER SET {charset}", values=["''", "'a b  '", "'xyz'"],
             shown=_TEXT)
        for charset in ("latin1", "utf16", "ucs2", "utf32", "gbk")
    ]  # fmt: skip
    found.append(Case(sql_type="char(200) CHARACTER SET utf32", values=["'ä'"], shown=_TEXT))
    found.append(Case(sql_type="text CHARACTER SET gbk", values=["'简体'", "'a'"], shown=_TEXT))
    return found


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "''")


def _words() -> list[Case]:
    found = [
        Case(sql_type="enum('a','it''s','ä,b','')", values=["'a'", "'it''s'", "'ä,b'", "''", "1"],
             shown=_TEXT),
        Case(sql_type="enum('café','z') CHARACTER SET latin1", values=["'café'", "'z'"],
             shown=_TEXT),
        Case(sql_type="enum('ä','日') CHARACTER SET utf16", values=["'ä'", "'日'"], shown=_TEXT),
        Case(sql_type="set('x','y','café') CHARACTER SET latin1",
             values=["''", "'x'", "'café,x'", "7"], shown=_TEXT),
        Case(sql_type="enum('x') DEFAULT NULL", values=["'x'", "''"], shown=_TEXT),
    ]  # fmt: skip
    many = ",".join(f"'label {n}'" for n in range(300))
    found.append(
        Case(sql_type=f"enum({many})", values=["'label 0'", "'label 254'", "'label 299'", "256"],
             shown=_TEXT)
    )  # fmt: skip
    for number in (3, 9, 17, 25, 33, 64):
        labels = ",".join(f"'m{n}'" for n in range(number))
        values = ["''", "'m0'", f"'m{number - 1},m0'", str((1 << number) - 1)]
        found.append(Case(sql_type=f"set({labels})", values=values, shown=_TEXT))
    return found


def _binaries() -> list[Case]:
    values = ["x''", "x'0102'", "x'010200'", "x'00'", "x'00000000'", "x'ff00fe00'"]
    found = [
        Case(sql_type=sql_type, values=values, shown=_HEX)
        for sql_type in ("binary(4)", "binary(200)", "varbinary(10)", "varbinary(300)", "tinyblob",
                         "blob", "mediumblob", "longblob")
    ]  # fmt: skip
    found.append(Case(sql_type="blob", values=["REPEAT(x'00ff', 5000)"], shown=_HEX))
    shapes = ["'POINT(1 2)'", "'LINESTRING(0 0,1 1.5)'", "'POLYGON((0 0,1 0,1 1,0 0))'"]
    plain = [f"ST_GeomFromText({shape})" for shape in shapes]
    placed = [f"ST_GeomFromText({shape}, 3857)" for shape in shapes]
    found.append(
        Case(sql_type="geometry", values=plain + placed, kind="geometry",
             shown="CONCAT(ST_SRID({c}), ' ', LOWER(HEX(ST_AsWKB({c}))))")
    )  # fmt: skip
    found.append(
        Case(sql_type="point", values=plain[:1], kind="geometry",
             shown="CONCAT(ST_SRID({c}), ' ', LOWER(HEX(ST_AsWKB({c}))))")
    )  # fmt: skip
    return found


_DOCUMENTS: Final = (
    "null", "true", "false", "0", "-1", "32767", "32768", "-32769", "65535", "65536", "2147483647",
    "4294967295", "4294967296", "-2147483649", "9223372036854775807", "18446744073709551615",
    "1.0", "-0.0", "1e15", "1e14", "1e-15", "1e-16", "1.5e300", "0.1", "123456789.12345678",
    '""', '"a"', r'"q \" \\ / \b\f\n\r\t \u0001 \u00e9 \ud83d\ude00"', "[]", "{}",
    "[1, [2, [3, {}]]]", '{"b": 1, "aa": 2, "a": null, "é": [true, false]}', '{"": {"": []}}',
    "[70000, -70000, 1.25]",
)  # fmt: skip


def _documents() -> list[Case]:
    literals = [f"'{text.replace(chr(92), chr(92) * 2)}'" for text in _DOCUMENTS]
    made = [
        "JSON_ARRAY(1.50, -0.0001, CAST('2020-01-02' AS DATE), CAST('-12:00:01.25' AS TIME(6)))",
        "JSON_ARRAY(CAST('2020-01-02 03:04:05.123' AS DATETIME(3)), x'0102ff', b'101')",
        "JSON_OBJECT('k', REPEAT('x', 70000), 'l', 70000, 'm', 3000000000, 'n', 5)",
        "CAST(CONCAT('[', REPEAT('1,', 40000), '2]') AS JSON)",
        "JSON_ARRAY(REPEAT('ä', 100), REPEAT('b', 20000))",
    ]
    return [Case(sql_type="json", values=literals + made)]


def _of_mysql() -> list[Case]:
    vectors = ["TO_VECTOR('[1,2.5,-3e-7]')", "TO_VECTOR('[0]')"]
    return [
        Case(sql_type="vector(5)", values=vectors, shown="HEX({c})", kind="vector"),
        *_documents(),
    ]


def _of_mariadb() -> list[Case]:
    uuids = [f"'00112233-4455-{v}677-{x}899-aabbccddee00'" for v in range(9) for x in "08"]
    usual = [one for one in uuids if "-8677-0" not in one]
    long = "REPEAT('lang und öde ', 300)"
    return [
        Case(sql_type="uuid", values=[*usual, "'00000000-0000-0000-0000-000000000000'"]),
        Case(sql_type="inet4", values=["'10.0.0.0'", "'255.255.255.255'", "'0.0.0.0'"]),
        Case(
            sql_type="inet6",
            values=["'::'", "'::1'", "'1::'", "'2001:db8::ff00:42:8329'", "'::ffff:1.2.3.4'",
                    "'::1.2.3.4'", "'fe80::'", "'1:0:0:2:0:0:0:3'", "'::ffff:0:0'", "'::1:2'",
                    "'1:2:3:4:5:6:7:0'", "'0:0:1:2:3:4:5:6'", "'1:0:2:3:4:5:6:7'", "'::ffff'",
                    "'::1:0'", "'1:0:0:2:0:0:3:4'", "'1:0:2:0:3:4:5:6'"],
        ),
        Case(sql_type="varchar(100) COMPRESSED", values=["''", "'a'", "REPEAT('ä', 100)"],
             shown=_TEXT),
        Case(sql_type="varchar(2000) COMPRESSED", values=["''", f"LEFT({long}, 2000)"],
             shown=_TEXT),
        Case(sql_type="text COMPRESSED", values=["''", "'a'", long], shown=_TEXT),
        Case(sql_type="text COMPRESSED CHARACTER SET latin1", values=["'ä€'", long], shown=_TEXT),
        Case(sql_type="blob COMPRESSED", values=["x''", "REPEAT(x'00', 9999)"], shown=_HEX),
        Case(sql_type="varbinary(50) COMPRESSED", values=["x'00'", "REPEAT(x'61', 50)"],
             shown=_HEX),
        Case(sql_type="json", values=["'{\"b\": 1, \"a\":2}'"], shown=_TEXT),
    ]  # fmt: skip


def cases(*, mariadb: bool, charsets: Sequence[str]) -> list[Case]:
    """All of one server."""
    found = [
        case
        for word, bits in (("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32),
                           ("bigint", 64))
        for case in _integers(word, bits)
    ]  # fmt: skip
    found += [*_decimals(), *_floats(), *_bits(), *_times(), *_strings(charsets), *_words()]
    return [*found, *_binaries(), *(_of_mariadb() if mariadb else _of_mysql())]


def agrees(kind: str, decoded: Value, shown: str | None) -> bool:
    """Whether the value that was decoded is the one that the server shows."""
    if shown is None or decoded is None:
        return shown is None and decoded is None
    if isinstance(decoded, Invalid):
        return kind in {"moment", "zoned"} and _no_date(shown) and decoded.raw == _cut(shown)
    assert isinstance(decoded, bytes)
    return _COMPARISONS[kind](decoded, shown)


def _cut(shown: str) -> bytes:
    """A time without zeros at the fraction's end."""
    return (shown.rstrip("0").rstrip(".") if "." in shown else shown).encode()


def _no_date(shown: str) -> bool:
    return "-00" in shown or shown.startswith(("0000", "2021-02-29"))


def _geometry(decoded: bytes, shown: str) -> bool:
    srid, wkb = shown.split()
    if srid == "0":
        return decoded.decode() == rf"\x{wkb}"
    number = struct.pack("<I", int(srid)).hex()
    kind = struct.pack("<I", int.from_bytes(bytes.fromhex(wkb[2:10]), "little") | 1 << 29).hex()
    return decoded.decode() == rf"\x{wkb[:2]}{kind}{number}{wkb[10:]}"


def _vector(decoded: bytes, shown: str) -> bool:
    numbers = [float(one) for one in decoded.decode().strip("[]").split(",")]
    return struct.pack(f"<{len(numbers)}f", *numbers).hex() == shown.lower()


def _same_float(decoded: bytes, shown: str) -> bool:
    """The server shows six digits of a FLOAT."""
    value, seen = float(decoded), float(shown)
    return struct.pack("f", value) == struct.pack("f", seen) or f"{value:.6g}" == f"{seen:.6g}"


_COMPARISONS: Final[dict[str, Callable[[bytes, str], bool]]] = {
    "text": lambda decoded, shown: decoded == shown.encode(),
    "moment": lambda decoded, shown: decoded == _cut(shown),
    "zoned": lambda decoded, shown: decoded == _cut(shown) + b"+00",
    "year": lambda decoded, shown: decoded == str(int(shown)).encode(),
    "double": lambda decoded, shown: float(decoded) == float(shown),
    "float": _same_float,
    "geometry": _geometry,
    "vector": _vector,
}
