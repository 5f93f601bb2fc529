"""Every type of PostgreSQL by every way a value can take, into every entity type that it fits.

The oracle is the database: what a SELECT prints under fixed settings, and what the server's own
casts make of it. Source and control database have settings that print and read values differently
for whoever does not force his own. ``-s`` shows how many cells (type × value × way × entity type)
were compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus

from cdc_daemon import build
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.config.scalars import parse_entity_type
from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.mapping.canonical import canonical
from cdc_daemon.mapping.decimals import canonical_decimal
from cdc_daemon.model.changes import Batch, Relation, Row, Value
from cdc_daemon.model.ports import Table
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.sinks.postgres.names import column_type
from cdc_daemon.sinks.sqlite.plan import apply_plan
from cdc_daemon.sources.postgres.lsn import parse_lsn
from cdc_daemon.sources.postgres.source import PostgresSource
from cdc_daemon.verify import content_hashes, verify
from tests.conftest import DatabaseFactory
from tests.support.databases import Database
from tests.support.embedded import SqliteFile
from tests.support.pipelines import Running, System
from tests.support.sources import PUBLICATION, make_source, read_changes, streaming, table
from tests.support.type_cases import CASES, SETUP, TypeCase
from tests.support.waiting import until

Connection = psycopg.Connection[tuple[Any, ...]]
Text = bytes | None

HOSTILE = {
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "TimeZone": "'Asia/Kolkata'",
    "extra_float_digits": "-15",
    "xmlbinary": "hex",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "transform_null_equals": "on",
}
"""What an administrator may have set for the databases."""

PLAIN = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "xmlbinary": "base64",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "search_path": "",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "lc_monetary": "C",
}
"""What the oracle's sessions have."""


def plain_session(database: Database, **more: str) -> Connection:
    """A session of the superuser whose settings nobody has a say in."""
    options = " ".join(f"-c {name}={value}" for name, value in {**PLAIN, **more}.items())
    return psycopg.connect(database.dsn, options=options, autocommit=True)


