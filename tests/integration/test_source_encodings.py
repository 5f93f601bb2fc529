"""Source databases in other encodings than UTF-8, and one in none: SQL_ASCII takes any bytes.

A text that cannot become UTF-8 is INVALID: its row follows the field's policy. It never holds up
the log.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.model.changes import Invalid
from cdc_daemon.sources.postgres.encodings import CODECS, read
from cdc_daemon.verify import verify
from tests.conftest import DatabaseFactory
from tests.support.databases import Database
from tests.support.pipelines import System
from tests.support.sources import copy, make_source, plain, read_changes, streaming, table

TABLES = """
CREATE TABLE item (id integer PRIMARY KEY, code varchar(20), name text, note text, remark text);
CREATE TABLE tag (code text PRIMARY KEY, label text);
CREATE TABLE doc (id text PRIMARY KEY, no varchar(20));
CREATE TABLE plain (id integer PRIMARY KEY, name varchar(20));
ALTER TABLE item REPLICA IDENTITY FULL;
"""
CONFIGURATION = """
entities:
  item: {key: [code], attributes: {code: string(20), name: text, note: text, remark: text}}
  tag: {key: [code], attributes: {code: string(20), label: text}}
  doc: {key: [no], attributes: {no: string(20)}}
  plain: {key: [id], attributes: {id: integer, name: string(20)}}
mappings:
  - from: erp.public.item
    to: item
    key: {code: code}
    fields: {name: name, note: {from: note, invalid: null}, remark: {from: remark, invalid: keep}}
  - {from: erp.public.tag, to: tag, key: {code: code}, fields: {label: label}}
  - {from: erp.public.doc, to: doc, key: {no: no}}
  - {from: erp.public.plain, to: plain, key: {id: id}, where: "name <> 'x'", fields: {name: name}}
"""
NAMES = ("item", "tag", "doc", "plain")
CITY = r"E'\xe6\xb7\xb1\xe5\x9c\xb3'"  # 深圳 in UTF-8, whatever the client's encoding is


def encoded(server: PrivatePostgres, name: str, encoding: str) -> Database:
    """A database in another encoding; its test's sessions speak UTF-8."""
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        statement = "CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0"
        session.execute(sql.SQL(statement).format(sql.Identifier(name), encoding))
        session.execute(
            sql.SQL("ALTER DATABASE {} SET client_encoding = 'UTF8'").format(sql.Identifier(name))
        )
    return Database(server=server, name=name)


def parked(system: System) -> list[tuple[object, ...]]:
    """Mapping and error code of what waits in the failure queue."""
    return system.rows("SELECT mapping, error_code FROM cdc.failure ORDER BY mapping, id")


