"""Row images of the binlog: bytes in, tuples of text out, and DecodeError for everything else."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.model.changes import Invalid, Row, Value
from cdc_daemon.model.errors import DecodeError, Stop
from cdc_daemon.sources.mysql import column as t
from cdc_daemon.sources.mysql import tablemap
from cdc_daemon.sources.mysql.column import BinlogColumn
from cdc_daemon.sources.mysql.compression import column_reader, inflate_rows
from cdc_daemon.sources.mysql.cursor import Cursor
from cdc_daemon.sources.mysql.rowcode import COMPILED, Image
from cdc_daemon.sources.mysql.rows import RowsDecoder
from cdc_daemon.sources.mysql.strict import read_row
from cdc_daemon.sources.mysql.tablemap import TableMap, named, parse_table_map
from tests.support import captured_binlog as captured

LIMIT: Final = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What one server wrote."""

    table_map: bytes
    insert: bytes
    update: bytes
    delete: bytes
    row: dict[str, Value]
    mariadb: bool

    @property
    def table(self) -> TableMap:
        found = parse_table_map(self.table_map, mariadb=self.mariadb)
        return named(found, captured.TYPES)

    @property
    def version(self) -> int:
        return 1 if self.mariadb else 2

    def decoder(self) -> RowsDecoder:
        table = self.table
        wanted = range(len(table.columns))
        return RowsDecoder(table, wanted, table.primary_key, max_value_bytes=LIMIT)


SERVERS: Final = {
    "MariaDB": Server(
        table_map=captured.MARIADB_TABLE_MAP,
        insert=captured.MARIADB_INSERT,
        update=captured.MARIADB_UPDATE,
        delete=captured.MARIADB_DELETE,
        row=captured.MARIADB_ROW,
        mariadb=True,
    ),
    "MySQL": Server(
        table_map=captured.MYSQL_TABLE_MAP,
        insert=captured.MYSQL_INSERT,
        update=captured.MYSQL_UPDATE,
        delete=captured.MYSQL_DELETE,
        row=captured.MYSQL_ROW,
        mariadb=False,
    ),
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    return SERVERS[request.param]


# --- what servers wrote ---------------------------------------------------------------------------


def test_a_captured_row_is_read_in_every_operation(server: Server) -> None:
    """Also what the library reads wrongly: M5 (signs), M7 to M11, M13, M21, M23."""
    first = tuple(server.row.values())
    changed = tuple({**server.row, **captured.CHANGED}.values())
    decoder = server.decoder()
    assert decoder.insert(server.insert, server.version) == ([first], [], [0], False)
    assert decoder.update(server.update, server.version) == ([changed], [first], [0], True)
    assert decoder.delete(server.delete, server.version) == ([], [changed], [], True)


def test_only_wanted_columns_are_read_in_the_order_of_the_table(server: Server) -> None:
    names = [column.name for column in server.table.columns]
    for some in (["id"], ["id", "la", "bl"], ["u", "big"], ["en", "ge"], names[::2], names[1::2]):
        wanted = [names.index(name) for name in some]
        decoder = RowsDecoder(server.table, wanted, wanted[:1], max_value_bytes=LIMIT)
        found = decoder.insert(server.insert, server.version)
        assert found.news == [tuple(server.row[name] for name in some)]


def test_old_rows_can_be_the_identity_alone(server: Server) -> None:
    table = server.table
    decoder = RowsDecoder(
        table, range(3), table.primary_key, max_value_bytes=LIMIT, whole_old=False
    )
    assert decoder.update(server.update, server.version).olds == [(b"4294967295",)]
    assert decoder.delete(server.delete, server.version).olds == [(b"4294967295",)]
    assert not decoder.update(server.update, server.version).old_full


def test_many_rows_of_an_event_are_read_by_code_of_their_own(server: Server) -> None:
    """The same row again and again, as one event."""
    decoder, head = server.decoder(), _head_size(server)
    body = server.insert + server.insert[head:] * 50
    found = decoder.insert(body, server.version)
    assert found.news == [tuple(server.row.values())] * 51
    assert found.partial == list(range(51))


def _head_size(server: Server) -> int:
    extra = 0 if server.mariadb else 2
    return 8 + extra + 1 + (len(server.row) + 7) // 8


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_event_is_an_error_or_another_row_but_never_a_crash(data: st.DataObject) -> None:
    server = SERVERS[data.draw(st.sampled_from(list(SERVERS)))]
    decoder = server.decoder()
    operation = data.draw(st.sampled_from(["insert", "update", "delete"]))
    body = bytearray(getattr(server, operation))
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body) - 1))]
        with suppress(DecodeError, Stop):
            found = getattr(decoder, operation)(bytes(body), server.version)
            assert found == ([], [], [], operation != "insert"), "it ends before its first row"
        return
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DecodeError, Stop):
        getattr(decoder, operation)(bytes(body), server.version)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_table_map_is_an_error_or_another_table(data: st.DataObject) -> None:
    server = SERVERS[data.draw(st.sampled_from(list(SERVERS)))]
    body = bytearray(server.table_map)
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body) - 1))]
    for _ in range(data.draw(st.integers(1, 4))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DecodeError, Stop):
        table = parse_table_map(bytes(body), mariadb=server.mariadb)
        RowsDecoder(table, range(len(table.columns)), (), max_value_bytes=LIMIT)