def texts(connection: Connection, statement: str, *params: Text) -> list[tuple[bytes | None, ...]]:
    """The rows of a query, as the types' output functions print them."""
    result = connection.pgconn.exec_params(statement.encode(), list(params) or None)
    assert result.status == ExecStatus.TUPLES_OK, (statement, result.error_message)
    return [
        tuple([result.get_value(row, column) for column in range(result.nfields)])
        for row in range(result.ntuples)
    ]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Matrix:
    """The cases on one server, and what was compared.

    Table ``wide`` has a column ``v<n>`` for each case and a row for each number of values, NULL
    where a case has fewer; its replica identity is FULL. Table ``k<n>`` is keyed by the value.
    """

    def __init__(self, source: Database, target: Database) -> None:
        self.source = source
        self.target = target
        with plain_session(source) as session:
            (found,) = session.execute("SELECT current_setting('server_version_num')::int / 10000")
            self.version = found[0]
            self.cases = [case for case in CASES if self._has(session, case)]
        self.rows = max(len(case.values) for case in self.cases)
        self.cells: Counter[str] = Counter()
        self.differences: list[str] = []

    def _has(self, session: Connection, case: TypeCase) -> bool:
        if case.since > self.version:
            return False
        if case.type != "xml":
            return True
        with suppress(psycopg.errors.FeatureNotSupported):  # built without libxml
            session.execute("SELECT '<a/>'::xml")
            return True
        return False

    # --- the source -------------------------------------------------------------------------------

    @property
    def keyed(self) -> dict[str, TypeCase]:
        """The tables that are keyed by a value."""
        return {f"k{n}": case for n, case in enumerate(self.cases) if case.key}

    @property
    def columns(self) -> list[str]:
        """The columns of the wide table."""
        return [f"v{n}" for n in range(len(self.cases))]

    def create(self) -> None:
        """Types, tables, publications, and settings that print everything another way."""
        columns = ", ".join(f"v{n} {case.type}" for n, case in enumerate(self.cases))
        script = [
            SETUP,
            f"CREATE TABLE wide (id integer PRIMARY KEY, {columns});",
            "ALTER TABLE wide REPLICA IDENTITY FULL;",
            *(
                f"CREATE TABLE {name} (v {case.type} PRIMARY KEY, n integer);"
                for name, case in self.keyed.items()
            ),
        ]
        names = ", ".join(["wide", *self.keyed])
        script += [f"CREATE PUBLICATION {p} FOR TABLE {names};" for p in (PUBLICATION, "cdc_erp")]
        self.source.execute("\n".join(script))
        for database in (self.source, self.target):
            for name, value in HOSTILE.items():
                database.execute(f"ALTER DATABASE {database.name} SET {name} = {value}")

    def asked(self) -> list[Table]:
        return [table("wide", "id", *self.columns), *(table(name, "v", "n") for name in self.keyed)]

    def write(self, statements: Sequence[str]) -> None:
        """One transaction on the source."""
        with plain_session(self.source, search_path="public") as session, session.transaction():
            session.execute(";".join(statements).encode())

    def insert(self, first: int) -> None:
        """All values, in rows numbered from ``first``, and all keys."""
        rows = [
            f"INSERT INTO wide VALUES ({first + i}, {', '.join(self._values(i))})"
            for i in range(self.rows)
        ]
        keys = [
            f"INSERT INTO {name} VALUES ({quoted(value)}, {i}) ON CONFLICT DO NOTHING"
            for name, case in self.keyed.items()
            for i, value in enumerate(case.values)
        ]
        self.write([*rows, *keys])

    def _values(self, row: int) -> list[str]:
        return [
            quoted(case.values[row]) if row < len(case.values) else "NULL" for case in self.cases
        ]

    def rotate(self, first: int) -> None:
        """Every row takes the values of the next one, and every second key those of the first."""
        rows = []
        for i in range(self.rows):
            values = self._values((i + 1) % self.rows)
            assignments = ", ".join(f"v{n} = {value}" for n, value in enumerate(values))
            rows.append(f"UPDATE wide SET {assignments} WHERE id = {first + i}")
        keys = [f"DELETE FROM {name} WHERE n = 0" for name in self.keyed]
        keys += [
            f"UPDATE {name} SET v = {quoted(case.values[0])} WHERE n = 1"
            for name, case in self.keyed.items()
        ]
        self.write([*rows, *keys])

    def selected(self, name: str, *expressions: str) -> list[Row]:
        """What a SELECT prints of a table's rows, in their order."""
        columns = expressions or (("id", *self.columns) if name == "wide" else ("v", "n"))
        order = "id" if name == "wide" else "n"
        with plain_session(self.source) as session:
            session.execute("SET search_path = public")
            rows = texts(
                session, f"SELECT {', '.join(columns)} FROM public.{name} ORDER BY {order}"
            )
        return list(rows)

    # --- what was compared ------------------------------------------------------------------------

    def compare(self, way: str, what: str, found: Sequence[Value], wanted: Sequence[Value]) -> None:
        """Count the values of one type, and note where they differ."""
        self.cells[way] += sum(value is not None for value in wanted)
        differ = [(f, w) for f, w in zip_longest(found, wanted) if f != w]
        if differ:
            self.differences.append(
                f"{way}: {what}: {differ[0][0]!r:.200} is not {differ[0][1]!r:.200}"
                f" ({len(differ)} of {len(wanted)})"
            )

    def compare_wide(self, way: str, found: Sequence[Row], wanted: Sequence[Row]) -> None:
        """Compare the wide table's rows column by column."""
        assert [row[0] for row in found] == [row[0] for row in wanted], way
        for n, case in enumerate(self.cases, 1):
            self.compare(way, case.type, [row[n] for row in found], [row[n] for row in wanted])

    def report(self) -> str:
        """How many cells there were, by way."""
        types = len({case.type for case in self.cases})
        values = sum(len(case.values) for case in self.cases)
        lines = [
            f"type matrix on PostgreSQL {self.version}: {types} types, {values} values,"
            f" {sum(self.cells.values())} cells"
        ]
        return "\n".join([*lines, *(f"  {count:6} {way}" for way, count in self.cells.items())])


@pytest.mark.parametrize("version", [18, pytest.param(15, marks=pytest.mark.acceptance)])
def test_type_matrix(
    version: int,
    request: pytest.FixtureRequest,
    database_factory: DatabaseFactory,
    tmp_path: Path,
) -> None:
    """Prints how many cells were compared."""
    server: PrivatePostgres = request.getfixturevalue(f"postgres{version}")
    matrix = Matrix(database_factory(server=server), database_factory(server=server))
    matrix.create()
    compare_source(matrix)
    if version != 18:  # the daemon's own part is the same on every server
        matrix.cases = [replace(case, key=False) for case in matrix.cases]
    other = compare_daemon(matrix, tmp_path)
    if version == 18:
        compare_embedded(matrix, tmp_path, other)
    print(f"\n{matrix.report()}")
    assert not matrix.differences, "\n".join(matrix.differences)
    assert sum(matrix.cells.values()) > (10_000 if version == 18 else 7_000)


