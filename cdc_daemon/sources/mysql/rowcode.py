"""Code for the row images of one table, made by ``compile``: bytes in, a tuple out.

An image is a null bitmap and then the values of the columns that it holds, one after the other.
Straight-line code has ``struct`` read neighbouring values of fixed length at once, with the length
of the text behind them. For a bitmap that comes often there is code in which it is settled what is
NULL; other ones go through code that asks for each column. It trusts the lengths: what leads
astray raises LookupError or ``struct.error``, or does not end where the event ends. The generated
text holds positions only, never a name from outside.
"""

from __future__ import annotations

import struct
from binascii import hexlify
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.sources.mysql.layout import Form, Layout

RowReader = Callable[[bytes, int], tuple[Row, int]]
"""Reads a row at the offset behind its null bitmap; the row, and the offset behind it."""

ASTRAY: Final = (LookupError, struct.error, ValueError)
"""What the code raises where an event is not what it takes it for."""
COMPILED: Final = 32
"""Bitmaps of an image that get code of their own, and how often they come before that."""
_OFTEN: Final = 8
_COUNTED: Final = 4096
_LENGTHS: Final = {1: "d[o]", 2: "(d[o] | d[o + 1] << 8)"}
_COUNTS: Final = {
    (1, False): Form("B", "{0}"),
    (1, True): Form("B", "{0}"),
    (2, False): Form("H", "{0}"),
    (2, True): Form("BB", "{0} | {1} << 8"),
}
"""A length by its bytes, and whether it stands among big-endian numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A column that an image holds: its position in the table, and what becomes of it."""

    position: int
    layout: Layout
    wanted: bool
    nullable: bool


class Image:
    """One layout of row images: its columns, and the positions that make the row.

    What the row wants and the image does not hold is UNCHANGED in it. ``bitmap``: bytes of the null
    bitmap in front of each; ``whole``: it holds all that the row wants; ``readers``: its code.
    """

    __slots__ = ("bitmap", "parts", "readers", "row", "whole")

    def __init__(self, parts: Sequence[Part], row: tuple[int, ...]) -> None:
        self.parts = parts
        self.row = row
        self.bitmap = (len(parts) + 7) // 8
        self.whole = {part.position for part in parts}.issuperset(row)
        self.readers = Readers(self)


class Readers(dict[bytes, RowReader]):
    """The code for each null bitmap of an image."""

    def __init__(self, image: Image) -> None:
        super().__init__()
        self._image = image
        self._met: dict[bytes, int] = {}
        self._asking: RowReader | None = None

    def __missing__(self, bitmap: bytes) -> RowReader:
        if len(bitmap) < self._image.bitmap:
            raise IndexError
        met = self._met[bitmap] = self._met.get(bitmap, 0) + 1
        if met >= _OFTEN and len(self) < COMPILED:
            self[bitmap] = compile_row(self._image, bitmap)
            return self[bitmap]
        if len(self._met) > _COUNTED:
            self._met.clear()
        if self._asking is None:
            self._asking = compile_row(self._image, None)
        return self._asking


def compile_row(image: Image, bitmap: bytes | None) -> RowReader:
    """Code for rows with this null bitmap; None: with any."""
    code = _Code(image, bitmap)
    source = "\n".join(["def read(d, o):", *code.lines()])
    exec(compile(source, "<row reader>", "exec"), code.names)  # noqa: S102 - positions only
    return code.names["read"]  # type: ignore[no-any-return]


