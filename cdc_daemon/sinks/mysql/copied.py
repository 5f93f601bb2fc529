"""``cdc_copied_mapping``: by which mappings the rows of a pipeline were copied."""

from __future__ import annotations

from collections.abc import Mapping

from cdc_daemon.model.ports import CopiedMapping
from cdc_daemon.sinks.mysql.failures import Run

_READ = "SELECT mapping, shape, referenced, version FROM cdc_copied_mapping WHERE pipeline = %s"
_FORGET = "DELETE FROM cdc_copied_mapping WHERE pipeline = %s"
_NOTE = "INSERT INTO cdc_copied_mapping VALUES (%s, %s, %s, %s, %s)"


def read(run: Run, pipeline: str) -> dict[str, CopiedMapping]:
    """What was noted last, by mapping."""
    found: dict[str, CopiedMapping] = {}
    for row in run(_READ, pipeline).rows:
        mapping, shape, referenced, version = [(one or b"").decode() for one in row]
        found[mapping] = CopiedMapping(shape=shape, referenced=referenced == "1", version=version)
    return found


def note(run: Run, pipeline: str, mappings: Mapping[str, CopiedMapping]) -> None:
    """Note these and no others; the caller's transaction."""
    run(_FORGET, pipeline)
    for name, one in mappings.items():
        run(_NOTE, pipeline, name, one.shape, one.referenced, one.version)
