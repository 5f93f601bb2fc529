"""``status``: where every pipeline stands, from the control database and from a running daemon.

The control database says what is committed and parked; the daemon's own page, where it answers,
says what goes on right now. Either alone is enough to answer.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import http.client
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import ago, print_json, print_table
from cdc_daemon.cli.problems import Found
from cdc_daemon.model.errors import EXIT_DIFFERENCE, EXIT_OK, CdcError
from cdc_daemon.model.findings import duration
from cdc_daemon.model.position import Checkpoint, Phase

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.model.ports import Verification

WORSE = ("degraded", "stalled", "blocked", "stopped")
"""States that somebody should look at, the worst last."""

_POSITION = 56  # characters of one: MySQL's first GTID, MariaDB's first domains

_HEAD = (
    "PIPELINE",
    "STATE",
    "LAG",
    "PARKED",
    "TRANSACTIONS",
    "CHANGES",
    "POSITION",
    "APPLIED",
    "VERIFIED",
    "SLOT LASTS",
    "NOTE",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One pipeline. ``live``: a daemon on this machine reports it; ``held``: a worker holds it.

    ``slot_seconds_if_stopped``: how long the daemon may be away until the source's slot is lost;
    ``findings``: what checks find amiss (see ``doctor``).
    """

    pipeline: str
    state: str
    live: bool
    held: bool | None
    phase: str | None = None
    position: str | None = None
    commit_time: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    transactions: int | None = None
    changes: int | None = None
    parked: int | None = None
    lag_seconds: float | None = None
    lag_bytes: int | None = None
    slot_status: str | None = None
    slot_safe_bytes: int | None = None
    slot_seconds_if_stopped: float | None = None
    log_bytes_per_second: float | None = None
    restarts: int | None = None
    error: str = ""
    findings: Sequence[Mapping[str, str]] = ()
    verification: str | None = None  # of the newest run: equal, different or failed
    verified_at: dt.datetime | None = None  # when the last one that did not fail ended
    differences: int | None = None  # that it found


@click.command()
@shared_options
@output_option
@click.option(
    "--fail-on",
    type=click.Choice(WORSE),
    help="Exit 3 if any pipeline is in this state or a worse one.",
)
@click.option(
    "--nagios", is_flag=True, help="One line as a monitoring plugin says it; exits 0, 1, 2 or 3."
)
@click.option(
    "--warning-lag",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="With --nagios: a lag that is a warning.",
)
@click.option(
    "--critical-lag",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="With --nagios: a lag that is critical.",
)
@pass_given
def status(
    given: Given,
    fail_on: str | None,
    nagios: bool,
    warning_lag: float | None,
    critical_lag: float | None,
) -> int:
    """Show where every pipeline stands."""
    if nagios:
        return _as_plugin(given, warning_lag, critical_lag)
    configuration = given.load_for_control()
    found, standings = look(configuration)
    found.say()
    live = any(one.live for one in standings)
    if given.output == "json":
        print_json([dataclasses.asdict(one) for one in standings])
    elif found.exit_code == EXIT_OK or live:
        print_table(_HEAD, [_row(one) for one in standings])
    if found.exit_code == EXIT_OK and fail_on and any(at_least(s, fail_on) for s in standings):
        return EXIT_DIFFERENCE
    return found.exit_code


def look(configuration: Configuration) -> tuple[Found, list[Standing]]:
    """What was found wrong on the way, and every pipeline as far as it is known."""
    live = ask_daemon(configuration.settings.metrics_host, configuration.settings.metrics_port)
    found = Found()
    standings = [standing(name, None, live.get(name), None, None) for name in configuration.sources]
    with found:
        standings = stand(configuration, live)
    return found, standings


def _as_plugin(given: Given, warning: float | None, critical: float | None) -> int:
    """Everything in one line on stdout: who calls a plugin reads nothing else."""
    from cdc_daemon.cli import nagios
    from cdc_daemon.telemetry import redact_text

    try:
        found, standings = look(given.load_for_control())
        unsaid = [*map(str, found.problems), *found.unreachable]
    except CdcError as error:
        unsaid, standings = [str(error)], []
    if unsaid and not any(one.live for one in standings):
        click.echo(redact_text(nagios.unknown(unsaid[0])))
        return nagios.UNKNOWN
    limits = nagios.Thresholds(warning=warning, critical=critical)
    code, line = nagios.report(standings, limits)
    click.echo(redact_text(line))
    return code


