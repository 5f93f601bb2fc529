"""Passwords and row values are nowhere to be seen: searched for in every byte that comes out.

A real daemon, roles whose passwords are unlike anything else, and as many errors as can be provoked
in a minute. Then logs, answers, tables, and what the kernel tells about the processes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from cdc_daemon.demo.server import PrivatePostgres, free_port
from cdc_daemon.sinks.postgres.names import literal
from tests.conftest import DatabaseFactory
from tests.support.cli import call, invoke
from tests.support.erp import MAPPINGS, PUBLICATION, TABLES, Erp
from tests.support.leaks import forms, leaks
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import until

SECRETS = {
    "source": "Qx7/ü%p@ß:s3 S\"O'U\\R#C&E=?",
    "target": "Zk9+ø$T{A}R,G;E|T~^<pw>%41",
    "wrong": "Wr0ng:/Ö@Vj3'q\\%25\"Xz",
    "admin": "Adm1n-Üb3r/Hg@6:%40-pw",
}
ROWS = {
    "name": "Zwirbelwurz-7F3Q Schraube",
    "unit": "xq7unitqx",
    "customer": "Knödelfabrik Hinterzarten-K8",
}
ADMINISTRATORS = "CDC_DAEMON_ADMIN_DSN"

IMAGES = ("failures", "list", "-o", "json")
"""The one command here that shows rows."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[PrivatePostgres]:
    """A server that asks for passwords."""
    with PrivatePostgres(18, auth="scram-sha-256") as server:
        for role, secret in (("reader", "source"), ("worker", "target"), ("boss", "admin")):
            server.execute(f"CREATE ROLE {role} LOGIN PASSWORD {literal(SECRETS[secret])}")
        server.execute("ALTER ROLE reader REPLICATION; ALTER ROLE boss SUPERUSER")
        yield server


class Guarded(Erp):
    """Roles with passwords: the source's from a file, the target's from a variable."""

    @property
    def secret_file(self) -> Path:
        return self.configuration.with_name("reader.secret")

    def configure(self, mappings: str = MAPPINGS, **settings: object) -> Path:
        path = super().configure(mappings, **settings)
        self.secret_file.write_text(SECRETS["source"] + "\n")
        self.secret_file.chmod(0o600)
        text = path.read_text("utf-8")
        places = (
            (self.source, "reader", f"${{file:{self.secret_file}}}"),
            (self.target, "worker", "${TARGET_PASSWORD}"),
        )
        for database, role, password in places:
            dsn = database.server.dsn(database.name, role)
            text = text.replace(f'"{database.dsn}"', f'"{dsn}", password: "{password}"')
        path.write_text(text, "utf-8")
        return path

    @property
    def environment(self) -> dict[str, str]:
        """What the daemon and the commands are started with."""
        admin = quote(SECRETS["admin"], safe="")
        at = f"boss:{admin}@127.0.0.1:{self.source.server.port}"
        dsns = (
            f"erp=postgresql://{at}/{self.source.name}",
            f"target=postgresql://{at}/{self.target.name}",
        )
        return {"TARGET_PASSWORD": SECRETS["target"], ADMINISTRATORS: " ".join(dsns)}

    def said(self, *arguments: str, **changed: str) -> bytes:
        """Everything that a command says."""
        environment = {**self.environment, **changed}
        config = ("--config", str(self.configuration))
        if arguments[0] == "run":
            done = call(*arguments, *config, env=environment)
            return f"{done.returncode} {done.stdout}\n{done.stderr}".encode()
        asked = invoke(*arguments, *config, env=environment)
        return f"{asked.exit_code} {asked.output}".encode()


@pytest.fixture
def site(guarded: PrivatePostgres, database_factory: DatabaseFactory, tmp_path: Path) -> Guarded:
    """Applied, with least privileges."""
    source, target = database_factory(server=guarded), database_factory(server=guarded)
    source.execute(f"{TABLES}; {PUBLICATION}")
    source.execute("GRANT SELECT ON t_customer, t_order, t_material TO reader")
    made = Guarded(source, target, tmp_path)
    config = str(made.configuration)
    done = invoke("apply", "--yes", "--config", config, env=made.environment)
    assert done.exit_code == 0, done.output
    return made


def daemon_of(site: Guarded, name: str, failpoint: str | None = None) -> RealDaemon:
    log = site.configuration.with_name(f"{name}.log")
    return RealDaemon(site.configuration, log, failpoint=failpoint, environment=site.environment)


