"""``check-config --offline`` and ``config``: what the files alone can tell."""

import json
from pathlib import Path

import pytest

from tests.support.cli import invoke, write_configuration

VALID = """\
sources:
  erp: {kind: postgres, dsn: postgresql://cdc@127.0.0.1/erp, password: "${ERP_PASSWORD:-hunter22}"}
target: {url: postgresql://cdc@127.0.0.1/control, password: "${cred:control}"}
entities:
  material:
    key: [code]
    attributes: {code: string(40), name: string(200)}
mappings:
  - from: erp.public.t_bd_material
    to: material
    key: {code: fnumber}
    fields: {name: fname}
"""


@pytest.fixture
def valid(tmp_path: Path) -> str:
    return str(write_configuration(tmp_path, VALID))


def test_valid_files_exit_0_with_words_on_stderr(valid: str) -> None:
    result = invoke("check-config", "--offline", "-c", valid)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "ok: the files are valid: 1 source, 1 entity, 1 mapping\n"


def test_valid_files_as_json(valid: str) -> None:
    result = invoke("check-config", "--offline", "-c", valid, "-o", "json")
    assert json.loads(result.stdout) == {
        "ok": True,
        "problems": [],
        "unreachable": [],
        "warnings": [],
    }


def test_every_mistake_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = VALID.replace("string(40)", "strng(40)").replace("{name: fname}", "{nam: fname}")
    path = write_configuration(tmp_path, text)
    result = invoke("check-config", "--offline", "-c", str(path))
    assert (result.exit_code, result.stdout) == (78, "")
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {path}:7:24: ")
    assert lines[1].startswith(f"error: {path}:12:14: ")
    assert "did you mean" in lines[1]


def test_mistakes_as_json(tmp_path: Path) -> None:
    path = write_configuration(tmp_path, VALID + "targt: {}\n")
    result = invoke("check-config", "--offline", "-c", str(path), "-o", "json")
    found = json.loads(result.stdout)
    assert result.exit_code == 78
    assert found["ok"] is False
    assert found["problems"][0]["where"] == f"{path}:13:1"


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    result = invoke("check-config", "--offline", "-c", str(tmp_path / "none.yaml"))
    assert result.exit_code == 78
    assert "none.yaml" in result.stderr


def test_without_its_secrets_only_an_offline_check_passes(valid: str) -> None:
    assert invoke("check-config", "--offline", "-c", valid).exit_code == 0
    result = invoke("check-config", "-c", valid)
    assert result.exit_code == 78
    assert "CREDENTIALS_DIRECTORY" in result.stderr


def test_config_show_fills_in_defaults_and_masks_secrets(valid: str) -> None:
    result = invoke("config", "show", "-c", valid)
    assert "cdc_erp" in result.stdout
    assert "hunter22" not in result.output
    result = invoke("config", "show", "-c", valid, "-o", "json")
    assert "hunter22" not in result.output
    assert json.loads(result.stdout)["sources"]["erp"]["password"] == "**********"


def test_config_schema_is_a_json_schema() -> None:
    found = json.loads(invoke("config", "schema").stdout)
    assert found["$schema"].startswith("https://json-schema.org/")
    assert {"sources", "target", "entities", "mappings"} <= found["properties"].keys()


def test_config_reference_is_markdown() -> None:
    assert invoke("config", "reference").stdout.startswith("# Configuration\n")


def test_every_expression_is_read_without_a_database(tmp_path: Path) -> None:
    """Syntax, functions, operands, constants: all of it, with everything else that is wrong."""
    text = VALID.replace("{name: fname}", "{name: {expr: \"UPER(fname) || LEFT('a', fn, 2, 3)\"}}")
    text += """\
  - from: erp.public.t_unit
    to: materal
    key: {code: {expr: "CAST('x' AS integer) + f"}}
    where: "fdate > DATE '2024-02-30' AND COALESC(a, 1) = 2"
  - {from: erp.public.t_x, to: material, key: {code: {expr: "(("}}, where: "1 + 1"}
"""
    path = write_configuration(tmp_path, text)
    result = invoke("check-config", "--offline", "-c", str(path))
    assert result.exit_code == 78
    for place, what in (
        ("12:27", "there is no function uper; did you mean 'upper'? (line 1, column 1"),
        ("12:27", "left takes 2 operands, not 4 (line 1, column 16"),
        ("14:9", "unknown entity 'materal'"),
        ("15:24", "this constant cannot be computed: the text is no integer"),
        ("16:12", "this constant cannot be computed: the text is no date"),
        ("16:12", "there is no function coalesc; did you mean 'coalesce'?"),
        ("17:61", "something is missing"),
        ("17:76", "a condition must be boolean, this is integer"),
    ):
        assert f"error: {path}:{place}: {what}" in result.stderr, result.stderr


@pytest.mark.parametrize(
    "command", [("failures", "list"), ("failures", "show", "1"), ("checkpoint", "show")]
)
def test_who_asks_the_control_database_needs_no_secret_of_a_source(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """The daemon reads it from its credentials; the operator at the shell has none."""
    text = VALID.replace("${ERP_PASSWORD:-hunter22}", "${cred:erp}")
    text = text.replace('127.0.0.1/control, password: "${cred:control}"', "127.0.0.1:1/control")
    path = write_configuration(tmp_path, text)
    result = invoke(*command, "-c", str(path))
    assert result.exit_code == 69, result.output
