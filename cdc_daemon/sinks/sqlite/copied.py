"""``cdc_copied_mapping``: by which mappings the rows of the pipeline were copied."""

from __future__ import annotations

from collections.abc import Mapping

from cdc_daemon.model.ports import CopiedMapping
from cdc_daemon.sinks.sqlite.database import Connection

_READ = "SELECT mapping, shape, referenced, version FROM cdc_copied_mapping WHERE pipeline = ?"
_FORGET = "DELETE FROM cdc_copied_mapping WHERE pipeline = ?"
_NOTE = "INSERT INTO cdc_copied_mapping VALUES (?, ?, ?, ?, ?)"


def read(connection: Connection, pipeline: str) -> dict[str, CopiedMapping]:
    """What was noted last, by mapping."""
    return {
        mapping: CopiedMapping(shape=shape, referenced=bool(referenced), version=version)
        for mapping, shape, referenced, version in connection.execute(_READ, (pipeline,))
    }


def note(connection: Connection, pipeline: str, mappings: Mapping[str, CopiedMapping]) -> None:
    """Note these and no others; the caller's transaction."""
    connection.execute(_FORGET, (pipeline,))
    connection.executemany(
        _NOTE,
        [
            (pipeline, name, one.shape, int(one.referenced), one.version)
            for name, one in mappings.items()
        ],
    )
