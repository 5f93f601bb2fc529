"""One YAML file as plain data, with the place of every key and value.

Built from the node graph, so that numbers keep their spelling and every path its line and column.
What YAML allows and a configuration does not need is refused: duplicate keys, tags, merge keys,
keys that are no text, huge or deeply nested files, aliases that multiply.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from yaml import MappingNode, Node, ScalarNode, SequenceNode, YAMLError
from yaml.error import MarkedYAMLError
from yaml.reader import ReaderError

from cdc_daemon.config.nodes import MAX_DEPTH, LimitExceeded, compose
from cdc_daemon.config.scalars import SpelledFloat, SpelledInt, is_canonical, unquoted
from cdc_daemon.model.errors import Problem

Path = tuple[str | int, ...]

MAX_BYTES = 5 * 1024 * 1024
MAX_NODES = 500_000  # after aliases are written out

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a path is written: its value, its key where it has one, and a scalar's own text."""

    file: str
    value: tuple[int, int]
    key: tuple[int, int] | None = None
    text: str | None = None

    @property
    def at_value(self) -> str:
        """``file:line:column`` of the value."""
        return f"{self.file}:{self.value[0]}:{self.value[1]}"

    @property
    def at_key(self) -> str:
        """``file:line:column`` of the key; of the value where there is no key."""
        line, column = self.key or self.value
        return f"{self.file}:{line}:{column}"

    @property
    def place(self) -> str:
        """Where a reader should look: a scalar itself, or the key of what is larger."""
        return self.at_value if self.text is not None else self.at_key


@dataclass(slots=True)
class Document:
    """A file's data, the spot of each path, and what is wrong with its form."""

    file: str
    data: Any = None
    spots: dict[Path, Spot] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    broken: bool = False  # it could not be read to its end


def read_document(content: bytes, file: str) -> Document:
    """Parse a file's bytes. Never raises for what is written in them: ``problems`` tells."""
    document = Document(file)
    with _problems_of(document, content):
        node = compose(_decode(content))
        if node is not None:
            document.data = _Construction(document).value(node, (), 0)
    return document


class _NotText(Exception):
    def __init__(self, what: str, line: int) -> None:
        self.line = line
        super().__init__(what)


def _decode(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise _NotText(f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB", 1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _NotText("the file is not UTF-8 text", line) from None


@contextlib.contextmanager
def _problems_of(document: Document, content: bytes) -> Iterator[None]:
    """Turn what ends the reading of a file into a problem at its place."""
    line, column = 1, 1
    try:
        yield
        return
    except _NotText as error:
        what, line = str(error), error.line
    except LimitExceeded as error:
        what = error.what
        line, column = error.mark.line + 1, error.mark.column + 1
    except MarkedYAMLError as error:
        what = "not valid YAML: " + (error.problem or error.context or "unknown error")
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            line, column = mark.line + 1, mark.column + 1
    except ReaderError as error:
        what = "not valid YAML: a character that YAML does not allow"
        before = content.decode("utf-8-sig", "replace")[: error.position].split("\n")
        line, column = len(before), len(before[-1]) + 1
    except YAMLError:
        what = "not valid YAML"
    document.broken = True
    document.problems.append(Problem(what=what, where=f"{document.file}:{line}:{column}"))


class _Construction:
    """Makes plain data of nodes and notes their spots; problems do not end it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def value(self, node: Node, path: Path, depth: int, key: tuple[int, int] | None = None) -> Any:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise LimitExceeded("too much is nested through aliases", node.start_mark)
        mark = _mark(node)
        text = str(node.value) if isinstance(node, ScalarNode) else None
        self.document.spots[path] = Spot(self.document.file, mark, key, text)
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            self._no_tag(node, "seq")
            return [
                self.value(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        self._no_tag(node, "map")
        found: dict[str, Any] = {}
        firsts: dict[str, str] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key is None:
                continue
            if key in found:
                self._complain(
                    key_node, f"duplicate key {key!r}, first given at {firsts[key]}", "leave one"
                )
                continue
            firsts[key] = self._where(key_node)
            found[key] = self.value(value_node, (*path, key), depth + 1, _mark(key_node))
        return found

    def _key(self, node: Node) -> str | None:
        """A key as text; None after a complaint."""
        if not isinstance(node, ScalarNode):
            self._complain(node, "a key must be a text")
            return None
        text = str(node.value)
        match str(node.tag).removeprefix(_TAG):
            case "str" | "timestamp":
                return text
            case "int" | "float" if is_canonical(text):
                return text
            case "int" | "float":
                complaint = unquoted(text)
                self._complain(node, complaint.what, complaint.cure)
            case "merge":
                self._complain(node, "merge keys (<<) are not supported", "write the keys out")
            case "bool" | "null" as word:
                kind = "true or false" if word == "bool" else "empty (null)"
                self._complain(
                    node, f"a key without quotes is read as {kind}", f"write '{text}' in quotes"
                )
            case _:
                self._complain(node, "tags are not supported", "take the tag out")
        return None

    def _scalar(self, node: Node) -> Any:
        text = str(node.value)
        match str(node.tag).removeprefix(_TAG):
            case "str" | "timestamp":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() in {"true", "yes", "on", "y"}
            case "int":
                return SpelledInt(_whole(text), text)
            case "float":
                return SpelledFloat(_fraction(text), text)
            case _:
                self._complain(node, "tags are not supported", "take the tag out")
                return None

    def _no_tag(self, node: Node, expected: str) -> None:
        if str(node.tag) != _TAG + expected:
            self._complain(node, "tags are not supported", "take the tag out")

    def _where(self, node: Node) -> str:
        line, column = _mark(node)
        return f"{self.document.file}:{line}:{column}"

    def _complain(self, node: Node, what: str, cure: str = "") -> None:
        self.document.problems.append(Problem(what=what, where=self._where(node), cure=cure))


def _mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _whole(text: str) -> int:
    plain = text.replace("_", "")
    for base in (10, 0):
        with contextlib.suppress(ValueError):
            return int(plain, base)
    return 0


def _fraction(text: str) -> float:
    try:
        return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return 0.0
