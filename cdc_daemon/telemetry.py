"""Structured logs on stderr: logfmt or JSON, one line an event, never a secret, never a row value.

Everything goes through one standard-library handler, so what libraries log looks the same. When
stderr is the systemd journal, lines carry its ``<priority>`` prefix and no time of their own.
Not in here: metrics (``admin``) and what is worth logging.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

LogFormat = Literal["auto", "logfmt", "json"]

_MASK = "***"
_SECRET_KEY = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|private_key|api_?key", re.I
)
_IN_URL = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s:/@]*):\S*@", re.I)
_IN_CONNINFO = re.compile(
    r"\b(?P<key>password|passwd|sslpassword)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)", re.I
)
_IN_DICT = re.compile(
    r"(?P<key>(?P<quote>['\"])\w*(?:passw(?:or)?d|passphrase|secret|token)(?P=quote)\s*:\s*)"
    r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")",
    re.I,
)
_NEXT = (  # what a value may be followed by; its own lines cannot be told from others
    r"\b(?:DETAIL|CONTEXT|QUERY|STATEMENT|HINT|LOCATION|SCHEMA NAME|TABLE NAME|COLUMN NAME):"
    r"|\n+(?:Traceback \(most|The above exception was|During handling of)|\Z"
)
_ABOUT_ROLES = r"\s+Only roles with "  # what right is missing: no value, and worth reading
_SERVER_VALUES = re.compile(
    rf"\b(?P<field>DETAIL|CONTEXT|QUERY|STATEMENT):(?!{_ABOUT_ROLES}).*?(?={_NEXT})", re.S
)
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}


def configure(
    level: str = "info", format: LogFormat = "auto", stream: TextIO | None = None
) -> None:
    """Send logs at or above ``level`` to ``stream`` (None: stderr). May be called again.

    ``auto`` is coloured text on a terminal, else logfmt.
    """
    out = stream or sys.stderr
    journal = _is_journal(out)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
    ]
    if not journal:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    shared += [structlog.processors.format_exc_info, redact]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _Renderer(format, out, journal=journal),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
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


def redact(logger: object, method: str, event: EventDict) -> EventDict:
    """Mask values under secret-sounding keys, passwords inside URLs and connection strings, and the
    parts of a server's error message that quote row values.
    """
    del logger, method
    return {key: _redacted(key, value) for key, value in event.items()}


def redact_text(text: str) -> str:
    """A text without passwords and without a server's quotes of row values."""
    text = _IN_URL.sub(rf"\g<scheme>\g<user>:{_MASK}@", text)
    text = _IN_CONNINFO.sub(rf"\g<key>={_MASK}", text)
    text = _IN_DICT.sub(rf"\g<key>'{_MASK}'", text)
    return _SERVER_VALUES.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    """A server's field without what it says; blanks and line ends behind it stay."""
    end = found[0][len(found[0].rstrip()) :]
    return f"{found['field']}: {_MASK}{end}"


def _redacted(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key):
        return _MASK if value else value
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {inner: _redacted(str(inner), found) for inner, found in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", found) for found in value]
    if isinstance(value, BaseException):
        return redact_text(str(value))
    return value


class _Renderer:
    """The last step: event to line."""

    def __init__(self, format: LogFormat, stream: TextIO, *, journal: bool) -> None:
        self._journal = journal
        self._render: Any
        if format == "json":
            self._render = structlog.processors.JSONRenderer(ensure_ascii=False)
        elif format == "auto" and stream.isatty():
            plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
            self._render = structlog.dev.ConsoleRenderer(
                colors=not plain, exception_formatter=structlog.dev.plain_traceback
            )
        else:
            self._render = structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "logger", "event"],
                drop_missing=True,
                bool_as_flag=False,
            )

    def __call__(self, logger: Any, method: str, event: EventDict) -> str:
        priority = f"<{_PRIORITIES.get(event.get('level', ''), 6)}>" if self._journal else ""
        return priority + str(self._render(logger, method, event))


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream is the one that systemd connected to the journal (``device:inode``)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