def processes(daemon: RealDaemon) -> dict[str, bytes]:
    """What the kernel tells about supervisor and workers."""
    found: dict[str, bytes] = {}
    for pid in [daemon._started.pid, *daemon.workers]:
        which = "supervisor" if pid == daemon._started.pid else "worker"
        found[f"arguments of the {which}"] = Path(f"/proc/{pid}/cmdline").read_bytes()
        found[f"environment of the {which}"] = Path(f"/proc/{pid}/environ").read_bytes()
    return found


def tables(site: Guarded) -> dict[str, bytes]:
    """Every row of the ledger; images of parked changes apart."""
    found: dict[str, bytes] = {}
    for (name,) in site.target.query(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'cdc'::regnamespace"
        " AND relkind = 'r'"
    ):
        rows = site.target.query(f"SELECT to_jsonb(t) - 'payload' FROM cdc.\"{name}\" t")
        found[f"cdc.{name}"] = json.dumps(rows, ensure_ascii=False, default=str).encode()
    return found


def answers(port: int) -> dict[str, bytes]:
    """Everything that the daemon serves."""
    found: dict[str, bytes] = {}
    for page in ("metrics", "healthz", "readyz", "status"):
        with urlopen(f"http://127.0.0.1:{port}/{page}") as answer:
            found[f"/{page}"] = answer.read()
    return found


def poison(site: Guarded) -> None:
    """Rows that the control database refuses in several ways, whose errors would quote them."""
    site.target.execute(
        "ALTER TABLE customer ADD CONSTRAINT odd CHECK (name NOT LIKE 'Kn%');"
        "CREATE FUNCTION angry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.name LIKE 'Zwirbel%' THEN RAISE EXCEPTION 'I hate %', NEW.name"
        " USING ERRCODE = '23514', DETAIL = NEW.name; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER angry BEFORE INSERT ON material FOR EACH ROW EXECUTE FUNCTION angry()"
    )
    name, unit, customer = ROWS["name"], ROWS["unit"], ROWS["customer"]
    site.source.execute("INSERT INTO t_customer VALUES (1, 'C1', %s)", customer)
    site.source.execute("INSERT INTO t_material VALUES (1, 'M1', %s, 'PCS')", name)
    site.source.execute("INSERT INTO t_material VALUES (2, 'M2', %s, %s)", name[::-1], unit)
    site.source.execute("INSERT INTO t_material VALUES (3, 'M3', %s, 'KG')", name + "x" * 250)


def provoked(site: Guarded) -> dict[str, bytes]:
    """What commands say when something is wrong with the configuration or a server."""
    found: dict[str, bytes] = {}
    text = site.configuration.read_text("utf-8")
    port = str(site.source.server.port)
    wrong = SECRETS["wrong"]
    dsn = f"postgresql://reader:{quote(wrong, safe='')}@127.0.0.1"
    broken = {
        "wrong password": (text, {"TARGET_PASSWORD": wrong}),
        "unreachable": (text.replace(f":{port}/", f":{free_port()}/"), {}),
        "password in an address": (text.replace("postgresql://reader@127.0.0.1", dsn), {}),
        "bad option": (text.replace('"slot":', f'"slott": {json.dumps(wrong)}, "slot":'), {}),
        "bad address": (text.replace("postgresql://reader@", f"postgresql://r:{wrong}@["), {}),
        "no such database": (text.replace(f"/{site.target.name}", "/nowhere"), {}),
    }
    for name, (changed, environment) in broken.items():
        site.configuration.write_text(changed, "utf-8")
        for command in (("check-config", "--debug"), ("run",)):
            if command == ("run",) and name == "unreachable":
                with daemon_of(site, "unreachable") as daemon:
                    daemon.said("will try again")
                    found["run: unreachable"] = daemon.log_path.read_bytes()
                continue
            said = site.said(*command, **environment)
            assert not said.startswith(b"0 "), (name, command)
            found[f"{command[0]}: {name}"] = said
    site.configuration.write_text(text, "utf-8")
    admin = site.environment[ADMINISTRATORS].replace(quote(SECRETS["admin"], safe=""), "nope")
    found["plan: wrong administrator"] = site.said("plan", **{ADMINISTRATORS: admin})
    return found


