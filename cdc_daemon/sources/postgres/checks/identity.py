"""Checks of identity: another server, timeline or publication than the checkpoint belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.model.errors import RESNAPSHOT, Problem
from cdc_daemon.model.findings import Check, Note, ok, problem, problems, warning
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.sources.postgres.asked import Asked
from cdc_daemon.sources.postgres.checks.examined import Examined
from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.damage import damaged
from cdc_daemon.sources.postgres.fingerprint import compare
from cdc_daemon.sources.postgres.lsn import format_lsn, parse_lsn
from cdc_daemon.sources.postgres.system import System, identify_system

_CORRECT = f"correct the connection, or {RESNAPSHOT}"


def identify(server: Server, connection: Connection, asked: Asked) -> SourceIdentity:
    """The identity that a checkpoint taken now belongs to."""
    system = identify_system(server, history=False)
    at = Examined(server, connection, asked, None)
    asked.places.note(connection, at.facts)
    return SourceIdentity(
        system=system.system,
        timeline=system.timeline,
        database=server.database,
        publication=at.fingerprint,
    )


def compare_identities(
    server: Server, asked: Asked, then: SourceIdentity, now: SourceIdentity
) -> list[Problem]:
    """Whether ``now`` may take the place of ``then``: only timeline and vanished tables differ."""
    if (then.system, then.database) != (now.system, now.database):
        what = "another server or database answers than the checkpoint belongs to"
        return [Problem(what=what, where=server.where, cure=_CORRECT)]
    where = f"{server.where}, publication {asked.publication}"
    return _publication_problems(where, asked, then, now.publication)


def _checkpoint(at: Examined) -> Iterator[Note]:
    found = damaged(at.checkpoint) if at.checkpoint is not None else []
    yield from problems(found) or [ok("its checkpoint is whole" if at.checkpoint else "none yet")]


def _identity(at: Examined) -> Iterator[Note]:
    identity, system = at.identity, at.system
    if identity is None:
        yield ok(f"system identifier {system.system}, and no checkpoint to compare it with")
    elif identity.system != system.system:
        yield problem(
            f"this server (system identifier {system.system}) is not the one that the checkpoint "
            f"belongs to ({identity.system})",
            _CORRECT,
        )
    elif identity.database != at.server.database:
        yield problem(f"the checkpoint belongs to database {identity.database}", _CORRECT)
    else:
        yield ok(f"system identifier {system.system}, as the checkpoint's")


def _timeline(at: Examined) -> Iterator[Note]:
    """After a fail-over or restore: fine only if the checkpoint lies before the fork."""
    identity, system = at.identity, at.system
    position = at.checkpoint.position if at.checkpoint else None
    if identity is None or position is None or not _same_server(at, identity):
        yield ok(f"timeline {system.timeline}")
    elif identity.timeline == system.timeline:
        yield ok(f"timeline {system.timeline}, as the checkpoint's")
    else:
        yield _forked(identity.timeline, position, system)


def _forked(timeline: int, position: str, system: System) -> Note:
    switch = system.switches.get(timeline)
    if switch is not None and parse_lsn(position) <= switch:
        what = (
            f"the server went from timeline {timeline} to {system.timeline}: what its predecessor"
            " published but never replicated may stand in the target"
        )
        return warning(what, "compare: cdc-daemon verify")
    end = format_lsn(switch) if switch is not None else "never"
    what = (
        f"the server is on timeline {system.timeline}, which left timeline {timeline} at "
        f"{end}; the checkpoint at {position} is not part of its history"
    )
    return problem(what, RESNAPSHOT)


def _publication(at: Examined) -> Iterator[Note]:
    identity = at.identity
    if identity is None or identity.database != at.server.database:
        yield ok("no checkpoint to compare it with")
    else:
        joined = compare(identity.publication, at.fingerprint, at.asked.tables).joined
        at.asked.places.compared(at.connection, joined, at.facts)
        found = _publication_problems(at.at_publication, at.asked, identity, at.fingerprint)
        yield from problems(found) or [ok("as it was at the checkpoint")]


def _same_server(at: Examined, identity: SourceIdentity) -> bool:
    return (identity.system, identity.database) == (at.system.system, at.server.database)


def _publication_problems(
    where: str, asked: Asked, identity: SourceIdentity, now: str
) -> list[Problem]:
    """The publication, or a table's place in it, is not what it was: a gap without a trace."""
    difference = compare(identity.publication, now, asked.tables)
    whats = []
    if difference.publication:
        whats.append(
            "it was dropped, created again or altered, so that changes may have been skipped"
        )
    whats += [
        f"table {table.schema}.{table.name} was taken out, put back, renamed or created again, or "
        "its key or replica identity changed, so that changes may have been skipped"
        for table in difference.changed
    ]
    whats += [
        f"table {table.schema}.{table.name} is mapped now but was never copied"
        for table in difference.added
    ]
    whats += [
        f"table {table.schema}.{table.name}: {what}"
        for table, what in asked.places.gaps(difference)
    ]
    found = [Problem(what=what, where=where, cure=RESNAPSHOT) for what in whats]
    return found + [
        Problem(
            what=f"table {table.schema}.{table.name} was unlogged, or a partition of it: what was "
            "written meanwhile is in no log",
            where=where,
            cure=f"where it still is, ALTER TABLE ... SET LOGGED; then {RESNAPSHOT}",
        )
        for table in difference.unlogged
    ]


CHECKPOINT = Check(
    name="source.checkpoint",
    title="The checkpoint is one that a daemon wrote",
    why="what is missing in it would leave out the comparison that it is for",
    look=_checkpoint,
)
CHECKS = (
    Check(
        name="source.identity",
        title="It is the server and database that the checkpoint belongs to",
        why="a position of another server's log means nothing here",
        look=_identity,
    ),
    Check(
        name="source.timeline",
        title="The checkpoint is part of the server's history",
        why="after a fail-over or a restore, the log may hold other changes at the same positions",
        look=_timeline,
    ),
    Check(
        name="publication.identity",
        title="The publication was not changed since the checkpoint",
        why="changes made while a table was not published are in no stream, without a trace",
        look=_publication,
        watched=True,
    ),
)