# --- the source alone -----------------------------------------------------------------------------

Changes = dict[tuple[str, str], list[tuple[Row, Row]]]


def by_table(batches: Iterable[Batch]) -> Changes:
    """(new row, old row) of every change, by table and operation; () for none."""
    found: Changes = {}
    for run in (run for batch in batches for run in batch.runs):
        changes = found.setdefault((run.relation.table, run.operation.value), [])
        blank: list[Row] = [()] * len(run)
        changes += zip(run.new_rows or blank, run.old_rows or blank, strict=True)
    return found


def compare_source(matrix: Matrix) -> None:
    """Snapshot, rereads and stream print what SELECT prints."""
    with closing(make_source(matrix.source, *matrix.asked())) as source:
        position, relations, wanted = compare_snapshot(matrix, source)
        compare_rereads(matrix, source, relations, wanted)
        compare_stream(matrix, source, position, wanted)
        rotated = matrix.selected("wide")
        keys = [(b"%d" % i,) for i in range(matrix.rows)]
        found = source.reread(relations["wide"], keys)
        matrix.compare_wide("reread", [found[key] for key in keys], rotated)


def compare_snapshot(
    matrix: Matrix, source: PostgresSource
) -> tuple[str, dict[str, Relation], dict[str, list[Row]]]:
    """Copy everything: the position, the tables' descriptions, and what SELECT says of them."""
    matrix.insert(0)
    with source.snapshot(source.slot) as snapshot:
        batches = list(snapshot.read(source.tables))
    copied = by_table(batches)
    wanted = {name: matrix.selected(name) for name in ("wide", *matrix.keyed)}
    rows = sorted((new for new, _ in copied["wide", "insert"]), key=number)
    matrix.compare_wide("snapshot", rows, wanted["wide"])
    for name, case in matrix.keyed.items():
        found = {new for new, _ in copied[name, "insert"]}
        assert found == set(wanted[name]), case.type
    relations = {run.relation.table: run.relation for batch in batches for run in batch.runs}
    return snapshot.position, relations, wanted


def number(row: Row) -> int:
    """The number that a row of the wide table begins with."""
    assert isinstance(row[0], bytes)
    return int(row[0])


def compare_rereads(
    matrix: Matrix,
    source: PostgresSource,
    relations: dict[str, Relation],
    wanted: dict[str, list[Row]],
) -> None:
    """Rows are found by keys of every type."""
    for name, case in matrix.keyed.items():
        keys = [row[0] for row in wanted[name]]
        found = source.reread(relations[name], [(key,) for key in keys])  # type: ignore[misc]
        again = [found.get((key,), (None,))[0] for key in keys]  # type: ignore[arg-type]
        matrix.compare("reread by key", case.type, again, keys)


def compare_stream(
    matrix: Matrix, source: PostgresSource, position: str, before: dict[str, list[Row]]
) -> None:
    """Inserts, updates, old images, old keys."""
    matrix.write(["DELETE FROM wide", *(f"DELETE FROM {name}" for name in matrix.keyed)])
    matrix.insert(0)
    matrix.rotate(0)
    after = {name: matrix.selected(name) for name in ("wide", *matrix.keyed)}
    seconds = {name: [row[0] for row in before[name] if row[1] == b"1"] for name in matrix.keyed}
    changed = [2 * len(before[name]) + 1 + len(seconds[name]) for name in matrix.keyed]
    with streaming(source, position) as stream:
        streamed = by_table(read_changes(stream, 3 * matrix.rows + sum(changed)))
    wide = before["wide"]
    matrix.compare_wide("stream insert", [new for new, _ in streamed["wide", "insert"]], wide)
    matrix.compare_wide(
        "stream update", [new for new, _ in streamed["wide", "update"]], after["wide"]
    )
    matrix.compare_wide("stream old image", [old for _, old in streamed["wide", "update"]], wide)
    matrix.compare_wide("stream delete", [old for _, old in streamed["wide", "delete"]], wide)
    for name, case in matrix.keyed.items():
        keys = [row[0] for row in before[name]]
        deleted = [old[0] for _, old in streamed[name, "delete"]]
        matrix.compare("stream old key", case.type, deleted, [*keys, keys[0]])
        renamed = streamed.get((name, "update"), [])
        firsts = keys[: len(seconds[name])]
        matrix.compare("stream old key", case.type, [old[0] for _, old in renamed], seconds[name])
        matrix.compare("stream new key", case.type, [new[0] for new, _ in renamed], firsts)


