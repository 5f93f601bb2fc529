"""Foreign keys by which the server changes rows of mapped tables, whether or not it logs that.

InnoDB carries out ON DELETE and ON UPDATE below the binary log: it holds the parent's change only
(MariaDB; MySQL before 9.6, and later with ``innodb_native_foreign_keys``). A parent's change may
itself come from a key, so keys are followed up to the tables that only statements change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.findings import CannotLook
from cdc_daemon.sources.mysql.asked import Answer, Ask, spelled
from cdc_daemon.sources.mysql.catalog import Name, each

_OF_TABLE: Final = "WHERE table_schema = %s AND table_name = %s"
_KEYS: Final = f"""
SELECT table_schema, table_name, constraint_name, ordinal_position, column_name,
       referenced_table_schema, referenced_table_name, referenced_column_name
FROM information_schema.key_column_usage {_OF_TABLE} AND referenced_table_name IS NOT NULL
"""
_RULES: Final = """
SELECT constraint_schema, table_name, constraint_name, delete_rule, update_rule
FROM information_schema.referential_constraints
WHERE constraint_schema = %s AND table_name = %s
"""
_ACTIONS: Final = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
_CONSTRAINT: Final = re.compile(r"^\s*CONSTRAINT `((?:[^`]|``)+)` FOREIGN KEY (.*)$", re.MULTILINE)
_QUOTED: Final = re.compile(r"`(?:[^`]|``)*`")
_RULE: Final = re.compile(r" ON (DELETE|UPDATE) (CASCADE|SET NULL|SET DEFAULT)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """``columns`` of ``child`` refer to ``parent_columns`` of ``parent``.

    ``on_delete``, ``on_update``: what happens to the child (CASCADE, SET NULL, SET DEFAULT; empty:
    nothing, the parent's change is refused).
    """

    name: str
    child: Name
    columns: tuple[str, ...]
    parent: Name
    parent_columns: tuple[str, ...]
    on_delete: str = ""
    on_update: str = ""

    @property
    def acts(self) -> bool:
        """Whether a change of the parent changes the child."""
        return bool(self.on_delete or self.on_update)

    def __str__(self) -> str:
        """As it is told: ``shop.line (order_id) follows shop.head: ON DELETE CASCADE``."""
        rules = [f"ON DELETE {self.on_delete}"] if self.on_delete else []
        rules += [f"ON UPDATE {self.on_update}"] if self.on_update else []
        columns = ", ".join(self.columns)
        said = f"{'.'.join(self.child)} ({columns}) follows {'.'.join(self.parent)}"
        return f"{said}: {' '.join(rules)}" if rules else said


def read_foreign_keys(ask: Ask, tables: Iterable[Name]) -> list[ForeignKey]:
    """All foreign keys of these tables, and those by which their parents change."""
    found: list[ForeignKey] = []
    seen: set[Name] = set()
    wanted = set(tables)
    while wanted:
        keys = list(_keys_of(ask, sorted(wanted)))
        seen |= wanted
        wanted = {key.parent for key in keys if key.acts} - seen
        found += keys
    return found


def acting(keys: Iterable[ForeignKey]) -> list[ForeignKey]:
    """The keys that change rows, in a fixed order."""
    return sorted((key for key in keys if key.acts), key=lambda key: (key.child, key.name))


def _keys_of(ask: Ask, tables: list[Name]) -> Iterator[ForeignKey]:
    parts: dict[tuple[str, str, str], list[Answer]] = {}
    for schema, table, name, *rest in each(ask, _KEYS, tables):
        parts.setdefault((schema, table, name), []).append(tuple(rest))
    rules = _rules(ask, sorted({key[:2] for key in parts}), set(parts))
    for key, rows in parts.items():
        rows.sort()
        on_delete, on_update = rules[key]
        yield ForeignKey(
            name=key[2],
            child=key[:2],
            columns=tuple(row[1] for row in rows),
            parent=(rows[0][2], rows[0][3]),
            parent_columns=tuple(row[4] for row in rows),
            on_delete=on_delete,
            on_update=on_update,
        )


def _rules(
    ask: Ask, tables: list[Name], keys: set[tuple[str, str, str]]
) -> dict[tuple[str, str, str], tuple[str, str]]:
    """ON DELETE and ON UPDATE of each key. Raises CannotLook where one is not told.

    MariaDB hides referential_constraints from who may only SELECT; it shows the statement that
    would create the table.
    """
    found = {
        (schema, table, name): (_action(on_delete), _action(on_update))
        for schema, table, name, on_delete, on_update in each(ask, _RULES, tables)
    }
    for child in sorted({key[:2] for key in keys - set(found)}):
        [(_, statement, *_)] = ask(f"SHOW CREATE TABLE {spelled(*child)}")
        for name, rules in rules_in(statement).items():
            found.setdefault((*child, name), rules)
    for schema, table, name in sorted(keys - set(found)):
        raise CannotLook(f"the server does not tell what key {name} of {schema}.{table} does")
    return found


def _action(rule: str) -> str:
    return rule if rule in _ACTIONS else ""


def rules_in(statement: str) -> dict[str, tuple[str, str]]:
    """ON DELETE and ON UPDATE of the constraints that SHOW CREATE TABLE shows, by name."""
    found = {}
    for name, rest in _CONSTRAINT.findall(statement):
        rules = dict(_RULE.findall(_QUOTED.sub("``", rest)))
        found[name.replace("``", "`")] = (rules.get("DELETE", ""), rules.get("UPDATE", ""))
    return found
