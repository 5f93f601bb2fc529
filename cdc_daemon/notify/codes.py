"""Services that answer 200 with a code of their own in JSON: what the code means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cdc_daemon.notify.http import Answer
from cdc_daemon.notify.results import Deferred, Delivered, Refused, Result, fields, number, quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """The codes of one service; 0 says that it took the message.

    ``code``, ``text``: names of the fields, the first that is there counts. ``too_fast``: it wants
    to be left alone, for ``pause`` seconds; ``ambiguous``: these too where the text says "too
    many". ``busy``: not now. ``cures``: what to do about the others.
    """

    service: str
    code: tuple[str, ...]
    text: tuple[str, ...]
    pause: float
    too_fast: Collection[int]
    cures: Mapping[int, str]
    busy: Collection[int] = ()
    ambiguous: Collection[int] = ()

    def read(self, answer: Answer) -> Result | None:
        """What the service says; None: nothing of its own."""
        found = fields(answer.body)
        code = number(_first(found, self.code))
        if code is None:
            return None
        if code == 0:
            return Delivered()
        text = quoted(_first(found, self.text) or "")
        said = f"{self.code[0]} {code}: {text}"
        if self._is_too_fast(code, text):
            return Deferred(reason=said, after=self.pause)
        if code in self.busy:
            return Deferred(reason=said)
        cure = self.cures.get(code, f"see {self.service}'s list of error codes")
        return Refused(reason=said, cure=cure)

    def _is_too_fast(self, code: int, text: str) -> bool:
        if code in self.too_fast:
            return True
        return code in self.ambiguous and "too many" in text.lower()


def _first(found: Mapping[str, object], names: tuple[str, ...]) -> object:
    return next((found[name] for name in names if name in found), None)
