"""The daemon reaches source and control database through a fault proxy each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from psycopg.conninfo import make_conninfo

from tests.support.erp import Erp
from tests.support.fault_proxy import FaultProxy


class Links:
    """`source` and `target` are proxies; where the control database is a file, only the first.

    `all`: those there are.
    """

    def __init__(self, erp: Erp, stack: ExitStack) -> None:
        self._erp = erp
        self.source = self._between("source", erp.source.server.port, stack)
        self.all = [self.source]
        port = erp.kind.port
        if port is not None:
            self.all.append(self._between("target", port, stack))

    def _between(self, end: str, port: int, stack: ExitStack) -> FaultProxy:
        proxy = stack.enter_context(FaultProxy(port))
        self._erp.lead(end, proxy.port)
        return proxy

    @property
    def target(self) -> FaultProxy:
        """The proxy before the control database."""
        return self.all[1]


def through(dsn: str, proxy: FaultProxy) -> str:
    """The same database by way of the proxy, as a keyword string."""
    return make_conninfo(dsn, host="127.0.0.1", port=proxy.port)


@contextmanager
def linked(erp: Erp, **settings: Any) -> Iterator[Links]:
    """Put proxies between and write the configuration accordingly."""
    with ExitStack() as stack:
        links = Links(erp, stack)
        erp.configure(**settings)
        yield links
