"""The small protocols between engine and adapters. No base classes: an adapter just has these.

``Source`` reads one database in commit order; ``Sink`` is the control database. What a source
position means only its source knows; what SQL a step becomes only its sink knows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from cdc_daemon.model.cascades import Cascades, Child
from cdc_daemon.model.changes import Batch, Relation, Row
from cdc_daemon.model.effects import Key, Layout, Outcome, Step
from cdc_daemon.model.errors import DataError, Problem
from cdc_daemon.model.findings import Finding
from cdc_daemon.model.position import Checkpoint, SourceIdentity
from cdc_daemon.model.queue import PARKED, Edit, Failure, FailureQueue, Kept
from cdc_daemon.model.selection import Selection, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One source table that is read: where it is and which columns somebody maps.

    ``identity`` is what the mapping's author declared as the row's identity, used only for tables
    without a primary key under replica identity FULL. ``mapped`` False: nobody maps it; it is read
    for what its changes do to rows of other tables.
    """

    schema: str
    name: str
    columns: frozenset[str]
    identity: tuple[str, ...] = ()
    mapped: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """What a source keeps of its log for us. Bytes; None: not known, or without a bound.

    ``status``: the server's word (reserved, extended, unreserved, lost); ``safe_bytes``: log that
    may still be written before the slot is lost; ``behind_bytes``: log behind the checkpoint;
    ``written_bytes``: where the log ends (only differences mean something).
    """

    active: bool
    status: str
    retained_bytes: int | None
    safe_bytes: int | None
    behind_bytes: int | None
    written_bytes: int | None = None


class Stream(Protocol):
    """An open position in the log. One reader thread owns it; ``acknowledge`` may come from any."""

    @property
    def heard(self) -> int:
        """How often the source has said anything; grows every few seconds while it is there."""

    def read(self, timeout: float) -> Batch | None:
        """What the log says next, or None when nothing came within ``timeout`` seconds.

        Returns complete transactions, or, past the piece limit, a piece of an open one
        (``position`` None). An idle log yields empty batches whose position may be checkpointed.
        Raises Unreachable when the connection ends, PreflightRefusal and Stop for what must not be
        guessed.
        """

    def keep_alive(self) -> None:
        """Send feedback when due; called while the queue is full and nothing can be read."""

    def acknowledge(self, position: str) -> None:
        """The checkpoint row holds this position: the source may forget what is before it."""

    def render(self, mark: int) -> str:
        """A transaction's raw mark (``Begin[1]``) as position text."""

    def close(self) -> None:
        """End the stream; never raises."""


class Snapshot(Protocol):
    """A first consistent copy that the stream continues without gap."""

    @property
    def position(self) -> str:
        """Where the stream goes on after the copy."""

    def read(self, tables: Sequence[Table]) -> Iterator[Batch]:
        """The rows of these tables as INSERT runs in pieces; every batch has position None."""


