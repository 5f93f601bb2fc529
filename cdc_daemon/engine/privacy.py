"""Payloads of parked changes, their sensitive values sealed, opened or masked.

In a payload (engine/payload) every value of a sensitive column, NULL too, is a sealed one (sealing)
as long as it lies in the failure queue. What the log left out stays left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cdc_daemon.sealing import MASK, Place, Vault, is_sealed

Payload = dict[str, object]

IMAGES = ("old", "new")


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Of one pipeline. ``columns``: the sensitive ones, by table (source.schema.table)."""

    pipeline: str = ""
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    vault: Vault = field(default_factory=Vault)

    def of(self, table: str) -> frozenset[str]:
        """The table's sensitive columns."""
        return self.columns.get(table, frozenset())

    def sealed(self, table: str, payload: Mapping[str, object]) -> Payload:
        """The payload as it is kept. Raises Stop where there is no key to seal with."""
        sensitive = self.of(table)
        if not sensitive:
            return dict(payload)
        return _each(
            payload,
            lambda column, value: (
                self._boxed(table, column, value) if column in sensitive else value
            ),
        )

    def opened(self, table: str, payload: Mapping[str, object]) -> Payload:
        """The payload with its values in clear. Raises DataError, naming the key that lacks."""
        return _each(
            payload,
            lambda column, value: (
                self.vault.open(value, self._place(table, column)) if is_sealed(value) else value
            ),
        )

    def masked(self, table: str, payload: Mapping[str, object]) -> Payload:
        """The payload as everybody may see it."""
        sensitive = self.of(table)
        return _each(
            payload,
            lambda column, value: MASK if column in sensitive or is_sealed(value) else value,
        )

    def returned(self, table: str, payload: Mapping[str, object], kept: Payload) -> Payload:
        """A payload that somebody was shown and sent back, in clear: a mask means the value kept,
        also of a column that is sensitive no longer, for what is sealed is masked.

        ``kept``: the payload in clear. Raises DataError, naming the key that lacks.
        """
        found: Payload = dict(payload)
        for name in IMAGES:
            image, before = found.get(name), kept.get(name)
            if isinstance(image, dict) and isinstance(before, dict):
                masks = {column for column, v in image.items() if v == MASK and column in before}
                found[name] = image | {column: before[column] for column in masks}
        return self.opened(table, found)

    def sent(self, table: str, payload: Mapping[str, object]) -> Payload:
        """A payload as a command carries it: sealed, but for masks. Raises Stop without a key."""
        sensitive = self.of(table)
        return _each(
            payload,
            lambda column, value: (
                self._boxed(table, column, value)
                if column in sensitive and value != MASK
                else value
            ),
        )

    def resealed(self, table: str, payload: Mapping[str, object]) -> Payload:
        """The payload sealed as it would be now; the same values where that is so already.

        Raises DataError, naming the key that lacks, and Stop where there is none to seal with.
        """
        sensitive = self.of(table)

        def renewed(column: str, value: object) -> object:
            place = self._place(table, column)
            if is_sealed(value):
                if self.vault.is_current(value):
                    return value
                return self.vault.seal(self.vault.open(value, place), place)
            return self.vault.seal(value, place) if column in sensitive else value

        return _each(payload, renewed)

    def without_sealed(self, payload: Mapping[str, object]) -> Payload:
        """The payload as if the log had left out what is sealed."""
        found: Payload = dict(payload)
        for name in IMAGES:
            image = found.get(name)
            if isinstance(image, dict):
                found[name] = {c: value for c, value in image.items() if not is_sealed(value)}
        return found

    def _boxed(self, table: str, column: str, value: object) -> object:
        return value if is_sealed(value) else self.vault.seal(value, self._place(table, column))

    def _place(self, table: str, column: str) -> Place:
        return Place(self.pipeline, table, column)


NOTHING = Privacy()
"""Of a pipeline without sensitive columns."""


def _each(payload: Mapping[str, object], change: Callable[[str, object], object]) -> Payload:
    """The payload with every value of its images changed."""
    found: Payload = dict(payload)
    for name in IMAGES:
        image = found.get(name)
        if isinstance(image, dict):
            found[name] = {column: change(column, value) for column, value in image.items()}
    return found