def test_an_error_tells_where_it_is(server: Server) -> None:
    with pytest.raises(DecodeError, match="insert rows") as cut:
        server.decoder().insert(server.insert[:-3], server.version)
    assert 0 < cut.value.offset < len(server.insert)
    other = replace(server.table, columns=server.table.columns[:-1])
    decoder = RowsDecoder(other, [0], [0], max_value_bytes=LIMIT)
    with pytest.raises(DecodeError, match="the table map has"):
        decoder.insert(server.insert, server.version)


def _partial_decoder() -> RowsDecoder:
    table = parse_table_map(captured.PARTIAL_TABLE_MAP, mariadb=False)
    return RowsDecoder(table, range(3), [0], max_value_bytes=LIMIT)


def test_a_captured_partial_update_is_applied_to_the_old_document() -> None:
    """M13: all differences of a document, not the first one alone."""
    found = _partial_decoder().partial_update(captured.PARTIAL_UPDATE)
    rest = b'"long": "' + b"x" * 60 + b'"}'
    assert found.olds == [(b"1", b'{"a": [1, 2], ' + rest, b"[]")]
    assert found.news == [(b"1", b'{"a": [1, {"b": true}], "n": 1.5, ' + rest, b"[]")]
    assert (found.partial, found.old_full) == ([], True)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_partial_update_is_an_error_or_another_row(data: st.DataObject) -> None:
    body = bytearray(captured.PARTIAL_UPDATE)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DecodeError, Stop):
        _partial_decoder().partial_update(bytes(body[: data.draw(st.integers(1, len(body)))]))


# --- the table map --------------------------------------------------------------------------------


def test_a_table_map_tells_names_keys_signs_and_labels(server: Server) -> None:
    found = server.table
    assert (found.schema, found.table, found.primary_key, found.has_names) == ("c", "t", (0,), True)
    by_name = {column.name: column for column in found.columns}
    assert list(by_name) == list(server.row)
    assert [by_name[name].unsigned for name in ("id", "u", "de")] == [True, True, False]
    assert by_name["en"].labels == (b"a", "café".encode())
    assert by_name["se"].labels == (b"x", b"y", b"z")
    assert [by_name[name].nullable for name in ("id", "y")] == [False, True]
    assert by_name["vc"].charset == "utf8mb4"


def test_unknown_optional_metadata_is_skipped_by_its_length(server: Server) -> None:
    """M31: whatever a newer server adds."""
    for unknown in (b"\x63\x00", b"\x0e\x03abc", b"\xff\xfc\x00\x01" + bytes(256)):
        found = parse_table_map(server.table_map + unknown, mariadb=server.mariadb)
        assert named(found, captured.TYPES) == server.table


@pytest.mark.parametrize(
    "type_, metadata",
    [
        (t.TIME2, b"\x07"), (t.TIMESTAMP2, b"\xff"), (t.BLOB, b"\0"), (t.JSON, b"\x05"),
        (t.FLOAT, b"\x08"), (t.BIT, b"\1\x08"), (t.NEWDECIMAL, b"\x42\0"),
        (t.NEWDECIMAL, b"\x04\x05"), (t.STRING, b"\xf7\x03"), (t.STRING, b"\xf8\x09"),
    ],
)  # fmt: skip
def test_metadata_that_no_column_has_is_an_error(type_: int, metadata: bytes) -> None:
    body = bytes(8) + b"\1s\0\1t\0\1" + bytes([type_, len(metadata)]) + metadata + b"\0"
    with pytest.raises(DecodeError, match="cannot have"):
        parse_table_map(body, mariadb=True)