class Source(Protocol):
    """One source database."""

    name: str

    def examine(
        self, checkpoint: Checkpoint | None, *, held: bool = False, sample_seconds: float = 0.0
    ) -> list[Finding]:
        """The findings of every check, for going on from this checkpoint (None: not known).

        ``held``: a worker is at work, so the slot moves; ``sample_seconds``: how long to watch the
        log's growth for. Raises Unreachable, and ConfigurationError where we are not let in.
        """

    def watch(self, checkpoint: Checkpoint, rate: float | None) -> list[Finding]:
        """The findings of the watched checks; cheap, asked while running.

        ``rate``: the log's growth in bytes a second, where it is known. Raises Unreachable when the
        source must be opened anew.
        """

    def identify(self) -> SourceIdentity:
        """Which server and publication this is, now."""

    def compare(self, then: SourceIdentity, now: SourceIdentity) -> list[Problem]:
        """What happened between two identities that would lose changes; asks nobody."""

    def remember(self, identity: SourceIdentity) -> SourceIdentity:
        """The identity with what the last look saw and must count until the next copy, though it
        may be undone before the next look; asks nobody."""

    def relations(self) -> list[Relation]:
        """Every table asked for as the catalogue describes it now."""

    def cascades(self) -> Cascades:
        """What foreign keys do to rows of mapped tables without a word in the log, as the last
        ``relations`` found it."""

    def make_room(self, slot: str, checkpoint: Checkpoint) -> None:
        """Drop the slot that an earlier copy of this checkpoint left, or that another copy was
        asked for. Raises PreflightRefusal for a slot that is not this checkpoint's."""

    def snapshot(self, slot: str) -> AbstractContextManager[Snapshot]:
        """Create the slot and open its snapshot."""

    def stream(self, after: str) -> Stream:
        """Open the log after that position."""

    def slot_state(self, position: str) -> SlotState | None:
        """What the source keeps for us, and how far its log is past that position, if anything."""

    def reread(self, relation: Relation, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows with these identities as they are now, full width; gone ones are left out."""

    def mark(self) -> str:
        """A place in the log behind everything that can be read now; the log reaches it soon."""

    def passed(self, position: str, mark: str) -> bool:
        """Whether a position is at or behind that place."""

    def close(self) -> None:
        """Close what connections are open; who asks again opens them anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """One line of the audit of repairs: ids only, never a value.

    ``kind``: what verification called the row; ``key``: its entity key, where it has one;
    ``source_row``: its identity in the source. ``outcome``: written, deleted, waiting (something
    parked is before it), moving (it kept changing), failed.
    """

    command: int
    mapping: str
    actor: str
    reason: str
    kind: str
    key: tuple[str, ...]
    source_row: tuple[str, ...]
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedMapping:
    """A mapping as it was when its table was copied, or when it was last found to fit that copy.

    ``shape``: a digest of what decides which source row is which entity row. ``referenced``:
    whether the two are kept together in a reference table. ``version``: a digest of all of it.
    """

    shape: str
    referenced: bool
    version: str


class UnitOfWork(Protocol):
    """One open transaction of the control database. Leaving its ``with`` commits or rolls back."""

    @property
    def queue(self) -> FailureQueue:
        """The failure queue, which this unit changes too."""

    def references(self, layout: Layout, source_keys: Sequence[Key]) -> dict[Key, Key]:
        """Entity key of each source row that the mapping's reference table knows."""

    def apply(self, steps: Sequence[Step]) -> Outcome:
        """Apply steps in order. All or nothing: on DataError the unit is as before the call."""

    def faults(
        self, steps: Sequence[Step], like: DataError | None = None
    ) -> dict[str, dict[Key, DataError]]:
        """Entity keys, by mapping, of rows that can be told as sets to be at fault, and why.

        For use before ``apply``, or after it raised DataError for these steps (the unit is as
        before that call). The error of a row has the code, message and attribute that applying it
        alone would give. Rows that cannot be told are left out: an empty answer does not say that
        all are well. ``like``: an error that some of the rows may give; if rows are told that do,
        others may be left out. Reads only.
        """

    def dangling(self, steps: Sequence[Step]) -> dict[str, set[Key]]:
        """Entity keys, by mapping, that these steps leave in a broken reference.

        Written by them but referring to an entity row that does not exist, or deleted by them
        (hard) while rows still refer to them. Looks at the state after all steps so far, so a
        caller with an open transaction asks again at its end.
        """

    def audit(self, repaired: Sequence[Repaired]) -> None:
        """Note what was repaired, in this unit."""

    def note_copied(self, mappings: Mapping[str, CopiedMapping]) -> None:
        """Note, in this unit, by which mappings the rows that there are were made; no others."""

    def children(self, parents: Sequence[bytes], most: int, after: bytes = b"") -> list[str]:
        """Rows that are noted as children of any of these parents; so many at most.

        Of one parent: in the order of their digests, those behind ``after``; else in no order.
        """

    def note_children(
        self, table: str, gone: Sequence[tuple[bytes, bytes]], come: Sequence[Child]
    ) -> None:
        """Forget some children (parent and digest), then note others, of one source table."""

    def forget_children(self, table: str | None = None) -> None:
        """Forget all children of one source table; None: of the pipeline."""

    def savepoint(self) -> AbstractContextManager[None]:
        """What is done inside is undone when an exception leaves it; savepoints may nest."""

    def save_checkpoint(
        self, position: str, *, commit_time: int | None, transactions: int, changes: int
    ) -> None:
        """Move the checkpoint in this unit; counters are added. Raises Fenced if not ours."""

    def save_snapshot(self, mapping_rows: dict[str, int]) -> None:
        """Note a finished group of the snapshot (``backfill_chunk``). Raises Fenced."""

    def finish_snapshot(
        self, layouts: Sequence[Layout], identity: SourceIdentity, position: str
    ) -> Outcome:
        """Sweep rows that this generation did not see and set the checkpoint to streaming.

        Rows of layouts that keep them stay, and so do rows that others which stay refer to; these
        are counted as ``noop``.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One row of ``cdc.command``: the only way from CLI, page or API to a worker."""

    id: int
    pipeline: str
    verb: str
    arguments: dict[str, object]
    actor: str
    state: str = "pending"  # pending | done | failed
    result: dict[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedMapping:
    """What a verification found about one mapping.

    ``rows``: source_rows, target_rows, matching, missing, extra, different, moving, parked, kept.
    ``differences``: kind, key, source_row, attributes, reason of some rows; JSON-ready, no values.
    """

    mapping: str
    rows: dict[str, int]
    differences: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How the newest whole verification of a pipeline went: ``state`` equal, different or failed.

    ``last_…``: of the newest one that did not fail, whose rows ``mappings`` are, by mapping.
    """

    pipeline: str
    state: str
    started_at: dt.datetime
    error: str
    last_started: dt.datetime | None
    last_finished: dt.datetime | None
    last_equal: dt.datetime | None
    mappings: dict[str, dict[str, int]]


class Sink(Protocol):
    """The control database, held by one pipeline's worker under its epoch."""

    def examine(self) -> list[Finding]:
        """The findings of every check. Raises Unreachable, and ConfigurationError where we are not
        let in."""

    def watch(self) -> list[Finding]:
        """The findings of the watched checks; cheap, asked while running. Raises Unreachable."""

    def acquire(self) -> Checkpoint:
        """Take the pipeline (raise the epoch) or raise Fenced naming the holder."""

    def recover(self) -> Checkpoint:
        """After a lost connection: reconnect, raise our own epoch, read the checkpoint again."""

    def begin_generation(self, slot: str, identity: SourceIdentity) -> Checkpoint:
        """Commit a ``snapshotting`` checkpoint that names slot and a new generation.

        The pipeline's parked changes of earlier generations are superseded by the new copy.
        """

    def save_identity(self, identity: SourceIdentity) -> Checkpoint:
        """Note what the source is by now, after it was checked against the checkpoint."""

    def copied_mappings(self) -> dict[str, CopiedMapping]:
        """What ``note_copied`` noted last, by mapping; empty: nothing was ever noted."""

    def begin(self) -> AbstractContextManager[UnitOfWork]:
        """Open a unit of work."""

    def save_progress(self, position: str) -> None:
        """Checkpoint idle progress (a unit with nothing else in it)."""

    def heartbeat(self) -> None:
        """Attest on a connection of its own that this holder lives; any thread."""

    def lanes(self) -> dict[bytes, str]:
        """Digest of every blocked lane of the pipeline, and the mapping it belongs to."""

    def still_blocked(self, lanes: Sequence[bytes], before: int | None = None) -> set[bytes]:
        """Those of these lanes that some parked change (before that id) of the pipeline blocks."""

    def tripped(self) -> str | None:
        """Why the breaker has stopped the pipeline; None: it has not."""

    def disarmed(self) -> float:
        """Seconds for which the breaker may not stop the pipeline again."""

    def awaited(self) -> set[bytes]:
        """Digests of the rows that the pipeline's parked changes wait for."""

    def due(self, limit: int) -> list[int]:
        """Parked changes that are to be tried again by now, so many at most, in source order."""

    def behind(self, failures: Sequence[int]) -> set[int]:
        """Which of these have an earlier parked change in one of their lanes."""

    def parked(self) -> dict[tuple[str, str], int]:
        """How many changes stand in the failure queue, by mapping and error."""

    def parked_since(self) -> dt.datetime | None:
        """When the oldest change of the failure queue was parked; None: it is empty."""

    def failures(self, selection: Selection = PARKED, limit: int | None = None) -> list[Failure]:
        """The changes of the pipeline that are meant, in source order; so many at most."""

    def kept_payloads(self, after: int, most: int) -> list[Kept]:
        """Payloads of the pipeline's changes behind an id, of so many changes at most, in the order
        of ids; each is followed by those of its edits."""

    def purge(self, selection: Selection, most: int) -> int:
        """Delete settled changes of the pipeline that are meant, so many at most, with their edits;
        how many it were. Never one that is parked. Raises Fenced."""

    def verification(self) -> Verification | None:
        """How the pipeline's newest verification went; None: there was none."""

    def commands(self) -> list[Command]:
        """Pending commands for the pipeline, oldest first."""

    def finish_command(self, command: int, *, ok: bool, result: dict[str, object]) -> None:
        """Note a command's result, unless it has one (it was withdrawn). Raises Fenced.

        What an ``edit`` asked for is forgotten with that: values stay in no command.
        """

    def close(self) -> None:
        """Release the epoch's holder mark and close; never raises."""


class Control(Protocol):
    """The control database as a command line or a page sees it: reads, and commands to workers."""

    def checkpoints(self) -> list[Checkpoint]:
        """Every pipeline's checkpoint."""

    def failures(self, selection: Selection = PARKED, limit: int | None = None) -> list[Failure]:
        """The changes that are meant, in source order; so many at most."""

    def tallies(self, selection: Selection = PARKED) -> list[Tally]:
        """How many changes are meant, by pipeline, entity, error and state."""

    def blocked(self) -> dict[str, int]:
        """How many lanes (rows and keys) parked changes block, by pipeline where there are any."""

    def kept_payloads(self, after: int, most: int) -> list[Kept]:
        """The same as a sink's, of all pipelines."""

    def edits(self, failure: int) -> list[Edit]:
        """What was edited in a change, oldest first."""

    def holder_alive(self, pipeline: str) -> bool:
        """Whether a worker holds the pipeline now."""

    def submit(self, pipeline: str, verb: str, arguments: dict[str, object], actor: str) -> int:
        """Queue a command; its id."""

    def command(self, number: int) -> Command:
        """A command with its state and result."""

    def withdraw(self, number: int, reason: str) -> bool:
        """Let a command that still waits fail; whether it still waited."""

    def begin_verification(self, pipeline: str, origin: str, actor: str, *, whole: bool) -> int:
        """Note that a verification begins (``origin``: schedule or command); its number."""

    def finish_verification(
        self, number: int, state: str, error: str | None, mappings: Sequence[VerifiedMapping]
    ) -> None:
        """Note what it found; ``state``: equal, different, failed, or abandoned, which nobody is
        told of: it ended with the daemon."""

    def verification(self, pipeline: str) -> Verification | None:
        """How the pipeline's newest verification went; None: there was none."""

    def parked(self) -> dict[str, int]:
        """How many changes stand in the failure queue, by pipeline where there are any."""

    def copied_mappings(self, pipeline: str) -> dict[str, CopiedMapping]:
        """By which mappings the pipeline's rows were copied; empty: nothing was ever noted."""

    def copied(self) -> dict[str, dict[str, int]]:
        """Rows that the present generation's snapshot has committed, by pipeline and mapping."""

    def close(self) -> None:
        """Close the connection."""


Reread = Callable[[Relation, Sequence[Key]], dict[Key, Row]]
"""Full-width rows by the keys as they were given, which the source may spell otherwise."""