def stand(configuration: Configuration, live: Mapping[str, Mapping[str, Any]]) -> list[Standing]:
    """Every configured pipeline. Raises Unreachable, ConfigurationError."""
    from cdc_daemon import build

    control = build.make_control(configuration)
    try:
        checkpoints = {found.pipeline: found for found in control.checkpoints()}
        parked = control.parked()
        return [
            _with_verification(
                standing(
                    name,
                    checkpoints.get(name),
                    live.get(name),
                    control.holder_alive(name),
                    parked.get(name, 0),
                ),
                control.verification(name),
            )
            for name in configuration.sources
        ]
    finally:
        control.close()


def standing(
    name: str,
    checkpoint: Checkpoint | None,
    live: Mapping[str, Any] | None,
    held: bool | None,
    parked: int | None,
) -> Standing:
    """What is known of one pipeline."""
    known = Standing(
        pipeline=name, state="stopped", live=live is not None, held=held, parked=parked
    )
    if checkpoint is not None:
        known = dataclasses.replace(
            known,
            state=_state(checkpoint, held=bool(held), parked=bool(parked)),
            phase=checkpoint.phase.value,
            position=checkpoint.position,
            commit_time=checkpoint.commit_time,
            updated_at=checkpoint.updated_at,
            transactions=checkpoint.transactions,
            changes=checkpoint.changes,
        )
    if live is None:
        return known
    return dataclasses.replace(
        known,
        state=str(live["state"]),
        lag_seconds=live["lag_seconds"],
        lag_bytes=live["lag_bytes"],
        slot_status=(live["slot"] or {}).get("status"),
        slot_safe_bytes=(live["slot"] or {}).get("safe_bytes"),
        slot_seconds_if_stopped=live["slot_seconds_if_stopped"],
        log_bytes_per_second=live["log_bytes_per_second"],
        restarts=live["restarts"],
        error=str(live["error"]),
        findings=live["findings"],
        parked=sum(live["parked"].values()) if parked is None else parked,
    )


def _with_verification(known: Standing, found: Verification | None) -> Standing:
    """What is known of it, with how its newest verification went."""
    if found is None:
        return known
    rows = found.mappings.values()
    return dataclasses.replace(
        known,
        verification=found.state,
        verified_at=found.last_finished,
        differences=sum(one["missing"] + one["extra"] + one["different"] for one in rows),
    )


def ask_daemon(host: str, port: int, timeout: float = 2.0) -> dict[str, Mapping[str, Any]]:
    """What a daemon on this machine says of its pipelines; nothing where none answers."""
    if port == 0:
        return {}
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/status")
        return {view["pipeline"]: view for view in json.loads(connection.getresponse().read())}
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError):
        return {}
    finally:
        connection.close()


def _state(checkpoint: Checkpoint, *, held: bool, parked: bool) -> str:
    """The state as far as the control database alone tells it."""
    if not held:
        return "stopped"
    if checkpoint.phase is not Phase.STREAMING:
        return "starting" if checkpoint.phase is Phase.NEW else "snapshotting"
    return "degraded" if parked else "streaming"


def at_least(standing: Standing, level: str) -> bool:
    """Whether a pipeline is in this state or a worse one."""
    if standing.parked and level == "degraded":
        return True
    return standing.state in WORSE and WORSE.index(standing.state) >= WORSE.index(level)


def _verified(standing: Standing) -> str | None:
    if standing.verification is None:
        return None
    return f"{standing.verification}, {ago(standing.verified_at)}"


def _row(standing: Standing) -> Sequence[object]:
    lag, lasts = standing.lag_seconds, standing.slot_seconds_if_stopped
    return (
        standing.pipeline,
        standing.state,
        None if lag is None else f"{lag:.3f} s",
        standing.parked,
        standing.transactions,
        standing.changes,
        _shortened(standing.position),
        ago(standing.updated_at),
        _verified(standing),
        None if lasts is None else duration(lasts),
        _note(standing),
    )


def _shortened(position: str | None) -> str | None:
    """A position as a table has room for it; ``checkpoint show`` and JSON have all of it."""
    if position is None or len(position) <= _POSITION:
        return position
    return position[: _POSITION - 1] + "…"


def _note(standing: Standing) -> str:
    """The last error, else the first thing that a check finds amiss."""
    if standing.error or not standing.findings:
        return standing.error.split("\n", 1)[0]
    first, *others = standing.findings
    more = f" (and {len(others)} more: cdc-daemon doctor)" if others else ""
    return f"{first['check']}: {first['what']}{more}"
