"""Which tables and columns are read so that foreign keys can be followed. Pure.

Every table at either end of a key that acts is decoded: mapped ones with the columns of their keys
besides those that are mapped, the others with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cdc_daemon.model.cascades import Action, Cascade
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.catalog import Name, TableFacts
from cdc_daemon.sources.mysql.foreign_keys import ForeignKey

_ACTIONS: Final = {"": Action.NONE, "CASCADE": Action.CASCADE, "SET NULL": Action.SET_NULL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """The keys that are followed, and what is read for it.

    ``columns``: by table, those that take part in a key.
    """

    keys: tuple[Cascade, ...] = ()
    columns: Mapping[Name, frozenset[str]] = field(default_factory=dict)

    @property
    def children(self) -> frozenset[Name]:
        """The tables whose rows refer."""
        return frozenset(key.child for key in self.keys)

    def tables(
        self, mapped: Sequence[Table], facts: Mapping[Name, TableFacts]
    ) -> tuple[Table, ...]:
        """What is read: the mapped tables, wider where keys need that, then the others."""
        names = {(table.schema, table.name) for table in mapped}
        found = [
            replace(
                table,
                columns=table.columns | self.columns.get((table.schema, table.name), frozenset()),
            )
            for table in mapped
        ]
        others = sorted(self.columns.keys() - names)
        return (*found, *(self._beside(name, facts.get(name)) for name in others))

    def _beside(self, name: Name, facts: TableFacts | None) -> Table:
        columns = self.columns[name]
        identity = (facts.primary_key if facts else ()) or tuple(sorted(columns))
        return Table(
            schema=name[0],
            name=name[1],
            columns=columns | set(identity),
            identity=identity,
            mapped=False,
        )


def followed(
    keys: Iterable[ForeignKey], facts: Mapping[Name, TableFacts], *, fold: bool
) -> Followed:
    """The keys in the catalogue's spelling of tables and columns.

    ``fold``: whether the server compares names of tables regardless of case.
    """
    known = {_folded(name, fold=fold): name for name in facts}

    def table(name: Name) -> Name:
        return known.get(_folded(name, fold=fold), name)

    found, columns = [], dict[Name, set[str]]()
    for key in keys:
        child, parent = table(key.child), table(key.parent)
        one = Cascade(
            child=child,
            columns=_columns(facts.get(child), key.columns),
            parent=parent,
            parent_columns=_columns(facts.get(parent), key.parent_columns),
            on_delete=_ACTIONS[key.on_delete],
            on_update=_ACTIONS[key.on_update],
        )
        found.append(one)
        columns.setdefault(child, set()).update(one.columns)
        columns.setdefault(parent, set()).update(one.parent_columns)
    return Followed(
        keys=tuple(found), columns={name: frozenset(some) for name, some in columns.items()}
    )


def _folded(name: Name, *, fold: bool) -> Name:
    return (name[0].lower(), name[1].lower()) if fold else name


def _columns(facts: TableFacts | None, names: Sequence[str]) -> tuple[str, ...]:
    """Columns as their table spells them: the server compares them regardless of case."""
    known = {column.name.lower(): column.name for column in facts.columns} if facts else {}
    return tuple([known.get(name.lower(), name) for name in names])
