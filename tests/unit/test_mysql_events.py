"""Events of a binlog: which are taken, skipped and refused, and what those say that are taken.

Real ones are from files that MariaDB 10.11 and MySQL 9.7 wrote.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.model.errors import DecodeError, PreflightRefusal
from cdc_daemon.sources.mysql.events import (
    HANDLING,
    HEADER,
    Framing,
    Handling,
    Kind,
    incident,
    parse_header,
    parse_xa_prepare,
)
from cdc_daemon.sources.mysql.groups import (
    Alter,
    MariadbGroup,
    parse_gtid_event,
    parse_mariadb_gtid,
    parse_tagged_event,
)
from cdc_daemon.sources.mysql.gtid import Gtid, Triple, decode_set
from cdc_daemon.sources.mysql.payload import nested_events
from cdc_daemon.sources.mysql.query import parse_query, sql_of
from cdc_daemon.sources.mysql.xid import Xid
from tests.support.binlog import event, events_of, kinds_of, opened

MARIADB = events_of("mariadb-10.11")
MYSQL = events_of("mysql-9.7")
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
RAW_UUID = bytes.fromhex(UUID.replace("-", ""))
US = 1_795_805_298_123_456


def of_kind(kind: Kind, events: list[bytes] = MARIADB) -> Iterator[tuple[bytes, int]]:
    """Such events of a real file, and where their bodies end."""
    framing, rest = opened(events)
    return ((found, framing.end(found)) for found in rest if found[4] == kind)


# --- framing --------------------------------------------------------------------------------------


def test_every_known_kind_is_in_the_table_with_a_reason() -> None:
    assert set(HANDLING) == set(Kind)
    assert all(reason for _, reason in HANDLING.values())


@pytest.mark.parametrize("events, version", [(MARIADB, "10.11."), (MYSQL, "9.7.")])
def test_real_events_are_whole_and_their_checksums_right(events: list[bytes], version: str) -> None:
    framing, rest = opened(events)
    assert framing.version.startswith(version)
    offset = parse_header(events[0]).end
    for found in rest:
        assert framing.end(found) == len(found) - 4
        header = parse_header(found)
        offset += header.size
        assert header.end == offset
        assert framing.where(found) == f"bin.000001:{offset}"


def test_m15_a_wrong_checksum_is_an_error_with_its_place() -> None:
    framing, rest = opened(MARIADB)
    for place in (HEADER, len(rest[5]) - 1):
        damaged = bytearray(rest[5])
        damaged[place] ^= 1
        with pytest.raises(DecodeError, match=r"QUERY.*bin\.000001:.*checksum is wrong"):
            framing.end(bytes(damaged))


def test_a_description_whose_file_is_being_written_has_a_right_checksum() -> None:
    """The flag is set behind the checksum's back."""
    described = bytearray(MARIADB[0])
    described[17] ^= 1
    framing = Framing(checksum=False)
    framing.describe(bytes(described))
    assert framing.checksum
    described[60] ^= 1
    with pytest.raises(DecodeError, match="checksum is wrong"):
        framing.describe(bytes(described))


def test_a_file_without_checksums_says_so() -> None:
    """M12: mysql-replication cut four bytes off its events nevertheless."""
    described = bytearray(MARIADB[0])
    described[-5] = 0
    framing = Framing(checksum=True)
    framing.describe(bytes(described))
    assert not framing.checksum
    assert framing.end(event(Kind.XID, bytes(8))) == HEADER + 8


@pytest.mark.parametrize("place, value", [(-5, 2), (HEADER, 3), (HEADER + 56, 20)])
def test_a_description_of_another_format_is_refused(place: int, value: int) -> None:
    described = bytearray(MARIADB[0])
    described[place] = value
    with pytest.raises(DecodeError, match="FORMAT_DESCRIPTION"):
        Framing(checksum=True).describe(bytes(described))
    with pytest.raises(DecodeError):
        Framing(checksum=True).describe(MARIADB[0][:40])


