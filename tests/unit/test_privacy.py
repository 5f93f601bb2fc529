"""Sensitive values of payloads: sealed where they are kept, opened by who has the key, masked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cdc_daemon.engine.editing import Editing
from cdc_daemon.engine.payload import fingerprint, run_of
from cdc_daemon.engine.privacy import NOTHING, Privacy
from cdc_daemon.mapping.compile import compile_mapping
from cdc_daemon.model.errors import DataError, Stop
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.queue import Failure
from cdc_daemon.sealing import MASK, Vault, is_sealed
from tests.unit.test_editing import FAILURE, PAYLOAD, FakeSink
from tests.unit.test_mapper import MAPPING, configuration, relation

TABLE = FAILURE.table
VAULT = Vault(keys={"k1": bytes(32)}, current="k1")
PRIVACY = Privacy(
    pipeline="erp", columns={TABLE: frozenset({"fname", "fremark", "funit"})}, vault=VAULT
)
BLIND = replace(PRIVACY, vault=Vault())
SEALED = PRIVACY.sealed(TABLE, PAYLOAD)


def new(payload: Any) -> dict[str, Any]:
    return dict(payload["new"])


def test_every_value_of_a_sensitive_column_is_sealed() -> None:
    """Also NULL, and what is no text; the others stay as they are."""
    sealed = new(SEALED)
    assert {name for name, value in sealed.items() if is_sealed(value)} == {
        *("fname", "fremark", "funit")
    }
    assert sealed["fnumber"] == "M1"
    assert PRIVACY.opened(TABLE, SEALED) == PAYLOAD
    assert PRIVACY.sealed(TABLE, SEALED) == SEALED
    assert NOTHING.sealed(TABLE, PAYLOAD) == PAYLOAD


def test_a_mask_needs_no_key_and_hides_what_was_never_sealed() -> None:
    masked = BLIND.masked(TABLE, SEALED)
    assert masked == BLIND.masked(TABLE, PAYLOAD)
    assert new(masked) == {**PAYLOAD["new"], "fname": MASK, "fremark": MASK, "funit": MASK}
    assert new(NOTHING.masked(TABLE, SEALED)) == new(masked)


def test_without_the_key_there_are_words_and_no_value() -> None:
    with pytest.raises(DataError, match="'k1', which cannot be read here"):
        BLIND.opened(TABLE, SEALED)
    with pytest.raises(Stop, match="failures new-key"):
        BLIND.sealed(TABLE, PAYLOAD)
    with pytest.raises(Stop, match="cannot be read"):
        run_of(dict(SEALED), relation(), sequence=0)


class Desk:
    """Edits over a parked change with sealed values."""

    def __init__(self, folder: Path, privacy: Privacy = PRIVACY) -> None:
        self.sink = FakeSink(replace(FAILURE, payload=SEALED))
        files, table = configuration(folder, MAPPING), relation(identity=(0,))
        compiled = compile_mapping(files.mappings[0], files, table)
        self.editing = Editing(
            sink=cast(Sink, self.sink),
            compile_relation=lambda _: [compiled],
            relations=lambda: [table],
            privacy=privacy,
        )

    def ask(self, **wish: Any) -> dict[str, Any]:
        arguments: dict[str, object] = {"edits": [{"id": 7, **wish}]}
        command = Command(id=1, pipeline="erp", verb="edit", arguments=arguments, actor="ann")
        return self.editing.carry_out(command, "a test")

    def kept(self) -> dict[str, Any]:
        return self.sink.edits[-1][1]


def test_an_edit_comes_sealed_and_is_kept_sealed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    sent = PRIVACY.sent(TABLE, {"new": {"fname": "bolt", "fremark": None, "fprice": "2"}})
    assert "bolt" not in str(sent)
    assert desk.ask(values=sent["new"])["edited"] == [7]
    assert "bolt" not in str(desk.kept())
    clear = new(PRIVACY.opened(TABLE, desk.kept()))
    assert clear == {**PAYLOAD["new"], "fname": "bolt", "fremark": None, "fprice": "2.0000"}


def test_a_mask_that_comes_back_means_the_value_that_is_there(tmp_path: Path) -> None:
    """An export without clear values, one other value edited, imported."""
    desk = Desk(tmp_path)
    shown = PRIVACY.masked(TABLE, SEALED)
    was = fingerprint(shown)
    edited = {**shown, "new": {**new(shown), "fname": "bolt"}}
    sent = PRIVACY.sent(TABLE, edited)
    assert new(sent)["funit"] == MASK
    assert desk.ask(payload=sent, was=was)["edited"] == [7]
    clear = new(PRIVACY.opened(TABLE, desk.kept()))
    assert clear == {**PAYLOAD["new"], "fname": "bolt"}
    assert "edited since" in desk.ask(payload=sent, was="0")["refused"][0][1]


def test_an_export_in_clear_comes_back_too(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    edited = {**PAYLOAD, "new": {**PAYLOAD["new"], "fname": "bolt"}}
    assert desk.ask(payload=edited, was=fingerprint(PAYLOAD))["edited"] == [7]
    assert "bolt" not in str(desk.kept())


def test_an_edit_without_the_key_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path, BLIND)
    ((_, said),) = desk.ask(values={"fprice": "2"})["refused"]
    assert "sealed with key 'k1'" in said
    assert desk.sink.edits == []


def test_what_is_sealed_by_somebody_else_is_refused(tmp_path: Path) -> None:
    """A sealed value of another column, sent as an edit of this one."""
    desk = Desk(tmp_path)
    moved = new(SEALED)["funit"]
    ((_, said),) = desk.ask(values={"fname": moved})["refused"]
    assert "altered or moved" in said


def test_a_change_stays_parked_while_its_key_lacks() -> None:
    failure: Failure = replace(FAILURE, payload=SEALED)
    left = BLIND.without_sealed(failure.payload)
    assert set(new(left)) == {"fid", "fnumber", "fprice"}


def test_a_mask_means_the_same_where_nothing_is_sensitive_any_longer(tmp_path: Path) -> None:
    """What was sealed once is masked still, whatever the configuration says by now."""
    plain = Privacy(pipeline="erp", vault=VAULT)
    desk = Desk(tmp_path, plain)
    shown = plain.masked(TABLE, SEALED)
    assert new(shown)["funit"] == MASK
    edited = {**shown, "new": {**new(shown), "fname": "bolt"}}
    done = desk.ask(payload=plain.sent(TABLE, edited), was=fingerprint(shown))
    assert done == {"edited": [7], "same": [], "refused": []}
    assert new(desk.kept()) == {**PAYLOAD["new"], "fname": "bolt"}