# --- through the daemon ---------------------------------------------------------------------------

EVERYWHERE = ("text", "string(4000)")


def kinds_of(case: TypeCase) -> list[str]:
    """The entity types that every value of the case fits."""
    return [*EVERYWHERE, *(kind for kind in case.fits if kind not in EVERYWHERE)]


def key_kind(case: TypeCase) -> str:
    """The entity type of the case's values as keys: one that keeps them apart."""
    if case.type.startswith(("text", "varchar", "citext")):
        return "text"
    return next((kind for kind in case.fits if kind != "json"), "text")


class TypeSystem(System):
    """A source that writes no texts in place of NULL."""

    def configure(self, yaml: str, **daemon: object) -> Configuration:
        head = f"""
sources:
  erp: {{kind: postgres, dsn: "{self.source.dsn}", slot: cdc_{self.source.name},
         publication: cdc_erp}}
target: {{url: "{self.target.dsn}"}}
daemon: {{retry_first_seconds: 0.05, retry_max_seconds: 0.5, idle_checkpoint_seconds: 0.1}}
"""
        path = self._folder / "cdc.yaml"
        path.write_text(head + yaml, "utf-8")
        self.configuration = load([path], environ={})
        return self.configuration


class EmbeddedTypes(TypeSystem):
    """The same into an SQLite file, from a slot of its own."""

    def __init__(self, source: Database, file: SqliteFile, folder: Path, yaml: str) -> None:
        super().__init__(source, file, folder, yaml)  # type: ignore[arg-type]

    def configure(self, yaml: str, **daemon: object) -> Configuration:
        super().configure(yaml)
        path = self._folder / "cdc.yaml"
        path.write_text(path.read_text("utf-8").replace("slot: cdc_", "slot: cdc_file_"), "utf-8")
        self.configuration = load([path], environ={})
        return self.configuration

    def apply(self) -> None:
        with closing(build.make_source(self.configuration, "erp")) as source:
            relations = source.relations()
        compiler = build.compiler(self.configuration, "erp")
        compiled = build.compile_all(self.configuration, relations, compiler)
        layouts = [one.layout for one in compiled]
        apply_plan(self.configuration.target.path, self.configuration.entities, layouts)

    def wait_for_phase(self, phase: str, running: Running) -> None:
        self._until(running, lambda found: found.phase.value == phase)

    def caught_up(self, running: Running | None = None) -> None:
        ((end,),) = self.source.query("SELECT pg_current_wal_insert_lsn()::text")
        self.source.execute("SELECT pg_logical_emit_message(true, 'test', 'wake')")
        assert running is not None
        self._until(running, lambda found: parse_lsn(found.position or "0/0") >= parse_lsn(end))

    def _until(self, running: Running, enough: Callable[[Checkpoint], bool]) -> None:
        def reached() -> bool:
            assert running.code is None, f"the worker ended with {running.code}"
            with closing(build.make_control(self.configuration)) as control:
                return any(map(enough, control.checkpoints()))

        until(reached, seconds=60, what="the checkpoint")


def configuration(matrix: Matrix) -> str:
    """The wide table into an entity with every type that its columns fit; keys into keys."""
    attributes, fields = "", []
    for n, case in enumerate(matrix.cases):
        for i, kind in enumerate(kinds_of(case)):
            attributes += f', v{n}_{i}: "{kind}"'
            fields.append(f"v{n}_{i}: v{n}")
    entities = [f"  wide: {{key: [id], attributes: {{id: integer{attributes}}}}}"]
    mappings = [
        f"  - {{from: erp.public.wide, to: wide, key: {{id: id}}, fields: {{{', '.join(fields)}}}}}"
    ]
    for name, case in matrix.keyed.items():
        kind = key_kind(case)
        entities.append(f'  {name}: {{key: [k], attributes: {{k: "{kind}", n: integer}}}}')
        mappings.append(
            f"  - {{from: erp.public.{name}, to: {name}, key: {{k: v}}, fields: {{n: n}}}}"
        )
    return "\n".join(["entities:", *entities, "mappings:", *mappings])


