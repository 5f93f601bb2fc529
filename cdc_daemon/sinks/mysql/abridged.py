"""A parked change without the values for which a packet of the server has no room.

A value goes whole or stays whole. What the new image lacks is marked, so that nobody takes it for
unchanged: a replay reads the row again. Values as short as a key can be are never left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from cdc_daemon.model.changes import LEFT_OUT
from cdc_daemon.model.effects import Parked
from cdc_daemon.model.errors import Stop
from cdc_daemon.sinks.mysql.names import KEY_BYTES
from cdc_daemon.sinks.mysql.transaction import RAISE_PACKET, TooLong

_MARK = {"invalid": "", "reason": LEFT_OUT}
_CURE = (
    "raise max_allowed_packet at the control database and start cdc-daemon anew: then a retry reads"
    " the row again"
)


class Abridging:
    """One change, and which of its columns it lacks by now."""

    def __init__(self, change: Parked) -> None:
        self._change = change
        self._payload = dict(change.payload)
        self._lacking: dict[str, None] = {}

    def shorten(self, error: TooLong) -> Parked:
        """The change without its largest value. Raises Stop where none can be left out."""
        size, image, column = max(self._sizes(), default=(0, "", ""))
        if size <= KEY_BYTES:
            raise Stop(
                f"A change of {self._change.table} cannot be parked: without its large values, too,"
                f" it is larger than the {error.most:,} bytes that the control database takes.",
                hint=RAISE_PACKET,
            ) from error
        values = dict(self._image(image))
        if image == "new":
            values[column] = _MARK
        else:
            del values[column]
        self._payload[image] = values
        self._lacking[column] = None
        words = f"{self._change.error_message}; left out here: {', '.join(self._lacking)}; {_CURE}"
        return replace(self._change, payload=self._payload, error_message=words)

    def _sizes(self) -> Iterator[tuple[int, str, str]]:
        """(characters, image, column) of each value; a key that stands alone is not asked for."""
        for image in ("new", *(["old"] if self._payload.get("old_full") else [])):
            for column, value in self._image(image).items():
                yield len(json.dumps(value)), image, column

    def _image(self, name: str) -> dict[str, object]:
        found = self._payload.get(name)
        return found if isinstance(found, dict) else {}