def test_the_same_table_has_the_same_description_under_another_number(server: Server) -> None:
    other = b"\x99" * 6 + server.table_map[6:]
    assert tablemap.description_of(other) == tablemap.description_of(server.table_map)
    assert tablemap.table_id_of(other) != tablemap.table_id_of(server.table_map)


def test_a_word_of_the_catalogue_is_taken_only_where_it_fits() -> None:
    """A table may have been changed since: what is no binary string of that length stays."""
    found = parse_table_map(captured.MARIADB_TABLE_MAP, mariadb=True)
    words = {"uu": "inet4", "bi": "uuid", "i6": "uuid", "la": "uuid", "id": "inet4"}
    assert [c.name for c in named(found, words).columns if c.native] == ["i6"]


# --- columns of all kinds -------------------------------------------------------------------------

_COLUMNS: Final[dict[str, tuple[BinlogColumn, list[bytes]]]] = {
    "tiny": (BinlogColumn(name="", type=t.TINY), [b"\0", b"\x7f", b"\x80", b"\xff"]),
    "short": (BinlogColumn(name="", type=t.SHORT), [b"\0\0", b"\xff\xff"]),
    "medium": (BinlogColumn(name="", type=t.INT24), [b"\1\0\0", b"\xff\xff\xff"]),
    "long": (BinlogColumn(name="", type=t.LONG, unsigned=True), [bytes(4), b"\xff" * 4]),
    "longlong": (BinlogColumn(name="", type=t.LONGLONG), [bytes(8), b"\xff" * 8, b"\1" * 8]),
    "float": (BinlogColumn(name="", type=t.FLOAT, length=4), [struct.pack("<f", 1.1)]),
    "double": (BinlogColumn(name="", type=t.DOUBLE, length=8), [struct.pack("<d", -1e300)]),
    "year": (BinlogColumn(name="", type=t.YEAR), [b"\0", b"\x7e"]),
    "bit": (BinlogColumn(name="", type=t.BIT, length=1), [b"\0", b"\1"]),
    "bits": (BinlogColumn(name="", type=t.BIT, length=20), [b"\x0f\xff\xff"]),
    "decimal": (
        BinlogColumn(name="", type=t.NEWDECIMAL, length=14, scale=4),
        [bytes.fromhex("810DFB38D204D2"), bytes.fromhex("7EF204C72DFB2D")],
    ),
    "fraction": (BinlogColumn(name="", type=t.NEWDECIMAL, length=4, scale=4), [b"\x80\1"]),
    "date": (BinlogColumn(name="", type=t.DATE), [b"\x7b\xd5\x0f", bytes(3)]),
    "datetime": (
        BinlogColumn(name="", type=t.DATETIME2),
        [bytes.fromhex("99B27B2149"), bytes.fromhex("8000000000")],
    ),
    "datetime3": (
        BinlogColumn(name="", type=t.DATETIME2, scale=3),
        [bytes.fromhex("99B27B21491388")],
    ),
    "timestamp6": (
        BinlogColumn(name="", type=t.TIMESTAMP2, scale=6),
        [b"\xf0\0\0\0\0\0\x01", bytes(7)],
    ),
    "time2": (BinlogColumn(name="", type=t.TIME2, scale=2), [b"\x7f\xff\xfe\xf6"]),
    "enum": (BinlogColumn(name="", type=t.ENUM, length=2, labels=(b"a", b"b")), [b"\1\0", b"\0\0"]),
    "set": (BinlogColumn(name="", type=t.SET, length=1, labels=(b"a", b"b")), [b"\0", b"\3"]),
    "text": (
        BinlogColumn(name="", type=t.VARCHAR, length=400, charset="utf8mb4"),
        [b"", "ä".encode(), b"\xed\xa0\x80", b"x" * 300],
    ),
    "short text": (
        BinlogColumn(name="", type=t.VARCHAR, length=40, charset="latin1"),
        [b"", b"\xe4", b"abc"],
    ),
    "unknown": (
        BinlogColumn(name="", type=t.VARCHAR, length=40, collation=9999),
        [b"", b"\xe4", b"abc"],
    ),
    "blob": (BinlogColumn(name="", type=t.BLOB, length=3, charset="binary"), [b"", b"\0\xff"]),
    "long blob": (BinlogColumn(name="", type=t.BLOB, length=4, charset="gbk"), [b"\xd6\xd0"]),
    "binary": (BinlogColumn(name="", type=t.STRING, length=4, charset="binary"), [b"", b"ab"]),
    "json": (BinlogColumn(name="", type=t.JSON, length=4), [b"", b"\4\1", b"\5\1\0"]),
}
_NAMES: Final = st.sampled_from(list(_COLUMNS))


