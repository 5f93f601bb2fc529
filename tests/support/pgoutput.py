"""pgoutput messages made by hand, as a walsender would send them, and a log to read them from."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from cdc_daemon.model.changes import UNCHANGED, Batch, Value
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.decoder import Decoder
from cdc_daemon.sources.postgres.relations import Known, Relations
from cdc_daemon.sources.postgres.types import Types

SENT = 7_777_777_777_777
EPOCH = 946_684_800_000_000
OID = 16400
TEXT = 25


def data(body: bytes, *, start: int = 0x16_0000_0010) -> bytes:
    """XLogData around a message."""
    return b"w" + struct.pack(">QQq", start, start, SENT) + body


def keepalive(end: int, *, reply: bool = False) -> bytes:
    return b"k" + struct.pack(">QqB", end, SENT, reply)


def begin(mark: int = 0x100, time: int = SENT) -> bytes:
    return data(b"B" + struct.pack(">Qqi", mark, time, 700))


def commit(end: int = 0x200, time: int = SENT) -> bytes:
    return data(b"C" + struct.pack(">BQQq", 0, end - 16, end, time))


def relation(
    names: Sequence[str],
    *,
    key: Sequence[str] = ("id",),
    replica: str = "d",
    oid: int = OID,
    table: str = "t",
    schema: str = "public",
    types: Sequence[tuple[int, int]] = (),
) -> bytes:
    body = struct.pack(">I", oid) + schema.encode() + b"\0" + table.encode() + b"\0"
    body += replica.encode() + struct.pack(">H", len(names))
    for index, name in enumerate(names):
        flag = replica == "f" or name in key
        type_oid, modifier = types[index] if types else (TEXT, -1)
        body += bytes([flag]) + name.encode() + b"\0" + struct.pack(">Ii", type_oid, modifier)
    return data(b"R" + body)


def tuple_data(values: Iterable[Value]) -> bytes:
    encoded = [_value(value) for value in values]
    return struct.pack(">H", len(encoded)) + b"".join(encoded)


def _value(value: Value) -> bytes:
    if value is None:
        return b"n"
    if value is UNCHANGED:
        return b"u"
    assert isinstance(value, bytes)
    return b"t" + struct.pack(">I", len(value)) + value


def insert(*values: Value, oid: int = OID) -> bytes:
    return data(b"I" + struct.pack(">I", oid) + b"N" + tuple_data(values))


def update(
    new: Sequence[Value], *, key: Sequence[Value] = (), old: Sequence[Value] = (), oid: int = OID
) -> bytes:
    body = b"U" + struct.pack(">I", oid)
    if key:
        body += b"K" + tuple_data(key)
    if old:
        body += b"O" + tuple_data(old)
    return data(body + b"N" + tuple_data(new))


def delete(*values: Value, tag: bytes = b"K", oid: int = OID) -> bytes:
    return data(b"D" + struct.pack(">I", oid) + tag + tuple_data(values))


def truncate(*oids: int) -> bytes:
    body = struct.pack(">IB", len(oids), 1)
    return data(b"T" + body + b"".join(struct.pack(">I", oid) for oid in oids))


class Log:
    """Payloads that ``get`` hands out as PQgetCopyData would."""

    def __init__(self, messages: Iterable[bytes]) -> None:
        self._messages = iter(messages)

    def get(self, _: int) -> tuple[int, memoryview]:
        message = next(self._messages, None)
        if message is None:
            return 0, memoryview(b"")
        return len(message), memoryview(message)


def make_decoder(*tables: Table, primary_key: Sequence[str] = ("id",), **limits: int) -> Decoder:
    """A decoder of these tables, or of ``public.t`` with columns id, a, b."""
    wanted = tables or (Table(schema="public", name="t", columns=frozenset({"id", "a", "b"})),)
    relations = Relations("erp", wanted)
    known = Known(primary_key=tuple(primary_key))
    relations.learn({(table.schema, table.name): known for table in wanted})
    return Decoder(relations, Types(), **limits)


def read_all(decoder: Decoder, messages: Iterable[bytes]) -> list[Batch]:
    """Every batch that these messages make, as the stream would take them."""
    log = Log(messages)
    batches = []
    while True:
        found = decoder.pump(log.get)
        if (decoder.full or found <= 0) and (batch := decoder.take()):
            batches.append(batch)
        if found <= 0:
            return batches
