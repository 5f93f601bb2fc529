"""The PostgreSQL versions that tests of a source run on.

18 and 15 always; whatever else the environment variable ``CDC_TEST_POSTGRES_BINARIES`` names.
"""

from __future__ import annotations

from typing import Final

import pytest

from cdc_daemon.demo.installation import from_environment

ALWAYS: Final = (15, 18)
OTHERS: Final = tuple(sorted({found.version for found in from_environment()} - set(ALWAYS)))
VERSIONS: Final = (*ALWAYS, *OTHERS)
NEWEST: Final = (
    18,
    *(pytest.param(version, marks=pytest.mark.acceptance) for version in VERSIONS if version != 18),
)
"""The newest version; the others too in `make acceptance`."""
