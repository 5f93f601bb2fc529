"""YAML text to a graph of nodes that know their places: libyaml reads it, Python explains errors.

libyaml speaks YAML 1.1; what a plain scalar is comes from the rules here, which are YAML 1.2's
(core schema): `no` and `on` are texts, `1:30` is no number. Not in here: data (``document``).
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml

MAX_DEPTH: Final = 50
_TAG: Final = "tag:yaml.org,2002:"
_NUMBER: Final = "-+0123456789"
_PLAIN: Final = (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    (
        "float",
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        _NUMBER + ".",
    ),
    ("int", r"[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+", _NUMBER),
    ("merge", "<<", "<"),
    ("null", "~|null|Null|NULL|", ("~", "n", "N", "")),
)
"""Tag, what a plain scalar of it looks like, and how it begins; tried in this order."""


class LimitExceeded(Exception):
    """Something is larger than a configuration can be; ``mark`` is where."""

    def __init__(self, what: str, mark: yaml.Mark) -> None:
        self.what = what
        self.mark = mark
        super().__init__(what)


class _Rules:
    """The plain scalars of YAML 1.2, and a limit on depth."""

    yaml_implicit_resolvers: ClassVar[Any] = {
        first: [
            (_TAG + name, re.compile(f"(?:{pattern})\\Z"))
            for name, pattern, firsts in _PLAIN
            if first in firsts
        ]
        for first in (*_NUMBER, *".tTfF<~nN", "")
    }
    _level = 0

    def descend_resolver(self, parent: yaml.Node | None, index: Any) -> None:
        """Called before a node is made: nesting must not eat the stack."""
        self._level += 1
        if self._level > MAX_DEPTH:
            assert parent is not None
            raise LimitExceeded(f"nested deeper than {MAX_DEPTH} levels", parent.start_mark)

    def ascend_resolver(self) -> None:
        """Called after it."""
        self._level -= 1


class _Fast(_Rules, yaml.CSafeLoader):
    """libyaml: ten times as fast."""


class _Exact(_Rules, yaml.SafeLoader):
    """Python: its errors name the character, token or alias."""


def compose(text: str) -> yaml.Node | None:
    """The text's only document. Raises YAMLError with its place, LimitExceeded."""
    try:
        return _read(_Fast(text))
    except yaml.YAMLError:
        _read(_Exact(text))
        raise


def _read(loader: Any) -> yaml.Node | None:
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()
