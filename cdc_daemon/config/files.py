"""Which files belong to a configuration, and how their sections become one.

A main file brings ``conf.d/*.yaml`` beside it, and every file what its ``include`` names. Sections
are merged entry by entry; the same entry in two files is an error that names both places.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdc_daemon.config.document import Document, Spot, read_document
from cdc_daemon.config.document import Path as Keys
from cdc_daemon.config.schema import ConfigurationFile
from cdc_daemon.model.errors import Problem, suggest

MAIN_NAMES = ("cdc-daemon.yaml", "config.yaml")
ENTRY_SECTIONS = (
    *("sources", "target", "entities", "daemon", "verification", "notifications", "failures"),
)
SECTIONS = tuple(ConfigurationFile.model_fields)


UNUSABLE = (OSError, RuntimeError, ValueError)
"""What a path raises that is no usable one: missing, too long, a loop of links, a NUL in it."""


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "a loop of links" if isinstance(error, RuntimeError) else "no usable path"


@dataclass(slots=True)
class Merged:
    """All files as one, with the spot of each path in it."""

    data: dict[str, Any] = field(
        default_factory=lambda: {name: {} for name in ENTRY_SECTIONS} | {"mappings": []}
    )
    spots: dict[Keys, Spot] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    readable: dict[str, bool] = field(default_factory=dict)  # by file: whether everybody may read
    broken: bool = False  # some file could not be read, so what is missing may be in there


def read_files(paths: Sequence[Path]) -> Merged:
    """Read files and directories with all that they bring along. Never raises."""
    merged = Merged()
    reading = _Reading(merged)
    for path in paths:
        reading.given(path)
    return merged


class _Reading:
    def __init__(self, merged: Merged) -> None:
        self.merged = merged
        self.seen: set[Path] = set()

    def given(self, path: Path) -> None:
        """A file or directory as the command line names it."""
        try:
            self._given(path)
        except UNUSABLE as error:
            self._broken(f"cannot be read: {_reason(error)}", str(path))

    def _given(self, path: Path) -> None:
        if not path.is_dir():
            self.file(path)
            self.files(_yaml_files(path.parent / "conf.d"))
            return
        mains = [path / name for name in MAIN_NAMES if (path / name).is_file()]
        if mains:
            self.given(mains[0])
            return
        found = _yaml_files(path)
        if not found:
            self._broken("the directory holds no *.yaml file", str(path))
        self.files(found)

    def files(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self.file(path)

    def file(self, path: Path) -> None:
        """One file, once."""
        try:
            real = path.resolve()
            if real in self.seen:
                return
            self.seen.add(real)
            content = path.read_bytes()
            everybody = bool(path.stat().st_mode & stat.S_IROTH)
        except UNUSABLE as error:
            self._broken(f"cannot be read: {_reason(error)}", str(path))
            return
        self.merged.files.append(str(path))
        self.merged.readable[str(path)] = everybody
        document = read_document(content, str(path))
        self.merged.problems += document.problems
        self.merged.broken |= document.broken
        _merge(self.merged, document)
        self._include(document, path.parent)

    def _include(self, document: Document, folder: Path) -> None:
        patterns = document.data.get("include") if isinstance(document.data, dict) else None
        for index, pattern in enumerate(patterns if isinstance(patterns, list) else ()):
            if not isinstance(pattern, str) or not pattern:
                self._at(document, ("include", index), "expected a pattern of file names")
                continue
            try:
                found = self._matching(folder, pattern)
            except (*UNUSABLE, NotImplementedError, IndexError):
                self._at(document, ("include", index), f"{pattern!r} is no pattern of file names")
                continue
            if not found and "*" in pattern:
                place = document.spots["include", index].place
                self.merged.warnings.append(
                    Problem(what=f"no file matches {pattern!r}", where=place)
                )
            elif not found:
                self._at(document, ("include", index), f"there is no file {pattern!r}")
            self.files(found)

    @staticmethod
    def _matching(folder: Path, pattern: str) -> list[Path]:
        if Path(pattern).is_absolute():
            folder, pattern = Path("/"), pattern.lstrip("/")
        return sorted(path for path in folder.glob(pattern) if path.is_file())

    def _at(self, document: Document, path: Keys, what: str) -> None:
        self.merged.problems.append(Problem(what=what, where=document.spots[path].place))

    def _broken(self, what: str, where: str) -> None:
        self.merged.broken = True
        self.merged.problems.append(Problem(what=what, where=where))


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.y*ml") if p.suffix in {".yaml", ".yml"} and p.is_file())


def _merge(merged: Merged, document: Document) -> None:
    """Take one file's sections in."""
    if document.data is None:
        return
    if not isinstance(document.data, dict):
        where = document.spots[()].place
        merged.problems.append(Problem(what="expected sections (key: value)", where=where))
        return
    offset = len(merged.data["mappings"])
    renamed: set[Keys] = set()
    for section, value in document.data.items():
        if section not in SECTIONS:
            _unknown_section(merged, document, section)
        elif section == "mappings":
            _merge_mappings(merged, document, value)
        elif section == "include":
            if value is not None and not isinstance(value, list):
                _expected(merged, document, section, "a list: [entities/*.yaml]")
        else:
            renamed |= _merge_entries(merged, document, section, value)
    for path, spot in document.spots.items():
        if path[:2] not in renamed:
            merged.spots.setdefault(_moved(path, offset), spot)


def _moved(path: Keys, offset: int) -> Keys:
    if len(path) > 1 and path[0] == "mappings" and isinstance(path[1], int):
        return ("mappings", path[1] + offset, *path[2:])
    return path


def _merge_mappings(merged: Merged, document: Document, value: Any) -> None:
    if isinstance(value, list):
        merged.data["mappings"] += value
    elif value is not None:
        _expected(merged, document, "mappings", "a list: a line '- from: …' for each mapping")


def _merge_entries(merged: Merged, document: Document, section: str, value: Any) -> set[Keys]:
    """Take a section's entries in; returns the paths of those that were there already."""
    if value is None:
        return set()
    if section == "target" and isinstance(value, str):
        document.spots["target", "url"] = document.spots["target",]
        value = {"url": value}
    if not isinstance(value, dict):
        _expected(merged, document, section, "a mapping (key: value)")
        return set()
    again: set[Keys] = set()
    for name, entry in value.items():
        if name not in merged.data[section]:
            merged.data[section][name] = entry
            continue
        again.add((section, name))
        first = merged.spots[section, name].at_key
        merged.problems.append(
            Problem(
                what=f"{name!r} is given twice under {section}, first at {first}",
                where=document.spots[section, name].at_key,
                cure="leave one",
            )
        )
    return again


def _unknown_section(merged: Merged, document: Document, section: str) -> None:
    where = document.spots[section,].at_key
    if section == "authority":
        problem = Problem(what="'authority' is not supported yet", where=where, cure="take it out")
    else:
        problem = Problem(
            what=f"unknown section {section!r}{suggest(section, SECTIONS)}",
            where=where,
            cure=f"sections are {', '.join(SECTIONS)}",
        )
    merged.problems.append(problem)


def _expected(merged: Merged, document: Document, section: str, what: str) -> None:
    where = document.spots[section,].place
    merged.problems.append(Problem(what=f"expected {what}", where=where))
