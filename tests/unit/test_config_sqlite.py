"""``target: sqlite:///…``: what is accepted, what is refused, each with file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.config.scalars import Complaint
from cdc_daemon.config.sqlite_url import parse_sqlite, render_sqlite
from cdc_daemon.demo.show import shipped_configuration
from cdc_daemon.model.errors import ConfigurationError

HEAD = """\
sources:
  erp: {kind: postgres, dsn: "postgresql://127.0.0.1/erp"}
"""
REST = """
entities:
  material: {key: [code], attributes: {code: string(40)}}
mappings:
  - from: erp.public.t_material
    to: material
    key: {code: fnumber}
"""


def configured(folder: Path, target: str, head: str = HEAD) -> Configuration:
    file = folder / "c.yaml"
    file.write_text(head + target + REST)
    return load([file], environ={"DIR": "/var/lib/x"})


def problems(folder: Path, target: str, head: str = HEAD) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        configured(folder, target, head)
    return [str(one).removeprefix(f"{folder}/") for one in caught.value.problems]


@pytest.mark.parametrize(
    "target, path",
    [
        ("target: sqlite:///control.db", "control.db"),
        ("target: {url: 'sqlite:///data/control.db'}", "data/control.db"),
        ("target:\n  url: sqlite:////var/lib/control.db", "/var/lib/control.db"),
        ("target: sqlite:///${DIR}/control.db", "/var/lib/x/control.db"),
        ("target: 'sqlite:////with%20blank/%C3%BC.db'", "/with blank/ü.db"),
        ("target: SQLITE:///control.db", "control.db"),
    ],
)
def test_addresses(tmp_path: Path, target: str, path: str) -> None:
    found = configured(tmp_path, target).target
    assert (found.kind, found.path) == ("sqlite", path)
    assert found.url == render_sqlite(path)
    assert found.loopback
    assert found.conninfo == {}


def test_what_is_shown_may_be_written(tmp_path: Path) -> None:
    """Nothing that means nothing to a file, and that a configuration must not say."""
    found = configured(tmp_path, "target: sqlite:///control.db")
    assert found.describe()["target"] == {"url": "sqlite:///control.db"}


HOST = "the address of an SQLite database has no host"
NAMES_NONE = "the address names no SQLite database's file"


@pytest.mark.parametrize(
    "target, what",
    [
        ("target: sqlite://host/control.db", f"9: {HOST}"),
        ("target: {url: 'sqlite:control.db'}", f"15: {HOST}"),
        ("target: 'sqlite:///'", f"9: {NAMES_NONE}"),
        ("target: 'sqlite:///:memory:'", f"9: {NAMES_NONE}"),
        ("target: 'sqlite:////var/lib/'", f"9: {NAMES_NONE}"),
        ("target: 'sqlite:///a.db?mode=ro'", "9: the address of an SQLite database takes no opt"),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, target: str, what: str) -> None:
    (problem,) = problems(tmp_path, target)
    assert problem.startswith(f"c.yaml:3:{what}")
    assert "sqlite:///control.db" in problem


def test_one_source_only(tmp_path: Path) -> None:
    """Each source too many is named where it stands, with the way out."""
    head = (
        HEAD
        + """\
  hr: {kind: postgres, dsn: "postgresql://127.0.0.1/hr"}
  crm: {kind: postgres, dsn: "postgresql://127.0.0.1/crm"}
"""
    )
    what = "an SQLite control database takes one source, and has 'erp' already"
    cure = "(give each source a configuration and a database of its own, or use PostgreSQL)"
    assert problems(tmp_path, "target: sqlite:///control.db", head) == [
        f"c.yaml:3:3: {what} {cure}",
        f"c.yaml:4:3: {what} {cure}",
    ]


def test_what_means_nothing_to_a_file(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "target: {url: 'sqlite:///c.db', schema: public, password: x, sslmode: require}",
    )
    assert found == [
        f"c.yaml:3:{column}: {key!r} means nothing to an SQLite database (take it out)"
        for key, column in (("schema", 33), ("password", 49), ("sslmode", 62))
    ]


def test_an_address_alone_may_be_postgresql_too(tmp_path: Path) -> None:
    found = configured(tmp_path, "target: postgresql://cdc@127.0.0.1/control").target
    assert (found.kind, found.conninfo["dbname"]) == ("postgresql", "control")


def test_a_nul_is_no_path() -> None:
    with pytest.raises(Complaint):
        parse_sqlite("sqlite:///a%00b")


def test_the_shipped_embedded_configuration_is_good() -> None:
    found = load([shipped_configuration() / "embedded.yaml"], environ={})
    assert found.warnings == ()
    assert (found.target.path, list(found.sources)) == ("control.db", ["erp"])