def test_a_rotation_names_the_next_file() -> None:
    framing = Framing(checksum=True)
    made = event(Kind.ROTATE, struct.pack("<Q", 4) + b"bin.000002", checksum=True, flags=0x20)
    assert parse_header(made).artificial
    assert framing.rotate(made) == 4
    assert framing.file == "bin.000002"
    with pytest.raises(DecodeError):
        Framing(checksum=False).rotate(event(Kind.ROTATE, bytes(8)))


def test_m1_an_event_that_is_not_known_is_never_skipped() -> None:
    framing = Framing(checksum=False, file="bin.000007")
    for number in set(range(256)) - set(Kind):
        with pytest.raises(
            DecodeError, match=rf"number {number} .*bin\.000007:99.*might lose rows"
        ):
            framing.skip(event(number, b"", end=99))


@pytest.mark.parametrize("kind", Kind)
def test_m1_only_what_the_table_says_is_skipped(kind: Kind) -> None:
    framing = Framing(checksum=False)
    if HANDLING[kind][0] is Handling.SKIPPED:
        framing.skip(event(kind, b""))
        return
    with pytest.raises(DecodeError, match=kind.name):
        framing.skip(event(kind, b""))


def test_rows_in_pieces_are_refused_with_the_setting_that_ends_them() -> None:
    with pytest.raises(DecodeError, match="binlog_row_event_fragment_threshold"):
        Framing(checksum=False).skip(event(Kind.PARTIAL_ROW_DATA, b""))


def test_an_incident_stops_with_its_message() -> None:
    made = event(Kind.INCIDENT, b"\x01\x00\x0bLOST_EVENTS")
    error = incident(made, len(made), "bin.000001:77")
    assert isinstance(error, PreflightRefusal)
    assert "bin.000001:77" in str(error)
    assert "LOST_EVENTS" in str(error)
    assert "snapshot start" in str(error)


def test_a_short_event_is_a_decode_error() -> None:
    for cut in (b"", MARIADB[3][:10], MARIADB[3][:-1]):
        with pytest.raises(DecodeError):
            parse_header(cut)


# --- MariaDB's groups -----------------------------------------------------------------------------


def groups() -> dict[Triple, MariadbGroup]:
    found = [parse_mariadb_gtid(*one) for one in of_kind(Kind.MARIADB_GTID)]
    return {group.gtid: group for group in found}


def test_m19_a_group_says_whether_a_commit_will_come() -> None:
    found = groups()
    assert found[Triple(0, 1, 1)].standalone  # create database
    assert not found[Triple(0, 1, 3)].standalone  # insert
    assert not found[Triple(0, 1, 8)].standalone  # create table as select
    assert found[Triple(0, 1, 11)].standalone  # truncate
    assert found[Triple(7, 1, 1)] == MariadbGroup(Triple(7, 1, 1), standalone=False)


def test_m17_a_group_names_the_xa_transaction_that_it_prepares_or_ends() -> None:
    found = groups()
    first, second = Xid(1, b"x1", b""), Xid(7, b"x2", b"bq")
    assert found[Triple(0, 1, 12)].prepared == first
    assert found[Triple(0, 1, 13)].completed == first
    assert found[Triple(0, 1, 14)].prepared == second
    assert found[Triple(0, 1, 15)].completed == second
    assert found[Triple(0, 1, 16)] == MariadbGroup(Triple(0, 1, 16), standalone=False)


def test_m22_the_parts_of_a_two_phase_alter_are_told_apart() -> None:
    found = groups()
    assert [found[Triple(0, 1, n)].alter for n in (18, 19)] == [Alter.START, Alter.COMMIT]
    assert found[Triple(0, 1, 19)].alter_of == 18
    assert [found[Triple(0, 1, n)].alter for n in (24, 25)] == [Alter.START, Alter.ROLLBACK]
    assert found[Triple(0, 1, 25)].alter_of == 24


def test_a_group_with_a_commit_id_is_read() -> None:
    assert groups()[Triple(0, 1, 37)] == MariadbGroup(Triple(0, 1, 37), standalone=False)


def test_m17_a_prepare_event_names_its_transaction() -> None:
    found = [parse_xa_prepare(*one) for one in of_kind(Kind.XA_PREPARE)]
    assert found == [(Xid(1, b"x1", b""), False), (Xid(7, b"x2", b"bq"), False)]


