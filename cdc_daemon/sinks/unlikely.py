"""Values that real keys hardly have: where a row stands aside while a cycle of keys is renamed."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable

from cdc_daemon.model.entities import EntityType, Kind


def unlikely(kind: EntityType) -> bytes | None:
    """A value of the type that real keys hardly have; None where the type has too few values."""
    make = _MAKERS.get(kind.kind)
    return make(kind) if make is not None else None


def _negative(bits: int) -> Callable[[EntityType], bytes]:
    return lambda _: b"%d" % -(secrets.randbits(bits) + 1)


def _future(suffix: bytes) -> Callable[[EntityType], bytes]:
    return lambda _: (
        b"%d-01-%02d%s" % (4000 + secrets.randbits(12), 1 + secrets.randbits(4), suffix)
    )


def _text(kind: EntityType) -> bytes:
    return secrets.token_hex(16)[: kind.length].encode()


def _decimal(kind: EntityType) -> bytes:
    precision, scale = kind.length or 1, kind.scale or 0
    digits = f"{secrets.randbelow(10**precision):0{precision + 1}d}"
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return f"-{whole}.{fraction}".rstrip(".").encode()


def _time(_: EntityType) -> bytes:
    return b"%02d:%02d:00.%06d" % tuple(secrets.randbits(bits) for bits in (4, 5, 19))


_MAKERS: dict[Kind, Callable[[EntityType], bytes]] = {
    Kind.STRING: _text,
    Kind.TEXT: _text,
    Kind.INTEGER: _negative(31),
    Kind.BIGINT: _negative(62),
    Kind.NUMERIC: _negative(62),
    Kind.DOUBLE: _negative(52),
    Kind.DECIMAL: _decimal,
    Kind.DATE: _future(b""),
    Kind.TIMESTAMP: _future(b" 00:00:00"),
    Kind.TIMESTAMPTZ: _future(b" 00:00:00+00"),
    Kind.TIME: _time,
    Kind.INTERVAL: lambda _: b"-%d microseconds" % secrets.randbits(52),
    Kind.UUID: lambda _: str(uuid.uuid4()).encode(),
    Kind.BYTES: lambda _: b"\\x" + secrets.token_hex(16).encode(),
}
