"""The expressions of a mapping as far as they can be checked without its table."""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.config.document import Path
from cdc_daemon.config.mappings import MappingConfig


def expression_problems(mapping: MappingConfig) -> Iterator[tuple[Path, str]]:
    """Where in the files, and what is wrong there; all of it at once."""
    for attribute, field in mapping.origins.items():
        if field.expr is not None:
            place = (*mapping.path_of(attribute), "expr")
            yield from ((place, what) for what in _complaints(field.expr, condition=False))
    if mapping.where is not None:
        place = (*mapping.path, "where")
        yield from ((place, what) for what in _complaints(mapping.where, condition=True))


def _complaints(text: str, *, condition: bool) -> Iterator[str]:
    from cdc_daemon.mapping.expression import ExpressionError, parse

    try:
        found = parse(text).complaints(condition=condition)
    except ExpressionError as error:
        found = [error]
    yield from map(str, found)