# --- MySQL's groups -------------------------------------------------------------------------------


def gtid_body(immediate: int, original: int | None = None, *, clock: int = 2) -> bytes:
    head = struct.pack("<B16sQBQQ", 1, RAW_UUID, 77, clock, 5, 6)
    if original is None:
        return head + immediate.to_bytes(7, "little") + b"\xfa" + bytes(4)
    times = (immediate | 1 << 55).to_bytes(7, "little") + original.to_bytes(7, "little")
    return head + times + b"\xfa" + bytes(4)


def test_a_gtid_has_the_time_of_its_commit_at_its_origin() -> None:
    """Which every replica's log repeats, while the other one differs."""
    first = event(Kind.GTID, gtid_body(US))
    other = event(Kind.GTID, gtid_body(US + 5, US), checksum=True)
    for made, end in ((first, len(first)), (other, len(other) - 4)):
        assert parse_gtid_event(made, end) == (Gtid(UUID, 77), US)


def test_an_anonymous_transaction_has_no_gtid() -> None:
    made = event(Kind.ANONYMOUS_GTID, gtid_body(US))
    assert parse_gtid_event(made, len(made)) == (None, US)


def test_a_gtid_of_mysql_5_has_no_time() -> None:
    made = event(Kind.GTID, gtid_body(US)[:42])
    assert parse_gtid_event(made, len(made)) == (Gtid(UUID, 77), 0)


def varlen(value: int) -> bytes:
    """mysql::serialization's unsigned integer."""
    for size in range(1, 9):
        if value < 1 << (7 * size):
            low = (1 << (size - 1)) - 1
            return (value << size | low).to_bytes(size, "little")
    return b"\xff" + value.to_bytes(8, "little")


@given(st.integers(0, (1 << 64) - 1))
@settings(max_examples=50)
def test_integers_of_a_tagged_event_are_read(value: int) -> None:
    made = event(Kind.GTID_TAGGED, tagged_body({6: varlen(value)}))
    assert parse_tagged_event(made, len(made)).time == value


def tagged_body(changed: dict[int, bytes] | None = None) -> bytes:
    fields: dict[int, bytes] = {
        0: varlen(1),
        1: b"".join(varlen(byte) for byte in RAW_UUID),
        2: varlen(77 << 1),
        3: varlen(4) + b"tagx",
        4: varlen(5 << 1),
        5: varlen(6 << 1),
        6: varlen(US),
        8: varlen(250),
        9: varlen(90704),
        **(changed or {}),
    }
    inner = b"".join(varlen(number) + fields[number] for number in sorted(fields))
    for total in range(len(inner) + 2, len(inner) + 12):
        head = varlen(1) + varlen(total) + varlen(0)
        if len(head) + len(inner) == total:
            return head + inner
    raise AssertionError


def test_m24_a_tagged_gtid_is_read() -> None:
    made = event(Kind.GTID_TAGGED, tagged_body())
    assert parse_tagged_event(made, len(made)) == (Gtid(f"{UUID}:tagx", 77), US)
    made = event(Kind.GTID_TAGGED, tagged_body({7: varlen(US - 9), 11: varlen(1), 12: b"\x02"}))
    assert parse_tagged_event(made, len(made)) == (Gtid(f"{UUID}:tagx", 77), US - 9)
    made = event(Kind.GTID_TAGGED, tagged_body({3: varlen(0)}))
    assert parse_tagged_event(made, len(made)).gtid == Gtid(UUID, 77)


def test_m24_real_gtids_with_and_without_tags() -> None:
    found = [parse_gtid_event(*one) for one in of_kind(Kind.GTID, MYSQL)]
    (origin,) = {group.gtid.origin for group in found if group.gtid}
    assert [group.gtid and group.gtid.number for group in found] == list(range(1, 24))
    tagged = [parse_tagged_event(*one) for one in of_kind(Kind.GTID_TAGGED, MYSQL)]
    assert [group.gtid for group in tagged] == [
        Gtid(f"{origin}:blue", 1),
        Gtid(f"{origin}:a_long_tag_01", 1),
        Gtid(f"{UUID}:blue", 77),
    ]
    times = [group.time for group in found]
    assert times == sorted(times)
    assert times[4] < tagged[0].time < tagged[1].time < tagged[2].time < times[5]


