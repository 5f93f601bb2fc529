"""Which parked changes the options of `failures` mean."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click
import pytest

from cdc_daemon.cli.parked import listed
from cdc_daemon.cli.selecting import Chosen, Moment
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.engine.lanes import entity_lane
from cdc_daemon.model.errors import CdcError
from cdc_daemon.model.selection import Selection, selection_of
from tests.support.cli import write_configuration

TEXT = """\
sources:
  erp: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/erp"}
  crm: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/crm"}
target: {url: "postgresql://cdc@127.0.0.1/control"}
entities:
  material: {key: [code], attributes: {code: string(40)}}
  price: {key: [code, since], attributes: {code: string(40), since: date, amount: "decimal(9,2)"}}
  band: {key: [amount], attributes: {amount: "decimal(9,2)"}}
mappings:
  - {from: erp.public.t_material, to: material, key: {code: fnumber}}
  - {from: erp.public.t_price, to: price, key: {code: fnumber, since: fsince}}
  - {from: crm.public.t_price, to: band, key: {amount: famount}}
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return load([write_configuration(tmp_path, TEXT)], environ={})


def chosen(**changed: Any) -> Chosen:
    nothing: dict[str, Any] = {"ids": (), "everything": False, "keys": ()}
    names = ("error", "table", "entity", "pipeline", "since", "until")
    return Chosen(**(nothing | dict.fromkeys(names) | changed))


def test_something_must_say_which_changes(configuration: Configuration) -> None:
    """Never all of them because an option was forgotten."""
    with pytest.raises(click.UsageError, match="say which changes"):
        chosen().require()
    with pytest.raises(click.UsageError, match="name the changes by ID, or say --all"):
        chosen(ids=(1,), everything=True).require()
    for said in ({"ids": (1,)}, {"everything": True}, {"error": "required"}, {"keys": ("A",)}):
        chosen(**said).require()
    assert chosen(everything=True).selection(configuration) == Selection()


def test_a_key_is_a_lane_as_written_and_as_spelled(configuration: Configuration) -> None:
    """By values in the key's order, or by names in any; no payload is read for it."""

    def lanes(*keys: str, entity: str | None = None) -> tuple[bytes, ...]:
        return chosen(keys=keys, entity=entity).selection(configuration).lanes or ()

    price = entity_lane("price", (b"A=1", b"2026-01-02"))
    assert lanes("since=2026-01-02", "code=A=1") == (price,)
    assert lanes("A=1", "2026-01-02") == (price,)
    assert lanes("M1", entity="material") == (entity_lane("material", (b"M1",)),)
    assert set(lanes("1.50", entity="band")) == {
        entity_lane("band", (b"1.50",)),
        entity_lane("band", (b"1.5",)),
    }
    assert entity_lane("material", (b"1.50",)) in lanes("1.50")
    with pytest.raises(click.UsageError, match="no entity has a key of code, one value, one value"):
        lanes("code=secret", "secret", "secret")
    with pytest.raises(click.UsageError, match="there is no entity 'materiel'; did you mean"):
        lanes("M1", entity="materiel")


def test_a_table_is_named_by_its_end(configuration: Configuration) -> None:
    """Where only one ends so; a name that nobody configured may still be in the queue."""

    def table(name: str) -> str | None:
        return chosen(table=name).selection(configuration).table

    assert table("t_material") == "erp.public.t_material"
    assert table("crm.public.t_price") == "crm.public.t_price"
    assert table("gone.public.t_old") == "gone.public.t_old"
    with pytest.raises(
        click.UsageError, match=r"may be crm\.public\.t_price or erp\.public\.t_price"
    ):
        table("t_price")
    with pytest.raises(click.UsageError, match="there is no table 't_materiel'; did you mean"):
        chosen(table="t_materiel").check_names(configuration)


def test_moments_are_told_in_iso_form_or_as_ago() -> None:
    kind = Moment()
    assert kind.convert("2026-07-28T09:30:00+08:00", None, None).utcoffset() == dt.timedelta(
        hours=8
    )
    assert kind.convert("2026-07-28", None, None) == dt.datetime(2026, 7, 28, tzinfo=dt.UTC)
    ago = dt.datetime.now(dt.UTC) - kind.convert("2h", None, None)
    assert abs(ago - dt.timedelta(hours=2)) < dt.timedelta(minutes=1)
    with pytest.raises(click.UsageError, match="'yesterday' is no moment: write 2026-"):
        kind.convert("yesterday", None, None)


def test_ids_are_listed_in_few_words() -> None:
    assert listed([3, 1, 2, 9, 11, 12]) == "1-3 9 11-12"
    assert listed([1, 3, 5], most=2) == "1 3 …"
    assert listed([]) == ""


BAD: tuple[dict[str, Any], ...] = (
    {"ids": 7},
    {"ids": ["x"]},
    {"ids": [True]},
    {"entity": 7},
    {"through": "9"},
    {"lanes": ["xyz"]},
    {"lanes": 5},
    {"since": "yesterday"},
)


@pytest.mark.parametrize("arguments", BAD)
def test_a_selection_made_by_hand_is_refused_where_it_cannot_be_read(
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(CdcError, match=r"cannot be read|whole numbers"):
        selection_of(arguments)