def compare_daemon(matrix: Matrix, folder: Path) -> Configuration:
    """Every value arrives exactly in every entity type that it fits, and verify agrees."""
    system = TypeSystem(matrix.source, matrix.target, folder, configuration(matrix))
    system.apply()
    with system.running() as running:
        arrived(matrix, "copied")
        matrix.write(["DELETE FROM wide", *(f"DELETE FROM {name}" for name in matrix.keyed)])
        matrix.insert(0)
        matrix.rotate(0)
        system.caught_up(running)
        arrived(matrix, "streamed")
        report = verify(system.configuration, timeout=30)
    parked = matrix.target.query("SELECT mapping, error_code, error_message FROM cdc.failure")
    assert not parked
    assert report.equal, report
    return system.configuration


def compare_embedded(matrix: Matrix, folder: Path, other: Configuration) -> None:
    """An SQLite file holds the same, canonically, as the control database on PostgreSQL."""
    file = SqliteFile(folder / "control.db")
    system = EmbeddedTypes(matrix.source, file, folder, configuration(matrix))
    system.apply()
    entities = list(system.configuration.entities.values())
    wanted = content_hashes(other.target, entities)
    with system.running() as running:
        compare_hashes(matrix, "copied into SQLite", system, wanted)
        matrix.write(["DELETE FROM wide", *(f"DELETE FROM {name}" for name in matrix.keyed)])
        matrix.insert(0)
        matrix.rotate(0)
        system.caught_up(running)
        compare_hashes(matrix, "streamed into SQLite", system, wanted)
        report = verify(system.configuration, timeout=30)
    assert report.equal, report
    assert not file.query("SELECT mapping, error_code, error_message FROM cdc_failure")


def compare_hashes(
    matrix: Matrix, way: str, system: EmbeddedTypes, wanted: Mapping[str, str]
) -> None:
    """Whole entities, every attribute of every row."""
    found = content_hashes(system.configuration.target, system.configuration.entities.values())
    for entity in wanted:
        if found[entity] != wanted[entity]:
            matrix.differences.append(f"{way}: {entity}")
    values = sum(len(case.values) * len(kinds_of(case)) for case in matrix.cases)
    matrix.cells[way] += values


def arrived(matrix: Matrix, way: str) -> None:
    """Every attribute holds what the database itself makes of the column's value."""
    with plain_session(matrix.source) as source, plain_session(matrix.target) as target:
        source.execute("SET search_path = public")  # for expressions over the cases' own types
        wide = [
            (f"v{n}", case, kind) for n, case in enumerate(matrix.cases) for kind in kinds_of(case)
        ]
        names = ", ".join(
            f"v{n}_{i}" for n, c in enumerate(matrix.cases) for i in range(len(kinds_of(c)))
        )
        found = texts(target, f"SELECT {names} FROM public.wide ORDER BY id")
        wanted = expected(source, target, "wide", wide)
        for place, (_, case, kind) in enumerate(wide):
            pair = [[row[place] for row in rows] for rows in (found, wanted)]
            compare_stored(matrix, way, f"{case.type} → {kind}", kind, *pair)
        for name, case in matrix.keyed.items():
            kind = key_kind(case)
            keys = [row[0] for row in texts(target, f"SELECT k FROM public.{name} ORDER BY n")]
            must = [row[0] for row in expected(source, target, name, [("v", case, kind)])]
            if kind == "numeric":  # one text for each number is what makes it a key
                must = [v and canonical_decimal(v) for v in must]
            compare_stored(matrix, f"{way} key", f"{case.type} → {kind}", kind, keys, must)


def expected(
    source: Connection, target: Connection, name: str, columns: list[tuple[str, TypeCase, str]]
) -> list[tuple[bytes | None, ...]]:
    """What the target's own types make of what SELECT prints, row by row."""
    given, casts = [], []
    for place, (column, case, kind) in enumerate(columns, 1):
        expression = case.expected.get("text" if kind == "string(4000)" else kind, "v")
        given.append(re.sub(r"\bv\b", column, expression))
        through = "numeric::" if kind in ("integer", "bigint") else ""
        casts.append(f"${place}::text::{through}{column_type(parse_entity_type(kind))}")
    order = "id" if name == "wide" else "n"
    rows = texts(source, f"SELECT {', '.join(given)} FROM public.{name} ORDER BY {order}")
    return [texts(target, f"SELECT {', '.join(casts)}", *row)[0] for row in rows]


def compare_stored(
    matrix: Matrix, way: str, what: str, kind: str, found: Sequence[Text], wanted: Sequence[Text]
) -> None:
    """As stored, and in the canonical form that verification compares."""
    form = parse_entity_type(kind)
    matrix.compare(f"{way}, as stored", what, found, wanted)
    one, other = ([v and canonical(form, v) for v in side] for side in (found, wanted))
    matrix.compare(f"{way}, canonical", what, one, other)
