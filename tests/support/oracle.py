"""PostgreSQL as the oracle for values: results come as the server's own text."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import psycopg
from psycopg.pq import ExecStatus

SETTINGS = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';"
    "SET extra_float_digits = 3; SET bytea_output = 'hex'"
)


class Refused(Exception):
    """The server raised an error for this statement."""


class Oracle:
    """Answers in text format, byte by byte what logical replication would send."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute(SETTINGS.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def rows(
        self, statement: str, params: Sequence[bytes | None] = ()
    ) -> list[tuple[bytes | None, ...]]:
        """The rows of a query with ``$1`` parameters. Raises Refused."""
        result = self._connection.pgconn.exec_params(statement.encode(), list(params) or None)
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise Refused(result.error_message.decode())
        return [
            tuple(result.get_value(row, column) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    def value(self, statement: str, params: Sequence[bytes | None] = ()) -> bytes | None:
        """The only value of a query. Raises Refused."""
        return self.rows(statement, params)[0][0]