def test_no_secret_and_no_row_is_seen(site: Guarded) -> None:
    """Neither while all is well nor in any error."""
    port = free_port()
    site.configure(metrics_listen=f"127.0.0.1:{port}", log_level="debug", drain_seconds=5)
    seen: dict[str, bytes] = {}
    images = ""
    with daemon_of(site, "first") as daemon:
        daemon.said("streaming")
        poison(site)
        until(lambda: len(site.parked()) == 4, what="the rows are parked")
        seen |= {f"{name} while it runs": text for name, text in processes(daemon).items()}
        os.kill(daemon._started.pid, signal.SIGUSR1)
        daemon.said("pipeline state")
        daemon.said("state")
        seen |= answers(port)
        for command in (
            ("config", "show"), ("config", "show", "-o", "json"), ("status", "-o", "json"),
            ("failures", "list"), IMAGES, ("check-config",),
            ("check-config", "--debug"), ("verify",), ("verify", "-o", "json"), ("plan",),
            ("failures", "retry", "--all", "--yes"), ("failures", "stats", "-o", "json"),
            ("failures", "list", "--key", ROWS["name"], "--since", "1h"),
            ("failures", "edit", "2", "--set", f"fprice={ROWS['name']}", "--reason", "r"),
            ("failures", "edit", "2", "--set", f"fname={ROWS['name']} y", "--reason", "r"),
            ("failures", "resync", "--all", "--yes", "--reason", "r"),
        ):  # fmt: skip
            seen[name := f"{len(seen)}: {' '.join(command[:2])}"] = site.said(*command)
            images = name if command == IMAGES else images
        daemon.kill_worker()
        daemon.said("streaming", times=2)
        assert daemon.stop() == 0
        seen["log"] = daemon.log_path.read_bytes()
    with daemon_of(site, "crash", "before_sink_commit") as daemon:
        site.source.execute("INSERT INTO t_material VALUES (9, 'M9', %s, 'KG')", ROWS["name"])
        daemon.worker_died()
        seen["log of a crash"] = daemon.log_path.read_bytes()
    seen |= provoked(site)
    seen |= tables(site)

    given = seen.pop("environment of the supervisor while it runs")
    assert leaks({"target": SECRETS["target"]}, {"environment": given}), "a search that finds"
    assert b"debug" in seen["log"]
    assert leaks(SECRETS, seen) == []
    asked_for = seen.pop(images)  # the images, for whoever repairs them
    assert leaks(ROWS, {"it": asked_for})
    assert leaks(ROWS, seen) == []
    outcomes = site.target.query("SELECT DISTINCT outcome FROM cdc.repair")
    assert outcomes == [("failed",)]
    assert site.target.query("SELECT count(*) FROM cdc.failure_edit") == [(1,)]


def test_the_search_finds_what_it_looks_for() -> None:
    """In each form, at every place of a longer base64 text."""
    import base64

    for secret in SECRETS.values():
        for form, text in forms(secret).items():
            assert leaks({"it": secret}, {"there": b"x" + text + b"y"}), form
        for offset in range(4):
            longer = base64.b64encode(b"z" * offset + secret.encode() + b"tail")
            assert leaks({"it": secret}, {"there": longer})
    assert leaks(SECRETS, {"here": b"nothing"}) == []


def test_a_password_is_changed_while_the_daemon_runs(site: Guarded) -> None:
    """First at the server, then in the file: it waits in between, the same processes go on."""
    site.configure()
    with daemon_of(site, "rotation") as daemon:
        daemon.said("streaming")
        site.insert_materials(1, 3)
        site.caught_up(daemon)
        before = daemon.workers
        server = site.source.server
        server.execute("ALTER ROLE reader PASSWORD 'next-one'")
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'"
        )
        daemon.said("will try again", error="check user and password")
        site.insert_materials(4, 3)
        site.secret_file.write_text("next-one\n")
        site.caught_up(daemon)
        assert daemon.workers == before
        server.execute(
            f"ALTER ROLE reader PASSWORD '{SECRETS['source'].replace(chr(39), chr(39) * 2)}'"
        )
        site.secret_file.write_text(SECRETS["source"])
        os.kill(daemon._started.pid, signal.SIGHUP)
        daemon.said("configuration reloaded")
        site.insert_materials(7, 3)
        site.caught_up(daemon)
        assert daemon.stop() == 0
    assert leaks({**SECRETS, "next": "next-one"}, {"log": daemon.log_path.read_bytes()}) == []
