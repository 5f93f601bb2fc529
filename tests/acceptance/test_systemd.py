"""The units under a real systemd: started, reloaded, killed by the watchdog, refused, stopped.

One Debian root is made, the daemon installed in it as the page says, and a systemd booted on it;
source and target are private servers of this machine. Needs root and debootstrap.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.demo.processes import children
from cdc_daemon.demo.server import PrivatePostgres, free_port
from cdc_daemon.telemetry import message_id
from tests.support.booted import PROGRAM, Booted, debootstrap, install, installation_commands
from tests.support.databases import Database
from tests.support.erp import Erp, Writer
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance

UNIT = "cdc-daemon.service"
GROUP = "cdc-daemon@group.service"


def _need_root_and_debootstrap() -> None:
    """Skip for an ordinary user; in CI a missing program is a failure."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("debootstrap", path="/usr/sbin:/usr/bin") is None:
        if os.environ.get("CI"):
            pytest.fail("debootstrap is not installed; `make acceptance` installs it")
        pytest.skip("debootstrap is not installed")


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A systemd beside which the daemon is installed."""
    _need_root_and_debootstrap()
    root = tmp_path_factory.mktemp("booted") / "root"
    debootstrap(root)
    install(root)
    try:
        with Booted(root) as found:
            for command in installation_commands():
                found.call("sh", "-euc", command)
            yield found
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """A server that asks for a password."""
    with PrivatePostgres(18, auth="scram-sha-256") as found:
        yield found


class Site:
    """A source, a target, and the unit's files about them."""

    def __init__(self, booted: Booted, server: PrivatePostgres, unit: str, name: str) -> None:
        self.booted, self.unit = booted, unit
        self._server = server
        self.etc = booted.root / "etc/cdc-daemon" / ("group" if "@" in unit else "")
        source = Database(server=server, name=f"{name}_erp")
        target = Database(server=server, name=f"{name}_control")
        for database in (source, target):
            server.create_database(database.name)
        folder = booted.root.parent / name
        folder.mkdir()
        self.erp = Erp(source, target, folder).set_up()
        self.port = free_port()

    def configure(self, **settings: object) -> None:
        """Write the files as an administrator does: secrets are credentials."""
        defaults: dict[str, Any] = {
            "log_format": "auto",
            "metrics_listen": f"127.0.0.1:{self.port}",
        }
        path = self.erp.configure(**{**defaults, **settings})
        text = path.read_text("utf-8")
        secret = f"?password={self._server.password}"
        assert text.count(secret) == 2
        text = text.replace(f'{secret}"', '", password: "${cred:database}"')
        self.write(text)

    def write(self, text: str) -> None:
        """The configuration of the unit, which its account may read."""
        self.etc.mkdir(exist_ok=True)
        (self.etc / "cdc-daemon.yaml").write_text(text, "utf-8")
        for path in (self.etc, self.etc / "cdc-daemon.yaml"):
            path.chmod(0o750 if path.is_dir() else 0o640)
            self.booted.call("chown", "root:cdc-daemon", self.inside(path))

    def inside(self, path: Path) -> str:
        return f"/{path.relative_to(self.booted.root)}"

    def drop_in(self, *lines: str) -> None:
        """Settings over the unit's, and the credential."""
        secret = self.booted.root / "etc/cdc-daemon/credentials/database"
        assert self._server.password is not None
        secret.write_text(self._server.password)
        secret.chmod(0o600)
        folder = self.booted.root / "etc/systemd/system" / f"{self.unit}.d"
        folder.mkdir(exist_ok=True)
        credential = f"LoadCredential=database:{self.inside(secret)}"
        (folder / "site.conf").write_text("\n".join(["[Service]", credential, *lines, ""]))
        self.booted.call("systemctl", "daemon-reload")

    def systemctl(self, verb: str) -> None:
        self.booted.call("systemctl", verb, self.unit)

    def property(self, name: str) -> str:
        return self.booted.properties(self.unit)[name]

    def workers(self) -> list[int]:
        """Process ids, as this machine counts them."""
        return children(self.booted.outside(int(self.property("MainPID"))))

    def carried(self, materials: int) -> None:
        """Wait until so many materials have arrived."""
        until(
            lambda: self.erp.target.query("SELECT count(*) FROM material") == [(materials,)],
            seconds=90,
            what=f"{materials} materials",
        )


