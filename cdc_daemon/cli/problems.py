"""Problems of many places, collected so that all of them are told at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType

from cdc_daemon.cli.output import words
from cdc_daemon.model.errors import (
    EXIT_CONFIGURATION,
    EXIT_OK,
    EXIT_UNREACHABLE,
    ConfigurationError,
    Problem,
    Unreachable,
)


@dataclass(slots=True)
class Found:
    """What was found wrong so far."""

    problems: list[Problem] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def __enter__(self) -> Found:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Note configuration errors and silent servers, and go on behind the block."""
        match error:
            case ConfigurationError():
                self.problems += error.problems
            case Unreachable():
                self.unreachable.append(error.message)
            case _:
                return False
        return True

    @property
    def exit_code(self) -> int:
        """78 before 69: what can be corrected comes first."""
        if self.problems:
            return EXIT_CONFIGURATION
        return EXIT_UNREACHABLE if self.unreachable else EXIT_OK

    def say(self) -> None:
        """Each on a line of its own, on stderr; what was found twice once."""
        from cdc_daemon.telemetry import redact_text

        lines = [f"warning: {warning}" for warning in self.warnings]
        lines += [f"error: {problem}" for problem in self.problems]
        lines += [f"error: {message}" for message in self.unreachable]
        for line in dict.fromkeys(lines):
            words(redact_text(line))

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "problems": [as_json(problem) for problem in dict.fromkeys(self.problems)],
            "unreachable": list(dict.fromkeys(self.unreachable)),
            "warnings": [as_json(warning) for warning in self.warnings],
        }


def as_json(problem: Problem) -> dict[str, str]:
    """One problem, JSON-ready."""
    return {"where": problem.where, "what": problem.what, "cure": problem.cure}
