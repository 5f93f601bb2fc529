"""The real daemon, killed while its target refuses rows and while refused ones are tried again.

Two tables more than `Erp` has, whose rows have versions; a writer that changes them, some to what
the target refuses; and somebody who makes it refuse and accept, asks for retries, and kills.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from typing import Final

from cdc_daemon import build
from cdc_daemon.config.load import load
from tests.support.cli import call
from tests.support.erp import MAPPINGS, Erp, Writer
from tests.support.ordering.traces import (
    READ,
    Order,
    Trace,
    postgres_triggers,
    sqlite_triggers,
)
from tests.support.waiting import until

ROWS: Final = 25
PATIENCE: Final = 900.0  # seconds for all that is parked to be tried again on a busy machine
ENTITIES: Final = {"part": "code", "line": "code"}
TABLES: Final = """
    CREATE SEQUENCE versions;
    CREATE TABLE t_part (fid bigint PRIMARY KEY, fnumber varchar(40) UNIQUE, fnote text,
        forigin bigint DEFAULT nextval('versions'), fversion bigint DEFAULT nextval('versions'));
    CREATE TABLE t_line (fid bigint PRIMARY KEY, fnumber varchar(40) UNIQUE, fnote text,
        fpart bigint REFERENCES t_part,
        forigin bigint DEFAULT nextval('versions'), fversion bigint DEFAULT nextval('versions'));
"""
MORE_ENTITIES: Final = """
failures: {breaker: {share: 0}}
entities:
  part:
    key: [code]
    attributes: {code: string(40), note: text, origin: bigint, version: bigint}
  line:
    key: [code]
    attributes:
      code: string(40)
      part_code: {type: string(40), references: part}
      note: text
      origin: bigint
      version: bigint
"""
MORE_MAPPINGS: Final = """
  - from: erp.public.t_part
    to: part
    key: {code: fnumber}
    fields: {note: fnote, origin: forigin, version: fversion}
    on_delete: hard
  - from: erp.public.t_line
    to: line
    key: {code: fnumber}
    fields:
      part_code: {ref: fpart, from: erp.public.t_part}
      note: fnote
      origin: forigin
      version: fversion
    on_delete: hard
