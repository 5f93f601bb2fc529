"""What verifications found and what repairs did is kept, on every sink alike."""

from __future__ import annotations

import pytest

from cdc_daemon.model.ports import Repaired, Sink, VerifiedMapping
from tests.contract.shapes import MATERIALS
from tests.contract.targets import Target

ZERO = dict.fromkeys(
    (
        "source_rows", "target_rows", "matching", "missing", "extra", "different", "moving",
        "parked", "kept",
    ),
    0,
)  # fmt: skip


def found(mapping: str = "m", **rows: int) -> VerifiedMapping:
    difference = {
        "kind": "different",
        "key": ["K1"],
        "source_row": ["1"],
        "attributes": ["name"],
        "reason": "",
    }
    number = sum(rows.get(kind, 0) for kind in ("missing", "extra", "different"))
    return VerifiedMapping(
        mapping=mapping, rows={**ZERO, **rows}, differences=[difference] * number
    )


def test_the_newest_whole_run_is_told(target: Target, sink: Sink) -> None:
    """What failed later does not hide what was found before; a part of it does not count."""
    control = target.control()
    assert control.verification("erp") is None
    assert sink.verification() is None
    first = control.begin_verification("erp", "schedule", "cdc", whole=True)
    assert control.verification("erp") is None, "it still runs"
    control.finish_verification(first, "equal", None, [found(matching=3)])
    second = control.begin_verification("erp", "command", "root", whole=True)
    control.finish_verification(second, "different", None, [found(matching=2, different=1)])
    part = control.begin_verification("erp", "command", "root", whole=False)
    control.finish_verification(part, "equal", None, [found()])
    other = control.begin_verification("crm", "command", "root", whole=True)
    control.finish_verification(other, "equal", None, [found()])

    told = sink.verification()
    assert told is not None
    assert told == control.verification("erp")
    assert told.state == "different"
    assert told.mappings == {"m": {**ZERO, "matching": 2, "different": 1}}
    assert told.last_finished is not None
    assert told.last_equal is not None
    assert told.last_equal <= told.last_finished

    third = control.begin_verification("erp", "schedule", "cdc", whole=True)
    control.finish_verification(third, "failed", "the source is away", [])
    failed = sink.verification()
    assert failed is not None
    assert (failed.state, failed.error) == ("failed", "the source is away")
    assert (failed.mappings, failed.last_finished) == (told.mappings, told.last_finished)


def test_a_run_that_was_broken_off_has_failed_when_the_next_begins(
    target: Target, sink: Sink
) -> None:
    """Of those by the schedule there is one at a time; one by hand may still run."""
    control = target.control()
    broken = control.begin_verification("erp", "schedule", "cdc", whole=True)
    control.begin_verification("erp", "command", "root", whole=True)
    assert sink.verification() is None
    control.begin_verification("erp", "schedule", "cdc", whole=True)
    told = sink.verification()
    assert told is not None
    assert (told.state, told.error) == ("failed", "it was broken off")
    assert told.last_finished is None
    control.finish_verification(broken, "equal", None, [])
    after = sink.verification()
    assert after is not None
    assert after.state == "failed", "what was given up says nothing any more"


def test_only_so_many_runs_are_kept(target: Target) -> None:
    control = target.control()
    numbers = []
    for _ in range(103):
        number = control.begin_verification("erp", "command", "root", whole=True)
        control.finish_verification(number, "equal", None, [found(different=1)])
        numbers.append(number)
    assert [target.count(table) for table in ("verification", "verification_difference")] == [
        100,
        100,
    ]
    assert control.verification("erp") is not None


def test_a_repair_is_noted_with_what_it_did(target: Target, sink: Sink) -> None:
    """In its unit of work: with it, or not at all."""
    line = Repaired(
        command=1,
        mapping=MATERIALS.mapping,
        actor="root",
        reason="it's wrong",
        kind="missing",
        key=("K\"1'",),
        source_row=("1",),
        outcome="written",
    )
    with pytest.raises(ZeroDivisionError):
        _audited_in_vain(sink, line)
    assert target.count("repair") == 0
    with sink.begin() as unit:
        unit.audit([line, line])
    assert target.count("repair") == 2


def _audited_in_vain(sink: Sink, line: Repaired) -> None:
    with sink.begin() as unit:
        unit.audit([line])
        raise ZeroDivisionError
