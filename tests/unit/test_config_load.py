"""What a good configuration becomes: merged files, models, entities, places, the shipped one."""

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from cdc_daemon.config import schema
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.config.locate import locate, shipped
from cdc_daemon.config.mappings import FieldConfig
from cdc_daemon.config.reference import markdown
from cdc_daemon.config.scalars import Complaint, TableName, parse_entity_type, parse_table_name
from cdc_daemon.config.schema import schema_json
from cdc_daemon.config.sources import PostgresSourceConfig
from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.model.errors import ConfigurationError
from tests.unit.test_config_problems import GOOD, changed

ROOT = Path(__file__).resolve().parents[2]


def loaded(text: str, folder: Path) -> Configuration:
    path = folder / "c.yaml"
    path.write_text(text)
    return load([path], environ={})


# --- what a file becomes ----------------------------------------------------------------------


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    found = loaded(GOOD, tmp_path)
    source = found.sources["erp"]
    assert isinstance(source, PostgresSourceConfig)
    assert (source.name, source.slot, source.publication) == ("erp", "cdc_erp", "cdc_erp")
    assert (found.target.kind, found.target.schema_) == ("postgresql", "public")
    assert found.target.url == "postgresql://cdc@127.0.0.1/control"
    assert [mapping.name for mapping in found.mappings] == [
        "erp.t_customer.customer",
        "erp.t_order.order",
    ]
    assert (found.settings.metrics_host, found.settings.metrics_port) == ("127.0.0.1", 9464)
    assert found.mappings_of("erp") == found.mappings
    assert found.mappings_of("hr") == ()


def test_entities_carry_what_mappings_imply(tmp_path: Path) -> None:
    text = changed(
        "customer_code: {type: string(40), references: customer}", "customer_code: string(40)"
    )
    found = loaded(text, tmp_path)
    order, customer = found.entities["order"], found.entities["customer"]
    assert order.attribute("customer_code").references == "customer"
    assert (order.soft_delete, customer.soft_delete) == (True, False)
    assert order.attribute("order_no").required
    assert customer.attribute("name").type == EntityType(Kind.STRING, 200)


def test_the_attributes_of_the_key_come_first_in_its_order(tmp_path: Path) -> None:
    text = changed("key: [order_no]", "key: [amount, order_no]")
    text = text.replace("key: {order_no: fbillno}", "key: {order_no: fbillno, amount: famount}")
    text = text.replace("      amount: famount\n", "")
    assert loaded(text, tmp_path).entities["order"].names == ("amount", "order_no", "customer_code")


def test_leaving_softly_makes_deletes_soft(tmp_path: Path) -> None:
    text = changed("on_delete: soft", "on_leave: soft")
    found = loaded(text, tmp_path)
    assert found.entities["order"].soft_delete
    assert (found.mappings[1].on_delete, found.mappings[1].leaves) == ("hard", "soft")


def test_a_ref_leads_to_the_mapping_of_its_table(tmp_path: Path) -> None:
    found = loaded(GOOD, tmp_path)
    customer, order = found.mappings
    origin = order.fields["customer_code"]
    assert (origin.column, origin.ref) == (None, "fcustid")
    assert origin.ref_from == TableName("erp", "public", "t_customer")
    assert found.ref_target(order, "customer_code") is customer
    assert found.ref_target(order, "amount") is None
    assert (found.is_ref_target(customer), found.is_ref_target(order)) == (True, False)


def test_values_keep_their_spelling(tmp_path: Path) -> None:
    text = changed(
        "amount: famount",
        "amount: {from: famount, map: {1: 1.10, 2.50: '0012', a: null, b: true}, default: -1e3}",
    )
    origin = loaded(text, tmp_path).mappings[1].fields["amount"]
    assert origin.map == {"1": "1.10", "2.50": "0012", "a": None, "b": "true"}
    assert (origin.default, origin.has_default) == ("-1e3", True)


def test_null_is_a_value_where_it_is_given() -> None:
    assert FieldConfig.model_validate({"const": None}).is_const
    assert FieldConfig.model_validate({"from": "a", "default": None}).has_default
    assert not FieldConfig.model_validate("a").has_default


def test_a_place_is_that_of_the_nearest_thing_written(tmp_path: Path) -> None:
    found = loaded(GOOD, tmp_path)
    path = f"{tmp_path}/c.yaml"
    order = found.mappings[1]
    assert found.place(*order.path) == f"{path}:25:5"
    assert found.place(*order.path, "where") == f"{path}:27:12"
    assert found.place(*order.path_of("amount")) == f"{path}:31:15"
    assert found.place(*order.path_of("amount"), "expr") == f"{path}:31:15"
    assert found.place(*order.path_of("customer_code"), "ref") == f"{path}:30:28"
    assert found.place("entities", "order") == f"{path}:13:3"
    assert found.place("nowhere") == f"{path}:1:1"


