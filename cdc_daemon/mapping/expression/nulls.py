"""Which parts of an expression can be NULL, so that the others need no test."""

from __future__ import annotations

from cdc_daemon.mapping.expression.typed import (
    Apply,
    Choose,
    Coalesce,
    Compare,
    Connect,
    Const,
    Distinct,
    Input,
    Is,
    Member,
    Not,
    Shared,
    Typed,
    Written,
)  # fmt: skip


class Nulls:
    """Answers for the nodes of one tree, each looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}

    def nullable(self, node: Typed) -> bool:
        """Whether the node can be NULL."""
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = self._may_be_null(node)
        return found

    def _may_be_null(self, node: Typed) -> bool:  # noqa: C901, PLR0911 - one arm per kind of node
        match node:
            case Const():
                return node.value is None
            case Is() | Distinct():
                return False
            case Apply(strict=True):
                return node.partial or any(map(self.nullable, node.operands))
            case Compare():
                return self.nullable(node.left) or self.nullable(node.right)
            case Connect():
                return any(map(self.nullable, node.operands))
            case Coalesce():
                return all(map(self.nullable, node.operands))
            case Choose():
                results = [result for _, result in node.whens]
                return any(map(self.nullable, (*results, node.default)))
            case Not() | Shared():
                return self.nullable(node.operand)
            case Written():
                return self.nullable(node.logic)
            case Input() | Apply() | Member():
                return True
