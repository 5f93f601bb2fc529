"""The catalogue of faults is complete, and its page says of each what the test demands."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.catalogue import KEY, Fault

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "operations" / "faults.md"
ELSEWHERE = {3, 45}  # the first copy's tests, upgrades
WANTED = set(range(1, 45)) - ELSEWHERE
CAMPAIGN = "1-44"


def entries() -> Iterator[Fault]:
    for path in (*TESTS.glob("integration/test_*.py"), *TESTS.glob("acceptance/test_*.py")):
        if "tests.support.catalogue" not in path.read_text("utf-8"):
            continue
        module = importlib.import_module(f"tests.{path.parent.name}.{path.stem}")
        for found in vars(module).values():
            for mark in getattr(found, "pytestmark", []):
                if mark.name == KEY and mark.args[0].numbers != CAMPAIGN:
                    yield mark.args[0]


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\d+", text)}


def page() -> list[tuple[set[int], str, str]]:
    """Numbers, state and exit code of each line of the table."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines()]
    return [
        (numbers(c[0]), c[3].strip(), c[4].strip()) for c in lines if len(c) == 6 and numbers(c[0])
    ]


def test_every_fault_has_a_test() -> None:
    assert WANTED - {n for entry in entries() for n in numbers(entry.numbers)} == set()


@pytest.mark.parametrize(
    "entry", [*entries()], ids=lambda entry: f"{entry.numbers} {entry.injection}"
)
def test_the_page_says_what_the_test_demands(entry: Fault) -> None:
    rows = [row for row in page() if row[0] & numbers(entry.numbers)]
    exits = entry.state.removeprefix("exit ") if entry.state.startswith("exit") else None
    fitting = [
        state for _, state, code in rows if (code == exits if exits else state == entry.state)
    ]
    assert fitting, f"{entry.state} is none of {rows}"
