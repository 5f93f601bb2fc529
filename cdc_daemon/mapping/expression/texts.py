"""Text functions as PostgreSQL does them, over UTF-8 bytes; positions and lengths are characters.

What generated code calls. Case mapping is one character to one character (``ß`` stays), as most
server locales do it; LIKE is matched without regular expressions, in at most pattern × text steps.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from cdc_daemon.mapping.expression.numbers import failure

MAX_TEXT = 10_000_000  # characters that padding may produce


class _End(enum.Enum):
    """What stands in a LIKE pattern beside characters: ``%``, and an escape with nothing behind."""

    ANY = "any"
    ESCAPE = "escape"


_Token = str | _End | None
_UNFINISHED = "LIKE pattern must not end with escape character"


def upper(text: bytes) -> bytes:
    """``UPPER``."""
    if text.isascii():
        return text.upper()
    return "".join([_single(c, c.upper()) for c in text.decode()]).encode()


def lower(text: bytes) -> bytes:
    """``LOWER``."""
    if text.isascii():
        return text.lower()
    return "".join([_single(c, c.lower()) for c in text.decode()]).encode()


def _single(char: str, mapped: str) -> str:
    return mapped if len(mapped) == 1 else char


def length(text: bytes) -> int:
    """``LENGTH`` in characters."""
    return len(text) if text.isascii() else len(text.decode())


def trim(text: bytes, chars: bytes) -> bytes:
    """``BTRIM(text, chars)``."""
    return text.decode().strip(chars.decode()).encode() if chars else text


def trim_left(text: bytes, chars: bytes) -> bytes:
    """``LTRIM(text, chars)``."""
    return text.decode().lstrip(chars.decode()).encode() if chars else text


def trim_right(text: bytes, chars: bytes) -> bytes:
    """``RTRIM(text, chars)``."""
    return text.decode().rstrip(chars.decode()).encode() if chars else text


def substring(text: bytes, start: int) -> bytes:
    """``SUBSTRING(text FROM start)``, from 1."""
    return text.decode()[max(start - 1, 0) :].encode()


def substring_for(text: bytes, start: int, count: int) -> bytes:
    """``SUBSTRING(text FROM start FOR count)``; a window that begins before 1 is cut."""
    if count < 0:
        raise failure("negative substring length not allowed")
    return text.decode()[max(start - 1, 0) : max(start - 1 + count, 0)].encode()


def left(text: bytes, count: int) -> bytes:
    """``LEFT``; a negative count leaves out the last characters."""
    return text.decode()[:count].encode()


def right(text: bytes, count: int) -> bytes:
    """``RIGHT``; a negative count leaves out the first characters."""
    decoded = text.decode()
    if count == 0:
        return b""
    return (decoded[-count:] if count <= len(decoded) else decoded).encode()


def replace(text: bytes, old: bytes, new: bytes) -> bytes:
    """``REPLACE``."""
    if not old:
        return text
    if len(new) > len(old) and text.count(old) * len(new) > MAX_TEXT:
        raise failure("the replaced text is too long")
    return text.replace(old, new)


def pad_left(text: bytes, count: int, fill: bytes = b" ") -> bytes:
    """``LPAD``; longer text is cut at its end."""
    decoded = text.decode()
    return (_padding(len(decoded), count, fill) + decoded[: max(count, 0)]).encode()


def pad_right(text: bytes, count: int, fill: bytes = b" ") -> bytes:
    """``RPAD``."""
    decoded = text.decode()
    return (decoded[: max(count, 0)] + _padding(len(decoded), count, fill)).encode()


def _padding(have: int, want: int, fill: bytes) -> str:
    missing = want - have
    if missing <= 0 or not fill:
        return ""
    if want > MAX_TEXT:
        raise failure("the padded text is too long")
    pattern = fill.decode()
    return (pattern * (missing // len(pattern) + 1))[:missing]


def split_part(text: bytes, delimiter: bytes, part: int) -> bytes:
    """``SPLIT_PART``; negative parts count from the end."""
    if part == 0:
        raise failure("field position must not be zero")
    if not text:
        return b""
    parts = text.split(delimiter) if delimiter else [text]
    index = part - 1 if part > 0 else len(parts) + part
    return parts[index] if 0 <= index < len(parts) else b""


def strpos(text: bytes, part: bytes) -> int:
    """``POSITION(part IN text)``, from 1; 0 where it is not."""
    found = text.find(part)
    return found + 1 if text.isascii() or found < 0 else len(text[:found].decode()) + 1


def concat(*parts: bytes | None) -> bytes:
    """``CONCAT``: NULLs are left out."""
    return b"".join([part for part in parts if part is not None])


def concat_ws(separator: bytes | None, *parts: bytes | None) -> bytes | None:
    """``CONCAT_WS``: NULLs are left out; without a separator NULL."""
    if separator is None:
        return None
    return separator.join([part for part in parts if part is not None])


def cut(text: bytes, count: int) -> bytes:
    """``CAST(text AS varchar(count))``: cut without an error."""
    return text if len(text) <= count else text.decode()[:count].encode()


# --- LIKE -------------------------------------------------------------------------------------

_Segment = tuple[str | None, ...]  # characters; None is ``_``


def like(text: bytes, pattern: bytes, escape: bytes = b"\\") -> bool:
    """``text LIKE pattern ESCAPE escape``."""
    return _matcher(_tokens(pattern.decode(), escape.decode()))(text)


def ilike(text: bytes, pattern: bytes, escape: bytes = b"\\") -> bool:
    """``text ILIKE pattern ESCAPE escape``."""
    return like(lower(text), lower(pattern), lower(escape))


def like_matcher(pattern: bytes, escape: bytes = b"\\") -> Callable[[bytes], bool]:
    """A function that matches texts against one pattern. Raises DataError for a bad escape, also
    at the pattern's end, where the server would find it only with some texts."""
    tokens = _tokens(pattern.decode(), escape.decode())
    if tokens and tokens[-1] is _End.ESCAPE:
        raise failure(_UNFINISHED)
    return _matcher(tokens)


