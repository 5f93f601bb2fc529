"""What README and docs show can be typed, is valid, and is there."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from cdc_daemon.config.document import read_document
from cdc_daemon.config.files import SECTIONS
from cdc_daemon.config.reference import _SECTIONS as REFERENCE
from tests.support.cli import invoke, write_configuration
from tests.support.documents import (
    DOCS,
    PAGES,
    PROGRAM,
    ROOT,
    Piece,
    anchors,
    blocks,
    calls,
    inline,
    links,
    short_call,
    typed,
    understood,
)
from tests.unit.test_config_problems import GOOD

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
REFERENCE_PAGE = DOCS / "configuration.md"
OURS = (
    "README.md",
    "CHANGELOG.md",
    "benchmarks/",
    "cdc_daemon/",
    "config/",
    "docs/",
    "systemd/",
    "tests/",
)


# --- commands ---------------------------------------------------------------------------------


def test_commands_are_found_in_every_form() -> None:
    """Else the tests below would pass by finding nothing."""
    line = (
        'A=1 sudo /opt/x/bin/cdc-daemon failures skip 1 --reason "a | b" | cdc-daemon plan > x # no'
    )
    assert list(calls(line)) == [
        ["/opt/x/bin/cdc-daemon", "failures", "skip", "1", "--reason", "a | b"],
        ["cdc-daemon", "plan"],
    ]
    assert list(calls("docker exec -it name cdc-daemon status")) == [["cdc-daemon", "status"]]
    assert list(calls("systemctl stop cdc-daemon && journalctl -u cdc-daemon -n 5")) == []
    assert short_call("failures retry") == ["cdc-daemon", "failures", "retry"]
    assert short_call("verify --repair") == ["cdc-daemon", "verify", "--repair"]
    assert (short_call("status of all"), short_call("verify")) == (None, None)


def shown(pieces: Iterator[Piece]) -> list[Any]:
    return [
        pytest.param(words, id=f"{piece.where}-{number}")
        for piece in pieces
        for number, words in enumerate(calls(piece.text))
    ]


def to_type() -> Iterator[Piece]:
    for page in PAGES:
        yield from typed(page)
        yield from (piece for piece in inline(page) if f"{PROGRAM} " in piece.text)


def in_units() -> Iterator[Piece]:
    for unit in sorted((ROOT / "systemd").glob("*.service")):
        for number, line in enumerate(unit.read_text("utf-8").splitlines(), 1):
            if found := re.match(r"Exec\w+=-?(.+)", line):
                yield Piece(unit, number, found[1])


def in_comments() -> Iterator[Piece]:
    """Backticks in comments of what is shipped, which somebody reads before any page."""
    files = [*(ROOT / "config").rglob("*.yaml"), *(ROOT / "systemd").iterdir(), ROOT / "Dockerfile"]
    for path in sorted(files):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if line.startswith("#"):
                yield from (Piece(path, number, code) for code in re.findall(r"`([^`]+)`", line))


@pytest.mark.parametrize("words", [*shown(to_type()), *shown(in_units()), *shown(in_comments())])
def test_a_command_that_is_shown_is_one(words: list[str]) -> None:
    understood(words)


def mentions() -> list[Any]:
    found = [(piece, short_call(piece.text)) for page in PAGES for piece in inline(page)]
    return [pytest.param(words, id=piece.where) for piece, words in found if words]


@pytest.mark.parametrize("words", mentions())
def test_a_command_that_is_mentioned_is_one(words: list[str]) -> None:
    understood(words, whole=False)


# --- make, and files ----------------------------------------------------------------------------


def makes() -> list[Piece]:
    pieces = [piece for page in PAGES for piece in (*typed(page), *inline(page))]
    return [piece for piece in pieces if re.match(r"(\w+=\S* )?make ", piece.text)]


def test_what_make_is_told_to_make_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    found = makes()
    assert len(found) > 10
    for piece in found:
        target = re.sub(r"^(\w+=\S* )?make ", "", piece.text).split()[0]
        assert target in targets, piece.where


def test_what_make_passes_on_to_the_demo_is_understood() -> None:
    options = re.findall(r'DEMO_ARGS="([^"]*)"', "\n".join(piece.text for piece in makes()))
    assert options
    for words in options:
        understood([PROGRAM, "demo", *words.split()])


def test_tests_that_a_page_selects_exist() -> None:
    files = [*(ROOT / "tests").rglob("test_*.py")]
    tests = " ".join(path.stem for path in files)
    tests += " ".join(" ".join(re.findall(r"def (test_\w+)", path.read_text())) for path in files)
    found = [(piece, re.findall(r"-k (\w+)", piece.text)) for piece in makes()]
    assert any(names for _, names in found)
    for piece, names in found:
        for name in names:
            assert name in tests, piece.where


def test_files_that_a_page_names_exist() -> None:
    """In commands and inline code, from the repository's top; links are the next test's."""
    found = 0
    for page in PAGES:
        for piece in (*typed(page), *inline(page)):
            for word in re.findall(r"[\w./-]+", piece.text):
                if word.startswith(OURS):
                    found += 1
                    assert (ROOT / word).exists(), f"{piece.where} names {word}"
    assert found > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.text.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link.where} links to {link.text}"
        if anchor:
            assert anchor in anchors(target), f"{link.where} links to {link.text}"


# --- configuration --------------------------------------------------------------------------------


def snippets() -> list[tuple[Piece, dict[str, Any]]]:
    """Every YAML block that is for this program, and not for Alertmanager."""
    found = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]
    ours = [
        block for block in found if block.page.is_relative_to(DOCS) or block.page.parent == ROOT
    ]
    return [(block, read_document(block.text.encode(), block.where).data) for block in ours]


SNIPPETS = snippets()
WHOLE = [(piece, data) for piece, data in SNIPPETS if {"sources", "target"} <= data.keys()]


def test_a_yaml_block_is_yaml_as_the_program_reads_it() -> None:
    assert len(SNIPPETS) > 10
    for piece, _ in SNIPPETS:
        document = read_document(piece.text.encode(), piece.where)
        assert (document.problems, document.broken) == ([], False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a configuration with the shipped entities and mappings beside it."""
    for name in ("entities", "mappings"):
        shutil.copytree(ROOT / "config" / name, tmp_path / name)
    return tmp_path