class _Code:
    """The lines of one reader, and the objects that they name."""

    def __init__(self, image: Image, bitmap: bytes | None) -> None:
        self._image = image
        self._bits = None if bitmap is None else int.from_bytes(bitmap, "little")
        self._run: list[Part] = []  # values of fixed length that are not read yet
        self.names: dict[str, Any] = {
            "U": UNCHANGED, "number": int.from_bytes, "hexlify": hexlify,
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """The body of the function."""
        if self._bits is None:
            yield from self._nulls()
        for bit, part in enumerate(self._image.parts):
            yield from self._part(part, bit)
        yield from self._fixed()
        values = {
            part.position: "None" if self._is_null(bit) else f"c{part.position}"
            for bit, part in enumerate(self._image.parts)
        }
        row = "".join(f"{values.get(position, 'U')}, " for position in self._image.row)
        yield f"    return ({row}), o"

    def _nulls(self) -> Iterator[str]:
        """The bitmap as a number; a NULL in a column that has none is for the strict reader."""
        never = sum(1 << bit for bit, part in enumerate(self._image.parts) if not part.nullable)
        yield f"    m = number(d[o - {self._image.bitmap} : o], 'little')"
        yield f"    if m & {never}: raise IndexError"

    def _is_null(self, bit: int) -> bool:
        return self._bits is not None and bool(self._bits >> bit & 1)

    def _part(self, part: Part, bit: int) -> Iterator[str]:
        if self._is_null(bit):
            return
        if self._bits is None and part.nullable:
            yield from self._fixed()
            yield f"    if m & {1 << bit}:"
            yield f"        c{part.position} = None"
            yield "    else:"
            yield from (f"    {line}" for line in self._read(part))
            yield from (f"    {line}" for line in self._fixed())
        else:
            yield from self._read(part)

    def _read(self, part: Part) -> Iterator[str]:
        if part.layout.size:
            self._run.append(part)
        else:
            yield from self._counted(part)

    def _counted(self, part: Part) -> Iterator[str]:
        """A value behind its length, which is read with the fixed values in front of it."""
        prefix = part.layout.prefix
        if self._run and prefix in _LENGTHS:
            yield from self._fixed(part)
        else:
            yield from self._fixed()
            length = _LENGTHS.get(prefix, f"number(d[o : o + {prefix}], 'little')")
            yield f"    v = o + {prefix}"
            yield f"    o = v + {length}"
        if part.wanted:
            yield f"    c{part.position} = d[v:o]"
            text = part.layout.text.format(f"c{part.position}", i=part.position)
            if text != f"c{part.position}":
                self._name(part)
                yield f"    c{part.position} = {text}"

    def _name(self, part: Part) -> None:
        """Make known what a column's expressions use."""
        names = {"read": part.layout.read, **part.layout.names}
        self.names |= {f"{name}_{part.position}": one for name, one in names.items()}

    def _fixed(self, counted: Part | None = None) -> Iterator[str]:
        """The values of fixed length that wait, and the length of the one behind them."""
        run, self._run = self._run, []
        size = sum(part.layout.size for part in run)
        if any(part.wanted for part in run) or counted:
            yield from self._unpacked(run, counted)
        if counted:
            yield f"    v = o + {size + counted.layout.prefix}"
            yield "    o = v + l"
        elif size:
            yield f"    o += {size}"

    def _unpacked(self, run: list[Part], counted: Part | None) -> Iterator[str]:
        """One ``unpack`` of the run, in the byte order that most of its values have."""
        wanted = [part.layout for part in run if part.wanted]
        is_big = sum(bool(one.big) for one in wanted) > sum(bool(one.little) for one in wanted)
        letters, names, lines = "", 0, []
        for part in run:
            if not part.wanted:
                letters += f"{part.layout.size}x"
                continue
            form = part.layout.big if is_big else part.layout.little
            form = form or Form(f"{part.layout.size}s", part.layout.text)
            self._name(part)
            lines.append(f"    c{part.position} = {self._text(form, names, part.position)}")
            letters, names = letters + form.letters, names + form.count
        if counted:
            form = _COUNTS[counted.layout.prefix, is_big]
            lines.append(f"    l = {self._text(form, names, counted.position)}")
            letters, names = letters + form.letters, names + form.count
        unpack = f"s{len(self.names)}"
        self.names[unpack] = struct.Struct((">" if is_big else "<") + letters).unpack_from
        yield f"    {''.join(f'n{i}, ' for i in range(names))}= {unpack}(d, o)"
        yield from lines

    @staticmethod
    def _text(form: Form, first: int, position: int) -> str:
        """A form's expression with the names of its values."""
        names = [f"n{first + i}" for i in range(form.count)]
        return form.text.format(*names, i=position)
