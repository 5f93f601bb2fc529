"""Rows events of one table as tuples of text: insert, update, delete, and partial updates.

Generated code does the work (``rowcode.py``); an event that it cannot read goes through a reader
that checks every step and knows where it went wrong.

Format: ``Rows_event`` in MySQL's ``libs/mysql/binlog/event/rows_event.h``. Version 1 (MariaDB, and
MySQL before 5.6) has no extra row data. An update holds pairs of images, before and after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cdc_daemon.model.changes import UNCHANGED, Invalid, Row, Unset
from cdc_daemon.model.errors import Stop
from cdc_daemon.sources.mysql.column import COMPRESSED, JSON
from cdc_daemon.sources.mysql.cursor import Cursor
from cdc_daemon.sources.mysql.layout import Read, Text
from cdc_daemon.sources.mysql.layouts import layout_of
from cdc_daemon.sources.mysql.rowcode import ASTRAY, Image, Part
from cdc_daemon.sources.mysql.strict import read_partial, read_row
from cdc_daemon.sources.mysql.tablemap import TableMap

_INSERT, _UPDATE, _DELETE = "insert rows", "update rows", "delete rows"
_ODD: Final = frozenset({Invalid, Unset})
_SHORT, _REMEMBERED = 16, 1000  # bytes of an invalid value, and how many of a column's
_FIXED_HEADER: Final = 8  # table number and flags
_GROWTH: Final = 8
"""No text is longer than its bytes in the log by more than this factor."""


class Decoded(NamedTuple):
    """Rows of an event.

    ``news`` (insert, update) are as wide as ``wanted``. ``olds`` (delete, update) are too where
    ``old_full``, else they hold the identity. ``partial``: the indexes of new rows with UNCHANGED
    or Invalid in them.
    """

    news: list[Row]
    olds: list[Row]
    partial: list[int]
    old_full: bool


class _Head(NamedTuple):
    """What an event says before its rows: where they begin, and which columns the images hold."""

    offset: int
    before: bytes
    after: bytes


class RowsDecoder:
    """Reads the rows events that follow one table map.

    ``wanted``: the positions in the table that make a row, in its order; ``identity``: those among
    them that make its identity. ``whole_old`` False: old rows hold the identity only. Bodies are
    events without header and checksum, uncompressed (``compression.inflate_rows``). Every method
    raises DecodeError, or Stop for a value longer than ``max_value_bytes``.
    """

    def __init__(
        self,
        table_map: TableMap,
        wanted: Sequence[int],
        identity: Sequence[int],
        *,
        max_value_bytes: int,
        whole_old: bool = True,
    ) -> None:
        self._table = table_map
        self._wanted, self._identity = tuple(wanted), tuple(identity)
        self._old = self._wanted if whole_old else self._identity
        self._limit = max_value_bytes
        self._odd: list[bool] = []  # filled by readers that find an invalid value
        self._name = f"{table_map.schema}.{table_map.table}"
        self._layouts = [
            layout_of(c, f"{self._name}, column {c.name}", max_value_bytes, self._noting)
            for c in table_map.columns
        ]
        self._documents = [i for i, c in enumerate(table_map.columns) if c.type == JSON]
        self._swells = any(c.type in COMPRESSED for c in table_map.columns)
        self._images: dict[tuple[bytes, tuple[int, ...]], Image] = {}

    def insert(self, body: bytes, version: int = 2) -> Decoded:
        """The new rows of a WRITE_ROWS event."""
        head = self._head(body, _INSERT, version)
        image = self._image(head.after, self._wanted)
        news = _rows(Cursor(body, _INSERT, head.offset), image)
        return self._checked(body, news, [], image.whole, old_full=False)

    def delete(self, body: bytes, version: int = 2) -> Decoded:
        """The old rows of a DELETE_ROWS event."""
        head = self._head(body, _DELETE, version)
        image = self._image(head.before, self._old)
        olds, full = self._olds(_rows(Cursor(body, _DELETE, head.offset), image), image)
        return self._checked(body, [], olds, whole=True, old_full=full)

    def update(self, body: bytes, version: int = 2) -> Decoded:
        """The new and old rows of an UPDATE_ROWS event."""
        head = self._head(body, _UPDATE, version)
        after = self._image(head.after, self._wanted)
        before = self._image(head.before, self._old if after.whole else self._wanted)
        olds, news = _pairs(Cursor(body, _UPDATE, head.offset), before, after)
        return self._updated(body, olds, news, before, after.whole)

    def partial_update(self, body: bytes) -> Decoded:
        """The new and old rows of a PARTIAL_UPDATE_ROWS event (MySQL)."""
        head = self._head(body, _UPDATE, 2)
        after = self._image(head.after, self._wanted)
        before = self._image(head.before, self._wanted)
        cursor = Cursor(body, "partial update rows", head.offset)
        found = list(_partial_pairs(cursor, before, after, self._documents))
        olds, news = [old for old, _ in found], [new for _, new in found]
        return self._updated(body, olds, news, before, whole=False)

    def _noting(self, read: Read) -> Read:
        """The same reader, which lets it be known when it says Invalid; zero dates, which come
        often, are remembered."""
        known: dict[bytes, Text] = {}

        def noted(raw: bytes) -> Text:
            value = known.get(raw)
            if value is None:
                value = read(raw)
                if isinstance(value, bytes):
                    return value
                if len(raw) <= _SHORT and len(known) < _REMEMBERED:
                    known[raw] = value
            self._odd.append(True)
            return value

        return noted

    def _head(self, body: bytes, kind: str, version: int) -> _Head:
        cursor = Cursor(body, kind, _FIXED_HEADER)
        if version == 2:
            cursor.take(max(cursor.number(2) - 2, 0))  # the length counts itself
        count = cursor.packed()
        if count != len(self._table.columns):
            raise cursor.fail(f"{count} columns, the table map has {len(self._table.columns)}")
        before = after = cursor.take((count + 7) // 8)
        if kind is _UPDATE:
            after = cursor.take((count + 7) // 8)
        if not any(before + after):
            raise Stop(
                f"{self._name}: the log has rows of no columns, so that nobody can tell how many",
                hint="set binlog_row_image=FULL on the server, and take a new snapshot",
            )
        return _Head(cursor.offset, before, after)

    def _image(self, present: bytes, row: tuple[int, ...]) -> Image:
        """The image with these columns, and its code."""
        known = self._images.get((present, row))
        if known is None:
            known = self._images[present, row] = self._new_image(present, row)
        return known

    def _new_image(self, present: bytes, row: tuple[int, ...]) -> Image:
        bits = int.from_bytes(present, "little")
        parts = [
            Part(position=i, layout=layout, wanted=i in row, nullable=column.nullable)
            for i, (layout, column) in enumerate(
                zip(self._layouts, self._table.columns, strict=True)
            )
            if bits >> i & 1
        ]
        return Image(parts, row)

    def _updated(
        self, body: bytes, olds: list[Row], news: list[Row], before: Image, whole: bool
    ) -> Decoded:
        """What the after image left out is taken from the old row, where that has it."""
        if not whole:
            news = [
                tuple([old if new is UNCHANGED else new for old, new in zip(*pair, strict=True)])
                for pair in zip(olds, news, strict=True)
            ]
        olds, full = self._olds(olds, before)
        return self._checked(body, news, olds, whole, old_full=full)

    def _olds(self, rows: list[Row], image: Image) -> tuple[list[Row], bool]:
        """The old rows whole, or their identity. Raises Stop where that is not in the log."""
        if image.whole and image.row == self._old:
            return rows, self._old == self._wanted
        places = [image.row.index(position) for position in self._identity]
        found: list[Row] = [tuple([row[place] for place in places]) for row in rows]
        if any(UNCHANGED in row for row in found):
            raise Stop(
                f"{self._name}: the log leaves out of a changed row's old image what identifies it",
                hint="set binlog_row_image=FULL on the server, and take a new snapshot",
            )
        return found, False

    def _checked(
        self, body: bytes, news: list[Row], olds: list[Row], whole: bool, *, old_full: bool
    ) -> Decoded:
        if self._swells or len(body) * _GROWTH > self._limit:
            self._check_sizes(news, self._wanted)
            self._check_sizes(olds, self._wanted if old_full else self._identity)
        partial: list[int] = []
        if self._odd or not whole:
            partial = [i for i, row in enumerate(news) if not _ODD.isdisjoint(map(type, row))]
            self._odd.clear()
        return Decoded(news, olds, partial, old_full)

    def _check_sizes(self, rows: list[Row], positions: tuple[int, ...]) -> None:
        """Stop at a value over the limit, naming table, column and key columns, never values."""
        for row in rows:
            for position, value in zip(positions, row, strict=True):
                if isinstance(value, bytes) and len(value) > self._limit:
                    columns = self._table.columns
                    key = ", ".join(columns[i].name for i in self._identity)
                    raise Stop(
                        f"{self._name}: a value of {len(value)} bytes (column "
                        f"{columns[position].name}, row identified by {key}) is longer than "
                        f"max_value_bytes ({self._limit})",
                        hint="raise max_value_bytes or leave the column out of the mapping",
                    )


def _rows(cursor: Cursor, image: Image) -> list[Row]:
    """The rows of all images up to the event's end."""
    data, offset, end = cursor.data, cursor.offset, len(cursor.data)
    readers, width = image.readers, image.bitmap
    rows: list[Row] = []
    try:
        while offset < end:
            start = offset + width
            row, offset = readers[data[offset:start]](data, start)
            rows.append(row)
    except ASTRAY:
        offset = -1
    return rows if offset == end else list(_strictly(cursor, image))


