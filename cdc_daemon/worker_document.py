"""The document: what a worker is started with, from the supervisor through a pipe.

It holds secrets, and is never written anywhere else.
"""

from __future__ import annotations

import base64
import json
import pickle
import sys
from collections.abc import Mapping
from dataclasses import replace

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import SettingsConfig
from cdc_daemon.model.entities import connected
from cdc_daemon.model.errors import Retryable

SUPERVISORS: Mapping[str, object] = {
    name: SettingsConfig.model_fields[name].default
    for name in ("metrics_listen", "max_restarts", "restart_window_seconds")
}
"""Settings that a worker never looks at, as they stand in every document."""


def document(configuration: Configuration, name: str) -> dict[str, object]:
    """What one pipeline's worker is started with; it holds secrets and goes through a pipe only.

    Nothing in it that the pipeline does not need, so that another document means other work.
    """
    mappings = configuration.mappings_of(name)
    own = replace(
        configuration,
        sources={name: configuration.sources[name]},
        mappings=mappings,
        entities=connected(configuration.entities, {mapping.to for mapping in mappings}),
        settings=configuration.settings.model_copy(update=SUPERVISORS),
        notifications=None,
    )
    return {"configuration": base64.b64encode(pickle.dumps(own)).decode()}


def configuration_of(received: Mapping[str, object]) -> Configuration:
    """The inverse of :func:`document`; only ever fed by our own supervisor's pipe."""
    found = pickle.loads(base64.b64decode(str(received["configuration"])))  # noqa: S301
    assert isinstance(found, Configuration)
    return found


def received() -> Configuration:
    """The configuration in the document on stdin. Raises Retryable where it ends too early."""
    try:
        return configuration_of(json.loads(sys.stdin.readline()))
    except ValueError:  # of json and of unicode; without its words, which quote the document
        raise Retryable(
            "the document was cut short: the daemon ended while it wrote it",
            hint="nothing to do; who starts the daemon again starts this too",
        ) from None


def same_work(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two documents mean the same, wherever in the files it is written."""
    first, second = configuration_of(one), configuration_of(other)
    unplaced: dict[str, object] = {"places": {}, "files": (), "warnings": ()}
    logs = {"log_level": "info", "log_format": "auto", "log_file": None}  # changed as it runs
    return _without(first, logs, unplaced) == _without(second, logs, unplaced)


def _without(
    configuration: Configuration, settings: Mapping[str, object], fields: Mapping[str, object]
) -> Configuration:
    plain = configuration.settings.model_copy(update=dict(settings))
    return replace(configuration, settings=plain, **fields)  # type: ignore[arg-type]
