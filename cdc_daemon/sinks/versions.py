"""The version of the ledger that this program reads and writes, the same on every sink.

``apply`` carries an older ledger forward; whoever works with one refuses every other version.
"""

from __future__ import annotations

LEDGER_VERSION = 4

OLDEST_LEDGER = 1
"""The oldest version that there is a way from."""

_APPLY = "stop the daemon and run cdc-daemon apply"
_NEWER = (
    "run the cdc-daemon that migrated it, or a newer one; the only way back is a backup of the "
    "control database from before"
)


def version_words(found: int) -> tuple[str, str] | None:
    """What is wrong with a ledger of that version, and the cure; None: nothing."""
    if found == LEDGER_VERSION:
        return None
    what = f"the ledger has version {found}, this program needs {LEDGER_VERSION}"
    return what, _NEWER if found > LEDGER_VERSION else _APPLY
