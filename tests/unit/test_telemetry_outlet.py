"""Whoever logs never waits, whatever becomes of the lines; and nothing is lost in silence."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.telemetry import check_log_file
from cdc_daemon.telemetry.destinations import Descriptor, RotatedFile
from cdc_daemon.telemetry.outlet import LONGEST_LINE, Outlet
from tests.support.waiting import until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading and its writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def lost(lines: int) -> bytes:
    return b"lost %d\n" % lines


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_was_dropped_is_told(
    pipe: tuple[int, int],
) -> None:
    outlet = Outlet(Descriptor(pipe[1]), lost, most_bytes=100_000)
    begun = time.monotonic()
    for number in range(10_000):
        outlet.put(b"%099d\n" % number)
    assert time.monotonic() - begun < 5
    assert not outlet.flush(0.05)
    dropped = outlet.dropped
    assert 10_000 - 1_000 - 700 < dropped < 10_000

    read = bytearray()
    os.set_blocking(pipe[0], False)

    def take() -> None:
        with suppress(BlockingIOError):
            while True:
                read.extend(os.read(pipe[0], 1 << 20))

    def emptied() -> bool:
        take()
        written = outlet.flush(0.01)
        take()
        return written

    until(emptied)
    outlet.put(b"%099d\n" % 10_000)
    until(emptied)
    lines = read.decode().splitlines()
    told = [int(line.split()[1]) for line in lines if line.startswith("lost")]
    numbers = [int(line) for line in lines if not line.startswith("lost")]
    assert sum(told) == outlet.dropped == dropped
    assert len(numbers) + dropped == 10_001
    assert numbers == sorted(numbers)
    assert numbers[-1] == 10_000
    outlet.close()


def test_a_line_beyond_all_measure_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    outlet = Outlet(Descriptor(pipe[1]), lost)
    outlet.put(b"x" * (LONGEST_LINE + 1))
    outlet.put(b"y\n")
    assert outlet.flush(10)
    assert os.read(pipe[0], 4096) == b"lost 1\ny\n"
    outlet.close()


def test_after_a_torn_line_the_next_begins_on_its_own(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)  # a full pipe is then an error, as a full disk is
    descriptor = Descriptor(pipe[1])
    with pytest.raises(BlockingIOError):
        descriptor.write(b"x" * 100_000)
    assert set(os.read(pipe[0], 1 << 20)) == {ord("x")}
    descriptor.write(b"whole\n")
    descriptor.write(b"next\n")
    assert os.read(pipe[0], 4096) == b"\nwhole\nnext\n"


def test_a_file_that_was_moved_away_is_created_anew_without_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    file = RotatedFile(path, complain_to=2)
    file.write(b"one\n")
    path.rename(tmp_path / "daemon.log.1")
    file.write(b"two\n")
    file.write(b"three\n")
    path.unlink()
    file.write(b"four\n")
    file.close()
    assert (tmp_path / "daemon.log.1").read_text() == "one\n"
    assert path.read_text() == "four\n"
    assert path.stat().st_mode & 0o007 == 0


def test_a_truncated_file_is_filled_from_its_beginning(tmp_path: Path) -> None:
    """As logrotate does it with `copytruncate`."""
    path = tmp_path / "daemon.log"
    file = RotatedFile(path, complain_to=2)
    file.write(b"one\n")
    os.truncate(path, 0)
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"


def test_a_full_disk_is_told_once_on_stderr_and_what_was_dropped_afterwards(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    path = tmp_path / "daemon.log"
    path.symlink_to("/dev/full")
    outlet = Outlet(RotatedFile(path, complain_to=pipe[1]), lost)
    for _ in range(3):
        outlet.put(b"no room\n")
    assert outlet.flush(10)
    assert outlet.dropped == 3
    said = os.read(pipe[0], 4096).decode()
    assert said == f"cannot write to {path}: No space left on device; log lines are dropped\n"
    path.unlink()  # there is room again
    outlet.put(b"room\n")
    assert outlet.flush(10)
    assert path.read_text() == "lost 3\nroom\n"
    outlet.close()


def test_a_folder_that_is_gone_drops_lines_and_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with Path("/dev/null").open("wb") as nowhere:
        outlet = Outlet(RotatedFile(folder / "a", complain_to=nowhere.fileno()), lost)
        outlet.put(b"one\n")
        assert outlet.flush(10)
        (folder / "a").unlink()
        folder.rmdir()
        outlet.put(b"two\n")
        assert outlet.flush(10)
        assert outlet.dropped == 1
        outlet.close()


def test_a_file_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    check_log_file(None)
    check_log_file(str(tmp_path / "daemon.log"))
    with pytest.raises(ConfigurationError, match="No such file or directory") as found:
        check_log_file(str(tmp_path / "missing" / "daemon.log"))
    assert "daemon.log_file" in str(found.value)
    assert "leave log_file out" in str(found.value.hint)


LAST_WORDS = """
from cdc_daemon import telemetry
telemetry.configure("info", "logfmt")
log = telemetry.get_logger("test")
for number in range({lines}):
    log.info("line", number=number)
"""


def program(lines: int) -> list[str]:
    return [sys.executable, "-c", LAST_WORDS.format(lines=lines)]


def test_a_process_that_ends_writes_its_last_words() -> None:
    done = subprocess.run(program(2_000), stderr=subprocess.PIPE, check=True)
    lines = done.stderr.decode().splitlines()
    assert [line.rpartition("=")[2] for line in lines] == [str(n) for n in range(2_000)]


def test_a_process_that_ends_waits_for_no_reader(pipe: tuple[int, int]) -> None:
    subprocess.run(program(5_000), stderr=pipe[1], check=True, timeout=60)
