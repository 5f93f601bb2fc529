"""Private servers and databases for all tests.

`postgres18`, `postgres15`, `mariadb` and `mysql9` live as long as the session (of one xdist
worker); a test that stops or kills a server takes one of its own, such as from `postgres_factory`.
Examples of hypothesis are the same in every run, as every seed is; CDC_HYPOTHESIS=random looks for
others.
"""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn, Protocol

import pytest
from hypothesis import settings

from cdc_daemon.demo.mariadb import PrivateMariaDB, find_mariadb
from cdc_daemon.demo.mysql_family import FamilyServer, Setting
from cdc_daemon.demo.server import Auth, PrivatePostgres, find_postgres
from tests.support.binlog_erp import BinlogErp
from tests.support.catalogue import MARIADB, MYSQL, POSTGRES, SQLITE
from tests.support.control_kinds import ControlDatabase
from tests.support.databases import Database
from tests.support.erp import Erp
from tests.support.mysql_database import MysqlDatabase
from tests.support.mysql_server import PrivateMySQL, find_mysql
from tests.support.sqlite_database import SqliteDatabase
from tests.support.versions import ALWAYS

pytest_plugins = ["tests.support.fault_table"]

settings.register_profile("recorded", derandomize=True)
settings.register_profile("random", print_blob=True)
settings.load_profile(os.environ.get("CDC_HYPOTHESIS", "recorded"))
_numbers = itertools.count(1)
SHARED = {MARIADB: "mariadb", MYSQL: "mysql9"}
"""The fixture of each kind of server that speaks MySQL's protocol."""


class PostgresOf(Protocol):
    """The server of a major version that the tests of one worker share."""

    def __call__(self, version: int) -> PrivatePostgres: ...


class PostgresFactory(Protocol):
    """Starts a server that is gone after the test."""

    def __call__(
        self,
        version: int = 18,
        *,
        settings: Mapping[str, str | int] | None = None,
        auth: Auth = "trust",
    ) -> PrivatePostgres: ...


class DatabaseFactory(Protocol):
    """Creates an empty database that is gone after the test; on `postgres18` unless told."""

    def __call__(
        self, name: str | None = None, *, server: PrivatePostgres | None = None
    ) -> Database: ...


def _require(version: int) -> None:
    """Skip where a server is not installed; in CI that is a failure."""
    if find_postgres(version) is None:
        _missing(f"PostgreSQL {version}")


def _missing(what: str) -> NoReturn:
    reason = f"{what} is not installed"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres18() -> Iterator[PrivatePostgres]:
    """PostgreSQL 18, shared by the tests of one worker."""
    with PrivatePostgres(18) as server:
        yield server


@pytest.fixture(scope="session")
def postgres15() -> Iterator[PrivatePostgres]:
    """PostgreSQL 15, shared by the tests of one worker."""
    _require(15)
    with PrivatePostgres(15) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_of(request: pytest.FixtureRequest) -> Iterator[PostgresOf]:
    """Servers of any version, each shared by the tests of one worker."""
    others: dict[int, PrivatePostgres] = {}
    with ExitStack() as stack:

        def find(version: int) -> PrivatePostgres:
            if version in ALWAYS:
                found = request.getfixturevalue(f"postgres{version}")
                assert isinstance(found, PrivatePostgres)
                return found
            if version not in others:
                _require(version)
                others[version] = stack.enter_context(PrivatePostgres(version))
            return others[version]

        yield find


@pytest.fixture(scope="session")
def mariadb() -> Iterator[PrivateMariaDB]:
    """Debian's MariaDB, shared by the tests of one worker; each makes a database of its own."""
    if find_mariadb() is None:
        _missing("MariaDB")
    with PrivateMariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def mysql9() -> Iterator[PrivateMySQL]:
    """MySQL 9, shared by the tests of one worker; each makes a database of its own."""
    if find_mysql() is None:
        _missing("MySQL 9")
    with PrivateMySQL() as server:
        yield server


@pytest.fixture
def postgres_factory() -> Iterator[PostgresFactory]:
    """Servers of the test's own, to be stopped, killed or set up differently."""
    with ExitStack() as stack:

        def start(
            version: int = 18,
            *,
            settings: Mapping[str, str | int] | None = None,
            auth: Auth = "trust",
        ) -> PrivatePostgres:
            _require(version)
            return stack.enter_context(PrivatePostgres(version, settings=settings, auth=auth))

        yield start


@pytest.fixture
def database_factory(request: pytest.FixtureRequest) -> Iterator[DatabaseFactory]:
    """Databases of the test's own."""
    with ExitStack() as stack:

        def create(name: str | None = None, *, server: PrivatePostgres | None = None) -> Database:
            home = server or request.getfixturevalue("postgres18")
            database = Database(server=home, name=name or f"test_{next(_numbers)}")
            home.create_database(database.name)
            stack.callback(_drop, database)
            return database

        yield create


