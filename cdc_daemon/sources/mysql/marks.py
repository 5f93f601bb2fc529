"""A transaction's name as one number, which travels with its changes, and back as text."""

from __future__ import annotations

from cdc_daemon.sources.mysql.gtid import Gtid, Triple
from cdc_daemon.sources.mysql.position import FromFile


class Marks:
    """The numbers of one stream: the origin's place in a list above 64 bits of its own number."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._places: dict[object, int] = {}

    def number(self, gtid: Gtid | Triple | None, place: FromFile) -> int:
        """The number of a transaction; of one without a GTID, that of its place."""
        match gtid:
            case Gtid():
                return self._place(gtid.origin) << 64 | gtid.number
            case Triple():
                origin = (gtid.domain, gtid.server)
                return self._place(origin) << 64 | gtid.sequence
            case _:
                return self._place(place.file) << 64 | place.offset

    def _place(self, origin: object) -> int:
        found = self._places.get(origin)
        if found is None:
            found = self._places[origin] = len(self._names)
            name = f"{origin[0]}-{origin[1]}-" if isinstance(origin, tuple) else f"{origin}:"
            self._names.append(name)
        return found

    def text(self, mark: int) -> str:
        """``uuid:5``, ``0-1-5`` or ``file:offset``."""
        return f"{self._names[mark >> 64]}{mark & 0xFFFF_FFFF_FFFF_FFFF}"
