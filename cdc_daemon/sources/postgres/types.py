"""PostgreSQL types (oid and type modifier) as neutral column types.

The stream (Relation and Type messages) and the catalogue describe a column by the same two numbers,
so both come through :class:`Types` and arrive at equal descriptions. Types of extensions have no
number of their own, so they are known by name. Numbers: pg_type.dat; how a modifier packs precision
and scale: ``numeric_typmod_precision`` and ``_scale`` in numeric.c.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdc_daemon.model.changes import ColumnType

_PLAIN = {
    16: ("boolean", "boolean"),
    17: ("bytes", "bytea"),
    19: ("text", "name"),
    20: ("bigint", "bigint"),
    21: ("smallint", "smallint"),
    23: ("integer", "integer"),
    25: ("text", "text"),
    114: ("json", "json"),
    700: ("real", "real"),
    701: ("double", "double precision"),
    1082: ("date", "date"),
    1083: ("time", "time without time zone"),
    1114: ("timestamp", "timestamp without time zone"),
    1184: ("timestamptz", "timestamp with time zone"),
    1186: ("interval", "interval"),
    1266: ("timetz", "time with time zone"),
    2950: ("uuid", "uuid"),
    3802: ("jsonb", "jsonb"),
}
_NUMERIC, _MONEY_OID = 1700, 790
_UNSIGNED = {26: ("oid", 10), 28: ("xid", 10), 29: ("cid", 10), 5069: ("xid8", 20)}
_ARRAYS = {
    1000: 16, 1001: 17, 1003: 19, 1005: 21, 1007: 23, 1009: 25, 1014: 1042, 1015: 1043, 1016: 20,
    1021: 700, 1022: 701, 1115: 1114, 1182: 1082, 1183: 1083, 1185: 1184, 1187: 1186, 1231: 1700,
    199: 114, 2951: 2950, 3807: 3802,
}  # fmt: skip
_EXTENSIONS = ("citext", "hstore")
_CHARACTERS = {1042: ("char", "character"), 1043: ("varchar", "character varying")}
_HEADER = 4  # VARHDRSZ: what a length or numeric modifier is offset by


class Types:
    """What is known of one server's types: built-in ones, domains, and names of the others."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._elements: dict[int, int] = dict(_ARRAYS)
        self.codec = "utf-8"  # by which names in the log are read
        self.money_scale = 2  # digits after the point that the server's own sessions show
        self._domains: dict[int, tuple[int, int]] = {}

    def learn(self, rows: Iterable[tuple[int, str, int, int]]) -> None:
        """Take in the catalogue's (oid, formatted name, a domain's base oid or 0, its modifier)."""
        for oid, name, base, modifier in rows:
            self._names[oid] = name
            if base:
                self._domains[oid] = (base, modifier)

    def holds_money(self, oids: Iterable[int]) -> bool:
        """Whether one of these types is money, or a domain over it."""
        return any(self.column_type(oid, -1).name == "money" for oid in oids)

    def learn_arrays(self, rows: Iterable[tuple[int, int]]) -> None:
        """Take in the catalogue's (oid of an array type, oid of its elements' type)."""
        self._elements.update(rows)

    def name(self, oid: int, name: str) -> None:
        """Take in a Type message; what the catalogue said before goes first."""
        self._names.setdefault(oid, name)

    def column_type(self, oid: int, modifier: int) -> ColumnType:
        """The neutral type; a domain is what it is based on, an unknown type is ``other``."""
        while oid in self._domains:
            oid, inherited = self._domains[oid]
            modifier = modifier if modifier >= 0 else inherited
        if oid in _PLAIN:
            name, native = _PLAIN[oid]
            return ColumnType(name, native=native)
        if oid == _NUMERIC:
            return _numeric(modifier)
        if oid in _CHARACTERS:
            return _characters(oid, modifier)
        if oid in self._elements:
            return _array(self.column_type(self._elements[oid], modifier))
        return self._unnumbered(oid)

    def _unnumbered(self, oid: int) -> ColumnType:
        """Money, unsigned numbers, types of extensions, and whatever else there is."""
        if oid == _MONEY_OID:
            return ColumnType("money", None, self.money_scale, "money")
        if oid in _UNSIGNED:
            native, digits = _UNSIGNED[oid]
            return ColumnType("oid", digits, native=native)
        native = self._names.get(oid, f"type {oid}")
        name = native.rpartition(".")[2]
        return ColumnType(name if name in _EXTENSIONS else "other", native=native)


def _array(element: ColumnType) -> ColumnType:
    return ColumnType("array", native=f"{element}[]", element=element)


def _numeric(modifier: int) -> ColumnType:
    """``numeric`` or ``numeric(p,s)``; the scale is an 11-bit signed number."""
    if modifier < _HEADER:
        return ColumnType("numeric", native="numeric")
    packed = modifier - _HEADER
    precision = (packed >> 16) & 0xFFFF
    scale = ((packed & 0x7FF) ^ 0x400) - 0x400
    return ColumnType("numeric", precision, scale, f"numeric({precision},{scale})")


def _characters(oid: int, modifier: int) -> ColumnType:
    """``char(n)`` or ``varchar(n)``; without a modifier ``varchar`` is unlimited."""
    name, native = _CHARACTERS[oid]
    if modifier < _HEADER:
        return ColumnType(name, native=native)
    length = modifier - _HEADER
    return ColumnType(name, length, native=f"{native}({length})")
