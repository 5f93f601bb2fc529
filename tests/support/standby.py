"""A physical standby of a private server, to be promoted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import make_conninfo

from cdc_daemon.demo.server import PrivatePostgres
from tests.support.waiting import until

PHYSICAL_SLOT = "standby"


@contextmanager
def standby_of(primary: PrivatePostgres, *, synced: bool) -> Iterator[PrivatePostgres]:
    """It streams from the primary; `synced`: logical slots with failover are copied to it."""
    standby = PrivatePostgres(primary.version)
    primary.execute(f"SELECT pg_create_physical_replication_slot('{PHYSICAL_SLOT}', true)")
    backup = ["-D", str(standby.data_dir), "-d", primary.dsn(), "-c", "fast", "-X", "stream"]
    done = standby._run("pg_basebackup", [*backup, "-R", "-S", PHYSICAL_SLOT])
    assert done.returncode == 0, done.stdout.decode()
    reached = make_conninfo(primary.dsn(), dbname="postgres")
    with (standby.data_dir / "postgresql.auto.conf").open("a") as file:
        file.write(f"\nprimary_conninfo = '{reached}'\nhot_standby_feedback = on\n")
        if synced:
            file.write("sync_replication_slots = on\n")
    with standby:
        yield standby


def caught_up(primary: PrivatePostgres, standby: PrivatePostgres) -> None:
    """Until the standby has replayed what the primary has written by now."""
    ((end,),) = primary.execute("SELECT pg_current_wal_lsn()::text")
    until(
        lambda: standby.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (end,))[0][0],
        what="the standby has replayed all",
    )
