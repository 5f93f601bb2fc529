"""Payloads of the failure queue sealed again, with the key that seals now.

All of a pipeline, parked and settled, with what was there before edits; some at a time, each batch
in a unit of its own. What is sealed as it would be now is left alone, so a second turn does nothing
and one that was broken off goes on. Values that were parked before their attribute became sensitive
are sealed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cdc_daemon.engine.privacy import NOTHING, Privacy
from cdc_daemon.model.errors import CdcError, DataError
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.queue import Kept

AT_ONCE = 200  # changes
_TOLD = 20

Pages = Callable[[int, int], list[Kept]]
"""Kept payloads of changes behind an id, so many changes at most."""


@dataclass(slots=True)
class Rotated:
    """What a rotation came to: payloads by fate; ``refused``: ids of changes, and why."""

    sealed: int = 0
    current: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)

    def as_result(self) -> dict[str, object]:
        """For the command's row."""
        return {
            "sealed": self.sealed,
            "current": self.current,
            "refused": self.refused[:_TOLD],
            "left": len(self.refused),
        }


class Rotating:
    """Seals the kept payloads of one pipeline again."""

    def __init__(
        self, *, sink: Sink, progressed: Callable[[], None], privacy: Privacy = NOTHING
    ) -> None:
        self._sink = sink
        self._privacy = privacy
        self._progressed = progressed

    def carry_out(self, command: Command) -> dict[str, object]:
        """Rotate to the key and cipher that a command names. Raises CdcError where others seal
        here, else as :meth:`rotate`."""
        vault, asked = self._privacy.vault, command.arguments
        if (asked.get("key"), asked.get("cipher")) != (vault.current, vault.cipher):
            raise CdcError(
                f"the worker seals with key {vault.current!r} and {vault.cipher}",
                hint="reload the daemon first: systemctl reload cdc-daemon",
            )
        return self.rotate().as_result()

    def rotate(self) -> Rotated:
        """Seal again what is not sealed as it would be now. Raises Stop where no key seals."""
        total = Rotated()
        for page in pages(self._sink.kept_payloads):
            with self._sink.begin() as unit:
                for one, payload in changed(page, self._privacy, total):
                    unit.queue.reseal(one, payload)
            self._progressed()
        return total


def pages(read: Pages) -> Iterator[list[Kept]]:
    """Everything that is kept, some changes at a time, in the order of their ids."""
    after = 0
    while found := read(after, AT_ONCE):
        yield found
        after = max(one.failure for one in found)


def changed(
    page: list[Kept], privacy: Privacy, total: Rotated
) -> Iterator[tuple[Kept, dict[str, object]]]:
    """Those of a page that are to be sealed again, with what they become; the rest is counted."""
    for one in page:
        try:
            payload = privacy.resealed(one.table, one.payload)
        except DataError as error:
            total.refused.append((one.failure, error.message))
            continue
        if payload == one.payload:
            total.current += 1
        else:
            total.sealed += 1
            yield one, payload