@dataclass(frozen=True, slots=True)
class Rows:
    """A table of some columns, and rows of raw values (None: NULL)."""

    names: list[str]
    rows: list[list[bytes | None]]

    @property
    def table(self) -> TableMap:
        columns = [replace(_COLUMNS[n][0], name=f"c{i}") for i, n in enumerate(self.names)]
        return TableMap(
            table_id=1, schema="s", table="t", columns=tuple(columns), primary_key=(0,),
            has_names=True, mariadb=False,
        )  # fmt: skip

    def body(self) -> bytes:
        size = (len(self.names) + 7) // 8
        head = bytes(8) + b"\2\0" + bytes([len(self.names)]) + b"\xff" * size
        return head + b"".join(map(self._image, self.rows))

    def _image(self, row: list[bytes | None]) -> bytes:
        nulls = sum(1 << i for i, value in enumerate(row) if value is None)
        values = [
            _with_length(_COLUMNS[name][0], value)
            for name, value in zip(self.names, row, strict=True)
            if value is not None
        ]
        return nulls.to_bytes((len(row) + 7) // 8, "little") + b"".join(values)


def _with_length(column: BinlogColumn, value: bytes) -> bytes:
    size = {t.VARCHAR: 1 + (column.length > 255), t.STRING: 1, t.BLOB: column.length,
            t.JSON: column.length, t.GEOMETRY: column.length}.get(column.type)  # fmt: skip
    return value if size is None else len(value).to_bytes(size, "little") + value


@st.composite
def _some_rows(draw: st.DrawFn) -> Rows:
    names = draw(st.lists(_NAMES, min_size=1, max_size=10))
    row = [st.none() | st.sampled_from(_COLUMNS[name][1]) for name in names]
    rows = draw(st.lists(st.tuples(*row).map(list), min_size=1, max_size=4))
    return Rows(names, rows * draw(st.sampled_from([1, 12])))


@settings(max_examples=200, deadline=None)
@given(some=_some_rows(), data=st.data())
def test_generated_code_reads_what_the_strict_reader_reads(some: Rows, data: st.DataObject) -> None:
    everything = list(range(len(some.names)))
    wanted = sorted(data.draw(st.sets(st.sampled_from(everything), min_size=1)))
    decoder = RowsDecoder(some.table, wanted, wanted[:1], max_value_bytes=LIMIT)
    body = some.body()
    found = decoder.insert(body)
    image = decoder._image(b"\xff" * ((len(everything) + 7) // 8), tuple(wanted))
    strict = _strictly(body, image, 11 + (len(everything) + 7) // 8)
    assert found.news == strict
    odd = [i for i, row in enumerate(strict) if any(isinstance(value, Invalid) for value in row)]
    assert found.partial == odd


def _strictly(body: bytes, image: Image, offset: int) -> list[Row]:
    cursor = Cursor(body, "insert rows", offset)
    rows = []
    while cursor.left:
        rows.append(read_row(cursor, image))
    return rows


def test_texts_of_some_columns() -> None:
    """The strict reader's side of the comparison, in numbers."""
    shown = {
        name: [_read(column, raw) for raw in values] for name, (column, values) in _COLUMNS.items()
    }
    assert shown["tiny"] == [b"0", b"127", b"-128", b"-1"]
    assert shown["medium"] == [b"1", b"-1"]
    assert shown["decimal"] == [b"1234567890.1234", b"-1234567890.1234"]
    assert shown["fraction"] == [b"0.0001"]
    assert shown["year"] == [b"0", b"2026"]
    assert shown["time2"] == [b"-00:00:01.1"]
    assert shown["timestamp6"][0] == b"2097-08-05 09:04:00.000001+00"  # M14: no sign, until 2106
    assert shown["datetime3"] == [b"2024-01-29 18:05:09.5"]
    assert shown["enum"] == [b"a", b""]
    assert shown["set"] == [b"", b"a,b"]
    assert shown["json"] == [b"null", b"true", b"1"]
    assert shown["unknown"][1] == Invalid(
        b"\xe4", "nobody here knows its character set (collation 9999)", "ascii"
    )


def _read(column: BinlogColumn, raw: bytes) -> Value:
    table = replace(Rows([], []).table, columns=(replace(column, name="c"),))
    body = bytes(8) + b"\2\0\1\xff\0" + _with_length(column, raw)
    [(value,)] = RowsDecoder(table, [0], [0], max_value_bytes=LIMIT).insert(body).news
    return value


@pytest.mark.parametrize(
    "column, raw",
    [
        (
            BinlogColumn(name="", type=t.STRING, length=4, charset="binary", native="inet4"),
            b"12345",
        ),
        (BinlogColumn(name="", type=t.JSON, length=4), b"\x0f\xf6\x03\xff\x02\x80"),
        (BinlogColumn(name="", type=t.JSON, length=4), b"\x0f\xf6\x03\x02\x04\x80"),
        (BinlogColumn(name="", type=t.ENUM, length=1, labels=(b"a",)), b"\2"),
        (BinlogColumn(name="", type=t.SET, length=1, labels=(b"a",)), b"\2"),
        (BinlogColumn(name="", type=t.BIT, length=1), b"\2"),
        (BinlogColumn(name="", type=t.DATETIME2), bytes.fromhex("99B27BFFFF")),
        (BinlogColumn(name="", type=t.GEOMETRY, length=4), b"\0\0"),
    ],
)
def test_bytes_that_are_no_value_of_their_type_are_an_error(
    column: BinlogColumn, raw: bytes
) -> None:
    with pytest.raises(DecodeError, match="column 1: "):
        _read(column, raw)


def test_no_more_than_some_null_patterns_get_code_of_their_own() -> None:
    names = ["tiny"] * 7
    rows = [[b"\1" if n >> i & 1 else None for i in range(7)] for n in range(128)] * 20
    some = Rows(names, list(rows))
    decoder = RowsDecoder(some.table, range(7), [0], max_value_bytes=LIMIT)
    found = decoder.insert(some.body())
    assert found.news == [tuple(value and b"1" for value in row) for row in rows]
    assert len(decoder._image(b"\xff", tuple(range(7))).readers) == COMPILED


def test_a_type_that_nobody_knows_stops_with_table_and_column() -> None:
    table = replace(Rows([], []).table, columns=(BinlogColumn(name="new", type=200),))
    with pytest.raises(Stop, match=r"s\.t, column new: its type is not known here \(number 200"):
        RowsDecoder(table, [0], [0], max_value_bytes=LIMIT)


# --- compression ----------------------------------------------------------------------------------


def test_a_compressed_column_is_no_bomb() -> None:
    read = column_reader(1000, "s.t, column c")
    packed = zlib.compress(bytes(5000))
    with pytest.raises(Stop, match="5000 bytes is longer than max_value_bytes"):
        read(b"\x82\x13\x88" + packed)
    with pytest.raises(ValueError, match="another length"):
        read(b"\x81\x10" + packed)
    with pytest.raises(ValueError, match="damaged"):
        read(b"\x81\x10" + b"nonsense")
    assert read(b"") == b""
    assert read(b"\0as it is") == b"as it is"


def test_a_damaged_compressed_event_is_an_error() -> None:
    head = bytes(8) + b"\1\xff"
    good = head + b"\x81\x03" + zlib.compress(b"abc")
    assert inflate_rows(good, update=False) == head + b"abc"
    for bad in (head, head + b"\x91\x03x", head + b"\x81\x04" + zlib.compress(b"abc"), good[:-5]):
        with pytest.raises(DecodeError):
            inflate_rows(bad, update=False)
