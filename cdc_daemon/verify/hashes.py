"""Rows in canonical text, and their content hash.

The hash of a table is sha256 over its rows in key order, each value as its length and bytes,
or a mark for NULL. ``last_sync_time``, ``id`` and tombstones do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from cdc_daemon.config.schema import TargetConfig
from cdc_daemon.mapping.convert import canonical_form
from cdc_daemon.model.entities import Attribute, Entity, Kind
from cdc_daemon.model.errors import DataError
from cdc_daemon.verify.reading import Texts
from cdc_daemon.verify.target import TargetReader, open_target

Values = tuple[bytes | None, ...]

_AS_THEY_ARE = frozenset({Kind.STRING, Kind.TEXT, Kind.DATE})
_NULL = b"-"


class Digest(bytes):
    """A canonical row as 16 bytes, to remember many of them by."""

    __slots__ = ()


class Canonical:
    """Makes canonical rows of rows with these attributes."""

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        self._forms = [
            (i, canonical_form(attribute.type))
            for i, attribute in enumerate(attributes)
            if attribute.type.kind not in _AS_THEY_ARE
        ]

    def row(self, texts: Texts) -> Values:
        """The canonical texts of a row."""
        values = list(texts)
        for i, form in self._forms:
            value = values[i]
            if value is not None:
                values[i] = _or_as_it_is(form, value)
        return tuple(values)

    def like(self, texts: Texts, other: Texts, canonical: Values) -> Values:
        """The canonical texts of a row beside another: where both are alike, so are these."""
        if texts == other:
            return canonical
        values = list(texts)
        for i, form in self._forms:
            value = values[i]
            if value is not None:
                values[i] = canonical[i] if value == other[i] else _or_as_it_is(form, value)
        return tuple(values)


def _or_as_it_is(form: Callable[[bytes], bytes], value: bytes) -> bytes:
    """What is no value of its type (a column altered by hand) stays as it is, and differs."""
    try:
        return form(value)
    except (DataError, ValueError):
        return value


def encoded(values: Values) -> bytes:
    """A canonical row as unambiguous bytes."""
    return b"".join([_NULL if v is None else b"\1" + len(v).to_bytes(8, "big") + v for v in values])


def digest(values: Values) -> Digest:
    """A canonical row's digest."""
    return Digest(hashlib.blake2b(encoded(values), digest_size=16).digest())


def content_hashes(target: TargetConfig, entities: Iterable[Entity]) -> dict[str, str]:
    """Content hash of each entity's table in the control database, over all its attributes.

    Raises Unreachable, ConfigurationError, or Stop where a table is not as the entity says.
    """
    with closing(open_target(target)) as reader, reader.snapshot():
        return {entity.name: _content_hash(reader, entity) for entity in entities}


def _content_hash(reader: TargetReader, entity: Entity) -> str:
    attributes = tuple(entity.attribute(name) for name in entity.key)
    attributes += tuple(a for a in entity.attributes if a.name not in entity.key)
    canonical = Canonical(attributes)
    found = hashlib.sha256()
    for row in reader.rows(entity, attributes):
        found.update(encoded(canonical.row(row)))
    return found.hexdigest()
