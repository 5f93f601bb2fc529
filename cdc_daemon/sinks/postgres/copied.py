"""``cdc.copied_mapping``: by which mappings the rows of a pipeline were copied."""

from __future__ import annotations

from collections.abc import Mapping

from cdc_daemon.model.ports import CopiedMapping
from cdc_daemon.sinks.postgres.session import Connection

_READ = """
    SELECT mapping, shape, referenced, version FROM cdc.copied_mapping WHERE pipeline = %s"""
_FORGET = "DELETE FROM cdc.copied_mapping WHERE pipeline = %s"
_NOTE = "INSERT INTO cdc.copied_mapping VALUES (%s, %s, %s, %s, %s)"


def read(connection: Connection, pipeline: str) -> dict[str, CopiedMapping]:
    """What was noted last, by mapping."""
    return {
        str(mapping): CopiedMapping(
            shape=str(shape), referenced=bool(referenced), version=str(version)
        )
        for mapping, shape, referenced, version in connection.execute(_READ, [pipeline])
    }


def note(connection: Connection, pipeline: str, mappings: Mapping[str, CopiedMapping]) -> None:
    """Note these and no others; the caller's transaction."""
    connection.execute(_FORGET, [pipeline])
    with connection.cursor() as cursor:
        cursor.executemany(
            _NOTE,
            [
                (pipeline, name, one.shape, one.referenced, one.version)
                for name, one in mappings.items()
            ],
        )