def test_bytes_that_are_no_text_park_their_row_and_nothing_else(
    postgres18: PrivatePostgres, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    source = encoded(postgres18, "bytes_source", "SQL_ASCII")
    try:
        source.execute(TABLES)
        system = System(source, database_factory(), tmp_path, CONFIGURATION)
        system.publish(*NAMES)
        system.apply()
        source.execute(
            rf"INSERT INTO item VALUES (1, 'a', {CITY}, E'n\xff', E'r\xfe'),"
            r" (2, 'b', E'\xff', '', '')"
        )
        source.execute(
            r"INSERT INTO tag VALUES ('t', 'x'), (E't\xe4', 'latin');"
            r" INSERT INTO plain VALUES (1, E'\xc0')"
        )
        with system.running() as running:
            assert system.rows("SELECT code, name, note, remark FROM item") == [
                ("a", "深圳", None, r"r\xfe")
            ]
            assert system.rows("SELECT code FROM tag") == [("t",)]
            assert len(parked(system)) == 3
            source.execute(
                r"INSERT INTO item VALUES (3, 'c', E'\x80\x81', '', ''), (4, 'd', 'ok', '', '')"
            )
            source.execute(
                r"UPDATE item SET name = 'mended' WHERE id = 2;"
                r" UPDATE tag SET label = E'\xff' WHERE code = 't'"
            )
            source.execute(
                r"DELETE FROM tag WHERE label = 'latin'; INSERT INTO tag VALUES ('u', 'after')"
            )
            source.execute(r"UPDATE plain SET name = 'fine'; DELETE FROM item WHERE id = 3")
            source.execute(r"INSERT INTO doc VALUES (E'\xff', 'n1'), ('ok', 'n2'), (E'\xfe', 'n3')")
            source.execute(r"UPDATE doc SET id = 'mended' WHERE no = 'n3'")
            source.execute(r"DELETE FROM doc WHERE no = 'n1'")
            system.caught_up(running)
            report = verify(system.configuration, timeout=30)
            assert report.equal, report
            assert system.rows("SELECT code, name FROM item ORDER BY 1") == [
                ("a", "深圳"),
                ("d", "ok"),
            ]
            assert system.rows("SELECT no FROM doc") == [("n2",)]
            assert system.rows("SELECT code, label FROM tag ORDER BY 1") == [
                ("t", "x"),
                ("u", "after"),
            ]
        assert parked(system) == [
            ("erp.doc.doc", "invalid_value"),
            ("erp.doc.doc", "invalid_value"),
            ("erp.doc.doc", "waiting"),
            ("erp.doc.doc", "waiting"),
            ("erp.item.item", "invalid_value"),
            ("erp.item.item", "invalid_value"),
            ("erp.item.item", "waiting"),
            ("erp.item.item", "waiting"),
            ("erp.plain.plain", "invalid_value"),
            ("erp.plain.plain", "waiting"),
            ("erp.tag.tag", "invalid_value"),
            ("erp.tag.tag", "invalid_value"),
            ("erp.tag.tag", "waiting"),
        ]
        (message,) = system.rows(
            "SELECT error_message FROM cdc.failure"
            " WHERE mapping = 'erp.plain.plain' AND error_code <> 'waiting'"
        )
        assert message == (
            "column 'name', which identifies or filters the row: the text is not valid UTF-8",
        )
    finally:
        source.server.drop_database(source.name)


def test_snapshot_stream_and_reread_mark_the_same_values(postgres18: PrivatePostgres) -> None:
    source = encoded(postgres18, "marked_source", "SQL_ASCII")
    try:
        source.execute(TABLES + "CREATE PUBLICATION cdc_test FOR TABLE item")
        source.execute(rf"INSERT INTO item VALUES (1, E'\xff', {CITY}, NULL, '')")
        bad, city = Invalid(b"\xff", "the text is not valid UTF-8"), "深圳".encode()
        row = (b"1", bad, city, None, b"")
        with closing(
            make_source(source, table("item", "id", "code", "name", "note", "remark"))
        ) as erp:
            position, rows = copy(erp)
            assert rows == [row]
            source.execute(
                r"UPDATE item SET note = E'\xf5'; DELETE FROM item;"
                r" INSERT INTO item VALUES (2, '', '', '', '')"
            )
            after = (b"1", bad, city, Invalid(b"\xf5", bad.reason), b"")
            with streaming(erp, position) as stream:
                batches = read_changes(stream, 3)
            assert plain(batches) == [
                ("update", after, row),
                ("delete", None, after),
                ("insert", (b"2", b"", b"", b"", b""), None),
            ]
            assert [run.partial for batch in batches for run in batch.runs] == [True, False, False]
            source.execute(rf"INSERT INTO item VALUES (1, E'\xff', {CITY}, NULL, '')")
            assert erp.reread(erp.relations()[0], [(b"1",)]) == {(b"1",): row}
    finally:
        source.server.drop_database(source.name)


OTHERS = [
    ("LATIN1", "Äpfel & ½ ÿ", "Größe", "", ""),
    ("EUC_CN", "深圳市,电力 abc", "编码", r"\xfe\xfe\xc9\xee", r"\xfe\xfe深"),
    ("WIN1252", "€ „x“ ™", "Größe", r"\x81\xe9", r"\x81é"),
    ("EUC_JP", "日本語 ～", "番号", "", ""),  # the server's own to convert
]


@pytest.mark.parametrize("encoding, text, name, bad, kept", OTHERS)
def test_other_encodings_arrive_in_utf8_by_every_way(
    encoding: str,
    text: str,
    name: str,
    bad: str,
    kept: str,
    postgres18: PrivatePostgres,
    database_factory: DatabaseFactory,
    tmp_path: Path,
) -> None:
    """Names of tables and columns too; bytes that stand for no character hold up nothing."""
    source = encoded(postgres18, f"source_{encoding.lower()}", encoding)
    mapping = f"""
  - {{from: "erp.public.{name}", to: named, key: {{code: {name}}}, fields: {{label: {name}2}}}}
"""
    entity = "  named: {key: [code], attributes: {code: text, label: text}}\nmappings:"
    try:
        source.execute(TABLES)
        source.execute(f'CREATE TABLE "{name}" ("{name}" text PRIMARY KEY, "{name}2" text)')
        yaml = CONFIGURATION.replace("mappings:", entity) + mapping
        system = System(source, database_factory(), tmp_path, yaml)
        system.publish(*NAMES, f'"{name}"')
        system.apply()
        source.execute("INSERT INTO item VALUES (1, %s, %s, '', '')", text, text)
        source.execute(f'INSERT INTO "{name}" VALUES (%s, %s)', text, text)
        if bad:
            source.execute(
                f"INSERT INTO item VALUES (7, E'{bad}', '', '', ''), (8, 'k', '', '', E'{bad}')"
            )
        with system.running() as running:
            source.execute("INSERT INTO item VALUES (2, 'b', %s, '', '')", text)
            source.execute("INSERT INTO tag VALUES (%s, 'x'), (%s, 'y')", text, text + "2")
            source.execute("UPDATE tag SET code = 'z' WHERE label = 'y'")
            source.execute("DELETE FROM tag WHERE label = 'x'")
            source.execute(f'INSERT INTO "{name}" VALUES (%s, %s)', text + "2", text)
            if bad:
                source.execute(f"INSERT INTO tag VALUES (E'{bad}', 'bad')")
            system.caught_up(running)
            found = set(system.rows("SELECT code, name FROM item WHERE code <> 'k'"))
            assert found == {(text, text), ("b", text)}
            assert system.rows("SELECT code FROM tag") == [("z",)]
            assert system.rows("SELECT code, label FROM named ORDER BY length(code)") == [
                (text, text),
                (text + "2", text),
            ]
            report = verify(system.configuration, timeout=30)
            assert report.equal, report
        if bad:
            assert system.rows("SELECT remark FROM item WHERE code = 'k'") == [(kept,)]
            assert parked(system) == [(f"erp.{t}.{t}", "invalid_value") for t in ("item", "tag")]
    finally:
        source.server.drop_database(source.name)


_CONVERTED = """
CREATE FUNCTION pg_temp.converted(raw bytea, encoding text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN RETURN convert_from(raw, encoding); EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$"""


def test_the_codecs_are_postgresqls_tables(database: Database) -> None:
    """Every character of every encoding that is read here, and every byte that is none."""
    high = range(0x80, 0x100)
    singles = [bytes([one]) for one in high]
    pairs = [bytes([one, two]) for one in high for two in high]
    with psycopg.connect(database.dsn) as session:
        session.execute(_CONVERTED)
        for encoding, codec in CODECS.items():
            if encoding == "SQL_ASCII":
                continue
            raws = pairs if encoding.startswith("EUC") else singles
            rows = session.execute(
                "SELECT r, pg_temp.converted(r, %s) FROM unnest(%s::bytea[]) r", (encoding, raws)
            )
            for raw, text in rows:
                found = read(raw, codec)
                assert found == (text.encode() if text is not None else found), (encoding, raw)
                assert isinstance(found, Invalid) == (text is None), (encoding, raw)
