"""The binlog as changes, on real servers: transactions, definitions, XA, formats, histories."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.changes import UNCHANGED
from cdc_daemon.model.errors import PreflightRefusal, Stop
from cdc_daemon.sources.mysql import prepared
from cdc_daemon.sources.mysql.source import MysqlSource
from tests.support.mysql_sources import (
    Schema,
    copy,
    read_from,
    read_to_end,
    schema_on,
    streaming,
)
from tests.support.sources import last_position, plain

NOTHING: list[object] = []


@pytest.fixture(params=["mariadb", "mysql9"])
def server(request: pytest.FixtureRequest) -> FamilyServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, FamilyServer)
    return found


@pytest.fixture
def schema(server: FamilyServer) -> Iterator[Schema]:
    with schema_on(server) as made:
        made.execute("CREATE TABLE t (id int PRIMARY KEY, name varchar(40), pay decimal(10,2))")
        yield made


@pytest.fixture
def source(schema: Schema) -> MysqlSource:
    return schema.source(schema.table("t", "id", "name", "pay"))


def is_mariadb(schema: Schema) -> bool:
    return "MariaDB" in str(schema.query("SELECT VERSION()"))


# --- rows ---------------------------------------------------------------------------------------


def test_the_log_goes_on_where_the_copy_ends(schema: Schema, source: MysqlSource) -> None:
    schema.execute("INSERT INTO t VALUES (1, 'Ann', 1), (2, NULL, 2)")
    position, rows = copy(source)
    assert rows == [(b"1", b"Ann", b"1.00"), (b"2", None, b"2.00")]
    schema.execute(
        "INSERT INTO t VALUES (3, 'Cy', 3); UPDATE t SET name = 'Bea' WHERE id = 2;"
        "UPDATE t SET id = 9 WHERE id = 1; DELETE FROM t WHERE id = 3; TRUNCATE t"
    )
    batches = read_from(source, position)
    assert plain(batches) == [
        ("insert", (b"3", b"Cy", b"3.00"), None),
        ("update", (b"2", b"Bea", b"2.00"), None),
        ("update", (b"9", b"Ann", b"1.00"), (b"1",)),
        ("delete", None, (b"3",)),
        ("truncate", None, None),
    ]
    assert sum(batch.transactions for batch in batches) == 5
    assert sum(batch.changes for batch in batches) == 5


def test_what_was_read_comes_once_after_every_reopening(
    schema: Schema, source: MysqlSource
) -> None:
    """M3, M4: only ends of transactions are positions, and each goes on behind itself."""
    position, _ = copy(source)
    for number in range(4):
        schema.execute("INSERT INTO t VALUES (%s, 'x', 0), (%s, 'y', 0)", number, number + 10)
        batches = read_from(source, position)
        assert [row[0] for _, row, _ in plain(batches) if row] == [
            b"%d" % number,
            b"%d" % (number + 10),
        ]
        position = last_position(batches)


def test_a_large_transaction_comes_in_pieces(schema: Schema) -> None:
    source = schema.source(schema.table("t", "id", "name"), piece_rows=100)
    position, _ = copy(source)
    with schema.connect() as session, session.cursor() as cursor:
        session.begin()
        cursor.executemany("INSERT INTO t VALUES (%s, 'x', 0)", [(n,) for n in range(1000)])
        session.commit()
    batches = read_from(source, position)
    assert [row[0] for _, row, _ in plain(batches) if row] == [b"%d" % n for n in range(1000)]
    whole = [batch for batch in batches if batch.runs]
    assert len(whole) > 3
    assert [batch.complete for batch in whole[:-1]] == [False] * (len(whole) - 1)
    assert {batch.begins[0] for batch in whole} == {whole[0].begins[0]}


def test_what_a_transaction_takes_back_is_not_there(schema: Schema, source: MysqlSource) -> None:
    position, _ = copy(source)
    with schema.connect() as session, session.cursor() as cursor:
        session.begin()
        cursor.execute("INSERT INTO t VALUES (1, 'a', 0)")
        cursor.execute("SAVEPOINT here")
        cursor.execute("INSERT INTO t VALUES (2, 'b', 0)")
        cursor.execute("ROLLBACK TO SAVEPOINT here")
        cursor.execute("INSERT INTO t VALUES (3, 'c', 0)")
        session.commit()
        session.begin()
        cursor.execute("INSERT INTO t VALUES (4, 'd', 0)")
        session.rollback()
    assert [row[0] for _, row, _ in plain(read_from(source, position)) if row] == [b"1", b"3"]


def test_tables_without_transactions_and_ctas_are_read(schema: Schema, source: MysqlSource) -> None:
    """M19: their transactions end in a COMMIT statement; rows follow a CREATE TABLE."""
    schema.execute("CREATE TABLE plain (id int PRIMARY KEY) ENGINE = MyISAM")
    both = schema.source(schema.table("t", "id"), schema.table("plain", "id"))
    position, _ = copy(both)
    schema.execute(
        "INSERT INTO plain VALUES (1), (2); CREATE TABLE other AS SELECT * FROM t;"
        "INSERT INTO t VALUES (5, 'e', 0)"
    )
    rows = [row for _, row, _ in plain(read_from(both, position))]
    assert rows == [(b"1",), (b"2",), (b"5",)]


def test_images_that_lack_columns_leave_them_unchanged(schema: Schema, source: MysqlSource) -> None:
    """A session may log less than whole rows, whatever the server is set to."""
    schema.execute("INSERT INTO t VALUES (1, 'Ann', 1)")
    position, _ = copy(source)
    schema.execute("SET SESSION binlog_row_image = 'MINIMAL'; UPDATE t SET pay = 2 WHERE id = 1")
    schema.execute("SET SESSION binlog_row_image = 'MINIMAL'; UPDATE t SET id = 7 WHERE id = 1")
    schema.execute("SET SESSION binlog_row_image = 'MINIMAL'; DELETE FROM t")
    assert plain(read_from(source, position)) == [
        ("update", (b"1", UNCHANGED, b"2.00"), None),
        ("update", (b"7", UNCHANGED, UNCHANGED), (b"1",)),
        ("delete", None, (b"7",)),
    ]


def test_compressed_transactions_are_read(schema: Schema, source: MysqlSource) -> None:
    """M1: TRANSACTION_PAYLOAD of MySQL, compressed events of MariaDB; what bounds memory counts
    what comes out of them."""
    position, _ = copy(source)
    rows = ", ".join(f"({number}, '{'x' * 40}', 0)" for number in range(1, 101))
    if is_mariadb(schema):
        on, off = "SET GLOBAL log_bin_compress = 1", "SET GLOBAL log_bin_compress = 0"
    else:
        on, off = "SET SESSION binlog_transaction_compression = 1", ""
    try:
        schema.execute(f"{on}; INSERT INTO t VALUES {rows}")
        schema.execute(f"{on}; UPDATE t SET pay = 1; DELETE FROM t WHERE id = 1")
    finally:
        if off:
            schema.execute(off)
    batches = read_from(source, position)
    found = plain(batches)
    assert [kind for kind, _, _ in found] == ["insert"] * 100 + ["update"] * 100 + ["delete"]
    assert found[0][1] == (b"1", b"x" * 40, b"0.00")
    assert sum(batch.size for batch in batches) > 200 * 40


# --- definitions --------------------------------------------------------------------------------


def test_columns_are_those_of_their_place_in_the_log(schema: Schema, source: MysqlSource) -> None:
    """M6: names and types come from the log, never from today's catalogue."""
    position, _ = copy(source)
    schema.execute("INSERT INTO t VALUES (1, 'old', 1)")
    schema.execute("ALTER TABLE t ADD COLUMN more int FIRST, MODIFY pay decimal(12,4) AFTER id")
    schema.execute("INSERT INTO t (id, name, pay, more) VALUES (2, 'new', 2, 3)")
    batches = read_from(source, position)
    rows = {
        tuple(column.name for column in run.relation.columns): run.new_rows
        for batch in batches
        for run in batch.runs
    }
    assert rows == {
        ("id", "name", "pay"): [(b"1", b"old", b"1.00")],
        ("id", "pay", "name"): [(b"2", b"2.0000", b"new")],
    }