def test_m24_what_is_before_a_file_is_read_with_tags() -> None:
    (empty,) = (decode_set(one[HEADER:end]) for one, end in of_kind(Kind.PREVIOUS_GTIDS, MYSQL))
    assert not empty
    following = events_of("mysql-9.7-next")
    ((event_, end),) = of_kind(Kind.PREVIOUS_GTIDS, following)
    found = decode_set(event_[HEADER:end])
    assert str(found).endswith(":1-23:a_long_tag_01:1:blue:1")
    assert Gtid(f"{UUID}:blue", 77) in found
    assert found.encode() == event_[HEADER:end]  # MySQL's own bytes


def test_m17_mysql_commits_in_one_phase_by_a_prepare_event() -> None:
    found = [parse_xa_prepare(*one) for one in of_kind(Kind.XA_PREPARE, MYSQL)]
    assert found == [(Xid(1, b"x1", b""), False), (Xid(7, b"x2", b"bq"), True)]


def test_m1_real_compressed_transactions_are_unpacked() -> None:
    found = [
        kinds_of(list(nested_events(*one))) for one in of_kind(Kind.TRANSACTION_PAYLOAD, MYSQL)
    ]
    around = [Kind.QUERY, Kind.TABLE_MAP], [Kind.XID]
    assert found == [
        [*around[0], Kind.WRITE_ROWS, *around[1]],
        [*around[0], Kind.UPDATE_ROWS, *around[1]],
    ]


@pytest.mark.parametrize("kind", [Kind.GTID, Kind.GTID_TAGGED, Kind.MARIADB_GTID, Kind.XA_PREPARE])
def test_a_malformed_event_is_a_decode_error(kind: Kind) -> None:
    """Whatever is cut off."""
    parse = {
        Kind.GTID: parse_gtid_event,
        Kind.GTID_TAGGED: parse_tagged_event,
        Kind.MARIADB_GTID: parse_mariadb_gtid,
        Kind.XA_PREPARE: parse_xa_prepare,
    }[kind]
    whole = {Kind.GTID: gtid_body(US + 1, US), Kind.GTID_TAGGED: tagged_body()}.get(kind)
    if whole is None:
        whole = max((one[HEADER:end] for one, end in of_kind(kind)), key=len)
    for cut in range(len(whole)):
        made = event(kind, whole[:cut])
        with suppress(DecodeError):
            parse(made, len(made))


# --- statements -----------------------------------------------------------------------------------


def test_queries_are_read_with_their_schema() -> None:
    found = [parse_query(*one) for one in of_kind(Kind.QUERY)]
    assert found[0].sql == b"create database d"
    assert [sql_of(*one) for one in of_kind(Kind.QUERY)] == [query.sql for query in found]
    assert found[1].schema == "d"
    assert found[1].sql.startswith(b"create table t(id int primary key")
    assert [query.sql[:20] for query in found if query.error == 1062] == [b"alter table t add un"]
    assert any(query.ansi_quotes and b'"q t"' in query.sql for query in found)
    assert any(query.collation == 28 and b"gb(a int)" in query.sql for query in found)  # gbk


def test_m22_an_alter_of_two_phases_is_read() -> None:
    """Its status variable 130 made mysql-replication fail."""
    found = [parse_query(*one).sql for one in of_kind(Kind.QUERY)]
    assert found.count(b"alter table t add column c int") == 2


def test_m1_a_compressed_query_is_read() -> None:
    (found,) = (parse_query(*one) for one in of_kind(Kind.QUERY_COMPRESSED))
    assert found.sql == b"insert into t values (41,'qqqqqqqqqqqqqqqqqqqq',1)"
    assert found.schema == "d"


def query_body(status: bytes, sql: bytes = b"BEGIN", schema: bytes = b"d") -> bytes:
    head = struct.pack("<IIBHH", 9, 0, len(schema), 0, len(status))
    return head + status + schema + b"\0" + sql


