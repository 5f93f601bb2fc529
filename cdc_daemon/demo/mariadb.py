"""Private MariaDB servers, for the demo and the tests (Linux).

`PrivateMariaDB` runs the server that is installed on this machine (Debian: mariadb-server-core and
mariadb-client-core). Its data directory is initialised once a process (0.9 s) and then copied
(0.1 s), which is safe: MariaDB tells servers apart by `server_id`, and every server gets its own.
"""

import functools
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from cdc_daemon.demo.installation import Account, ServerError, workshop
from cdc_daemon.demo.mysql_family import FamilyServer, Programs, Replication, Setting

_PLACES: Final = "/usr/sbin:/usr/libexec:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/local/libexec"
_REDO_LOG: Final = "16M"
INSTALL_MARIADB: Final = "on Debian: sudo apt-get install mariadb-server-core mariadb-client-core"
_making = threading.Lock()


class PrivateMariaDB(FamilyServer):
    """One private MariaDB server; see `FamilyServer`. GTIDs are strict, in domain 0."""

    defaults: ClassVar[Mapping[str, Setting]] = {
        "gtid_strict_mode": 1,
        "log_slave_updates": 1,
        "innodb_log_file_size": _REDO_LOG,
        "key_buffer_size": "1M",
        "aria_pagecache_buffer_size": "8M",
    }

    replication: ClassVar[Replication] = Replication(
        position="SELECT @@gtid_binlog_pos",
        wait="SELECT MASTER_GTID_WAIT(%s, %s)",
        follow=(
            "STOP SLAVE; CHANGE MASTER TO master_host = %s, master_port = %s, master_user = %s,"
            " master_password = %s, master_use_gtid = slave_pos, master_connect_retry = 1;"
            " START SLAVE"
        ),
        promote="STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0",
    )

    def __init__(
        self, *, settings: Mapping[str, Setting] | None = None, password: str = ""
    ) -> None:
        programs = find_mariadb()
        if programs is None:
            raise ServerError(f"MariaDB's server programs were not found; {INSTALL_MARIADB}.")
        super().__init__(programs, settings=settings, password=password)


@functools.cache
def find_mariadb() -> Programs | None:
    """MariaDB's programs on this machine, or None."""
    server = shutil.which("mariadbd", path=_PLACES)
    if server is None or shutil.which("mariadb-install-db", path=_PLACES) is None:
        return None
    told = subprocess.run([server, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"([\d.]+)-MariaDB", told.stdout)
    name = f"MariaDB {version[1]}" if version else "MariaDB"
    return Programs(name=name, command=(server,), template=_template, options={})


def _template(account: Account) -> Path:
    """A data directory as mariadb-install-db makes it, made once a process."""
    folder = workshop() / "mariadb-template"
    with _making:
        if not folder.exists():
            _make_template(account, folder)
    return folder / "data"


def _make_template(account: Account, folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    account.own(partial)
    done = subprocess.run(
        [
            str(shutil.which("mariadb-install-db", path=_PLACES)),
            *("--no-defaults", f"--datadir={partial / 'data'}", f"--tmpdir={partial}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
            f"--innodb-log-file-size={_REDO_LOG}",
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=partial,
        env={"PATH": f"/usr/bin:/bin:{_PLACES}", "LC_ALL": "C", "TZ": "UTC"},
        user=account.uid,
        group=account.gid,
        extra_groups=account.groups,
    )
    if done.returncode != 0:
        end = " / ".join(done.stdout.decode(errors="replace").splitlines()[-8:])
        raise ServerError(f"mariadb-install-db failed: {end}")
    partial.rename(folder)