@pytest.mark.parametrize(
    "statements",
    [
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, name text, pay decimal(10,2))",
        "RENAME TABLE t TO u, u TO t",
        "CREATE TABLE u LIKE t; RENAME TABLE t TO v, u TO t",
    ],
)
def test_another_table_under_a_mapped_name_is_refused(
    schema: Schema, source: MysqlSource, statements: str
) -> None:
    position, _ = copy(source)
    schema.execute(statements)
    with pytest.raises(PreflightRefusal, match="does not tell its rows"):
        read_from(source, position)


def test_another_primary_key_is_refused(schema: Schema, source: MysqlSource) -> None:
    position, _ = copy(source)
    schema.execute("INSERT INTO t VALUES (1, 'a', 0)")
    schema.execute(
        "UPDATE t SET name = 'a'; ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (name)"
    )
    schema.execute("INSERT INTO t VALUES (2, 'b', 0)")
    with pytest.raises(PreflightRefusal, match="primary key is another one"):
        read_from(source, position)


def test_statements_in_place_of_rows_are_refused(schema: Schema, source: MysqlSource) -> None:
    """M18: nobody can tell what they changed."""
    position, _ = copy(source)
    schema.execute("SET SESSION binlog_format = 'STATEMENT'; INSERT INTO t VALUES (1, 'a', 0)")
    with pytest.raises(Stop, match="INSERT") as refused:
        read_from(source, position)
    assert "binlog_format" in str(refused.value)


