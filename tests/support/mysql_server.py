"""Private MySQL 9 servers for the tests: a real one, which `.ci/install-mysql` has unpacked.

`PrivateMySQL` runs it by the dynamic linker and the libraries that were unpacked with it, for they
are newer than this machine's; that needs no root. Its data directory is a copy of the one that lies
beside the programs, without `auto.cnf`: so every server draws a UUID of its own.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from cdc_daemon.demo.installation import Account, ServerError
from cdc_daemon.demo.mysql_family import FamilyServer, Programs, Replication, Setting

PLACE: Final = "CDC_TEST_MYSQL"
"""The environment variable that names another folder, for the script and here."""

_INSTRUMENTS: Final = {
    "max_table_instances": 200,
    "max_thread_instances": 100,
    "digests_size": 200,
    **{f"events_{name}_history_long_size": 10 for name in ("statements", "stages", "waits")},
    "events_transactions_history_long_size": 10,
}
"""Room for fewer of them: a server takes 270 MB instead of 490."""


class PrivateMySQL(FamilyServer):
    """One private MySQL server; see `FamilyServer`. With GTIDs, unless told."""

    defaults: ClassVar[Mapping[str, Setting]] = {
        "log_replica_updates": 1,
        "mysqlx": None,
        "secure_file_priv": "",
        "innodb_data_file_path": "ibdata1:12M:autoextend",
        "innodb_redo_log_capacity": "32M",
        "innodb_log_buffer_size": "1M",
        "table_open_cache": 400,
        "table_definition_cache": 400,
        **{f"performance_schema_{name}": size for name, size in _INSTRUMENTS.items()},
    }

    replication: ClassVar[Replication] = Replication(
        position="SELECT @@gtid_executed",
        wait="SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)",
        follow=(
            "STOP REPLICA; CHANGE REPLICATION SOURCE TO source_host = %s, source_port = %s,"
            " source_user = %s, source_password = %s, source_auto_position = 1,"
            " get_source_public_key = 1, source_connect_retry = 1; START REPLICA"
        ),
        promote="STOP REPLICA; RESET REPLICA ALL; SET GLOBAL read_only = 0",
    )

    def __init__(
        self,
        *,
        settings: Mapping[str, Setting] | None = None,
        password: str = "",
        gtid: bool = True,
    ) -> None:
        programs = find_mysql()
        if programs is None:
            raise ServerError("MySQL 9 was not found; .ci/install-mysql unpacks it.")
        mode = "ON" if gtid else "OFF"
        wanted = {"gtid_mode": mode, "enforce_gtid_consistency": mode, **(settings or {})}
        super().__init__(programs, settings=wanted, password=password)


@functools.cache
def find_mysql() -> Programs | None:
    """What the script unpacked, or None."""
    root = folder()
    linker = next(root.glob("usr/lib*/**/ld-linux*.so*"), None)
    libc = next(root.glob("usr/lib/*/libc.so.6"), None)
    if linker is None or libc is None or not (root / "template").is_dir():
        return None
    command = (str(linker), "--library-path", str(libc.parent), str(root / "usr/sbin/mysqld"))
    told = subprocess.run(
        [*command, "--no-defaults", "--version"], capture_output=True, text=True, check=True
    )
    version = re.search(r"Ver ([\d.]+)", told.stdout)

    def template(account: Account) -> Path:
        assert account is not None
        return root / "template"

    return Programs(
        name=f"MySQL {version[1]}" if version else "MySQL",
        command=command,
        template=template,
        options={"basedir": str(root / "usr")},
    )


def folder() -> Path:
    """Where the script puts it."""
    if named := os.environ.get(PLACE):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/cache/cdc-daemon/mysql-9")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "cdc-daemon", "mysql-9")
