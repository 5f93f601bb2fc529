"""Renames on the table. Foreign keys follow by ON UPDATE CASCADE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.sinks.forms import Stored
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.shape import Shape
from cdc_daemon.sinks.sqlite.writing import states


class Moving:
    """``renaming.Rows`` on SQLite. ``moment``: when they happen."""

    def __init__(self, connection: Connection, shape: Shape, moment: str) -> None:
        self._connection = connection
        self._shape = shape
        self._moment = moment

    def standing(self, keys: Sequence[Key]) -> Mapping[Key, bool]:
        return states(self._connection, self._shape, keys)

    def clear(self, tombs: Sequence[Key]) -> None:
        rows = zip(*self._shape.key_columns(tombs), strict=True)
        self._connection.executemany(self._shape.delete(), rows)

    def move(self, row: Row, old: Key) -> None:
        shape = self._shape
        present = tuple(i for i, value in enumerate(row) if value is not UNCHANGED)
        values: list[Stored] = [column[0] for column in shape.some([row], present)]
        before = [column[0] for column in shape.key_columns([old])]
        self._connection.execute(shape.rename(present), [*values, self._moment, *before])

    def refer(self, gone: Sequence[Key], named: Sequence[tuple[Key, Key]]) -> None:
        shape, run = self._shape, self._connection.executemany
        if gone:
            run(shape.forget, zip(*shape.source_columns(gone), strict=True))
        if named:
            sources = shape.source_columns([source for source, _ in named])
            targets = shape.key_columns([key for _, key in named])
            run(shape.refer, zip(*sources, *targets, strict=True))
