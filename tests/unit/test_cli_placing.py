"""Problems of a source are shown where the files name what is missing."""

from pathlib import Path

from cdc_daemon.cli.placing import placed
from cdc_daemon.config.load import load
from cdc_daemon.model.errors import Problem

TEXT = """\
sources:
  erp: {kind: postgres, dsn: postgresql://cdc@127.0.0.1/erp}
target: {url: postgresql://cdc@127.0.0.1/control}
entities:
  material: {key: [code], attributes: {code: string(40), name: string(200)}}
mappings:
  - from: erp.public.t_material
    to: material
    where: "fname = ((("
    key: {code: fnumber}
    fields: {name: {expr: "UPPER(fname"}}
"""


def test_expressions_that_cannot_be_read_name_no_column(tmp_path: Path) -> None:
    """Compiling says what is wrong with them; placing must go on."""
    path = tmp_path / "cdc.yaml"
    path.write_text(TEXT)
    configuration = load([path], environ={})
    where = "source erp (127.0.0.1), table public.t_material"
    problems = [Problem(what=f"column '{name}' does not exist", where=where)
                for name in ("fnumber", "fname")]  # fmt: skip
    found = placed(configuration, problems)
    assert [one.where for one in found] == [f"{path}:10:17", where]
