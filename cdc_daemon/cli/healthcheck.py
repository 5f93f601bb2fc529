"""``healthcheck``: whether a daemon on this machine is well, for containers and load balancers.

Asks the daemon's own page; connects to no database. Not in here: what is well (``admin.server``).
"""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote

import click

from cdc_daemon.cli.given import Given, pass_given, shared_options
from cdc_daemon.cli.output import words
from cdc_daemon.model.errors import EXIT_FAILED, EXIT_OK, CdcError


@click.command(
    epilog="Exits 0 or 1, as the HEALTHCHECK of a container wants it. Without --address the"
    " configuration says where the daemon listens."
)
@shared_options
@click.option(
    "--address",
    metavar="HOST:PORT",
    envvar="CDC_DAEMON_ADDRESS",
    show_envvar=True,
    help="Where the daemon listens; no file is read then.",
)
@click.option("--ready", is_flag=True, help="Whether all pipelines stream, not only that it lives.")
@click.option("--lag", metavar="60s", help="With --ready: the largest lag of a pipeline.")
@click.option("--timeout", type=click.FloatRange(0.1, 60.0), default=5.0, help="In seconds.")
@pass_given
def healthcheck(
    given: Given, address: str | None, ready: bool, lag: str | None, timeout: float
) -> int:
    """Ask the running daemon whether it is well."""
    if lag is not None and not ready:
        raise click.UsageError("--lag needs --ready")
    path = f"/readyz{f'?lag={quote(lag)}' if lag else ''}" if ready else "/healthz"
    try:
        host, port = _split(address) if address else _configured(given)
    except CdcError as error:
        words(f"error: {str(error).splitlines()[0]}")
        return EXIT_FAILED
    healthy, answer = ask(host, port, path, timeout)
    words(answer)
    return EXIT_OK if healthy else EXIT_FAILED


def ask(host: str, port: int, path: str, timeout: float) -> tuple[bool, str]:
    """Whether the page says yes, and its answer in a line."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        return False, f"error: no answer from {host}:{port}: {_reason(error)}"
    finally:
        connection.close()
    return answer.status == http.HTTPStatus.OK, _shown(body)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _shown(body: bytes) -> str:
    """A JSON answer in one line; anything else comes from no daemon of ours."""
    try:
        return json.dumps(json.loads(body), ensure_ascii=False)
    except ValueError:
        return "error: what answers there is no cdc-daemon"


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise click.UsageError(f"{address!r} is no address: write host:port")
    return host.strip("[]"), int(port)


def _configured(given: Given) -> tuple[str, int]:
    """Where the configuration has the daemon listen. Raises ConfigurationError."""
    from cdc_daemon.model.errors import ConfigurationError

    settings = given.load(resolve_secrets=False).settings
    if settings.metrics_port == 0:
        raise ConfigurationError(
            "daemon.metrics_listen takes a free port, which nobody can know: name one"
        )
    return settings.metrics_host, settings.metrics_port
