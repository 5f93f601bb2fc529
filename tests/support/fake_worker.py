"""A worker without databases: `python fake_worker.py --pipeline NAME --status-fd N`.

It follows the protocol of a real one and does what its document says: `journal` is a file to which
it appends what happens to it; `behave` is one of `BEHAVIOURS`.
"""

import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from json import loads
from typing import Any, NoReturn

from cdc_daemon.engine.meter import Meter, report
from cdc_daemon.engine.status import State

Said = Callable[[str], None]


def main() -> None:
    """Read the document, report, behave; end with the pipe."""
    parser = ArgumentParser()
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    arguments = parser.parse_args()
    document: dict[str, Any] = loads(sys.stdin.buffer.readline())
    journal = os.open(document["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(event: str) -> None:
        os.write(journal, f"{arguments.pipeline} {event} {os.getpid()}\n".encode())

    say("started")
    meter = Meter(arguments.pipeline, {"erp.public.t_order": "sales_order"})
    stopped = threading.Event()
    reporter = threading.Thread(
        target=report,
        args=(meter, arguments.status_fd, stopped),
        kwargs={"every": 0.1},
        daemon=True,
    )
    if document["behave"] != "silent":
        reporter.start()
    try:
        BEHAVIOURS[document["behave"]](document, meter, say)
        say("drained")
    finally:
        stopped.set()
        meter.changed.set()
        if reporter.is_alive():
            reporter.join()


def stream(document: dict[str, Any], meter: Meter, say: Said) -> None:
    """Make progress until the pipe ends."""
    meter.connected = True
    meter.phase(State.STREAMING)
    threading.Thread(target=_progress, args=(meter,), daemon=True).start()
    _listen(say)


def stuck(document: dict[str, Any], meter: Meter, say: Said) -> None:
    """Report, but never make progress; with the error that the document may name."""
    meter.phase(State.STREAMING)
    if "error" in document:
        meter.error(document["error"])
    _listen(say)


def patient(document: dict[str, Any], meter: Meter, say: Said) -> None:
    """Make no progress and say that this is meant."""
    meter.phase(State.STREAMING)
    with meter.patience(3600):
        _listen(say)


def deaf(document: dict[str, Any], meter: Meter, say: Said) -> None:
    """Hear neither the end of the pipe nor SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: say("termed"))
    meter.phase(State.STREAMING)
    threading.Thread(target=_progress, args=(meter,), daemon=True).start()
    while True:
        signal.pause()


def leave(document: dict[str, Any], meter: Meter, say: Said) -> NoReturn:
    """Exit with `code`."""
    meter.error("as it was told")
    sys.exit(document["code"])


def die(document: dict[str, Any], meter: Meter, say: Said) -> None:
    """End by a signal, after an error that was survived."""
    meter.retrying("an older error")
    meter.checkpointed("0/1")
    time.sleep(0.3)  # until that is reported
    os.kill(os.getpid(), signal.SIGKILL)


def _listen(say: Said) -> None:
    for line in sys.stdin.buffer:
        say("heard:" + line.decode().strip().replace(" ", ""))
    say("eof")


def _progress(meter: Meter) -> None:
    while True:
        meter.checkpointed(f"0/{int(time.time() * 10):X}")
        time.sleep(0.05)


BEHAVIOURS: dict[str, Callable[[dict[str, Any], Meter, Said], None]] = {
    "stream": stream,
    "stuck": stuck,
    "silent": stuck,
    "patient": patient,
    "deaf": deaf,
    "leave": leave,
    "die": die,
}

if __name__ == "__main__":
    main()
