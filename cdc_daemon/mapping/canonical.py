"""One canonical text per value of an entity type, for content hashes and comparison.

Two texts of one entity type mean the same value exactly if their canonical texts are equal,
whichever database printed them. Input is a text that some conversion or server made; what is no
value of the type raises DataError. Not in here: conversion between types (mapping/convert).
"""

from __future__ import annotations

from collections.abc import Callable

from cdc_daemon.mapping.decimals import canonical_decimal, parse_double, print_double
from cdc_daemon.mapping.documents import canonical_json
from cdc_daemon.mapping.times import canonical_interval, canonical_timestamptz, trim_fraction
from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.model.errors import DataError

BOOLEANS = {b"t": b"t", b"true": b"t", b"1": b"t", b"f": b"f", b"false": b"f", b"0": b"f"}


def _as_is(text: bytes) -> bytes:
    return text


def _integer(text: bytes) -> bytes:
    return text if b"1" <= text[:1] <= b"9" else b"%d" % int(text)


def _boolean(text: bytes) -> bytes:
    try:
        return BOOLEANS[text]
    except KeyError:
        raise DataError("the text is no boolean", code="invalid_value") from None


def _double(text: bytes) -> bytes:
    return print_double(parse_double(text) + 0.0)  # -0 becomes 0, which it equals everywhere


_FORMS: dict[Kind, Callable[[bytes], bytes]] = {
    Kind.STRING: _as_is,
    Kind.TEXT: _as_is,
    Kind.INTEGER: _integer,
    Kind.BIGINT: _integer,
    Kind.DECIMAL: canonical_decimal,
    Kind.NUMERIC: canonical_decimal,
    Kind.DOUBLE: _double,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _as_is,
    Kind.TIME: trim_fraction,
    Kind.TIMESTAMP: trim_fraction,
    Kind.TIMESTAMPTZ: canonical_timestamptz,
    Kind.INTERVAL: canonical_interval,
    Kind.UUID: bytes.lower,
    Kind.JSON: canonical_json,
    Kind.BYTES: bytes.lower,
}


def canonical_form(target: EntityType) -> Callable[[bytes], bytes]:
    """The function that makes canonical text of one entity type, for loops."""
    return _FORMS[target.kind]


def canonical(target: EntityType, text: bytes) -> bytes:
    """The canonical text of a value of that entity type.

    string, text, date: as they are. integer, bigint: no ``+``, no leading zeros. decimal, numeric:
    no exponent, no zeros at the ends, no ``-0``. double: shortest round trip as PostgreSQL prints
    it, ``-0`` as ``0``. boolean: ``t`` or ``f``. time, timestamp: fraction without zeros at its
    end. timestamptz: that, in UTC with ``+00``. interval: PostgreSQL's own style. uuid, bytes:
    lower-case hex. json: keys sorted, compact, the last of duplicate keys, numbers as decimals.
    Infinities and NaN stay.
    """
    return _FORMS[target.kind](text)
