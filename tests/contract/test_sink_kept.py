"""Every payload that the failure queue keeps can be read in pages, and sealed anew."""

from __future__ import annotations

import pytest

from cdc_daemon.engine.privacy import Privacy
from cdc_daemon.engine.rotating import Rotating, pages
from cdc_daemon.model.errors import CdcError
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.queue import Kept
from cdc_daemon.model.selection import Selection
from cdc_daemon.sealing import AES, SM4, Vault, key_of
from tests.contract.targets import Target
from tests.contract.test_sink_failures import A, park, parked

TABLE = "erp.public.t_material"
KEYS = {"k1": bytes(32), "k2": bytes(range(32))}


def privacy(current: str, *known: str) -> Privacy:
    vault = Vault(keys={name: KEYS[name] for name in known}, current=current)
    return Privacy(pipeline="erp", columns={TABLE: frozenset({"tax"})}, vault=vault)


def payload(tax: str | None) -> dict[str, object]:
    return {"operation": "update", "new": {"id": "1\0", "tax": tax}, "old": {"id": "1"}}


def test_kept_payloads_come_in_pages_with_their_edits(target: Target, sink: Sink) -> None:
    """Parked and settled ones; of one pipeline for its worker, of all for the command line."""
    first, second, third = park(
        sink, *(parked(A, sequence=n, payload=payload(str(n))) for n in (1, 2, 3))
    )
    with sink.begin() as unit:
        unit.queue.edited(second, payload("x"), (A,), actor="ann", reason="r")
        unit.queue.edited(second, payload("y"), (A,), actor="ann", reason="r")
        unit.queue.settle(first, "skipped", actor="ann", reason="r")
        unit.queue.park([parked(A, payload=payload("other"), pipeline="hr")])

    def told(found: list[Kept]) -> list[tuple[int, bool, object]]:
        return [(one.failure, one.edit is not None, one.payload["new"]) for one in found]

    new = {value: payload(value)["new"] for value in "123xy"}
    two = [
        (first, False, new["1"]),
        *((second, False, new["y"]), (second, True, new["2"]), (second, True, new["x"])),
    ]
    assert told(sink.kept_payloads(0, 2)) == two
    assert told(sink.kept_payloads(second, 2)) == [(third, False, new["3"])]
    assert told(sink.kept_payloads(third, 2)) == []
    everything = target.control().kept_payloads(0, 9)
    assert {(one.pipeline, one.table) for one in everything} == {("erp", TABLE), ("hr", TABLE)}
    assert len(everything) == 6


def test_a_rotation_seals_everything_with_the_current_key(sink: Sink) -> None:
    """What was never sealed, and what an older key seals; again it does nothing."""
    old = privacy("k1", "k1")
    first, second = park(
        sink,
        parked(A, payload=old.sealed(TABLE, payload("4711"))),
        parked(A, payload=payload("4712")),
    )
    with sink.begin() as unit:
        edited = old.sealed(TABLE, payload("4713"))
        unit.queue.edited(second, edited, (A,), actor="ann", reason="r")
    new = privacy("k2", "k1", "k2")
    rotating = Rotating(sink=sink, privacy=new, progressed=lambda: None)
    done = rotating.rotate()
    assert (done.sealed, done.current, done.refused) == (3, 0, [])
    kept = [one for page in pages(sink.kept_payloads) for one in page]
    assert {key_of(_new(one)["tax"]) for one in kept} == {"k2"}
    only = privacy("k2", "k2")
    taxes = [_new(one, only)["tax"] for one in kept]
    assert taxes == ["4711", "4713", "4712"]
    assert _new(kept[0], only)["id"] == "1\0"
    assert rotating.rotate().sealed == 0
    found = sink.failures(Selection(ids=(first,)))[0]
    assert found.attempts == 1
    assert found.lanes == (A,)


def test_a_worker_that_seals_with_another_key_says_so(sink: Sink) -> None:
    """It was not reloaded; nothing is done."""
    park(sink, parked(A, payload=payload("4711")))
    rotating = Rotating(sink=sink, privacy=privacy("k1", "k1"), progressed=lambda: None)

    def command(key: str, cipher: str = AES) -> Command:
        arguments: dict[str, object] = {"key": key, "cipher": cipher}
        return Command(id=1, pipeline="erp", verb="rotate", arguments=arguments, actor="ann")

    for asked in (command("k2"), command("k1", SM4)):
        with pytest.raises(CdcError, match="the worker seals with key 'k1' and aes-256-gcm"):
            rotating.carry_out(asked)
    assert rotating.carry_out(command("k1"))["sealed"] == 1


def test_a_payload_whose_key_is_gone_stays_and_is_told(sink: Sink) -> None:
    (first,) = park(sink, parked(A, payload=privacy("k1", "k1").sealed(TABLE, payload("4711"))))
    park(sink, parked(A, payload=payload("4712")))
    rotating = Rotating(sink=sink, privacy=privacy("k2", "k2"), progressed=lambda: None)
    found = rotating.rotate()
    assert (found.sealed, len(found.refused)) == (1, 1)
    assert found.refused[0][0] == first
    assert "key 'k1', which cannot be read here" in found.refused[0][1]
    assert rotating.rotate().sealed == 0


def _new(one: Kept, opener: Privacy | None = None) -> dict[str, object]:
    found = one.payload if opener is None else opener.opened(one.table, one.payload)
    new = found["new"]
    assert isinstance(new, dict)
    return new
