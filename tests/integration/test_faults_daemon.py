"""The daemon's own surroundings: its configuration, memory, clock, descriptors, log and pages."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from cdc_daemon.demo.server import free_port
from tests.conftest import DatabaseFactory
from tests.support.catalogue import CONTROLS, SERVERS, fault
from tests.support.erp import MAPPINGS, Erp, Writer
from tests.support.fault_proxy import FaultProxy
from tests.support.linked import linked, through
from tests.support.mounts import small_disk
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import until

SEED = 20_260_303

# --- configuration --------------------------------------------------------------------------------


@fault(35, "reload of an invalid file", ci=True)
def test_an_invalid_file_changes_nothing(erp: Erp) -> None:
    with erp.streaming() as daemon:
        good = erp.configuration.read_text()
        erp.configuration.write_text(good.replace("fields:", "felds:"))
        daemon.hang_up()
        daemon.said("reload refused, the old configuration stays", error="felds")
        erp.configuration.write_text("}{ nonsense")
        daemon.hang_up()
        daemon.said("reload refused, the old configuration stays", times=2)
        erp.insert_materials(1, 5)
        erp.healed(daemon)
        assert len(daemon.events("worker started")) == 1


@fault(35, "reload of a changed mapping under load")
def test_a_changed_mapping(erp: Erp) -> None:
    """The worker is drained and replaced; what comes after goes by the new mapping."""
    with erp.streaming() as daemon:
        with Writer(erp, SEED) as writer:
            writer.wrote(20)
            erp.configure(MAPPINGS.replace("KG: KG}", "KG: KG, BOX: BX}"))
            daemon.hang_up()
            daemon.said("worker started", times=2)
            daemon.said("mapping changed: rows written before stay as they are until they change")
            writer.wrote(20)
        erp.commit("INSERT INTO t_material VALUES (999, 'BOX', 'a box', 'BOX', 1, NULL)")
        erp.caught_up(daemon)
        assert erp.target.query("SELECT unit FROM material WHERE code = 'BOX'") == [("BX",)]
        erp.commit("DELETE FROM t_material WHERE fid = 999")
        erp.healed(daemon)


@fault(35, "reload that removes an entity, then brings it back", state="exit 78")
def test_a_removed_entity(erp: Erp) -> None:
    """Its rows stay as they are; brought back, it was not copied meanwhile, and that is said."""
    before, mappings = MAPPINGS.split("mappings:")
    entities = before[: before.index("  material:")]
    fewer = f"{entities}mappings:{mappings[: mappings.index('  - from: erp.public.t_material')]}"
    with erp.streaming() as daemon:
        erp.insert_materials(1, 3)
        erp.caught_up(daemon)
        erp.configure(fewer)
        daemon.hang_up()
        daemon.said("streaming", times=2)
        erp.insert_materials(4, 3)
        erp.commit("INSERT INTO t_customer VALUES (1, 'C1', 'one')")
        erp.caught_up(daemon)
        assert erp.target.query("SELECT count(*) FROM material") == [(3,)]
        assert erp.target.query("SELECT code FROM customer") == [("C1",)]
        erp.configure()
        daemon.hang_up()
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error="was never copied")


MISFITS = {
    "a second mapping of a copied table": (
        "mappings:",
        """  goods: {key: [code], attributes: {code: string(40), name: string(200)}}