def test_status_variables_in_another_order_and_unknown_ones() -> None:
    """MariaDB 11.5 writes 131 before 4; what is behind an unknown one counts as the default."""
    charset = b"\x04" + struct.pack("<HHH", 28, 28, 28)
    known = b"\x83\x01\x21\x00\x2d\x00" + b"\x0c\x02a\0bc\0" + b"\x0b\x01u\x01h" + charset
    made = event(Kind.QUERY, query_body(known + b"\xee\x01"))
    assert parse_query(made, len(made)).collation == 28
    made = event(Kind.QUERY, query_body(b"\xee\x01" + charset))
    assert parse_query(made, len(made)).collation == 33
    assert parse_query(made, len(made)).sql == b"BEGIN"


def test_a_load_data_in_statement_format_is_read_as_a_query() -> None:
    body = query_body(b"", b"LOAD DATA INFILE 'x' INTO TABLE t")
    made = event(Kind.EXECUTE_LOAD_QUERY, body[:13] + bytes(13) + body[13:])
    found = parse_query(made, len(made))
    assert (found.schema, found.sql) == ("d", b"LOAD DATA INFILE 'x' INTO TABLE t")


@pytest.mark.parametrize("kind", [Kind.QUERY, Kind.QUERY_COMPRESSED])
def test_a_damaged_query_is_a_decode_error(kind: Kind) -> None:
    found, end = next(of_kind(kind))
    for cut in range(HEADER, end):
        with suppress(DecodeError):
            parse_query(found[:cut], cut)
    damaged = bytearray(found)
    damaged[end - 5] ^= 0xFF
    if kind is Kind.QUERY_COMPRESSED:
        with pytest.raises(DecodeError, match="damaged compression"):
            parse_query(bytes(damaged), end)


# --- compressed transactions ----------------------------------------------------------------------


def payload(inner: bytes, *, compressed: bool = True, size: int | None = None) -> bytes:
    packed = zstandard.ZstdCompressor().compress(inner) if compressed else inner
    fields = b"".join(
        bytes((kind, 3)) + b"\xfc" + struct.pack("<H", value)
        for kind, value in (
            (2, 0 if compressed else 255),
            (3, size or len(inner)),
            (1, len(packed)),
        )
    )
    return event(Kind.TRANSACTION_PAYLOAD, fields + b"\0" + packed, checksum=True)


INNER = [
    event(Kind.QUERY, query_body(b"")),
    event(Kind.WRITE_ROWS, bytes(300)),
    event(Kind.XID, bytes(8)),
]


@pytest.mark.parametrize("compressed", [True, False])
def test_m1_a_compressed_transaction_is_unpacked(compressed: bool) -> None:
    made = payload(b"".join(INNER), compressed=compressed)
    assert list(nested_events(made, len(made) - 4)) == INNER


def test_a_compressed_transaction_is_unpacked_a_piece_at_a_time() -> None:
    large = [event(Kind.WRITE_ROWS, bytes(5 << 20)), *INNER] * 3
    packed = zstandard.ZstdCompressor().compress(b"".join(large))
    made = event(Kind.TRANSACTION_PAYLOAD, b"\x02\x01\x00\x00" + packed)
    assert list(nested_events(made, len(made))) == large


def test_a_damaged_transaction_is_a_decode_error() -> None:
    whole = payload(b"".join(INNER))
    end = len(whole) - 4
    for cut in range(HEADER, end):
        with pytest.raises(DecodeError, match="TRANSACTION_PAYLOAD"):
            list(nested_events(whole, cut))
    for made in (payload(b"".join(INNER)[:-1]), payload(b"".join(INNER), size=9)):
        with pytest.raises(DecodeError, match="cut off"):
            list(nested_events(made, len(made) - 4))
    odd = event(Kind.TRANSACTION_PAYLOAD, b"\x02\x01\x07\x00abc")
    with pytest.raises(DecodeError, match="compression 7"):
        list(nested_events(odd, len(odd)))


def test_whole_files_are_of_kinds_that_are_taken_or_skipped() -> None:
    refused = {kind for kind, (handling, _) in HANDLING.items() if handling is Handling.REFUSED}
    assert not refused & {*kinds_of(MARIADB), *kinds_of(MYSQL)}
