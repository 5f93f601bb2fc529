"""A command reaches a worker, or is carried out here; failures and time limits are told."""

import getpass
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from cdc_daemon.cli import commanding
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.model.errors import CdcError, Fenced, Retryable, Unreachable
from cdc_daemon.model.ports import Command, Control, CopiedMapping, Verification, VerifiedMapping
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.model.queue import PARKED, Edit, Failure, Kept
from cdc_daemon.model.selection import Selection, Tally


class FakeControl:
    """A control database; a command is answered at the so many-th look."""

    def __init__(
        self, *, alive: bool = True, answer: Command | None = None, looks: int = 2
    ) -> None:
        self.submitted: list[Command] = []
        self.withdrawn: list[tuple[int, str]] = []
        self._alive = alive
        self._answer = answer
        self._looks = looks

    def submit(self, pipeline: str, verb: str, arguments: dict[str, object], actor: str) -> int:
        self.submitted.append(
            Command(id=5, pipeline=pipeline, verb=verb, arguments=arguments, actor=actor)
        )
        return 5

    def command(self, number: int) -> Command:
        self._looks -= 1
        return self._answer if self._answer and self._looks <= 0 else self.submitted[0]

    def holder_alive(self, pipeline: str) -> bool:
        return self._alive

    def withdraw(self, number: int, reason: str) -> bool:
        self.withdrawn.append((number, reason))
        return True

    def begin_verification(self, pipeline: str, origin: str, actor: str, *, whole: bool) -> int:
        return 1

    def finish_verification(
        self, number: int, state: str, error: str | None, mappings: Sequence[VerifiedMapping]
    ) -> None:
        pass

    def verification(self, pipeline: str) -> Verification | None:
        return None

    def parked(self) -> dict[str, int]:
        return {}

    def copied_mappings(self, pipeline: str) -> dict[str, CopiedMapping]:
        return {}

    def copied(self) -> dict[str, dict[str, int]]:
        return {}

    def checkpoints(self) -> list[Checkpoint]:
        return []

    def failures(self, selection: Selection = PARKED, limit: int | None = None) -> list[Failure]:
        return []

    def tallies(self, selection: Selection = PARKED) -> list[Tally]:
        return []

    def blocked(self) -> dict[str, int]:
        return {}

    def kept_payloads(self, after: int, most: int) -> list[Kept]:
        return []

    def edits(self, failure: int) -> list[Edit]:
        return []

    def close(self) -> None:
        pass


class Configured:
    """As much of a configuration as is asked for."""

    def __init__(self) -> None:
        self.sources = {"erp": None}


DONE = Command(
    id=5,
    pipeline="erp",
    verb="retry",
    arguments={},
    actor="",
    state="done",
    result={"applied": [1]},
)


def run(control: FakeControl, timeout: float = 5.0) -> dict[str, object]:
    checked: Control = control
    configuration = cast(Configuration, Configured())
    return commanding.command(configuration, checked, "erp", "retry", {"ids": [1]}, timeout)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commanding, "EVERY", 0.001)


def test_the_workers_result_comes_back() -> None:
    control = FakeControl(answer=DONE)
    assert run(control) == {"applied": [1]}
    assert control.submitted[0].arguments == {"ids": [1]}
    assert control.submitted[0].actor == commanding.actor()


def test_the_actor_is_the_operating_systems_user(monkeypatch: pytest.MonkeyPatch) -> None:
    name = commanding.actor()
    monkeypatch.setenv("LOGNAME", "somebody_else")
    monkeypatch.setenv("USER", "somebody_else")
    assert getpass.getuser() == "somebody_else"
    assert commanding.actor() == name


def test_a_failed_command_is_an_error_with_the_workers_words() -> None:
    failed = replace(DONE, state="failed", result={"error": "a reason is required"})
    with pytest.raises(CdcError, match="a reason is required"):
        run(FakeControl(answer=failed))


def test_a_worker_that_does_not_get_to_it_in_time_is_try_later() -> None:
    with pytest.raises(Retryable, match=r"command 5 is still pending after 0\.05 s"):
        run(FakeControl(), timeout=0.05)


def test_without_a_worker_it_is_carried_out_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def carry_out(configuration: Configuration, pipeline: str) -> None:
        asked.append(pipeline)

    monkeypatch.setattr(commanding, "_carry_out", carry_out)
    assert run(FakeControl(alive=False, answer=DONE)) == {"applied": [1]}
    assert asked == ["erp"]


def test_who_is_fenced_waits_for_the_holder_and_names_it_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commanding, "_carry_out", lambda *_: Fenced("held by erp-1:77"))
    assert run(FakeControl(alive=False, answer=DONE, looks=4)) == {"applied": [1]}
    with pytest.raises(Retryable, match="held by erp-1:77"):
        run(FakeControl(alive=False), timeout=0.05)


def test_what_cannot_be_carried_out_here_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next worker would do what the user was told had failed."""

    def refuse(*_: object) -> None:
        raise Unreachable("the source does not answer")

    monkeypatch.setattr(commanding, "_carry_out", refuse)
    control = FakeControl(alive=False)
    with pytest.raises(Unreachable, match="does not answer"):
        run(control)
    assert control.withdrawn == [(5, "the source does not answer")]


def test_a_pipeline_that_is_not_configured_is_refused() -> None:
    control = FakeControl()
    with pytest.raises(CdcError, match="not configured"):
        commanding.command(cast(Configuration, Configured()), control, "crm", "retry", {}, 1.0)
    assert control.submitted == []
