"""FAULT 23: the source fails over to a standby; the daemon's address leads there from then on."""

from __future__ import annotations

import psycopg

from cdc_daemon.demo.server import PrivatePostgres
from tests.conftest import ErpFactory, PostgresFactory
from tests.support.catalogue import fault
from tests.support.databases import Database
from tests.support.erp import Erp
from tests.support.linked import linked
from tests.support.refusals import CURE
from tests.support.standby import PHYSICAL_SLOT, caught_up, standby_of
from tests.support.waiting import until


@fault(23, "fail-over to a standby with a synced slot", state="blocked")
def test_a_synced_slot(postgres_factory: PostgresFactory, make_erp: ErpFactory) -> None:
    """The slot went along, the checkpoint lies before the fork: the same worker goes on."""
    primary = postgres_factory(settings={"synchronized_standby_slots": ""})
    erp = make_erp(source=primary)
    with linked(erp) as links, standby_of(primary, synced=True) as standby:
        with erp.streaming() as daemon:
            assert daemon.stop() == 0
        with psycopg.connect(f"{erp.source.dsn}?replication=database", autocommit=True) as sender:
            sender.execute(f"ALTER_REPLICATION_SLOT {erp.slot} (FAILOVER true)".encode())
        primary.execute(f"ALTER SYSTEM SET synchronized_standby_slots = '{PHYSICAL_SLOT}'")
        primary.execute("SELECT pg_reload_conf()")
        with erp.streaming() as daemon:
            erp.insert_materials(1, 5)
            erp.caught_up(daemon)
            until(lambda: synced(standby, erp.slot), what="the slot is synced")
            erp.insert_materials(11, 5)
            caught_up(primary, standby)
            primary.kill()
            daemon.shows("blocked")
            promoted(erp, standby)
            links.source.lead_to(standby.port)
            erp.insert_materials(21, 5)
            erp.commit("UPDATE t_material SET fprice = 3", "DELETE FROM t_material WHERE fid = 21")
            erp.healed(daemon)
            assert erp.checkpoint()["timeline"] == 2
            assert len(daemon.events("worker started")) == 1
        erp.settled()


@fault(23, "fail-over to a standby without the slot", state="exit 78")
def test_no_slot(postgres_factory: PostgresFactory, make_erp: ErpFactory) -> None:
    """To create one would leave a gap of unknown size; refused."""
    primary = postgres_factory()
    erp = make_erp(source=primary)
    with linked(erp) as links, standby_of(primary, synced=False) as standby:
        with erp.streaming() as daemon:
            erp.insert_materials(1, 5)
            erp.caught_up(daemon)
            caught_up(primary, standby)
            primary.kill()
            daemon.shows("blocked")
            promoted(erp, standby)
            links.source.lead_to(standby.port)
            assert daemon.wait(60) == 78, daemon.log
            daemon.said("pipeline stopped", error="the slot is gone")
            daemon.said("pipeline stopped", error=CURE)
        again(erp)


@fault(23, "fail-over to a standby that lacks what was applied", state="exit 78")
def test_the_standby_was_behind(postgres_factory: PostgresFactory, make_erp: ErpFactory) -> None:
    """The control database holds rows that the new primary never had; refused by the timeline."""
    primary = postgres_factory()
    erp = make_erp(source=primary)
    with linked(erp) as links, standby_of(primary, synced=False) as standby:
        with erp.streaming() as daemon:
            erp.insert_materials(1, 5)
            caught_up(primary, standby)
            standby.stop()
            erp.insert_materials(11, 5)
            erp.caught_up(daemon)
            primary.kill()
            standby.start()
            promoted(erp, standby)
            links.source.lead_to(standby.port)
            assert daemon.wait(60) == 78, daemon.log
            daemon.said("pipeline stopped", error="not part of its history")
            daemon.said("pipeline stopped", error=CURE)
        again(erp)


def again(erp: Erp) -> None:
    """The cure: another first copy, from the server that is the source now."""
    done = erp.ask("snapshot", "start", "--yes")
    assert done.exit_code == 0, done.output
    with erp.streaming() as daemon:
        erp.caught_up(daemon)
        erp.same_content()
        erp.insert_materials(100_000, 3)
        erp.caught_up(daemon)
        erp.same_content()


def synced(standby: PrivatePostgres, slot: str) -> bool:
    return standby.execute(
        "SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = %s", (slot,)
    ) == [(True,)]


def promoted(erp: Erp, standby: PrivatePostgres) -> None:
    """It is the source from now on."""
    assert standby.execute("SELECT pg_promote()") == [(True,)]
    erp.source = Database(server=standby, name=erp.source.name)
