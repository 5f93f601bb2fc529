"""What a batch does to the control database, after mapping: entity runs, steps, outcomes.

An :class:`EntityRun` is still uncoalesced and in source order, one per run and mapping. The engine
resolves it, divides off what is blocked, and folds the rest into :data:`Step` s, which a sink
applies as sets. Values in here are text in the entity type's canonical form, None, or UNCHANGED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cdc_daemon.model.changes import Operation, Row, Run
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.model.errors import DataError

Key = tuple[bytes, ...]
"""An entity key, or a source row's identity: its values in order, never NULL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTable:
    """Source row identity ↔ entity key of one mapping (DESIGN section 4).

    ``columns``: the source key's columns with the column type each has in the control database
    (``bigint``, ``text`` ...), in identity order.
    """

    name: str  # table name in schema cdc: reference_<slug>
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """The shape of one mapping's rows: which entity, which attributes, in which order.

    ``columns[i]`` names the attribute in position i of every row; ``key[j]`` is the position in a
    row of the entity key's j-th attribute (in the order of ``entity.key``). ``reference`` is there
    when the mapping keeps source row → entity key. ``refs``: (position in a row, mapping that knows
    the row meant): until resolution that position holds the referenced row's source id.
    """

    mapping: str
    entity: Entity
    columns: tuple[str, ...]
    key: tuple[int, ...]
    soft: bool = False  # deletes set deleted_at
    keeps: bool = False  # rows may outlive their source rows: deletes, or leaving, are ignored
    reference: ReferenceTable | None = None
    refs: tuple[tuple[int, str], ...] = ()
    referred: bool = False  # rows of other entities, or of this one, may refer to its rows

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attribute in each position of a row."""
        return tuple(self.entity.attribute(name) for name in self.columns)

    def key_of(self, row: Row) -> Key:
        """The entity key of a row. UNCHANGED and NULL must have been resolved or rejected."""
        return tuple([row[i] for i in self.key])  # type: ignore[misc]


@dataclass(slots=True, kw_only=True)
class EntityRun:
    """Mapped changes of one run through one mapping, uncoalesced, in source order.

    ``rows`` (INSERT, UPDATE): layout rows. ``old_keys``: for DELETE the entity keys; for UPDATE the
    keys before the change, or None where the key cannot have changed. With a reference table,
    ``source_keys`` (and ``old_source_keys`` for updates that changed the identity) are there, and
    ``old_keys`` is filled in by resolution. ``sequences[i]`` is the ordinal of change i; the source
    image of change i is row ``sequences[i] - source.sequence`` of ``source``.
    """

    layout: Layout
    operation: Operation
    source: Run
    sequences: Sequence[int]
    rows: list[Row] = field(default_factory=list)
    old_keys: list[Key | None] | None = None
    source_keys: list[Key] | None = None
    old_source_keys: list[Key] | None = None
    partial: bool = False  # some row holds UNCHANGED

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A change that mapping or resolution could not carry out; it parks.

    ``keys``: the entity keys that it is known to touch, which it blocks beside its row.
    """

    layout: Layout
    source: Run
    sequence: int
    error: DataError
    keys: tuple[Key, ...] = ()


# --- steps: what a sink does, in this order, as sets ------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsert:
    """Write whole rows, one per entity key, clearing ``deleted_at``.

    ``fresh``: the log said insert for all of them, so rows are not expected to exist and a plain
    append is worth a try. With ``source_keys`` (one per row) the mapping keeps references: a
    living entity row that the reference of that source key does not name is the data error
    ``duplicate_entity_key``; the reference rows are written in the same step.
    """

    layout: Layout
    rows: list[Row]
    fresh: bool = False
    source_keys: list[Key] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Update rows that exist; every row holds UNCHANGED in exactly the positions ``unchanged``."""

    layout: Layout
    unchanged: frozenset[int]
    rows: list[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete by entity key; softly where the layout says so. Absent rows are a counted no-op.

    ``times``: the commit time of each delete, µs since 1970 (used for ``deleted_at``).
    ``owners`` (one for each key, where the mapping keeps references): the source row that the
    delete is of; a row that its reference does not name is somebody else's and stays. Their
    references go with them.
    """

    layout: Layout
    keys: list[Key]
    times: list[int]
    owners: list[Key] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """Move rows to another entity key and write them there; (old key, new row) in source order.

    Rows may hold UNCHANGED outside the key. A tombstone at the new key is replaced; a living row
    there is ``duplicate_entity_key``. No row at the old key: the pair is reported as missing.
    """

    layout: Layout
    pairs: list[tuple[Key, Row]]
    source_keys: list[Key] | None = None
    old_source_keys: list[Key] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    """Delete every row that this mapping wrote (``time``: µs since 1970)."""

    layout: Layout
    time: int


Step = Upsert | Patch | Delete | Rename | Truncate


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What applying steps did: counts per (mapping, kind), and rows that were not there.

    ``missing``: (layout, row) of patches and renames without a target row; the engine re-reads
    their source rows and applies them again.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    missing: list[tuple[Layout, Row]] = field(default_factory=list)

    def count(self, mapping: str, kind: str, number: int) -> None:
        """Add to one counter; kinds: insert update delete noop."""
        if number:
            key = (mapping, kind)
            self.counts[key] = self.counts.get(key, 0) + number


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """One change for the failure queue: its uncoalesced source image and why it stands there.

    ``lanes``: the 16-byte digests it blocks or waits in. ``payload`` is JSON-ready: operation,
    column names, old and new values as text (null for NULL; absent for UNCHANGED).
    ``error_code`` is ``waiting`` for a change that only waits behind an earlier one of its lane.
    ``awaits``: lanes (16-byte digests) of rows that must arrive before it can be applied.
    ``retry_at``: when it is tried again by itself (µs since 1970); None: it is not.
    """

    pipeline: str
    mapping: str
    entity: str
    lanes: tuple[bytes, ...]
    position: str
    sequence: int  # ordinal inside its source transaction
    commit_time: int
    operation: Operation
    table: str  # source.schema.table
    payload: dict[str, object]
    error_code: str
    error_message: str
    mapping_version: str
    awaits: tuple[bytes, ...] = ()
    retry_at: int | None = None
