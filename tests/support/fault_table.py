"""The pytest plugin of the catalogue of faults: one run for each source and target, and the table
at the end.

`--fault-table` prints it: number, what was done, source, target, result, and the states that were
shown.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import pytest

from tests.support.catalogue import KEY, POSTGRES, Fault, seen


def _entry(item: pytest.Item) -> Fault | None:
    mark = item.get_closest_marker(KEY)
    return mark.args[0] if mark is not None else None


def _params(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return dict(callspec.params) if callspec is not None else {}


def _target(item: pytest.Item, entry: Fault) -> str:
    """Its parameter, else the only kind that it is for."""
    return str(_params(item).get("target_kind", entry.targets[0]))


def _source(item: pytest.Item, entry: Fault) -> str:
    """The same for the source."""
    return str(_params(item).get("source_kind", entry.sources[0]))


def _injection(item: pytest.Item, entry: Fault) -> str:
    """What is done, with the test's parameters."""
    kinds = ("source_kind", "target_kind")
    named = "-".join(str(value) for name, value in _params(item).items() if name not in kinds)
    text = entry.injection if "{}" in entry.injection or not named else f"{entry.injection}: {{}}"
    return text.replace("{}", named)


# --- the plugin -----------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", action="store_true", help="print fault × result at the end")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(entry): an entry of the catalogue of faults")


@pytest.fixture
def target_kind() -> str:
    """Which kind of control database `erp` and `make_erp` have."""
    return POSTGRES


@pytest.fixture
def source_kind() -> str:
    """Which kind of source `erp` and `make_erp` have."""
    return POSTGRES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker(KEY)
    if mark is None:
        return
    entry: Fault = mark.args[0]
    if "target_kind" in metafunc.fixturenames:
        metafunc.parametrize("target_kind", entry.targets)
    if "source_kind" in metafunc.fixturenames and entry.sources != (POSTGRES,):
        metafunc.parametrize("source_kind", entry.sources)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is not for `make test` becomes an acceptance test, before anything is deselected."""
    for item in items:
        entry = _entry(item)
        if entry is not None and not _in_ci(item, entry):
            item.add_marker(pytest.mark.acceptance)


def _in_ci(item: pytest.Item, entry: Fault) -> bool:
    return _target(item, entry) in entry.ci and _source(item, entry) == entry.ci_source


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """The state that the catalogue promises must have been seen."""
    entry = _entry(pyfuncitem)
    if entry is None:
        return (yield)
    seen.clear()
    try:
        result = yield
        shown = {"streaming" if state == "idle" else state for state in seen}
        if entry.state not in shown:
            pytest.fail(f"state {entry.state!r} was never shown, only {seen}")
        return result
    finally:
        what = _injection(pyfuncitem, entry)
        ends = _source(pyfuncitem, entry), _target(pyfuncitem, entry)
        row = [entry.order, entry.numbers, what, *ends, " → ".join(seen)]
        pyfuncitem.user_properties.append((KEY, row))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--fault-table"):
        return
    rows = list(_rows(terminalreporter.stats))
    terminalreporter.section("fault × result")
    for line in table(rows):
        terminalreporter.write_line(line)


def _rows(stats: dict[str, list[Any]]) -> Iterable[list[Any]]:
    for outcome in ("passed", "failed", "skipped"):
        for report in stats.get(outcome, []):
            found = dict(getattr(report, "user_properties", ())).get(KEY)
            if found is not None and report.when == "call":
                yield [*found[:5], outcome, found[5], f"{report.duration:.1f}"]


def table(rows: list[list[Any]]) -> list[str]:
    """The table's lines: number, injection, source, target, result, states in order, seconds."""
    head = ["#", "fault", "source", "target", "result", "shown", "s"]
    lines = [head, *(row[1:] for row in sorted(rows, key=lambda row: row[:5]))]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(head))]
    text = ["  ".join(str(c).ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    passed = sum(row[5] == "passed" for row in rows)
    return [*(line.rstrip() for line in text), f"{passed} of {len(rows)} passed"]
