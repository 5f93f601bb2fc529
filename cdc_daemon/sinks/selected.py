"""A selection of the failure queue as conditions in SQL, as far as every sink says them alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

from cdc_daemon.model.selection import Selection


def plain_conditions(
    selection: Selection, moment: Callable[[dt.datetime], object]
) -> Iterator[tuple[str, object]]:
    """Conditions that end in an operator, and the value behind it; without ids and lanes.

    ``moment``: a moment as the sink keeps it.
    """
    pairs: list[tuple[str, object]] = [
        ("pipeline =", selection.pipeline),
        ("entity =", selection.entity),
        ("error_code =", selection.error),
        ("source_table =", selection.table),
        ("state =", selection.state),
        ("parked_at >=", selection.since and moment(selection.since)),
        ("parked_at <", selection.until and moment(selection.until)),
        ("resolved_at <", selection.settled and moment(selection.settled)),
        ("id >", selection.after),
        ("id <=", selection.through),
    ]
    return ((sql, value) for sql, value in pairs if value is not None)