def test_a_configuration_can_be_sent_to_another_process(tmp_path: Path) -> None:
    found = loaded(GOOD, tmp_path)
    again: Configuration = pickle.loads(pickle.dumps(found))
    assert again == found
    alone = dataclasses.replace(found, mappings=found.mappings[1:])
    assert pickle.loads(pickle.dumps(alone)).mappings == alone.mappings
    assert again.sources["erp"].conninfo == found.sources["erp"].conninfo
    assert again.mappings[1].path == found.mappings[1].path


@pytest.mark.parametrize(
    "text,expected",
    [
        ("erp.public.t", TableName("erp", "public", "t")),
        ('erp."a.b".t', TableName("erp", "a.b", "t")),
        ('erp.public."T ""x"""', TableName("erp", "public", 'T "x"')),
        ("erp.public.物料", TableName("erp", "public", "物料")),
    ],
)
def test_table_names_survive_a_round_trip(text: str, expected: TableName) -> None:
    assert parse_table_name(text) == expected
    assert parse_table_name(str(expected)) == expected


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "a..c", 'a.b."c', 'a.b."c"d', "a.b.", "."])
def test_what_is_no_table_name_is_refused(text: str) -> None:
    with pytest.raises(Complaint):
        parse_table_name(text)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_type_can_be_written(kind: Kind) -> None:
    text = {Kind.STRING: "string(40)", Kind.DECIMAL: "decimal(18,4)"}.get(kind, kind.value)
    assert parse_entity_type(text).kind is kind
    assert str(parse_entity_type(text.upper())) == text


# --- several files ----------------------------------------------------------------------------


def split(folder: Path) -> Path:
    """GOOD as three files; returns the main one."""
    entities, mappings = GOOD.index("entities:"), GOOD.index("mappings:")
    main = folder / "cdc-daemon.yaml"
    main.write_text("include: ['e/*.yaml']\n" + GOOD[:entities])
    (folder / "e").mkdir()
    (folder / "e" / "all.yaml").write_text(GOOD[entities:mappings])
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "m.yaml").write_text(GOOD[mappings:])
    return main


def test_a_main_file_brings_conf_d_and_what_it_includes(tmp_path: Path) -> None:
    main = split(tmp_path)
    for given in ([main], [tmp_path], [main, tmp_path / "e", tmp_path / "e" / "all.yaml"]):
        found = load(given, environ={})
        assert (len(found.sources), len(found.entities), len(found.mappings)) == (1, 2, 2)
        assert found.place(*found.mappings[1].path) == f"{tmp_path}/conf.d/m.yaml:7:5"


def test_mappings_of_several_files_follow_one_another(tmp_path: Path) -> None:
    main = split(tmp_path)
    more = tmp_path / "conf.d" / "n.yaml"
    more.write_text(
        "entities: {unit: {key: [code], attributes: {code: text}}}\n"
        "mappings:\n  - {from: erp.public.u, to: unit, key: {code: fnumber}}\n"
    )
    found = load([main], environ={})
    assert [mapping.to for mapping in found.mappings] == ["customer", "order", "unit"]
    assert found.place(*found.mappings[2].path, "to") == f"{more}:3:30"


def test_one_name_in_two_files_is_an_error_that_names_both_places(tmp_path: Path) -> None:
    main = split(tmp_path)
    more = tmp_path / "conf.d" / "n.yaml"
    more.write_text(
        "entities: {customer: {key: [x], attributes: {x: text}}}\n"
        "target: {url: 'postgresql://h/d', schema: x}\n"
    )
    with pytest.raises(ConfigurationError) as raised:
        load([main], environ={})
    # the target's url is in the main file, its schema here: that is no contradiction
    assert [str(problem) for problem in raised.value.problems] == [
        f"{more}:1:12: 'customer' is given twice under entities, first at "
        f"{tmp_path}/e/all.yaml:2:3 (leave one)",
        f"{more}:2:10: 'url' is given twice under target, first at {main}:7:3 (leave one)",
    ]


def test_an_include_that_matches_nothing_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("include:\n  - x/*.yaml\n  - y.yaml\n" + GOOD)
    with pytest.raises(ConfigurationError) as raised:
        load([path], environ={})
    assert [str(problem) for problem in raised.value.problems] == [
        f"{path}:3:5: there is no file 'y.yaml'"
    ]
    path.write_text("include:\n  - x/*.yaml\n" + GOOD)
    assert [str(warning) for warning in load([path], environ={}).warnings] == [
        f"{path}:2:5: no file matches 'x/*.yaml'"
    ]


