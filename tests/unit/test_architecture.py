"""The walk through the code in docs/architecture.md must not lead to names that do not exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
NAME = re.compile(r"`(cdc_daemon(?:\.\w+)+):([\w.]+)`")


def test_every_function_of_the_walk_exists() -> None:
    """And the walk is complete from socket to acknowledgement."""
    found = NAME.findall(PAGE.read_text("utf-8"))
    assert len(found) > 30
    for module, path in found:
        target: object = importlib.import_module(module)
        for part in path.split("."):
            assert hasattr(target, part), f"{module}:{path} does not exist"
            target = getattr(target, part)
        assert callable(target)
