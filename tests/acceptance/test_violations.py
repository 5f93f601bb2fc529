"""Every way in which a row may be refused, on every kind of control database; then all is cured.

Rows violate unique, foreign key, check, not null, length, type and encoding, where the mapping
looks and where only the control database does, among rows without fault. Exactly they, and what
stands behind them, are in the failure queue. Then constraints are dropped and columns widened,
changes edited, the source corrected and rows read again, each by the command line, until the queue
is empty and both sides are equal.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.conftest import ControlFactory, DatabaseFactory
from tests.support.catalogue import MARIADB, MYSQL, POSTGRES, SQLITE
from tests.support.constraints import CONSTRAINTS, drop, make
from tests.support.databases import Database
from tests.support.erp import MAPPINGS, Erp
from tests.support.real_daemon import RealDaemon
from tests.support.violated import (
    ENTITY,
    HOLDER,
    ORPHANS,
    PHASES,
    SAME,
    TABLES,
    VIOLATIONS,
    Parked,
    Story,
    at_fault_first,
    innocents,
    inserted,
    referred,
    renamed_and_replaced,
    stories,
    transactions,
)
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance
SEED = 20_261_128
INNOCENT = 300
MAPPED = MAPPINGS.replace("mappings:", dedent(ENTITY).strip("\n"), 1)


@pytest.fixture(params=[POSTGRES, SQLITE, MARIADB, MYSQL])
def target_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def erp(
    database_factory: DatabaseFactory, make_control: ControlFactory, tmp_path: Path
) -> Iterator[Erp]:
    """Its source knows no encoding, so that it can hold bytes that are no text."""
    server = database_factory().server
    source = Database(server=server, name=f"violations_{tmp_path.name}"[:60])
    server.execute(
        f"CREATE DATABASE {source.name} TEMPLATE template0 ENCODING 'SQL_ASCII'"
        " LOCALE 'C' LOCALE_PROVIDER libc"
    )
    server.execute(f"ALTER DATABASE {source.name} SET client_encoding = 'UTF8'")
    made = Erp(source, make_control(), tmp_path).set_up()
    made.map_also(TABLES, "t_part", MAPPED)
    made.same["part"] = SAME
    yield made
    server.drop_database(source.name)


BEGINNING = (
    "INSERT INTO t_customer VALUES (1, 'C1', 'one')",
    inserted(1, "HOLD").replace("'part 1'", f"'{HOLDER}'"),
)
"""What the stories lean on: a customer, and the row whose name is taken."""


# --- what is asked --------------------------------------------------------------------------------


def asked(erp: Erp, *arguments: str, codes: Sequence[int] = (0,)) -> Any:
    """A command of `failures` in a process of its own; its JSON."""
    done = erp.call("failures", *arguments, "-o", "json")
    assert done.returncode in codes, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def queue(erp: Erp) -> list[tuple[int, str, str]]:
    """Source row, operation and error of every parked change, in order."""
    found = asked(erp, "list", "--limit", "100000")
    images = [one["payload"].get("new") or one["payload"]["old"] for one in found]
    return [
        (int(image["fid"]), one["operation"], one["error_code"])
        for one, image in zip(found, images, strict=True)
    ]


def parked(erp: Erp) -> Parked:
    """The same by source row."""
    found: Parked = {}
    for fid, operation, code in queue(erp):
        found.setdefault(fid, []).append((operation, code))
    return found


def expected(told: Sequence[Story]) -> Parked:
    return {fid: changes for story in told for fid, changes in story.parked.items()}


def in_order(erp: Erp, told: Sequence[Story]) -> None:
    """The changes of each lane stand as they were committed."""
    places: dict[int, list[int]] = {}
    for place, (fid, _, _) in enumerate(queue(erp)):
        places.setdefault(fid, []).append(place)
    for story in told:
        order = [place for fid in story.rows for place in places[fid]]
        assert order == sorted(order), story


def unharmed(erp: Erp, bad: Sequence[Story]) -> None:
    """Rows without fault are what their source is; those at fault are what they were before."""
    innocent(erp)
    came_good = [s.rows[0] for s in bad if s.steps[0].startswith("INSERT INTO t_part")]
    before = [(f"B{fid}", f"part {fid}", f"r{fid}") for fid in came_good]
    others = f"NOT {GOOD.format('code')}"
    query = f"SELECT code, name, remark FROM part WHERE {others} ORDER BY code"
    assert erp.target.query(query) == sorted(before)


GOOD = "({0} LIKE 'P%' OR {0} LIKE 'Q%' OR {0} = 'HOLD')"


def innocent(erp: Erp) -> None:
    """Rows without fault are what their source is."""
    there, here = (
        f"{query} WHERE {GOOD.format(code)}"
        for query, code in zip(SAME, ("p.fnumber", "code"), strict=True)
    )
    erp.same_rows("innocent", there, here)


# --- what is done about it ------------------------------------------------------------------------


def cured(erp: Erp, daemon: RealDaemon, kind: str, names: Sequence[str], folder: Path) -> None:
    """Each cause by the way that is made for it."""
    dropped(erp, kind, names)
    edited(erp, daemon, folder)
    read_again(erp, daemon)
    arrived(erp)
    until(lambda: erp.parked() == [], seconds=60, what="what stood behind follows by itself")


def dropped(erp: Erp, kind: str, names: Sequence[str]) -> None:
    """Constraints dropped, columns widened; then retried by their errors."""
    drop(erp.control, kind, names)
    for code in dict.fromkeys(VIOLATIONS[name].code for name in names if name in VIOLATIONS):
        done = asked(erp, "retry", "--error", code, "--yes")
        assert done["applied"], code
        assert (done["failed"], done["waiting"]) == ([], [])


def edited(erp: Erp, daemon: RealDaemon, folder: Path) -> None:
    """The source corrected, and what it said before edited: a file of changes, and one customer."""
    erp.commit("UPDATE t_part SET fstock = '7' WHERE fstock = 'n/a'")
    erp.commit("UPDATE t_part SET fname = 'named' WHERE fname IS NULL")
    erp.commit("UPDATE t_customer SET fname = 'named' WHERE fname IS NULL")
    erp.caught_up(daemon)
    file = folder / "parked.jsonl"
    done = erp.call("failures", "export", "--table", "t_part", "--out", str(file))
    assert done.returncode == 0, done.stderr
    text = file.read_text("utf-8")
    assert '"fstock": "n/a"' in text
    assert '"fname": null' in text
    text = text.replace('"fstock": "n/a"', '"fstock": "7"')
    file.write_text(text.replace('"fname": null', '"fname": "named"'), "utf-8")
    found = asked(erp, "import", str(file), "--reason", "corrected", "--retry", codes=(0, 3))
    assert found["edited"]
    for one in asked(erp, "list", "--table", "t_customer", "--error", "required"):
        edit = ("edit", str(one["id"]), "--set", "fname=named", "--reason", "corrected", "--retry")
        assert asked(erp, *edit)["applied"] == [one["id"]]


def read_again(erp: Erp, daemon: RealDaemon) -> None:
    """The source corrected, and its rows read again."""
    erp.commit("UPDATE t_part SET fname = 'short' WHERE length(fname) > 100")
    erp.commit("UPDATE t_part SET fremark = 'café' WHERE fremark LIKE 'caf%'")
    erp.caught_up(daemon)
    for name in ("too long", "encoding"):
        code = VIOLATIONS[name].code
        found = asked(erp, "resync", "--error", code, "--reason", "corrected", "--yes")
        assert found["resynced"], name
        assert found["left"] == []


def arrived(erp: Erp) -> None:
    """What was referred to comes at last."""
    erp.commit("INSERT INTO t_customer VALUES (900, 'C900', 'late')")


# --- the tests ------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_a_stream_with_every_violation(erp: Erp, target_kind: str, tmp_path: Path) -> None:
    """Among rows without fault, in transactions of both; and rows that others do not let go."""
    draw = random.Random(SEED)
    names = [*own(target_kind), "orders"]
    bad = [*stories(list(VIOLATIONS.values())), *referred()]
    told = [*bad, *innocents(draw, INNOCENT)]
    with erp.streaming() as daemon:
        make(erp.control, target_kind, names)
        erp.commit(*BEGINNING)
        for phase in range(PHASES):
            for statements in transactions(draw, told, phase):
                erp.commit(*statements)
            erp.caught_up(daemon)
            if phase == 0:
                make(erp.control, target_kind, ["notes"])
        daemon.shows("degraded")
        assert parked(erp) == expected(bad)
        in_order(erp, bad)
        unharmed(erp, bad)
        erp.same_counters()
        cured(erp, daemon, target_kind, [*names, "notes"], tmp_path)
        erp.healed(daemon)
    erp.settled()


def own(kind: str) -> list[str]:
    """Constraints of the table of parts that this kind has."""
    return [name for name in VIOLATIONS if name in CONSTRAINTS[kind]]


@pytest.mark.timeout(600)
def test_one_transaction_in_pieces(erp: Erp, target_kind: str, tmp_path: Path) -> None:
    """All of it commits together and arrives in pieces: what is wrong with references shows only
    at its end, and the whole of it comes again."""
    draw = random.Random(SEED)
    names = own(target_kind)
    bad = stories(list(VIOLATIONS.values()), (at_fault_first, renamed_and_replaced))
    told = [*bad, *innocents(draw, INNOCENT)]
    erp.configure(MAPPED, batch_rows=50)
    with erp.streaming() as daemon:
        make(erp.control, target_kind, names)
        erp.commit(*BEGINNING)
        phases = [transactions(draw, told, phase) for phase in range(PHASES)]
        erp.commit(*(one for phase in phases for statements in phase for one in statements))
        erp.caught_up(daemon)
        assert parked(erp) == expected(bad)
        in_order(erp, bad)
        unharmed(erp, bad)
        cured(erp, daemon, target_kind, names, tmp_path)
        erp.healed(daemon)
    erp.settled()


@pytest.mark.timeout(600)
def test_a_first_copy_with_violations(erp: Erp, target_kind: str, tmp_path: Path) -> None:
    """Rows at fault before the daemon ever ran; columns are as `apply` made them, or it refused."""
    draw = random.Random(SEED)
    names = [name for name in own(target_kind) if not VIOLATIONS[name].narrowed]
    violations = [one for one in VIOLATIONS.values() if not one.narrowed]
    bad = stories(violations, [at_fault_first] * 3)
    told = [*bad, *innocents(draw, INNOCENT)]
    make(erp.control, target_kind, names)
    erp.source.execute(";".join(BEGINNING))
    for phase, some in enumerate((told, told, bad[-ORPHANS:])):
        for statements in transactions(draw, some, phase):
            erp.source.execute(";".join(statements))
    with erp.streaming() as daemon:
        erp.caught_up(daemon)
        daemon.shows("degraded")
        assert parked(erp) == {fid: changes[:1] for fid, changes in expected(bad).items()}
        unharmed(erp, bad)
        cured(erp, daemon, target_kind, names, tmp_path)
        erp.healed(daemon)
    erp.settled()


@pytest.mark.timeout(600)
def test_another_copy_with_violations(erp: Erp, target_kind: str, tmp_path: Path) -> None:
    """What was parked is void; rows that are at fault still park anew, and what follows waits."""
    draw = random.Random(SEED)
    names = [name for name in own(target_kind) if not VIOLATIONS[name].narrowed]
    bad = stories([one for one in VIOLATIONS.values() if not one.narrowed])
    told = [*bad, *innocents(draw, INNOCENT)]
    with erp.streaming() as daemon:
        make(erp.control, target_kind, names)
        erp.commit(*BEGINNING)
        for phase in range(3):
            for statements in transactions(draw, told, phase):
                erp.commit(*statements)
        erp.caught_up(daemon)
        done = erp.call("snapshot", "start", "--yes")
        assert done.returncode == 0, done.stderr
        daemon.said("snapshot done", times=2, seconds=90)
        erp.caught_up(daemon)
        assert parked(erp) == still_at_fault(erp, bad)
        for phase in range(3, PHASES):
            for statements in transactions(draw, told, phase):
                erp.commit(*statements)
        erp.caught_up(daemon)
        innocent(erp)
        cured(erp, daemon, target_kind, names, tmp_path)
        erp.caught_up(daemon)
        erp.agrees_after_copy()


def still_at_fault(erp: Erp, bad: Sequence[Story]) -> Parked:
    """What a copy parks: the rows at fault that the source has still."""
    tables = ("t_part", "t_customer", "t_order")
    rows = erp.source.query(" UNION ".join(f"SELECT fid FROM {table}" for table in tables))
    there = {fid for (fid,) in rows}
    return {
        fid: [("insert", changes[0][1])] for fid, changes in expected(bad).items() if fid in there
    }