def test_a_log_without_names_is_refused(schema: Schema, source: MysqlSource) -> None:
    """M5."""
    position, _ = copy(source)
    schema.execute("SET GLOBAL binlog_row_metadata = 'MINIMAL'")
    try:
        schema.execute("INSERT INTO t VALUES (1, 'a', 0)")
    finally:
        schema.execute("SET GLOBAL binlog_row_metadata = 'FULL'")
    with pytest.raises(Stop, match="names"):
        read_from(source, position)


# --- XA -----------------------------------------------------------------------------------------


def prepare(schema: Schema, xid: str, rows: str) -> None:
    """Prepare an XA transaction and leave it to others."""
    schema.execute(
        f"XA START '{xid}'; INSERT INTO t VALUES {rows}; XA END '{xid}'; XA PREPARE '{xid}'"
    )


@pytest.fixture(params=["kept", "read again"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "read again":
        monkeypatch.setattr(prepared, "KEPT_BYTES", 0)


@pytest.mark.usefixtures("memory")
def test_a_prepared_transaction_takes_effect_at_its_commit(
    schema: Schema, source: MysqlSource
) -> None:
    """M17."""
    position, _ = copy(source)
    prepare(schema, "one", "(1, 'a', 0), (2, 'b', 0)")
    prepare(schema, "two", "(3, 'c', 0)")
    schema.execute("INSERT INTO t VALUES (4, 'd', 0)")
    with streaming(source, position) as stream:
        before = read_to_end(source, stream)
        assert [row[0] for _, row, _ in plain(before) if row] == [b"4"]
        schema.execute("XA ROLLBACK 'two'; XA COMMIT 'one'; INSERT INTO t VALUES (5, 'e', 0)")
        after = read_to_end(source, stream)
    assert [row[0] for _, row, _ in plain(after) if row] == [b"1", b"2", b"5"]
    assert sum(batch.transactions for batch in after) == 2


def test_a_prepared_transaction_survives_a_restart(schema: Schema, source: MysqlSource) -> None:
    position, _ = copy(source)
    prepare(schema, "one", "(1, 'a', 0)")
    prepare(schema, "two", "(2, 'b', 0)")
    position = last_position(read_from(source, position))
    assert position.count(" xa=") == 2
    schema.execute("XA COMMIT 'one'; XA ROLLBACK 'two'")
    again = schema.source(*source.tables)
    batches = read_from(again, position)
    assert plain(batches) == [("insert", (b"1", b"a", b"0.00"), None)]
    assert " xa=" not in last_position(batches)


def test_one_phase_is_a_commit(schema: Schema, source: MysqlSource) -> None:
    position, _ = copy(source)
    schema.execute(
        "XA START 'x'; INSERT INTO t VALUES (1, 'a', 0); XA END 'x'; XA COMMIT 'x' ONE PHASE"
    )
    assert plain(read_from(source, position)) == [("insert", (b"1", b"a", b"0.00"), None)]


def test_rows_that_are_read_again_leave_the_witness_its_time(
    schema: Schema, source: MysqlSource
) -> None:
    """The newest transaction is the XA COMMIT, whose rows are older."""
    position, _ = copy(source)
    prepare(schema, "old", "(2, 'b', 0)")
    position = last_position(read_from(source, position))
    schema.execute("SET timestamp = 1800000000; XA COMMIT 'old'")
    position = last_position(read_from(source, position))
    schema.execute("INSERT INTO t VALUES (3, 'c', 0)")
    assert plain(read_from(source, position)) == [("insert", (b"3", b"c", b"0.00"), None)]


def test_prepared_transactions_of_other_tables_are_nobodys_concern(mysql9: FamilyServer) -> None:
    """MySQL's copy waits for those of mapped tables only."""
    with schema_on(mysql9) as schema:
        schema.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)")
        schema.execute("XA START 'y'; INSERT INTO u VALUES (1); XA END 'y'; XA PREPARE 'y'")
        source = schema.source(schema.table("t", "id"))
        position, _ = copy(source)
        schema.execute("XA COMMIT 'y'; INSERT INTO t VALUES (1)")
        assert plain(read_from(source, position)) == [("insert", (b"1",), None)]


def test_settings_before_a_statement_do_not_hide_it(mariadb: FamilyServer) -> None:
    """MariaDB logs them with the statement."""
    with schema_on(mariadb) as schema:
        schema.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        source = schema.source(schema.table("t", "id"))
        position, _ = copy(source)
        schema.execute("SET STATEMENT lock_wait_timeout = 5, sql_mode = '' FOR TRUNCATE TABLE t")
        assert plain(read_from(source, position)) == [("truncate", None, None)]
        schema.execute("SET STATEMENT lock_wait_timeout = (5) FOR RENAME TABLE t TO u, u TO t")
        with pytest.raises(PreflightRefusal):
            read_from(source, position)


# --- the copy -----------------------------------------------------------------------------------


def test_no_setting_of_the_server_cuts_a_copy(schema: Schema, source: MysqlSource) -> None:
    schema.execute("INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)")
    schema.execute("SET GLOBAL sql_select_limit = 2")
    try:
        assert len(copy(source)[1]) == 3
    finally:
        schema.execute("SET GLOBAL sql_select_limit = 18446744073709551615")


def test_a_copy_lets_go_of_a_table_that_it_has_read(schema: Schema) -> None:
    """Who alters it waits no longer, and nobody behind him. MariaDB keeps hold of it until the
    transaction's end, whatever is rolled back."""
    if is_mariadb(schema):
        return
    schema.execute("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO t VALUES (1, 'a', 0)")
    schema.execute("INSERT INTO u VALUES (1)")
    source = schema.source(schema.table("t", "id"), schema.table("u", "id"))
    with source.snapshot("") as snapshot:
        read = snapshot.read(source.tables)
        assert next(read).changes == 1
        assert next(read).runs[0].relation.table == "u"  # t is behind
        schema.execute("SET lock_wait_timeout = 2; ALTER TABLE t ADD COLUMN more int")
        assert list(read) == []


# --- a busy log ---------------------------------------------------------------------------------


def test_what_nobody_mapped_keeps_nothing_back(schema: Schema, source: MysqlSource) -> None:
    """A change is handed over, and positions go on, however much of other tables follows."""
    schema.execute("CREATE TABLE noise (id int PRIMARY KEY AUTO_INCREMENT, pad varchar(4000))")
    position, _ = copy(source)
    schema.execute("INSERT INTO t VALUES (1, 'a', 0)")
    schema.execute("INSERT INTO noise (pad) VALUES (REPEAT('x', 4000))")
    for _ in range(12):
        schema.execute("INSERT INTO noise (pad) SELECT pad FROM noise")
    found = []
    with streaming(source, position) as stream:
        end = source.mark()
        for _ in range(400):
            begun = time.monotonic()
            batch = stream.read(0.05)
            assert time.monotonic() - begun < 2
            if batch is not None:
                found.append(batch)
                if batch.position and source.passed(batch.position, end):
                    break
    assert sum(batch.changes for batch in found) == 1


def test_values_that_a_definition_changes_are_told(
    schema: Schema, source: MysqlSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        source, "_tell_of_values", lambda table, verb: told.append((table.name, verb))
    )
    position, _ = copy(source)
    schema.execute("ALTER TABLE t ADD COLUMN more int, ADD INDEX (name)")
    schema.execute("ALTER TABLE t MODIFY COLUMN pay decimal(10,0), DROP COLUMN more")
    read_from(source, position)
    assert told == [("t", "ALTER TABLE")]


def test_a_key_that_changed_while_nobody_looked_is_refused(
    schema: Schema, source: MysqlSource
) -> None:
    """Nothing of it need be in the log that is still to come."""
    then = source.identify()
    assert source.compare(then, source.identify()) == []
    schema.execute("UPDATE t SET name = 'x'; ALTER TABLE t MODIFY name varchar(40) NOT NULL")
    schema.execute("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (name)")
    (problem,) = source.compare(then, source.identify())
    assert "another key" in problem.what
    assert problem.where.endswith(f"table {schema.name}.t")
