"""What a refusal to start is: exit 78, words that name the cure, nothing moved; and the cure works.

For tests that stream, break something, and start the daemon again.
"""

from __future__ import annotations

from tests.support.erp import Erp

CURE = "cdc-daemon snapshot start"


def streamed(erp: Erp) -> None:
    """A worker has copied, streamed one transaction, and ended in order."""
    with erp.worker():
        erp.insert_materials(1, 3)
        erp.caught_up()


def refused(erp: Erp, *words: str) -> None:
    """The daemon ends by itself with 78 and says these words; it has moved nothing."""
    before = kept(erp)
    with erp.daemon() as daemon:
        assert daemon.wait(60) == 78, daemon.log
    assert kept(erp) == before
    stopped = daemon.said("pipeline stopped", pipeline="erp")
    for word in words:
        assert any(word in line for line in stopped), f"{word!r} is not in {stopped}"
    assert "Traceback" not in daemon.log


def cured(erp: Erp) -> None:
    """The cure that the refusal names is one: the rows are the source's again, and it goes on."""
    done = erp.ask("snapshot", "start", "--yes")
    assert done.exit_code == 0, done.output
    assert erp.checkpoint()["phase"] == "snapshotting"
    with erp.streaming() as daemon:
        erp.caught_up(daemon)
        erp.same_content()
        erp.commit("DELETE FROM t_material WHERE fid = 3", "UPDATE t_material SET fname = 'new'")
        erp.insert_materials(200_000, 2)
        erp.caught_up(daemon)
        assert daemon.stop() == 0, daemon.log
    erp.same_content()
    assert erp.parked() == []
    if erp.verifiable:
        assert erp.ask("verify").exit_code == 0


def kept(erp: Erp) -> list[object]:
    """What a refused start must leave alone: rows, position, counters, and the slot."""
    found = erp.checkpoint()
    return [
        *(found[name] for name in ("phase", "position", "transactions", "changes")),
        erp.target.query("SELECT count(*) FROM material"),
        erp.kept_there(),
    ]
