r"""Rows as COPY text: ``a⇥b⇥\N⏎``, strictly escaped, at the price of a join.

A row is joined as it is, and the chunk is then counted: as many line ends as rows, as many tabs as
fields need, no carriage return, and exactly the backslashes that NULLs and bytes account for. If
the counts are right, no value holds a character that needs an escape; else the chunk is encoded
again row by row, and only the rows that are wrong value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

CHUNK_ROWS = 512
"""Rows encoded at once: about 100 KB of common rows, so that server and daemon overlap."""

NULL = rb"\N"

Encoder = Callable[[Sequence[Sequence[object]]], bytes]


def encoder(widths: int, binary: frozenset[int] = frozenset()) -> Encoder:
    r"""A function from rows of that many fields to COPY text.

    ``binary``: positions of bytes columns, whose text form (``\x…``) always holds one backslash.
    """
    joined, spare = _generate(widths, binary)

    def plain(rows: Sequence[Sequence[object]]) -> tuple[bytes, int]:
        """The rows as they are, and how many backslashes are right in them."""
        if not binary:
            try:
                return b"\n".join(map(b"\t".join, rows)), 0  # type: ignore[arg-type]
            except TypeError:
                pass  # a NULL among them
        text = joined(rows)
        return text, text.count(b"\\") and spare(rows)

    def encode(rows: Sequence[Sequence[object]]) -> bytes:
        text, backslashes = plain(rows)
        if (
            text.count(b"\n") == len(rows) - 1
            and text.count(b"\t") == (widths - 1) * len(rows)
            and text.count(b"\\") == backslashes
            and b"\r" not in text
        ):
            return text + b"\n"
        return b"".join([_careful_line(row) for row in rows])

    return encode


def _generate(
    widths: int, binary: frozenset[int]
) -> tuple[Encoder, Callable[[Sequence[Sequence[object]]], int]]:
    """Straight-line code: the joined rows, and the backslashes that NULLs and bytes put in."""
    names = [f"v{i}" for i in range(widths)]
    fields = [
        f"N if {name} is None else B + {name}"
        if i in binary
        else f"N if {name} is None else {name}"
        for i, name in enumerate(names)
    ]
    counts = [
        f"(1 if {name} is None else 2 if {name}[:2] == X else W)"
        if i in binary
        else f"({name} is None)"
        for i, name in enumerate(names)
    ]
    unpacked = ", ".join(names) + ","
    source = (
        f"def joined(rows):\n"
        f"    return E.join([T.join(({', '.join(fields)},)) for {unpacked} in rows])\n"
        f"def spare(rows):\n"
        f"    return sum([{' + '.join(counts)} for {unpacked} in rows])\n"
    )
    scope: dict[str, object] = {"N": NULL, "B": b"\\", "T": b"\t", "E": b"\n"}
    scope |= {"X": rb"\x", "W": -(10**12)}  # not bytes in hexadecimal: no count is right then
    exec(compile(source, "<copytext>", "exec"), scope)  # noqa: S102 - only positions go into it
    return scope["joined"], scope["spare"]  # type: ignore[return-value]


def _careful_line(row: Sequence[object]) -> bytes:
    return b"\t".join([NULL if value is None else escaped(value) for value in row]) + b"\n"  # type: ignore[arg-type]


def escaped(value: bytes) -> bytes:
    """A value with backslash, tab, line feed and carriage return escaped."""
    if b"\\" in value:
        value = value.replace(b"\\", b"\\\\")
    if b"\t" in value:
        value = value.replace(b"\t", b"\\t")
    if b"\n" in value:
        value = value.replace(b"\n", b"\\n")
    if b"\r" in value:
        value = value.replace(b"\r", b"\\r")
    return value


def feed(encode: Encoder, rows: Sequence[Sequence[object]]) -> Iterator[bytes]:
    """COPY text of many rows, in chunks."""
    for start in range(0, len(rows), CHUNK_ROWS):
        yield encode(rows[start : start + CHUNK_ROWS])