mappings:
  - {from: erp.public.t_material, to: goods, key: {code: fnumber}, fields: {name: fname}}""",
        "is new: the rows that its table had before",
    ),
    "another key": (
        "key: {code: fnumber}\n    fields:\n      name: fname\n      unit",
        "key: {code: fname}\n    fields:\n      name: fname\n      unit",
        "has another table, entity, key or identity",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
@fault(35, "reload with a mapping that the copied rows do not fit", state="exit 78", ci=True)
def test_a_mapping_that_the_copy_does_not_fit(erp: Erp, name: str) -> None:
    """Rows of before would be missing, or stay for ever: it is refused until they are copied."""
    before, after, words = MISFITS[name]
    assert MAPPINGS.count(before) == 1
    with erp.streaming() as daemon:
        erp.insert_materials(1, 3)
        erp.caught_up(daemon)
        erp.configure(MAPPINGS.replace(before, after))
        erp.apply()
        checked = erp.ask("check-config")
        assert (checked.exit_code, words in checked.stderr) == (78, True), checked.output
        daemon.hang_up()
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error=words)
    erp.configure()


@fault(35, "100 SIGHUPs under load, a third of them with an invalid file")
def test_a_hundred_hangups(erp: Erp) -> None:
    with erp.streaming() as daemon:
        with Writer(erp, SEED) as writer:
            for n in range(100):
                erp.configure(batch_rows=1000 + n // 10)
                if n % 3 == 0:
                    erp.configuration.write_text("nonsense")
                daemon.hang_up()
                writer.wrote(1)
        erp.configure()
        daemon.hang_up()
        erp.healed(daemon, seconds=120)
        assert daemon.stop() == 0


# --- resources ------------------------------------------------------------------------------------


@fault(15, "disk of the daemon's log full")
def test_a_full_disk_under_the_log(erp: Erp) -> None:
    """Lines are lost, work is not."""
    port = free_port()
    erp.configure(metrics_listen=f"127.0.0.1:{port}")
    with (
        small_disk(1) as disk,
        RealDaemon(erp.configuration, disk.path / "daemon.log") as daemon,
    ):
        erp.wait_streaming(daemon)
        daemon.at = daemon.url
        disk.fill()
        with Writer(erp, SEED) as writer:
            writer.wrote(30)
            for _ in range(20):
                daemon.hang_up()
                writer.wrote(3)
        erp.caught_up(daemon)
        erp.healed(daemon)
        disk.free()
        until(lambda: dumped(daemon), what="its lines arrive again")
        assert daemon.stop() == 0


def dumped(daemon: RealDaemon) -> bool:
    """Whether it writes whole lines; the first may hang on to half of one."""
    daemon.dump()
    return bool(daemon.events("pipeline state"))


@fault(37, "out of memory: RLIMIT_AS", state="blocked")
def test_out_of_memory(erp: Erp) -> None:
    """The worker ends, not the supervisor; with more memory all of it is applied."""
    limit = ("prlimit", f"--as={480 << 20}")
    with erp.streaming(under=limit) as daemon:
        erp.insert_materials(1, 3)
        erp.caught_up(daemon)
        erp.commit(
            "INSERT INTO t_material SELECT n, 'L' || n, 'large', 'KG', n,"
            " repeat('0123456789', 6000000) FROM generate_series(1001, 1004) n"
        )
        daemon.shows("blocked", seconds=120)
        assert daemon.running
        assert erp.target.query("SELECT count(*) FROM material") == [(3,)]
        daemon.kill()
    erp.settled()


@fault(39, "32 file descriptors")
def test_few_descriptors(erp: Erp) -> None:
    """They are enough for one pipeline, over many lost connections: none is forgotten."""
    with linked(erp) as links, erp.streaming(under=("prlimit", "--nofile=32")) as daemon:
        with Writer(erp, SEED) as writer:
            for _ in range(15):
                writer.wrote(4)
                for proxy in links.all:
                    proxy.cut()
        erp.healed(daemon)
        assert "open files" not in daemon.log, daemon.log
        assert daemon.stop() == 0


@fault(39, "no file descriptors left: 10", state="exit 1")
def test_too_few_descriptors(erp: Erp) -> None:
    """It ends, and says of what there is too little."""
    erp.configure(max_restarts=1)
    with erp.daemon(under=("prlimit", "--nofile=10")) as daemon:
        assert daemon.wait(90) != 0
        assert "open files" in daemon.log, daemon.log
    erp.configure()
    erp.settled()


SHIFTED = Path(__file__).parents[1] / "support" / "shifted"

# --- time -----------------------------------------------------------------------------------------


@fault(38, "the daemon's clock jumps an hour ahead, then two back; a time zone with DST")
def test_the_clock_jumps(erp: Erp, tmp_path: Path) -> None:
    """Waits go by the monotonic clock, leases and tombstones by the control database's."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    environment = {
        "PYTHONPATH": str(SHIFTED),
        "CDC_TEST_CLOCK": str(clock),
        "TZ": "Europe/Berlin",
    }
    with erp.streaming(environment=environment) as daemon:
        with Writer(erp, SEED) as writer:
            for offset in (3600, -3600, 0, 180 * 86_400, 0):
                writer.wrote(20)
                clock.write_text(str(offset))
                writer.wrote(20)
                erp.caught_up(daemon)
                until(partial(_clock_of, daemon, offset), what="a status by the new clock")
        erp.healed(daemon)
        assert len(daemon.events("worker started")) == 1
        assert daemon.stop() == 0