def test_a_file_that_cannot_be_read_hides_no_mistake_in_another(tmp_path: Path) -> None:
    main = split(tmp_path)
    (tmp_path / "e" / "all.yaml").write_text("entities: [\n")
    (tmp_path / "conf.d" / "m.yaml").write_text(
        GOOD[GOOD.index("mappings:") :].replace("where:", "whree:")
    )
    with pytest.raises(ConfigurationError) as raised:
        load([main], environ={})
    assert [problem.where for problem in raised.value.problems] == [
        f"{tmp_path}/e/all.yaml:2:1",
        f"{tmp_path}/conf.d/m.yaml:9:5",
    ]


def test_what_is_probably_not_meant_is_a_warning(tmp_path: Path) -> None:
    text = changed("    where: \"fstatus = 'C'\"\n", "    on_leave: soft\n")
    text = text.replace("  order:\n", "  unit: {key: [a], attributes: {a: text}}\n  order:\n")
    text = text.replace(
        "target:\n", "  hr: {kind: postgres, dsn: 'postgresql://127.0.0.1/hr'}\ntarget:\n"
    )
    assert {warning.what for warning in loaded(text, tmp_path).warnings} == {
        "no mapping writes unit",
        "no mapping reads from hr",
        "'on_leave' does nothing without 'where'",
    }


def test_the_configuration_is_found_where_it_is_said_to_be(tmp_path: Path) -> None:
    given = [Path("a.yaml"), Path("b")]
    assert locate(given, {"CDC_DAEMON_CONFIG": "/x"}) == given
    two = os.pathsep.join(["/x", "/y/z.yaml"])
    assert locate([], {"CDC_DAEMON_CONFIG": two}) == [Path("/x"), Path("/y/z.yaml")]
    assert locate([], {}, system=tmp_path) == [tmp_path]
    with pytest.raises(ConfigurationError, match="no configuration"):
        locate([], {}, system=tmp_path / "none")


# --- what ships -------------------------------------------------------------------------------


def test_the_shipped_configuration_is_good_without_any_database() -> None:
    found = load([shipped()], environ={}, resolve_secrets=False)
    assert found.warnings == ()
    assert set(found.sources) == {"erp", "hr"}
    assert set(found.entities) == {
        "material",
        "customer",
        "supplier",
        "sales_order",
        "sales_order_line",
        "org_unit",
        "employee",
    }
    assert len(found.mappings) == len(found.entities)
    assert {a.type.kind for e in found.entities.values() for a in e.attributes} >= {
        Kind.STRING, Kind.TEXT, Kind.INTEGER, Kind.BIGINT, Kind.DECIMAL, Kind.NUMERIC, Kind.BOOLEAN,
        Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.UUID, Kind.JSON, Kind.BYTES,
    }  # fmt: skip


def test_the_demo_databases_have_every_column_that_the_shipped_mappings_name() -> None:
    found = load([shipped()], environ={}, resolve_secrets=False)
    folder = ROOT / "cdc_daemon" / "demo"
    for source in found.sources:
        tables = (folder / f"{source}.sql").read_text().split("CREATE TABLE ")[1:]
        columns = {
            table.split(" (")[0]: {
                line.split()[0] for line in table.splitlines()[1:] if line.split()
            }
            for table in tables
        }
        for mapping in found.mappings_of(source):
            for origin in mapping.origins.values():
                column = origin.column or origin.ref
                assert column is None or column in columns[mapping.table], (mapping.name, column)


def test_every_field_of_every_model_has_a_description() -> None:
    models = [
        value
        for value in vars(schema).values()
        if isinstance(value, type) and issubclass(value, BaseModel)
    ]
    assert len(models) >= 10
    missing = [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert missing == []


def test_the_json_schema_knows_both_forms_of_fields_and_attributes() -> None:
    definitions = schema_json()["$defs"]
    for name in ("FieldConfig", "AttributeConfig"):
        assert [part["type"] for part in definitions[name]["anyOf"]] == ["string", "object"]


def test_the_reference_page_is_that_of_the_models() -> None:
    """Regenerate: python -m cdc_daemon.config.reference > docs/configuration.md."""
    assert (ROOT / "docs" / "configuration.md").read_text() == markdown()


def test_the_package_alone_imports_neither_pydantic_nor_yaml() -> None:
    code = (
        "import sys, cdc_daemon.config, cdc_daemon.config.locate\n"
        "sys.exit(any(name in sys.modules for name in ('pydantic', 'yaml')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_a_table_with_a_blank_has_a_default_name_without(tmp_path: Path) -> None:
    """A mapping's name has none, and stands in metrics."""
    text = GOOD.replace("from: erp.public.t_order", 'from: "erp.public.Order Details"')
    path = tmp_path / "c.yaml"
    path.write_text(text)
    names = [mapping.name for mapping in load([path], environ={}).mappings]
    assert "erp.Order_Details.order" in names
