"""The page on errors says what the code makes of them."""

from __future__ import annotations

import re
from pathlib import Path

import cdc_daemon
from cdc_daemon.sinks.dispositions import CODES, markdown, of_names, of_numbers, of_sqlstates

PAGE = Path(__file__).parents[2] / "docs" / "dispositions.md"
PACKAGE = Path(cdc_daemon.__file__).parent


def test_the_page_is_that_of_the_code() -> None:
    """Regenerate: python -m cdc_daemon.sinks.dispositions > docs/dispositions.md."""
    assert PAGE.read_text("utf-8") == markdown()


def test_every_code_that_a_change_is_parked_with_is_explained() -> None:
    texts = [path.read_text("utf-8") for path in PACKAGE.rglob("*.py")]
    written = {code for text in texts for code in re.findall(r"\bcode=\"([a-z_]+)\"", text)}
    assert written | {"waiting"} == set(CODES)


def test_each_sink_retries_parks_and_stops() -> None:
    for rulings in (of_sqlstates(), of_numbers(), of_names()):
        assert {one.disposition for one in rulings} == {"retry", "retry (lost)", "park", "stop"}


def test_what_is_not_known_stops() -> None:
    found = {one.name: one.disposition for one in (*of_sqlstates(), *of_names())}
    assert {found[name] for name in ("42601", "XX000", "0A000", "SQLITE_INTERNAL")} == {"stop"}