def _clock_of(daemon: RealDaemon, offset: float) -> bool:
    """Whether its newest status was written so far from our time."""
    return bool(abs(daemon.shows("streaming", "idle")["time"] - time.time() - offset) < 60)


# --- those who listen -----------------------------------------------------------------------------


@fault(44, "stdout and stderr are a pipe that nobody reads", targets=CONTROLS)
def test_nobody_reads_what_it_says(erp: Erp) -> None:
    """Lines may be lost, work is not, and TERM is answered."""
    port = free_port()
    with linked(erp, metrics_listen=f"127.0.0.1:{port}", log_level="debug") as links:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        with erp.daemon(output=writing) as daemon:
            os.close(writing)
            daemon.at = f"http://127.0.0.1:{port}"
            streaming_silently(erp)
            with Writer(erp, SEED) as writer:
                for _ in range(60):
                    for _ in range(20):
                        daemon.hang_up()
                    links.source.cut()
                    writer.wrote(2)
            erp.healed(daemon, seconds=120)
            with suppress(BlockingIOError):
                assert len(os.read(reading, 1 << 20)) > 0
            assert daemon.stop() == 0
        os.close(reading)


def streaming_silently(erp: Erp) -> None:
    """Until the first copy is done, as the control database tells it."""

    def done() -> bool:
        found = erp.target.query("SELECT phase FROM cdc.checkpoint")
        return found == [("streaming",)]

    until(done, seconds=60, what="it streams")


@fault(44, "/metrics hammered by 16 clients, others that hang", targets=CONTROLS)
def test_the_pages_are_hammered(erp: Erp) -> None:
    with erp.streaming() as daemon:
        url, answers = daemon.url, [0]
        stop = threading.Event()

        def hammer() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    answers[0] += fetched(f"{url}/metrics")

        clients = [threading.Thread(target=hammer, daemon=True) for _ in range(16)]
        for client in clients:
            client.start()
        with Writer(erp, SEED) as writer:
            writer.wrote(60)
        erp.caught_up(daemon)
        stop.set()
        for client in clients:
            client.join(30)
        assert answers[0] > 20
        erp.healed(daemon)
        assert len(daemon.events("worker started")) == 1


def fetched(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bool(answer.read())


# --- one of several -------------------------------------------------------------------------------

HR = """
  employee: {key: [no], attributes: {no: string(20), name: string(80)}}
mappings:
  - {from: hr.public.t_emp, to: employee, key: {no: fno}, fields: {name: fname}}
"""


@fault(41, "one of two sources dead", state="blocked", targets=SERVERS)
def test_a_dead_source_stalls_no_other(erp: Erp, database_factory: DatabaseFactory) -> None:
    """Its pipeline is blocked, the other streams; back again, it goes on where it was."""
    hr = database_factory()
    hr.execute(
        "CREATE TABLE t_emp (fno varchar(20) PRIMARY KEY, fname varchar(80));"
        "CREATE PUBLICATION cdc_hr FOR TABLE t_emp"
    )
    with FaultProxy(hr.server.port) as proxy:
        mappings = MAPPINGS.replace("mappings:", HR.strip("\n"), 1)
        erp.others = {
            "hr": {
                "kind": "postgres",
                "dsn": through(hr.dsn, proxy),
                "slot": f"cdc_{hr.name}",
                "publication": "cdc_hr",
            }
        }
        erp.configure(mappings)
        erp.apply()
        with erp.daemon() as daemon:
            daemon.said("streaming", times=2, seconds=90)
            with proxy.down():
                hr.execute("INSERT INTO t_emp VALUES ('1', 'one')")
                daemon.shows("blocked", pipeline="hr")
                begun = time.monotonic()
                with Writer(erp, SEED) as writer:
                    writer.wrote(40)
                erp.healed(daemon)
                assert time.monotonic() - begun < 60
                daemon.shows("blocked", pipeline="hr")
            until(
                lambda: erp.target.query("SELECT name FROM employee") == [("one",)],
                what="the other source's rows arrive",
            )
            daemon.shows("streaming", "idle", pipeline="hr")
            assert len(daemon.events("worker started")) == 2
