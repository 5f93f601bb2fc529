"""What checks of a control database find where all is as it should be, on every kind of sink."""

from __future__ import annotations

from cdc_daemon.model.findings import Verdict, refusals
from cdc_daemon.model.ports import Sink
from tests.contract.targets import Target


def test_nothing_is_refused(target: Target) -> None:
    """Before anybody holds the pipeline, as a worker asks at its start."""
    findings = target.sink().examine()
    assert refusals(findings) == []
    passed = {finding.check.name for finding in findings if finding.verdict is Verdict.OK}
    assert {"target.version", "target.ledger", "target.rights", "target.tables"} <= passed


def test_watching_does_not_disturb_the_session(sink: Sink) -> None:
    """While running it is asked over the session that writes."""
    found = sink.watch()
    assert found
    assert all(finding.check.watched for finding in found)
    assert refusals(found) == []
    with sink.begin() as unit:
        unit.save_checkpoint("0/1", commit_time=None, transactions=0, changes=0)
    assert sink.watch() == found
