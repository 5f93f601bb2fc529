"""What is wrong with the files, with places; and pydantic's errors in an admin's words."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cdc_daemon.config.document import Path, Spot
from cdc_daemon.config.scalars import Complaint
from cdc_daemon.model.errors import Problem, suggest

NOT_YET = frozenset({"protect", "authority"})
"""Keys that later versions know."""

PRIVATE = frozenset({"password", "dsn", "url", "token", "secret", "keys"})
"""Keys whose values no message quotes."""


class Findings:
    """Problems and warnings with the places that they belong to."""

    def __init__(self, spots: Mapping[Path, Spot]) -> None:
        self.spots = spots
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def problem(self, what: str, path: Path, cure: str = "", *, at_key: bool = False) -> None:
        """Note what makes the configuration unusable."""
        self.problems.append(Problem(what=what, where=self.place(path, at_key=at_key), cure=cure))

    def warning(self, what: str, path: Path, cure: str = "") -> None:
        """Note what an admin should look at."""
        self.warnings.append(Problem(what=what, where=self.place(path), cure=cure))

    def place(self, path: Path, *, at_key: bool = False) -> str:
        """``file:line:column`` of a path, or of the nearest thing around it that is written."""
        spot = self.spots.get(path)
        if spot is not None:
            return spot.at_key if at_key else spot.place
        for length in range(len(path) - 1, -1, -1):
            spot = self.spots.get(path[:length])
            if spot is not None:
                return spot.place
        return ""

    def written(self, path: Path) -> str:
        """A scalar as the file writes it, in quotes, or nothing where it should not be shown."""
        spot = self.spots.get(path)
        if spot is None or spot.text is None or len(spot.text) > 80 or PRIVATE & set(path):
            return ""
        return repr(spot.text)

    def invalid(self, error: ErrorDetails, model: type[BaseModel], path: Path) -> None:
        """Note one of pydantic's errors about the data at a path."""
        at_key = error["loc"][-1:] == ("[key]",)
        inner = tuple(part for part in error["loc"] if part != "[key]")
        full = (*path, *inner)
        match error["type"]:
            case "extra_forbidden":
                self._unknown_key(str(inner[-1]), keys_of(model, inner[:-1]), full)
            case "missing":
                self.problem(f"missing key {str(inner[-1])!r}", full)
            case "value_error":
                self._complaint(error, full, at_key=at_key)
            case "literal_error":
                self._not_one_of(str(error.get("ctx", {}).get("expected", "")), full)
            case kind:
                what, cure = _wrong_type(kind, error.get("ctx", {}), self._found(full))
                self.problem(what, full, cure, at_key=at_key)

    def _unknown_key(self, key: str, known: Sequence[str], full: Path) -> None:
        if key in NOT_YET:
            self.problem(f"{key!r} is not supported yet", full, "take it out", at_key=True)
            return
        cure = f"known keys: {', '.join(known)}"
        self.problem(f"unknown key {key!r}{suggest(key, known)}", full, cure, at_key=True)

    def _complaint(self, error: ErrorDetails, full: Path, *, at_key: bool) -> None:
        found = error.get("ctx", {}).get("error")
        if isinstance(found, Complaint):
            self.problem(found.what, full, found.cure, at_key=at_key)
        else:
            self.problem("not a valid value", full, at_key=at_key)

    def _not_one_of(self, expected: str, full: Path) -> None:
        words = re.findall(r"'([^']*)'", expected)
        spot = self.spots.get(full)
        near = suggest(spot.text, words) if spot is not None and spot.text else ""
        written = self.written(full) or "this"
        self.problem(f"{written} is not one of {', '.join(words)}{near}", full)

    def _found(self, full: Path) -> str:
        """What kind of thing stands there, in words."""
        spot = self.spots.get(full)
        if spot is None:
            return "something else"
        if spot.text is None:
            return "a list" if (*full, 0) in self.spots else "a mapping"
        return "a single value"


_TYPES = {
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping of names",
    "model_type": "expected a mapping",
    "tuple_type": "expected a list",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}


def _wrong_type(kind: str, context: Mapping[str, Any], found: str) -> tuple[str, str]:
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context.get(name)}", ""
    if kind in {"too_short", "string_too_short"}:
        return "must not be empty", ""
    expected = _TYPES.get(kind, "not a valid value")
    if kind == "string_type" and found == "a single value":
        return f"{expected}, found a number, true, false or nothing", "put the text in quotes"
    if kind in {"dict_type", "model_type"} and found == "a single value":
        return f"{expected}, found a single value", "write key: value lines below it"
    if kind == "tuple_type":
        return f"{expected}, found {found}", "write [a, b], or a line '- a' for each"
    if kind == "bool_type":
        return expected, "write true or false without quotes; yes, no, on and off are plain texts"
    return (f"{expected}, found {found}" if kind in _TYPES else expected), ""


def keys_of(model: type[BaseModel], inner: Sequence[str | int]) -> list[str]:
    """The keys that may stand at a path inside a model's data."""
    found = annotation_at(model, inner)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return [field.alias or name for name, field in found.model_fields.items()]
    return []


def annotation_at(model: type[BaseModel], inner: Sequence[str | int]) -> Any:
    """The type of what stands at a path inside a model's data; None for no place of it."""
    found: Any = model
    for part in inner:
        found = _step(found, part)
    return _plain(found)


def _step(kind: Any, part: str | int) -> Any:
    kind = _plain(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if part == (field.alias or name):
                return field.annotation
        return None
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return arguments[1]
    return arguments[0] if arguments else None


def _plain(kind: Any) -> Any:
    """A type without Optional and Annotated around it."""
    while True:
        if get_origin(kind) in {Union, types.UnionType}:
            kind = next(part for part in get_args(kind) if part is not type(None))
        elif hasattr(kind, "__metadata__"):
            kind = get_args(kind)[0]
        else:
            return kind


def errors_of(error: ValidationError) -> list[ErrorDetails]:
    """Pydantic's errors without what was given."""
    return error.errors(include_url=False, include_input=False)