@pytest.fixture
def site(booted: Booted, server: PrivatePostgres, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The plain unit, stopped; its databases are the test's own."""
    found = Site(booted, server, UNIT, request.node.name.removeprefix("test_")[:30])
    found.configure()
    found.drop_in()
    yield found
    booted.run("systemctl", "stop", UNIT)
    booted.run("systemctl", "reset-failed", UNIT)


def test_it_starts_is_ready_reloads_and_drains(site: Site) -> None:
    booted, erp = site.booted, site.erp
    erp.insert_materials(1, 100)
    site.systemctl("start")
    found = booted.properties(UNIT)
    assert (found["ActiveState"], found["SubState"], found["NRestarts"]) == (
        "active",
        "running",
        "0",
    )
    site.carried(100)
    until(lambda: site.property("StatusText") in ("1 streaming", "1 idle"))
    status = (Path("/proc") / str(booted.outside(int(found["MainPID"]))) / "status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    account = booted.call("id", "-u", "cdc-daemon").strip()
    assert f"Uid:\t{account}\t" in status

    (worker,) = site.workers()
    site.configure(log_level="debug")
    site.systemctl("reload")
    booted.said(UNIT, "configuration reloaded")
    until(lambda: site.property("SubState") == "running")
    assert site.workers() == [worker]

    site.write("targt: {}\n")
    refused = booted.run("systemctl", "reload", UNIT)
    assert refused.returncode != 0
    assert site.property("ActiveState") == "active"
    booted.call("systemctl", "kill", "--kill-who=main", "-s", "HUP", UNIT)
    (entry,) = booted.said(UNIT, "reload refused, the old configuration stays")
    assert "targt" in entry["CDC_ERROR"]
    until(lambda: site.property("SubState") == "running")
    assert site.workers() == [worker]
    site.configure()

    with Writer(erp, seed=7) as writer:
        writer.wrote(50)
        begun = time.monotonic()
        site.systemctl("stop")
        assert time.monotonic() - begun < 30
    found = booted.properties(UNIT)
    assert (found["ActiveState"], found["Result"], found["ExecMainStatus"]) == (
        "inactive",
        "success",
        "0",
    )
    assert booted.said(UNIT, "daemon stopped")[-1]["CDC_EXIT_CODE"] == "0"
    site.systemctl("start")
    erp.caught_up()
    erp.same_content()


def test_the_journal_has_a_field_for_each_value_and_no_secret(
    site: Site, server: PrivatePostgres
) -> None:
    booted = site.booted
    site.systemctl("start")
    entry = booted.said(UNIT, "streaming")[-1]
    assert {
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "cdc-daemon",
        "MESSAGE_ID": message_id("streaming"),
        "CDC_PIPELINE": "erp",
        "CDC_LOGGER": "cdc_daemon.worker",
        "_SYSTEMD_UNIT": UNIT,
        "_TRANSPORT": "journal",
    }.items() <= entry.items()
    assert entry["MESSAGE"].startswith("streaming pipeline=erp position=")
    by_id = booted.journal(UNIT, f"MESSAGE_ID={message_id('streaming')}", "CDC_PIPELINE=erp")
    assert {one["CDC_EVENT"] for one in by_id} == {"streaming"}
    booted.call("systemctl", "kill", "--kill-who=main", "-s", "USR1", UNIT)
    booted.said(UNIT, "state")
    assert server.password is not None
    assert server.password not in json.dumps(booted.journal(UNIT))
    for pid in [booted.outside(int(site.property("MainPID"))), *site.workers()]:
        for name in ("cmdline", "environ"):
            assert server.password.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_a_configuration_that_is_wrong_is_refused_once(site: Site) -> None:
    site.write("targt: {}\n")
    assert site.booted.run("systemctl", "start", UNIT).returncode != 0
    found = site.booted.properties(UNIT)
    assert (found["ActiveState"], found["SubState"]) == ("failed", "failed")
    assert (found["Result"], found["ExecMainStatus"]) == ("exit-code", "78")
    assert found["NRestarts"] == "0"
    messages = [str(entry["MESSAGE"]) for entry in site.booted.journal(UNIT)]
    assert any("unknown section 'targt'" in message for message in messages)


def test_a_worker_that_hangs_is_replaced_and_a_daemon_that_cannot_is_restarted(
    site: Site, booted: Booted, server: PrivatePostgres
) -> None:
    """The plain unit has its own watchdog; the instance's is shorter than the daemon's remedy."""
    group = Site(booted, server, GROUP, "group")
    group.configure()
    group.drop_in("WatchdogSec=6", "RestartSec=100ms")
    for one in (site, group):
        one.erp.insert_materials(1, 10)
        one.systemctl("start")
        one.carried(10)
    mains = {one: one.property("MainPID") for one in (site, group)}
    for one in (site, group):
        (worker,) = one.workers()
        os.kill(worker, signal.SIGSTOP)

    until(lambda: group.property("NRestarts") == "1", seconds=120, what="systemd restarts it")
    assert any("Watchdog timeout" in str(e["MESSAGE"]) for e in booted.journal(GROUP))
    until(lambda: group.property("ActiveState") == "active", seconds=60)
    assert group.property("MainPID") != mains[group]

    booted.said(UNIT, "worker hangs")
    booted.said(UNIT, "worker started", times=2)
    assert (site.property("MainPID"), site.property("NRestarts")) == (mains[site], "0")
    for one in (site, group):
        one.erp.insert_materials(11, 10)
        one.carried(20)
        one.erp.same_content()
        one.systemctl("stop")
        assert one.property("Result") == "success"


def test_an_operator_asks_with_the_units_credentials(site: Site) -> None:
    """As the page says it."""
    site.systemctl("start")
    site.carried(0)
    secrets = {"CREDENTIALS_DIRECTORY": "/etc/cdc-daemon/credentials"}

    def asked() -> str:
        return site.booted.run(PROGRAM, "status", "--nagios", **secrets).stdout

    until(lambda: asked().startswith("CDC OK - 1 pipeline well | 'erp_lag'="))
    assert site.booted.run(PROGRAM, "healthcheck").returncode == 0


def test_a_log_file_is_rotated_under_the_running_daemon(site: Site) -> None:
    booted = site.booted
    site.configure(log_file="/var/log/cdc-daemon/daemon.log", log_format="json")
    site.systemctl("start")
    site.carried(0)
    logs = booted.root / "var/log/cdc-daemon"
    assert (logs / "daemon.log").stat().st_mode & 0o007 == 0
    booted.call("logrotate", "--force", "/etc/logrotate.d/cdc-daemon")
    assert (logs / "daemon.log.1").exists()
    booted.call("systemctl", "kill", "--kill-who=main", "-s", "USR1", UNIT)
    until((logs / "daemon.log").exists, what="a new file")
    until(lambda: '"event": "pipeline state"' in (logs / "daemon.log").read_text())
