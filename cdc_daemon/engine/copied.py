"""Whether the rows in the control database were made by the mappings of now.

A mapping that is new, or that tells rows apart otherwise than the one they were copied by, is
refused: rows of its table would be missing, and deletes would find nothing. Another condition or
other fields are followed from now on, and said: what was written before stays until it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cdc_daemon.model.errors import Problem
from cdc_daemon.model.ports import CopiedMapping


def misfits(
    pipeline: str, then: Mapping[str, CopiedMapping], now: Mapping[str, CopiedMapping]
) -> Iterator[Problem]:
    """Mappings of now that the rows of then do not fit. Where nothing was ever noted (a ledger of
    before) nobody can tell."""
    for name, one in now.items() if then else ():
        before = then.get(name)
        if before is None:
            yield Problem(
                what=f"mapping {name} is new: the rows that its table had before were never copied",
                cure=_again(pipeline),
            )
        elif before.shape != one.shape:
            yield Problem(
                what=f"mapping {name} has another table, entity, key or identity than when its"
                " rows were copied",
                cure=f"put it back, or: {_again(pipeline)}",
            )
        elif one.referenced and not before.referenced:
            yield Problem(
                what=f"mapping {name} keeps references now, which the rows copied without them"
                " do not have",
                cure=_again(pipeline),
            )


def altered(then: Mapping[str, CopiedMapping], now: Mapping[str, CopiedMapping]) -> list[str]:
    """Mappings whose conditions or fields are others than then."""
    return [name for name, one in now.items() if name in then and then[name].version != one.version]


def _again(pipeline: str) -> str:
    return f"copy everything anew: cdc-daemon snapshot start {pipeline}"
