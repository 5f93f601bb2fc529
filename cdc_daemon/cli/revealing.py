"""Sensitive values of parked changes on the command line: masked, or in clear to who has the keys.

Whoever can read the keys under ``failures`` may see them; that they were asked for is noted in the
control database first, as a command ``reveal`` of the pipeline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cdc_daemon.cli.output import words
from cdc_daemon.model.errors import CdcError, DataError
from cdc_daemon.sealing import MASK

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.engine.privacy import Privacy
    from cdc_daemon.model.ports import Control
    from cdc_daemon.model.queue import Failure

F = TypeVar("F", bound=Callable[..., Any])

_NOTED = 1000  # ids in one note


def clear_option(command: F) -> F:
    """Decorator: ``--clear``."""
    option = click.option(
        "--clear",
        is_flag=True,
        help="Show sensitive values, where their keys can be read here; that is noted.",
    )
    return option(command)


class View:
    """Parked changes as they are shown. Raises CdcError where nothing could be shown in clear."""

    def __init__(self, configuration: Configuration, *, clear: bool = False) -> None:
        self._configuration = configuration
        self._known: dict[str, Privacy] = {}
        self._told: set[str] = set()
        self.clear = clear
        if clear and not configuration.failures.vault.keys:
            raise CdcError(
                "no key can be read here, so no sensitive value can be shown",
                hint="run it as somebody who may read the keys under failures.keys",
            )

    def privacy(self, pipeline: str) -> Privacy:
        """What is sensitive in a pipeline, and the keys."""
        from cdc_daemon import build

        if pipeline not in self._known:
            self._known[pipeline] = build.privacy_of(self._configuration, pipeline)
        return self._known[pipeline]

    def of(self, failure: Failure) -> Failure:
        """The change as it is shown; what has no key stays masked, and stderr says so."""
        payload = self.image_of(failure, failure.payload)
        return dataclasses.replace(failure, payload=payload)

    def image_of(self, failure: Failure, payload: Mapping[str, object]) -> dict[str, object]:
        """A payload of the change, the one before an edit for example."""
        privacy = self.privacy(failure.pipeline)
        if self.clear:
            try:
                return privacy.opened(failure.table, payload)
            except DataError as error:
                if error.message not in self._told:
                    words(f"{MASK} {error.message}")
                self._told.add(error.message)
        return privacy.masked(failure.table, payload)

    def shown(self, control: Control, found: Sequence[Failure], verb: str) -> list[Failure]:
        """Changes as they are shown, after that was noted."""
        self.note(control, found, verb)
        return [self.of(failure) for failure in found]

    def note(self, control: Control, found: Sequence[Failure], verb: str) -> None:
        """Note who is shown which changes in clear; nothing where none are."""
        if not self.clear:
            return
        ids: dict[str, list[int]] = {}
        for failure in found:
            ids.setdefault(failure.pipeline, []).append(failure.id)
        for pipeline, numbers in ids.items():
            told: dict[str, object] = {
                "by": f"failures {verb}",
                "changes": len(numbers),
                "ids": numbers[:_NOTED],
            }
            self.note_of(control, pipeline, told)

    def note_of(self, control: Control, pipeline: str, told: dict[str, object]) -> None:
        """Note who is shown what in clear, ``by`` which command; JSON-ready, no value."""
        from cdc_daemon.cli.commanding import actor

        control.submit(pipeline, "reveal", told, actor())


def sealed_edits(
    configuration: Configuration, control: Control, pipeline: str, edits: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Edits as a command carries them: what is sensitive in them is sealed, for commands are kept.

    Raises Stop where there is no key to seal with. Of changes that are not parked nothing is sent.
    """
    from cdc_daemon import build
    from cdc_daemon.model.selection import Selection

    privacy = build.privacy_of(configuration, pipeline)
    ids = tuple(one["id"] for one in edits)
    tables = {one.id: one.table for one in control.failures(Selection(ids=ids))}
    return [_sealed(one, privacy, tables.get(one["id"])) for one in edits]


def _sealed(edit: dict[str, Any], privacy: Privacy, table: str | None) -> dict[str, Any]:
    part = "payload" if edit.get("payload") is not None else "values"
    given = edit[part] if part == "payload" else {"new": edit[part]}
    sent = {"new": {}} if table is None else privacy.sent(table, given)
    return {**edit, part: sent if part == "payload" else sent["new"]}