def _pairs(cursor: Cursor, before: Image, after: Image) -> tuple[list[Row], list[Row]]:
    """Old and new rows of all pairs of images up to the event's end."""
    data, offset, end = cursor.data, cursor.offset, len(cursor.data)
    old_readers, old_width = before.readers, before.bitmap
    new_readers, new_width = after.readers, after.bitmap
    olds: list[Row] = []
    news: list[Row] = []
    try:
        while offset < end:
            start = offset + old_width
            row, offset = old_readers[data[offset:start]](data, start)
            olds.append(row)
            start = offset + new_width
            row, offset = new_readers[data[offset:start]](data, start)
            news.append(row)
    except ASTRAY:
        offset = -1
    if offset == end:
        return olds, news
    found = list(_strict_pairs(cursor, before, after))
    return [old for old, _ in found], [new for _, new in found]


def _strictly(cursor: Cursor, image: Image) -> Iterator[Row]:
    while cursor.left:
        yield read_row(cursor, image)


def _strict_pairs(cursor: Cursor, before: Image, after: Image) -> Iterator[tuple[Row, Row]]:
    while cursor.left:
        yield read_row(cursor, before), read_row(cursor, after)


def _partial_pairs(
    cursor: Cursor, before: Image, after: Image, documents: list[int]
) -> Iterator[tuple[Row, Row]]:
    while cursor.left:
        plain = _plain_pair(cursor, before, after)
        yield plain or read_partial(cursor, before, after, documents)


def _plain_pair(cursor: Cursor, before: Image, after: Image) -> tuple[Row, Row] | None:
    """Old and new row of an update whose documents are whole; None: it is for the strict reader."""
    data, start = cursor.data, cursor.offset + before.bitmap
    try:
        old, offset = before.readers[data[cursor.offset : start]](data, start)
        if data[offset]:
            return None
        offset += 1  # no options
        start = offset + after.bitmap
        new, offset = after.readers[data[offset:start]](data, start)
    except ASTRAY:
        return None
    if offset > len(data):
        return None
    cursor.offset = offset
    return old, new
