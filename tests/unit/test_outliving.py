"""Whether a mapping's rows may outlive their source rows."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from cdc_daemon.config.load import load
from cdc_daemon.mapping.compile import compile_mapping
from cdc_daemon.model.changes import Column, ColumnType, Relation

TEXT = """
    sources:
      erp: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/erp"}
    target: {url: "postgresql://cdc@127.0.0.1/control"}
    entities:
      material: {key: [code], attributes: {code: string(40)}}
    mappings:
      - {from: erp.public.t, to: material, key: {code: fcode}, %s}
"""
RELATION = Relation(
    source="erp",
    schema="public",
    table="t",
    columns=(Column(name="fcode", type=ColumnType("varchar", 40)),),
    identity=(0,),
)


@pytest.mark.parametrize(
    "policy, keeps",
    [
        ("on_delete: soft", False),
        ("on_delete: hard", False),
        ("on_delete: ignore", True),
        ("on_delete: hard, on_leave: ignore", False),
        ("on_delete: hard, on_leave: ignore, where: \"fcode <> 'x'\"", True),
        ("on_delete: ignore, on_leave: hard, where: \"fcode <> 'x'\"", True),
        ("on_delete: hard, on_leave: soft, where: \"fcode <> 'x'\"", False),
    ],
)
def test_rows_outlive_what_is_ignored(tmp_path: Path, policy: str, keeps: bool) -> None:
    """A row that is not at its source any longer was kept on purpose."""
    path = tmp_path / "cdc.yaml"
    path.write_text(dedent(TEXT % policy), "utf-8")
    configuration = load([path], environ={})
    compiled = compile_mapping(configuration.mappings[0], configuration, RELATION)
    assert compiled.layout.keeps is keeps
