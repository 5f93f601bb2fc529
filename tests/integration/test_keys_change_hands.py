"""Changes that meet at one entity key while some of them are parked, one history each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.changes import Operation
from cdc_daemon.model.errors import Stop
from tests.support.ordering.source import Habits, Versioned, VersionedSource
from tests.support.ordering.stage import Session, Stage
from tests.support.simulation import Change, Texts
from tests.support.sqlite_database import SqliteDatabase


class History:
    """A session over a source that is written by hand."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.source = VersionedSource(Versioned(Habits()))
        self.session = Session(stage, self.source, Meter("erp", {}))
        self.session.copied()
        self.applied = 0

    def carry(self, *transactions: list[Change]) -> None:
        """Commit these, and apply them as one batch."""
        for changes in transactions:
            self.source.history.add(*changes)
        last = len(self.source.history.transactions) - 1
        batch = self.source.batch(self.applied, last)
        self.session.pipeline._carry_out(batch, iter([]), self.session.stream)
        self.applied = last + 1

    def parked(self) -> list[str]:
        """The errors of what is parked, in order."""
        return [row[4] for row in self.stage.queue() if row[3] == "parked"]

    def ask(self, verb: str, **arguments: object) -> None:
        self.session.ask(verb, arguments)
        self.session.turn()


@contextmanager
def history(folder: Path, *, soft: bool = False) -> Iterator[History]:
    database = SqliteDatabase(path=folder / "control.db")
    with closing(Stage(database, folder, soft=soft)) as stage:
        found = History(stage)
        yield found
        found.session.end()


def row(identity: str, number: str, name: str | None = "n", note: str | None = "short") -> Texts:
    return {"id": identity, "number": number, "name": name, "note": note}


def insert(table: str, new: Texts) -> Change:
    return Change(table, Operation.INSERT, None, new)


def update(table: str, old: Texts, new: Texts) -> Change:
    return Change(table, Operation.UPDATE, old, new)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "parked before"])
def test_a_reference_means_its_row_and_not_who_has_the_key_yet(
    tmp_path: Path, together: bool
) -> None:
    """Customer 2 was to leave number E to customer 3, and is parked; so the order of 3 waits."""
    with history(tmp_path) as told:
        told.carry([insert("customer", row("2", "E"))])
        told.stage.refuse(checked=False)
        renamed = update("customer", row("2", "E"), row("2", "D", note="poison"))
        following = [insert("customer", row("3", "E", "new")), insert("orders", row("1", "O", "3"))]
        if together:
            told.carry([renamed, *following])
        else:
            told.carry([renamed])
            told.carry(following)
        told.stage.accept()
        told.ask("retry")
        assert told.parked() == []
        assert told.stage.rows("orders")["O"][1] == "E"


def test_an_update_of_a_row_that_never_came_touches_nobody_elses(tmp_path: Path) -> None:
    """What the log left out of it does not make it a patch of the row that has its key."""
    with history(tmp_path) as told:
        told.carry([insert("customer", row("1", "A"))])
        long = "a long text"
        told.carry([insert("customer", row("2", "B", "too long", long))])
        ((number, *_),) = told.stage.queue()
        told.ask("skip", ids=[number], reason="r")
        told.carry([update("customer", row("2", "B", "too long", long), row("2", "A", "y", long))])
        assert told.stage.rows("customer")["A"][1] == "n"
        assert told.parked() == ["duplicate_entity_key"]


def test_a_truncate_that_is_refused_stops_the_pipeline(tmp_path: Path) -> None:
    """Parked and tried again, it would be behind the rows that were inserted after it."""
    with history(tmp_path) as told:
        told.stage.execute(
            "CREATE TRIGGER keep BEFORE DELETE ON item WHEN OLD.id = '1'"
            " BEGIN SELECT RAISE(ABORT, 'kept'); END"
        )
        told.carry([insert("item", row("1", "A"))])
        with pytest.raises(Stop, match="a truncate of item is refused"):
            told.carry([Change("item", Operation.TRUNCATE)], [insert("item", row("2", "B"))])
        assert told.parked() == []
        told.stage.execute("DROP TRIGGER keep")
        told.carry()
        assert sorted(told.stage.rows("item")) == ["2"]


def test_a_row_stays_though_another_came_to_its_key_and_went(tmp_path: Path) -> None:
    """Also where the key was freed before in the same batch."""
    with history(tmp_path) as told:
        told.carry([insert("customer", row("1", "A"))])
        guest = row("3", "A", "g")
        told.carry(
            [
                Change("customer", Operation.DELETE, row("1", "A")),
                insert("customer", row("2", "A", "stay")),
                insert("customer", guest),
                Change("customer", Operation.DELETE, guest),
            ]
        )
        told.ask("retry")
        assert told.parked() == []
        assert told.stage.rows("customer")["A"][1] == "stay"
