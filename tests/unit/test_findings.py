"""What follows from what checks found: refusing, telling once, clocks, encryption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import structlog
from structlog.testing import capture_logs

from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.watching import Watching
from cdc_daemon.model.errors import (
    CdcError,
    ConfigurationError,
    NotAdmitted,
    PreflightRefusal,
    Problem,
    Retryable,
    Stop,
    Unreachable,
)
from cdc_daemon.model.findings import (
    CannotLook,
    Check,
    Finding,
    Note,
    Verdict,
    clock_note,
    duration,
    ok,
    problem,
    problems,
    refusal,
    refusals,
    run,
    tls_note,
    warning,
)

Look = Callable[[None], Iterator[Note]]


@pytest.fixture(autouse=True)
def every_level() -> None:
    """Whatever level a command of another test has left in this process."""
    structlog.reset_defaults()


def looking(*notes: Note, error: Exception | None = None) -> Look:
    def look(_: None) -> Iterator[Note]:
        yield from notes
        if error is not None:
            raise error

    return look


def made(
    name: str, *notes: Note, error: Exception | None = None, refuses: bool = True
) -> Check[None]:
    look = looking(*notes, error=error)
    return Check(name=name, title=f"{name} is well", why="else", look=look, refuses=refuses)


def found(*checks: Check[None]) -> list[Finding]:
    return run(checks, None, "server", lambda _: nullcontext())


WRONG = problem("bad", "mend it", where="table x")


def test_every_check_is_made_whatever_the_others_find() -> None:
    lacking = ConfigurationError([Problem(what="no right", where="server", cure="GRANT it")])
    findings = found(
        made("a", WRONG, WRONG),
        made("b", ok("fine")),
        made("c", error=lacking),
        made("d", error=CannotLook("needs a")),
        made("e", error=Retryable("busy", hint="wait")),
        made("f"),
    )
    assert [(f.check.name, f.verdict.value, f.what, f.where, f.cure) for f in findings] == [
        ("a", "problem", "bad", "table x", "mend it"),
        ("b", "ok", "fine", "server", ""),
        ("c", "unknown", "cannot look: no right", "server", "GRANT it"),
        ("d", "unknown", "cannot look: needs a", "server", ""),
        ("e", "unknown", "cannot look: busy", "server", "wait"),
        ("f", "ok", "as it should be", "server", ""),
    ]


def test_a_server_that_falls_silent_ends_it() -> None:
    findings = found(made("a"), made("b", error=Unreachable("gone")), made("c"))
    assert [f.verdict for f in findings] == [Verdict.OK, Verdict.UNREACHABLE]
    with pytest.raises(Unreachable, match="gone"):
        refusals(findings)


def test_a_worker_refuses_problems_and_what_it_cannot_see() -> None:
    unseen = made("unseen", error=CannotLook("no"))
    assert [p.what for p in refusals(found(made("a", WRONG), unseen))] == ["bad"]
    assert [p.what for p in refusals(found(unseen))] == ["cannot look: no"]
    assert refusals(found(made("a", warning("hm", "do")))) == []


def test_a_worker_waits_for_what_may_pass() -> None:
    waiting = made("a", WRONG, refuses=False)
    unseen = made("b", error=CannotLook("no"), refuses=False)
    assert refusals(found(waiting, unseen)) == []


def refused(*checks: Check[None]) -> CdcError:
    error = refusal(found(*checks))
    assert error is not None
    return error


LOCKED_OUT = NotAdmitted([Problem(what="password authentication failed", where="server", cure="")])


def test_who_was_let_in_before_learns_that_only_the_password_is_wrong() -> None:
    """So it tries again; with anything else wrong beside it, nothing is tried."""
    shut = made("shut", *problems(LOCKED_OUT.problems, LOCKED_OUT))
    behind = made("behind", error=CannotLook("see shut"))
    assert type(refused(shut, behind)) is NotAdmitted
    assert type(refused(made("unseen", error=LOCKED_OUT), behind)) is NotAdmitted
    assert type(refused(shut, made("a", WRONG))) is PreflightRefusal
    assert refusal(found(made("a", warning("hm", "do")))) is None


def test_a_start_that_cannot_look_ends_by_the_reason() -> None:
    lacking = made("right", error=ConfigurationError("no right"))
    odd = made("odd", error=Stop("could not open relation with OID 5"))
    busy = made("busy", error=Retryable("busy"))
    behind = made("behind", error=CannotLook("see odd"))
    assert type(refused(lacking, odd, busy)) is PreflightRefusal
    assert refused(odd, behind).exit_code == 1
    assert "OID 5" in str(refused(odd, behind))
    assert type(refused(busy, odd)) is Retryable
    assert type(refused(behind)) is PreflightRefusal


# --- watching -------------------------------------------------------------------------------------


def test_a_finding_is_told_when_it_comes_and_when_it_goes() -> None:
    meter = Meter("erp")
    watching = Watching("erp", meter)
    with capture_logs() as logs:
        watching.judge(found(made("a", warning("5 left", "act")), made("b")))
        watching.judge(found(made("a", warning("4 left", "act"))))
        watching.judge(found(made("b", warning("new", "see"))))
        (first, second) = meter.status().findings
        assert (first["check"], first["what"], second["check"]) == ("a", "4 left", "b")
        watching.judge(found(made("a"), made("b", warning("new", "see"))))
    assert [(line["event"], line["check"]) for line in logs] == [
        ("check failed", "a"),
        ("check failed", "b"),
        ("check passed again", "a"),
    ]
    assert logs[0]["cure"] == "act"
    assert [one["check"] for one in meter.status().findings] == ["b"]


def test_what_is_refused_is_told_by_the_refusal() -> None:
    watching = Watching("erp", Meter("erp"))
    with capture_logs() as logs, pytest.raises(PreflightRefusal, match="mend it"):
        watching.judge(found(made("a", WRONG)))
    assert logs == []


ODD = Stop("could not open relation with OID 5")


@pytest.mark.parametrize(
    "error, ends",
    [(ODD, Stop), (ConfigurationError("no right"), Stop), (Retryable("busy"), Retryable)],
)
def test_a_running_worker_that_cannot_look_looks_again(
    error: CdcError, ends: type[CdcError]
) -> None:
    """Twice; not being able to see one thing does not excuse what is seen of another."""
    watching = Watching("erp", Meter("erp"))
    blind, well = found(made("a", error=error), made("b")), found(made("a"), made("b"))
    with capture_logs() as logs:
        for findings in (blind, blind, well, blind, blind):
            watching.watch(findings)
            watching.watch(found(made("target")))
        with pytest.raises(ends) as stopped:
            watching.watch(blind)
    assert type(stopped.value) is ends
    assert stopped.value.exit_code != 78
    assert [line["event"] for line in logs] == [
        "check failed",
        "check passed again",
        "check failed",
    ]
    with pytest.raises(PreflightRefusal, match="mend it"):
        watching.watch(found(made("a", error=error), made("b", WRONG)))


# --- clocks, ways, words --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked, answered, said, words",
    [
        (100.0, 100.2, 100.1, "within 0.100 s"),
        (100.0, 100.0, 103.0, "3.0 s ahead of"),
        (100.0, 100.0, 90.0, "10.0 s behind"),
        (100.0, 110.0, 109.0, "within"),  # a slow answer proves nothing
    ],
)
def test_clocks(asked: float, answered: float, said: float, words: str) -> None:
    note = clock_note(asked, answered, said)
    assert words in note.what
    assert (note.verdict is Verdict.OK) == ("within" in words)


@pytest.mark.parametrize(
    "encrypted, loopback, mode, verdict, words",
    [
        (False, True, "disable", Verdict.OK, "stays on this machine"),
        (False, False, "prefer", Verdict.WARNING, "unencrypted"),
        (True, False, "require", Verdict.WARNING, "does not check whom it reaches"),
        (True, False, "verify-ca", Verdict.WARNING, "does not check whom it reaches"),
        (True, False, "verify-full", Verdict.OK, "were checked"),
    ],
)
def test_encryption(
    encrypted: bool, loopback: bool, mode: str, verdict: Verdict, words: str
) -> None:
    note = tls_note(encrypted=encrypted, loopback=loopback, mode=mode)
    assert note.verdict is verdict
    assert words in note.what


@pytest.mark.parametrize(
    "seconds, text",
    [(3, "3 s"), (119, "119 s"), (7_300, "2 h"), (200_000, "2 days"), (600, "10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