def _drop(database: Database | MysqlDatabase) -> None:
    """Drop it unless the test has left its server stopped, which then takes it along."""
    if database.server.running:
        database.server.drop_database(database.name)


@pytest.fixture
def database(database_factory: DatabaseFactory) -> Database:
    """One empty database on PostgreSQL 18."""
    return database_factory()


class ErpFactory(Protocol):
    """An ERP database and a control database, applied; on servers of the test's own if told so."""

    def __call__(
        self,
        *,
        source: PrivatePostgres | None = None,
        target: PrivatePostgres | FamilyServer | None = None,
    ) -> Erp: ...


class ControlFactory(Protocol):
    """Creates an empty control database, on another server if told so."""

    def __call__(self, server: PrivatePostgres | FamilyServer | None = None) -> ControlDatabase: ...


class BinlogErpFactory(Protocol):
    """The same with a source on MySQL or MariaDB."""

    def __call__(self, *, source: FamilyServer | None = None) -> BinlogErp: ...


class FamilyServers(Protocol):
    """Starts a MySQL or MariaDB server that is gone after the test."""

    def __call__(self, **settings: Setting) -> FamilyServer: ...


@pytest.fixture
def make_control(
    request: pytest.FixtureRequest,
    database_factory: DatabaseFactory,
    tmp_path: Path,
    target_kind: str,
) -> Iterator[ControlFactory]:
    """Makes an empty control database of `target_kind`, on another server if told so."""
    with ExitStack() as stack:

        def make(server: PrivatePostgres | FamilyServer | None = None) -> ControlDatabase:
            if target_kind in SHARED:
                return on_family(server or request.getfixturevalue(SHARED[target_kind]))
            if target_kind == SQLITE:
                assert server is None, "a file has no server"
                (tmp_path / "control").mkdir()
                return SqliteDatabase(path=tmp_path / "control" / "control.db")
            assert not isinstance(server, FamilyServer)
            return database_factory(server=server)

        def on_family(server: PrivatePostgres | FamilyServer) -> MysqlDatabase:
            assert isinstance(server, FamilyServer)
            made = MysqlDatabase(server=server, name=f"control_{next(_numbers)}")
            server.create_database(made.name)
            stack.callback(_drop, made)
            return made

        yield make


@pytest.fixture
def make_erp(
    database_factory: DatabaseFactory,
    make_control: ControlFactory,
    tmp_path: Path,
) -> ErpFactory:
    """Makes `erp` on other servers, with a source on PostgreSQL."""

    def make(
        *,
        source: PrivatePostgres | None = None,
        target: PrivatePostgres | FamilyServer | None = None,
    ) -> Erp:
        return Erp(database_factory(server=source), make_control(target), tmp_path).set_up()

    return make


@pytest.fixture
def make_binlog_erp(
    request: pytest.FixtureRequest,
    make_control: ControlFactory,
    source_kind: str,
    tmp_path: Path,
) -> Iterator[BinlogErpFactory]:
    """Makes `binlog_erp` on other servers."""
    with ExitStack() as stack:

        def make(*, source: FamilyServer | None = None) -> BinlogErp:
            server = source or request.getfixturevalue(SHARED[source_kind])
            schema = MysqlDatabase(server=server, name=f"erp_{next(_numbers)}")
            server.create_database(schema.name)
            if source is None:
                stack.callback(server.drop_database, schema.name)
            return BinlogErp(schema, make_control(), tmp_path).set_up()

        yield make


@pytest.fixture
def binlog_server(request: pytest.FixtureRequest, source_kind: str) -> Iterator[FamilyServers]:
    """Servers of the test's own, to be killed, reset or set up differently."""
    with family_servers(request, source_kind) as start:
        yield start


@pytest.fixture
def control_server(request: pytest.FixtureRequest, target_kind: str) -> Iterator[FamilyServers]:
    """The same for the control database."""
    with family_servers(request, target_kind) as start:
        yield start


@contextmanager
def family_servers(request: pytest.FixtureRequest, kind: str) -> Iterator[FamilyServers]:
    """Starts servers of a kind that are gone at the end."""
    make, find = {
        MARIADB: (PrivateMariaDB, find_mariadb),
        MYSQL: (PrivateMySQL, find_mysql),
    }[kind]
    if find() is None:
        request.getfixturevalue(SHARED[kind])  # says so
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(make(settings=settings))


@pytest.fixture
def binlog_erp(make_binlog_erp: BinlogErpFactory) -> BinlogErp:
    """An ERP database on MariaDB or MySQL 9 and a control database, applied, no daemon yet."""
    return make_binlog_erp()


@pytest.fixture
def erp(request: pytest.FixtureRequest, source_kind: str, target_kind: str) -> Erp:
    """An ERP database and a control database, applied, with no daemon yet: on PostgreSQL 18, unless
    the catalogue's entry asks for others."""
    del target_kind  # for the catalogue, which looks for its name
    name = "make_erp" if source_kind == POSTGRES else "make_binlog_erp"
    found = request.getfixturevalue(name)()
    assert isinstance(found, Erp)
    return found