"""
CHANGES: Final = (
    "INSERT INTO t_part VALUES (%(fid)s, 'P' || %(fid)s || '.0', %(note)s) ON CONFLICT DO NOTHING",
    "UPDATE t_part SET fnote = %(note)s, fversion = nextval('versions') WHERE fid = %(fid)s",
    "UPDATE t_part SET fnumber = 'P' || fid || '.' || %(suffix)s, fversion = nextval('versions')"
    " WHERE fid = %(fid)s",
    "DELETE FROM t_part p WHERE fid = %(fid)s"
    " AND NOT EXISTS (SELECT FROM t_line l WHERE l.fpart = p.fid)",
    "INSERT INTO t_line SELECT %(other)s, 'L' || %(other)s, %(note)s, fid FROM t_part"
    " WHERE fid = %(fid)s ON CONFLICT DO NOTHING",
    "UPDATE t_line SET fnote = %(note)s, fversion = nextval('versions') WHERE fid = %(fid)s",
    "UPDATE t_line SET fpart = p.fid, fversion = nextval('versions') FROM t_part p"
    " WHERE t_line.fid = %(fid)s AND p.fid = %(other)s",
    "UPDATE t_line SET fid = fid + 100, fversion = nextval('versions') WHERE fid = %(fid)s"
    " AND NOT EXISTS (SELECT FROM t_line l WHERE l.fid = %(fid)s + 100)",
    "UPDATE t_line SET fid = fid - 100, fversion = nextval('versions') WHERE fid = %(fid)s + 100"
    " AND NOT EXISTS (SELECT FROM t_line l WHERE l.fid = %(fid)s)",
    "DELETE FROM t_line WHERE fid = %(fid)s",
)
SAME: Final = {
    "part": (
        "SELECT fnumber, fnote, forigin, fversion FROM t_part",
        "SELECT code, note, origin, version FROM part",
    ),
    "line": (
        "SELECT l.fnumber, p.fnumber, l.fnote, l.forigin, l.fversion FROM t_line l"
        " LEFT JOIN t_part p ON p.fid = l.fpart",
        "SELECT code, part_code, note, origin, version FROM line",
    ),
}


class PoisonWriter(Writer):
    """Changes versioned rows; one note in eight is one that the target may refuse."""

    def _change(self) -> tuple[str, dict[str, object]]:
        draw = self._random
        params: dict[str, object] = {
            "fid": draw.randint(1, ROWS),
            "other": draw.randint(1, ROWS),
            "note": draw.choice(["poison", *map(str, range(7))]),
            "suffix": draw.randint(0, 2),
        }
        return draw.choice(CHANGES), params


class Poisoned:
    """An ERP whose control database refuses rows when it is told to."""

    def __init__(self, erp: Erp) -> None:
        self.erp = erp
        mappings = MAPPINGS.replace("\nentities:\n", MORE_ENTITIES, 1) + MORE_MAPPINGS
        erp.map_also(TABLES, "t_part, t_line", mappings)
        embedded = erp.embedded is not None
        erp.target.execute(
            sqlite_triggers(ENTITIES, soft=False) if embedded else postgres_triggers(ENTITIES)
        )

    def refuse(self) -> None:
        """Rows with the note `poison`."""
        self.erp.target.execute("INSERT INTO refused VALUES ('poison') ON CONFLICT DO NOTHING")

    def accept(self) -> None:
        """Everything."""
        self.erp.target.execute("DELETE FROM refused")

    def states(self) -> Counter[str]:
        """How many changes of the failure queue are in which state."""
        query = "SELECT state, count(*) FROM cdc.failure GROUP BY state"
        return Counter(dict(self.erp.target.query(query)))

    def ask_for_retry(self) -> None:
        """Of everything, by whoever holds the pipeline, when it can."""
        configuration = load([self.erp.configuration], environ={})
        with closing(build.make_control(configuration)) as control:
            control.submit("erp", "retry", {}, "tester")

    def begin_to_replay(self) -> None:
        """Ask, and wait until some of it has taken effect, or there is nothing left to do."""
        before = self.states()["replayed"]
        self.ask_for_retry()
        query = "SELECT count(*) FROM cdc.command WHERE state = 'pending'"
        until(
            lambda: self.states()["replayed"] > before or self.erp.target.query(query) == [(0,)],
            seconds=60,
            what="something was tried again",
        )

    # --- the proof --------------------------------------------------------------------------------

    def settled(self) -> Counter[str]:
        """Everything is accepted and tried again; what refers to rows that are gone meanwhile is
        read again. Then nothing differs, and nothing ever went back. The queue's states."""
        self.accept()
        with self.erp.streaming() as daemon:
            self.erp.caught_up(daemon, PATIENCE)
            self._ask("retry", "--all", "--yes")
            self._ask("resync", "--all", "--reason", "their references are gone", "--yes")
            self._ask("retry", "--all", "--yes")
            self.erp.caught_up(daemon, PATIENCE)
            daemon.shows("streaming", "idle")
            assert daemon.stop() == 0, daemon.log
        self.erp.agrees()
        for there, here in SAME.values():
            wanted, found = self.erp.source.query(there), self.erp.target.query(here)
            assert sorted(map(repr, found)) == sorted(map(repr, wanted))
        self._never_went_back()
        return self.states()

    def _ask(self, *arguments: str) -> None:
        at = ("--timeout", str(PATIENCE), "--config", str(self.erp.configuration))
        done = call("failures", *arguments, *at, timeout=PATIENCE + 60)
        assert done.returncode in (0, 3), done.stderr

    def _never_went_back(self) -> None:
        traces = [Trace(*row[1:]) for row in self.erp.target.query(READ, 0)]
        assert traces
        order = Order()
        order.follow(traces, ())


def survive_kills(poisoned: Poisoned, writer: Writer, draw: random.Random, kills: int) -> int:
    """Kill the daemon, or only its worker, while it parks and while it replays; how often."""
    done = 0
    while done < kills:
        with poisoned.erp.daemon() as daemon:
            said = 0
            for _ in range(draw.randint(2, 6)):
                daemon.said("streaming", times=said + 1, seconds=120)
                if draw.random() < 1 / 2:
                    poisoned.refuse()
                    writer.wrote(draw.randint(1, 15))
                else:
                    poisoned.accept()
                    poisoned.begin_to_replay()
                    writer.wrote(draw.choice([0, 0, 1]))
                daemon.kill_worker()
                done += 1
                said = len(daemon.events("streaming"))
            writer.wrote(draw.choice([0, 1, 10]))
            daemon.kill()
            done += 1
    return done
