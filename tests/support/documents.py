"""What README and docs say, by its form: fenced blocks, inline code, headings, links, and the
calls of the program that somebody may copy out of them.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from textwrap import dedent

import click

from cdc_daemon.cli.given import Given
from cdc_daemon.cli.main import COMMANDS, root

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "config" / "monitoring" / "README.md",
    *sorted(DOCS.rglob("*.md")),
)
PROGRAM = "cdc-daemon"

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_OPERATORS = set("();<>|&")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a page and where it begins; ``language`` is that of a fence, or empty."""

    page: Path
    line: int
    text: str
    language: str = ""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Piece]:
    """The fenced blocks, without the indentation that a list gives them."""
    text = page.read_text("utf-8")
    return [
        Piece(page, _line(text, found.start("text")), dedent(found["text"]), found["language"])
        for found in _FENCE.finditer(text)
    ]


def inline(page: Path) -> list[Piece]:
    """What stands between backticks outside of fences, on one line."""
    text = prose(page)
    return [
        Piece(page, _line(text, found.start()), " ".join(found[1].split()))
        for found in _INLINE.finditer(text)
    ]


def links(page: Path) -> list[Piece]:
    """Targets of links that lead to no other host."""
    text = prose(page)
    return [
        Piece(page, _line(text, found.start()), found[1])
        for found in _LINK.finditer(text)
        if not re.match(r"[a-z]+:", found[1])
    ]


def anchors(page: Path) -> set[str]:
    """The names that its headings have in links."""
    names = [
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(prose(page))
    ]
    numbered = (enumerate(same) for _, same in groupby(sorted(names)))
    return {f"{name}-{number}" if number else name for same in numbered for number, name in same}


def prose(page: Path) -> str:
    """The page with its fences blank, so that lines keep their numbers."""
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text("utf-8"))


def typed(page: Path) -> Iterator[Piece]:
    """Each line of shell that a block shows to be typed: after ``$``, or a call of ours."""
    for block in blocks(page):
        number = block.line
        for line in re.split(r"(?<!\\)\n", block.text):
            if line.startswith(("$ ", f"{PROGRAM} ")):
                yield Piece(page, number, line.removeprefix("$ ").replace("\\\n", " "))
            number += line.count("\n") + 1


def calls(shell: str) -> Iterator[list[str]]:
    """The words of each call of ours in a line of shell, beginning with the program."""
    lexer = shlex.shlex(shell, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for apart, group in groupby(lexer, lambda word: set(word) <= _OPERATORS):
        words = [] if apart else list(group)
        if words[:2] == ["docker", "exec"] and PROGRAM in words:
            words = words[words.index(PROGRAM) :]
        while words and (words[0] == "sudo" or re.match(r"\w+=", words[0])):
            del words[0]
        if len(words) > 1 and Path(words[0]).name == PROGRAM:
            yield words


def short_call(code: str) -> list[str] | None:
    """Inline code such as ``failures retry`` as a call of ours, if it seems to be meant as one."""
    words = code.split()
    if len(words) < 2 or words[0] not in COMMANDS:
        return None
    if isinstance(root.get_command(click.Context(root), words[0]), click.Group):
        return [PROGRAM, *words]
    return [PROGRAM, *words] if words[1].startswith("-") else None


def understood(words: list[str], *, whole: bool = True) -> None:
    """Have the program take the words as it would; nothing is carried out. Raises UsageError.

    ``whole``: as somebody may type it. Else it is a mention, which may leave arguments out.
    """
    command: click.Command = root
    context: click.Context | None = None
    name, arguments = words[0], words[1:]
    while True:
        try:
            context = command.make_context(name, arguments, parent=context, obj=Given())
        except (click.MissingParameter, click.BadOptionUsage):
            if whole:
                raise
            return
        if not isinstance(command, click.Group):
            return
        rest = [*context._protected_args, *context.args]
        found_name, found, arguments = command.resolve_command(context, rest)
        assert found is not None
        name, command = found_name or name, found


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
