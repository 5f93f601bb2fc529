"""What a worker is started with: all that its pipeline needs, and nothing else."""

from pathlib import Path
from textwrap import dedent

import pytest

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.worker_document import configuration_of, document, same_work

TEXT = """
    sources:
      erp: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/erp"}
      hr: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/hr"}
    target: {url: "postgresql://cdc@127.0.0.1/control"}
    entities:
      material: {key: [code], attributes: {code: string(40), name: string(200)}}
      customer: {key: [code], attributes: {code: string(40)}}
      sales_order:
        key: [order_no]
        attributes:
          order_no: string(30)
          customer_code: {type: string(40), references: customer}
      employee: {key: [employee_no], attributes: {employee_no: string(20)}}
    mappings:
      - {from: erp.public.t_order, to: sales_order, key: {order_no: fbillno},
         fields: {customer_code: fcustomer}}
      - {from: hr.public.emp, to: employee, key: {employee_no: empno}, fields: {}}
    daemon: {batch_rows: 100, max_restarts: 5}
"""


@pytest.fixture
def configured(tmp_path: Path) -> Configuration:
    return read(tmp_path, TEXT)


def read(folder: Path, text: str) -> Configuration:
    path = folder / "cdc.yaml"
    path.write_text(dedent(text))
    return load([path], environ={})


def test_it_holds_the_pipelines_source_mappings_and_entities(configured: Configuration) -> None:
    own = configuration_of(document(configured, "erp"))
    assert list(own.sources) == ["erp"]
    assert [mapping.to for mapping in own.mappings] == ["sales_order"]
    assert list(own.entities) == ["customer", "sales_order"]
    assert own.settings.batch_rows == 100


@pytest.mark.parametrize(
    "old,new,pipelines",
    [
        pytest.param("max_restarts: 5", "max_restarts: 6", set(), id="the supervisor's"),
        pytest.param("max_restarts: 5", "log_level: debug", set(), id="logs"),
        pytest.param("max_restarts: 5", "log_file: /tmp/log", set(), id="where logs go"),
        pytest.param("name: string(200)", "name: string(99)", set(), id="nobody writes it"),
        pytest.param("employee_no: string(20)", "employee_no: string(21)", {"hr"}, id="another's"),
        pytest.param("customer: {key", "customer: {surrogate_id: true, key", {"erp"}, id="parent"),
        pytest.param("batch_rows: 100", "batch_rows: 200", {"erp", "hr"}, id="everybody's"),
        pytest.param("  daemon:", "\n    daemon:", set(), id="another line of the file"),
    ],
)
def test_only_pipelines_for_which_something_changed_get_other_work(
    tmp_path: Path, configured: Configuration, old: str, new: str, pipelines: set[str]
) -> None:
    changed = read(tmp_path, TEXT.replace(old, new))
    found = {
        name
        for name in configured.sources
        if not same_work(document(configured, name), document(changed, name))
    }
    assert found == pipelines