def _matcher(tokens: Sequence[_Token]) -> Callable[[bytes], bool]:
    if tokens and tokens[-1] is _End.ESCAPE:
        return lambda text: _walk(text.decode(), 0, tokens, 0) is True
    segments = _segments(tokens)
    if any(None in segment for segment in segments):
        return lambda text: _matches(text.decode(), segments)
    return _plain_matcher(["".join(map(str, segment)).encode() for segment in segments])


def _tokens(pattern: str, escape: str) -> list[_Token]:
    """Characters, None for ``_``, and the marks for ``%`` and an escape that stands at the end."""
    if len(escape) > 1:
        raise failure("the ESCAPE text must be one character or empty")
    tokens: list[_Token] = []
    chars = iter(pattern)
    for char in chars:
        if char == escape:
            tokens.append(next(chars, _End.ESCAPE))
        elif char == "%":
            tokens.append(_End.ANY)
        else:
            tokens.append(None if char == "_" else char)
    return tokens


def _segments(tokens: Sequence[_Token]) -> list[_Segment]:
    """The pattern split at its ``%`` signs."""
    segments: list[list[str | None]] = [[]]
    for token in tokens:
        if isinstance(token, _End):
            segments.append([])
        else:
            segments[-1].append(token)
    return [tuple(segment) for segment in segments]


def _walk(text: str, i: int, tokens: Sequence[_Token], j: int) -> bool | None:
    """Match as PostgreSQL does (like_match.c), for a pattern that ends with its escape character:
    an error only where the text reaches so far. None: no later start can match either."""
    while i < len(text):
        token = tokens[j]
        if token is _End.ESCAPE:
            raise failure(_UNFINISHED)
        if token is _End.ANY:
            return _walk_any(text, i, tokens, j + 1)
        if token is not None and token != text[i]:
            return False
        i, j = i + 1, j + 1
    return None


def _walk_any(text: str, i: int, tokens: Sequence[_Token], j: int) -> bool | None:
    """Behind a ``%``: every place at which the next character stands."""
    while tokens[j] in (_End.ANY, None):
        if tokens[j] is None:
            if i == len(text):
                return None
            i += 1
        j += 1
    if tokens[j] is _End.ESCAPE:
        raise failure(_UNFINISHED)
    while i < len(text):
        if text[i] == tokens[j]:
            matched = _walk(text, i, tokens, j)
            if matched is not False:
                return matched
        i += 1
    return None


def _plain_matcher(parts: list[bytes]) -> Callable[[bytes], bool]:
    """Without ``_``, bytes can be searched as they are."""
    if len(parts) == 1:
        return parts[0].__eq__
    first, *middle, last = parts
    shortest = len(first) + len(last)

    def matches(text: bytes) -> bool:
        if len(text) < shortest or not (text.startswith(first) and text.endswith(last)):
            return False
        position, end = len(first), len(text) - len(last)
        for part in middle:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True

    return matches


def _matches(text: str, segments: list[_Segment]) -> bool:
    first, last = segments[0], segments[-1]
    if len(segments) == 1:
        return len(text) == len(first) and _at(text, 0, first)
    end = len(text) - len(last)
    if end < len(first) or not (_at(text, 0, first) and _at(text, end, last)):
        return False
    position = len(first)
    for segment in segments[1:-1]:
        while position + len(segment) <= end and not _at(text, position, segment):
            position += 1
        position += len(segment)
        if position > end:
            return False
    return True


def _at(text: str, position: int, segment: _Segment) -> bool:
    return all(char is None or text[position + index] == char for index, char in enumerate(segment))
