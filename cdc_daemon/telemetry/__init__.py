"""Structured logs: logfmt or JSON on stderr or in a file, or entries of the journal; one line an
event, never a secret, never a row value.

Everything goes through one standard-library handler, so what libraries log looks the same. Whoever
logs never waits for who reads (``outlet``). When stderr is the systemd journal, events go to it
with their fields, or, where a form was chosen, as lines with its ``<priority>`` prefix and no time
of their own. Not in here: metrics (``admin``) and what is worth logging.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from cdc_daemon.telemetry.destinations import Descriptor, RotatedFile, Text, check_log_file
from cdc_daemon.telemetry.journal import PRIORITIES, SOCKET, Journal, entry, is_journal, message_id
from cdc_daemon.telemetry.outlet import Destination, Outlet
from cdc_daemon.telemetry.redaction import redact, redact_text

__all__ = [
    "bind",
    "check_log_file",
    "configure",
    "flush",
    "get_logger",
    "message_id",
    "redact",
    "redact_text",
]

STDERR = 2
LAST_WORDS = 2.0  # seconds that a process waits at its end for its lines to be written
LOST = "log lines were dropped"


def configure(
    level: str = "info",
    format: str = "auto",
    stream: TextIO | None = None,
    file: str | None = None,
) -> None:
    """Send logs at or above ``level`` to ``file``, else to ``stream`` (None: stderr). May be called
    again: what was not yet written still goes where it was to go.

    ``format``: ``logfmt``, ``json`` or ``auto``: entries in the journal, coloured text on a
    terminal, else logfmt.
    """
    out = stream or sys.stderr
    form = _form(format, out, file)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
    ]
    if not form.journal:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    shared += [structlog.processors.format_exc_info, redact]
    handler = _Handler(_destination(form, out, file), form.encoding)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, form.render],
        )
    )
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [handler]
    for old in before:
        if isinstance(old, _Handler):
            old.close()
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # a closed stderr must not stop the daemon
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str, **fields: object) -> FilteringBoundLogger:
    """The logger of a module, with fields that all its events carry."""
    return cast(FilteringBoundLogger, structlog.stdlib.get_logger(name, **fields))


def bind(**fields: object) -> None:
    """Fields that every later event of this thread carries (``pipeline=...``)."""
    structlog.contextvars.bind_contextvars(**fields)


def flush(seconds: float = LAST_WORDS) -> None:
    """Wait until what was logged is written, so long at most."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.outlet.flush(seconds)


def dropped() -> int:
    """Lines that were logged since ``configure`` and could not be written."""
    handlers = logging.getLogger().handlers
    return sum(one.outlet.dropped for one in handlers if isinstance(one, _Handler))


class _Handler(logging.Handler):
    """Renders in the thread that logs, and leaves the writing to the outlet's."""

    def __init__(self, destination: Destination, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding
        self.outlet = Outlet(destination, self._lost)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.outlet.put(self._line(record))
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)

    def close(self) -> None:
        super().close()
        self.outlet.close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(self._encoding, "backslashreplace")

    def _lost(self, lines: int) -> bytes:
        """The line that tells how many lines there is no trace of."""
        fields = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
        return self._line(logging.makeLogRecord({**fields, "msg": LOST, "lines": lines}))


# --- how a line looks -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """``journal``: entries of it or lines in it; ``native``: entries."""

    render: Callable[[Any, str, EventDict], str]
    journal: bool = False
    native: bool = False

    @property
    def encoding(self) -> str:
        """A formatter must return text, and an entry is bytes: each as the character it numbers."""
        return "latin-1" if self.native else "utf-8"


def _form(format: str, stream: TextIO, file: str | None) -> _Form:
    journal = file is None and is_journal(stream)
    if journal and format == "auto" and SOCKET.exists():
        return _Form(render=_as_entry, journal=True, native=True)
    renderer: Any
    if format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    elif format == "auto" and file is None and stream.isatty():
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        renderer = structlog.dev.ConsoleRenderer(
            colors=not plain, exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = _logfmt("timestamp", "level", "logger", "event")

    def render(logger: Any, method: str, event: EventDict) -> str:
        priority = f"<{PRIORITIES.get(event.get('level', ''), 6)}>" if journal else ""
        return f"{priority}{renderer(logger, method, event)}\n"

    return _Form(render=render, journal=journal)


def _logfmt(*first: str) -> structlog.processors.LogfmtRenderer:
    return structlog.processors.LogfmtRenderer(
        key_order=first, drop_missing=True, bool_as_flag=False
    )


_BESIDE_THE_EVENT = _logfmt()


def _as_entry(logger: Any, method: str, event: EventDict) -> str:
    """The event as an entry of the journal; its message is the event and its values as logfmt."""
    values = {k: v for k, v in event.items() if k not in {"event", "level", "logger"}}
    told = _BESIDE_THE_EVENT(logger, method, values)
    return entry(event, f"{event.get('event', '')} {told}".rstrip()).decode("latin-1")


def _destination(form: _Form, stream: TextIO, file: str | None) -> Destination:
    if file is not None:
        return RotatedFile(Path(file), complain_to=STDERR)
    if form.native:
        return Journal(SOCKET)
    try:
        return Descriptor(stream.fileno())
    except (OSError, ValueError):
        return Text(stream)


atexit.register(flush)
