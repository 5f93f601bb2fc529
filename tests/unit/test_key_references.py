"""A key that holds another entity's key is refused where the mapping keeps references."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from cdc_daemon.config.load import load
from cdc_daemon.mapping.compile import compile_mapping
from cdc_daemon.model.changes import Column, ColumnType, Relation
from cdc_daemon.model.errors import ConfigurationError

TEXT = """
    sources:
      erp: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/erp"}
    target: {url: "postgresql://cdc@127.0.0.1/control"}
    entities:
      sales_order:
        key: [order_no]
        attributes: {order_no: string(40), name: string(40)}
      order_line:
        key: [order_no, line_no]
        attributes:
          order_no: {type: string(40), references: sales_order}
          line_no: integer
    mappings:
      - from: erp.public.t_order
        to: sales_order
        key: {order_no: fbillno}
        fields: {name: fname}
      - from: erp.public.t_line
        to: order_line
        key: {order_no: fbillno, line_no: fline}
"""


def lines(identity: tuple[int, ...]) -> Relation:
    """The lines' table with its identity columns."""
    types = {"fid": "integer", "fbillno": "varchar", "fline": "integer"}
    return Relation(
        source="erp",
        schema="public",
        table="t_line",
        columns=tuple(
            Column(name=name, type=ColumnType(word, 40 if word == "varchar" else None))
            for name, word in types.items()
        ),
        identity=identity,
    )


def test_a_changed_parent_key_would_leave_the_references_behind(tmp_path: Path) -> None:
    """Deletes by id would then look for rows under keys that they no longer have."""
    path = tmp_path / "cdc.yaml"
    path.write_text(dedent(TEXT), "utf-8")
    configuration = load([path], environ={})
    with pytest.raises(ConfigurationError, match=r"cdc.yaml:\d+:\d+.*'order_no' refers to"):
        compile_mapping(configuration.mappings[1], configuration, lines((0,)))


def test_without_a_reference_table_there_is_nothing_to_leave_behind(tmp_path: Path) -> None:
    """The table's own key is the entity's."""
    path = tmp_path / "cdc.yaml"
    path.write_text(dedent(TEXT), "utf-8")
    configuration = load([path], environ={})
    compiled = compile_mapping(configuration.mappings[1], configuration, lines((1, 2)))
    assert compiled.layout.reference is None
