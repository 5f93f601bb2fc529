"""What a verification found: numbers, content hashes, and some keys. Never a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cdc_daemon.model.errors import EXIT_DIFFERENCE, EXIT_OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row that is not equal.

    ``kind``: missing, extra, different, moving or parked. ``key``: the entity key, or, for a row of
    the source that has none, its identity there (``of_source``). ``source_row``: the identity of
    the row in the source, of an extra one that which it came from; empty where that is not known.
    ``attributes``: which of them differ. ``reason``: why the mapping cannot carry the row,
    ``attribute: code``.
    """

    kind: str
    key: tuple[str, ...]
    of_source: bool = False
    source_row: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingReport:
    """One mapping's rows, compared.

    ``source``: rows that the mapping carries, ``target``: living rows of the entity. ``missing``:
    in the source only, ``extra``: in the target only, ``different``: in both. ``moving`` rows kept
    changing while they were read again, ``parked`` ones stand in the failure queue, ``kept`` ones
    stay in the target on purpose (``ignore``). The hashes are sha256 over the canonical rows in key
    order as first read; rows kept on purpose, and such as the mapping rejects, are left out.
    """

    mapping: str
    entity: str
    source: int
    target: int
    match: int
    missing: int = 0
    extra: int = 0
    different: int = 0
    moving: int = 0
    parked: int = 0
    kept: int = 0
    source_hash: str = ""
    target_hash: str = ""
    examples: tuple[Example, ...] = ()

    @property
    def differences(self) -> int:
        """Rows that are really not equal."""
        return self.missing + self.extra + self.different

    @property
    def equal(self) -> bool:
        """Whether nothing is really different; rows may still be moving or parked."""
        return self.differences == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All mappings compared. ``behind``: pipelines that had not applied what the source said when
    it was read, so that their differences may be mere lag."""

    mappings: tuple[MappingReport, ...]
    behind: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def equal(self) -> bool:
        """Whether no mapping has a real difference."""
        return all(mapping.equal for mapping in self.mappings)

    @property
    def exit_code(self) -> int:
        """0, or 3 for a real difference."""
        return EXIT_OK if self.equal else EXIT_DIFFERENCE

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        return {
            "equal": self.equal,
            "behind": list(self.behind),
            "seconds": round(self.seconds, 3),
            "mappings": [asdict(mapping) | {"equal": mapping.equal} for mapping in self.mappings],
        }