def check(folder: Path, text: str) -> str:
    """What is said on stderr of a configuration that is valid."""
    path = write_configuration(folder, text)
    result = invoke("check-config", "--offline", "-c", str(path))
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.mark.parametrize("piece", [pytest.param(piece, id=piece.where) for piece, _ in WHOLE])
def test_a_whole_configuration_is_valid(piece: Piece, folder: Path) -> None:
    warnings = check(folder, piece.text)
    if piece.page.name == "README.md":
        assert "the connection leaves this machine with sslmode prefer" in warnings


def completed(page: Path) -> str:
    """The page's parts of a configuration, in one that is whole."""
    whole = yaml.safe_load(GOOD.replace("t_customer", "t_bd_customer"))
    for piece, _ in SNIPPETS:
        part = yaml.safe_load(piece.text)
        if piece.page != page or not part.keys() <= set(SECTIONS):
            continue
        whole["mappings"] += part.pop("mappings", [])
        for section in ("entities", "sources"):
            whole[section].update(part.pop(section, {}))
        whole.update(part)
    return yaml.safe_dump(whole, sort_keys=False)


PARTS = sorted({piece.page for piece, data in SNIPPETS if (piece, data) not in WHOLE})


@pytest.mark.parametrize("page", PARTS, ids=lambda page: page.name)
def test_parts_of_a_configuration_make_a_valid_one(page: Path, tmp_path: Path) -> None:
    check(tmp_path, completed(page))


SMALLER = [one for one in REFERENCE if not yaml.safe_load(one[2]).keys() <= set(SECTIONS)]


@pytest.mark.parametrize("title, model, example", SMALLER)
def test_a_smaller_example_of_the_reference_is_valid(
    title: str, model: type[BaseModel], example: str
) -> None:
    """One that is no section: a part under its own name, or several under names of the user's."""
    data = yaml.safe_load(example)
    own = data.keys() == {title.rpartition(".")[2]}
    for name, value in data.items():
        model.model_validate(value, context={"path": ("x",), "name": name if not own else title})
