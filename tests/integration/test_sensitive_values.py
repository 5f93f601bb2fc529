"""Values of sensitive attributes in the failure queue: who sees them, where they lie, new keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.sealing import MASK
from tests.conftest import DatabaseFactory
from tests.support.cli import invoke
from tests.support.databases import Database
from tests.support.erp import MAPPINGS, Erp
from tests.support.leaks import leaks
from tests.support.sqlite_database import SqliteDatabase
from tests.support.waiting import until

VALUES = {
    "remark": "Nierensteine-7Q4Z-vertraulich",
    "unit": "uq9-fremdx",
    "edited": "Herzklappe-8K2W-vertraulich",
    "settled": "Milzbrand-3F6T-vertraulich",
}
SENSITIVE = MAPPINGS.replace("remark: text", "remark: {type: text, sensitivity: secret}").replace(
    "unit: string(10)", "unit: {type: string(10), sensitivity: personal}"
)
LEDGER = ("failure", "failure_edit", "failure_lane", "command", "checkpoint", "repair")


class Keyed(Erp):
    """Keys in files beside the configuration; ``keys`` are named in it, the last is current."""

    keys: tuple[str, ...] = ("k1",)

    def configure(self, mappings: str = SENSITIVE, **settings: object) -> Path:
        names = {name: f"${{file:{self.folder}/{name}}}" for name in self.keys}
        section = json.dumps({"keys": {"current": self.keys[-1], **names}})
        for name in self.keys:
            if not (self.folder / name).exists():
                assert invoke("failures", "new-key", str(self.folder / name)).exit_code == 0
        return super().configure(f"{mappings}\nfailures: {section}\n", **settings)

    def use(self, *keys: str) -> None:
        """Other keys from now on."""
        self.keys = keys
        self.configure()

    def failures(self, *arguments: str, code: int = 0) -> Any:
        done = self.ask("failures", *arguments, "-o", "json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    def said(self, *arguments: str, code: int) -> str:
        done = self.ask("failures", *arguments)
        assert done.exit_code == code, done.output
        return done.output

    def kept(self) -> dict[str, bytes]:
        """Every row of the ledger that could hold a value."""
        return {
            table: repr(self.target.query(f"SELECT * FROM cdc.{table}")).encode()
            for table in LEDGER
        }

    def poison(self) -> tuple[int, int]:
        """Parks a row whose key another one has, and one with a strange unit; the changes' ids."""
        for row in ((1, "KG", "none"), (7, "KG", "remark"), (8, "unit", "remark")):
            number, unit, remark = row
            self.source.execute(
                "INSERT INTO t_material VALUES (%s, %s, 'n', %s, 1, %s)",
                *(number, f"M{number // 8}", VALUES.get(unit, unit), VALUES.get(remark, remark)),
            )
        until(lambda: len(self.parked()) == 2, what="both are parked")
        first, second = self.target.query("SELECT id FROM cdc.failure ORDER BY id")
        return first[0], second[0]


SQLITE = pytest.mark.parametrize("erp", ["sqlite"], indirect=True)


@pytest.fixture(params=["postgres", "sqlite"])
def erp(request: pytest.FixtureRequest, database_factory: DatabaseFactory, tmp_path: Path) -> Keyed:
    control: Database | SqliteDatabase = (
        database_factory()
        if request.param == "postgres"
        else SqliteDatabase(path=tmp_path / "control.db")
    )
    made = Keyed(database_factory(), control, tmp_path)
    made.set_up()
    return made


def looked_at(erp: Keyed, number: int) -> dict[str, bytes]:
    """What an operator sees of a change, by every command that looks."""
    commands = (
        *(("list",), ("list", "-o", "json"), ("show", str(number), "-o", "json")),
        *(("show", str(number)), ("diff", str(number)), ("diff", str(number), "-o", "json")),
        *(("retry", "--all", "--dry-run", "-o", "json"), ("export", "--all")),
    )
    found = {" ".join(one): erp.ask("failures", *one) for one in commands}
    for form in ("table", "json"):
        preview = ("mappings", "preview", "erp.t_material.material", "-o", form)
        found[f"preview as {form}"] = erp.ask(*preview)
    assert {done.exit_code for done in found.values()} == {0}, [
        one.output for one in found.values()
    ]
    return {name: done.output.encode() for name, done in found.items()}


def test_no_value_is_seen_but_by_who_asks_with_the_keys(
    erp: Keyed, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """In logs of every level, output and the ledger, parked, retried, edited and settled; then it
    is applied."""
    with erp.worker():
        first, second = erp.poison()
    assert erp.failures("retry", str(first), str(second), code=3)["failed"] == [first, second]
    logs = "".join(capfd.readouterr()) + caplog.text  # wherever they go in this process
    assert "streaming" in logs
    edit = ("edit", str(first), "--reason", "a test", "--set")
    assert erp.failures(*edit, f"fremark={VALUES['edited']}")["edited"] == [first]
    texts = looked_at(erp, first) | erp.kept() | {"log": logs.encode()}
    assert leaks(VALUES, texts) == []

    masked = erp.failures("show", str(first))["payload"]["new"]
    assert (masked["fremark"], masked["funit"], masked["fnumber"]) == (MASK, MASK, "M0")
    assert erp.target.query("SELECT * FROM cdc.command WHERE verb = 'reveal'") == []
    clear = erp.failures("show", str(first), "--clear")["payload"]["new"]
    assert (clear["fremark"], clear["funit"]) == (VALUES["edited"], "KG")
    images = erp.failures("diff", str(first), "--clear")["images"]
    told = [images[name]["fremark"] for name in ("BEFORE EDIT 1", "PARKED", "SOURCE NOW")]
    assert told == [VALUES["remark"], VALUES["edited"], VALUES["remark"]]
    noted = erp.target.query("SELECT actor <> '', arguments FROM cdc.command WHERE verb='reveal'")
    assert len(noted) == 2
    assert str(first) in str(noted)

    assert erp.failures(*edit, "fnumber=N7", "--retry")["applied"] == [first]
    query = "SELECT name, remark FROM material WHERE code = 'N7'"
    assert erp.target.query(query) == [("n", VALUES["edited"])]
    assert leaks(VALUES, erp.kept()) == []


def rotated(erp: Keyed, *arguments: str, code: int = 0) -> tuple[int, int, int]:
    (found,) = erp.failures("rotate-key", *arguments, code=code)
    return found["sealed"], found["current"], found["left"]


def states(erp: Keyed) -> dict[str, tuple[str, int]]:
    return {one["key"]: (one["state"], one["values"]) for one in erp.failures("keys")}


@SQLITE
def test_keys_are_rotated_and_a_lost_one_leaves_its_changes_parked(erp: Keyed) -> None:
    """Of parked and settled changes and edits, here or by the worker; again it does nothing."""
    with erp.worker():
        first, second = erp.poison()
    edit = ("edit", str(first), "--reason", "a test", "--set", f"fremark={VALUES['edited']}")
    erp.failures(*edit)
    assert erp.failures("skip", str(second), "--reason", "a test", "--yes")["skipped"] == [second]
    assert states(erp) == {"k1": ("current", 6)}

    erp.use("k1", "k2")
    assert rotated(erp, "--dry-run") == (3, 0, 0)
    assert states(erp) == {"k1": ("old", 6), "k2": ("current", 0)}
    assert rotated(erp) == (3, 0, 0)
    assert states(erp) == {"k1": ("old", 0), "k2": ("current", 6)}
    assert rotated(erp) == (0, 3, 0)

    erp.use("k3")  # k2 was thrown away too early
    assert states(erp) == {"k2": ("not configured", 6), "k3": ("current", 0)}
    assert "key 'k2', which cannot be read here" in erp.said("rotate-key", code=3)
    assert rotated(erp, code=3) == (0, 0, 3)
    assert erp.failures("retry", str(first), code=3)["failed"] == [first]
    assert erp.failures("show", str(first))["error_code"] == "sealed_value"
    assert MASK in erp.said("show", str(first), "--clear", code=0)
    assert "sealed with key 'k2'" in erp.said("diff", str(first), code=0)

    erp.use("k2", "k3")
    assert rotated(erp) == (3, 0, 0)
    erp.use("k3")
    done = erp.failures(*edit[:4], "--set", "fnumber=N7", "--retry")
    assert done["applied"] == [first]
    query = "SELECT name, remark FROM material WHERE code = 'N7'"
    assert erp.target.query(query) == [("n", VALUES["edited"])]
    assert leaks(VALUES, erp.kept()) == []


@SQLITE
def test_a_masked_export_comes_back_with_what_was_edited(erp: Keyed) -> None:
    """A mask means the value that is there; a new value goes sealed; a lost key is cured by a
    resync, which reads the row again."""
    lines = erp.folder / "lines.jsonl"
    with erp.worker():
        first, second = erp.poison()
    assert erp.ask("failures", "export", "--all", "--out", str(lines)).exit_code == 0
    assert leaks(VALUES, {"export": lines.read_bytes()}) == []
    head, last = lines.read_text("utf-8").replace('"fnumber": "M0"', '"fnumber": "N7"').splitlines()
    edited = json.loads(last)
    edited["payload"]["new"] |= {"fremark": VALUES["edited"], "funit": "KG", "fnumber": "N8"}
    lines.write_text(f"{head}\n{json.dumps(edited)}", "utf-8")
    done = erp.failures("import", str(lines), "--reason", "a test")
    assert done == {"edited": [first, second], "unchanged": []}
    assert leaks(VALUES, erp.kept()) == []
    clear = erp.failures("show", str(first), "--clear")["payload"]["new"]
    assert (clear["fnumber"], clear["fremark"]) == ("N7", VALUES["remark"])
    assert erp.failures("retry", str(second))["applied"] == [second]
    query = "SELECT code, unit, remark FROM material WHERE code LIKE 'N%' ORDER BY code"
    assert erp.target.query(query) == [("N8", "KG", VALUES["edited"])]
    erp.use("k9")
    erp.source.execute("UPDATE t_material SET fnumber = 'N9' WHERE fid = 7")
    assert first in erp.failures("resync", "--all", "--reason", "a test", "--yes")["resynced"]
    assert erp.target.query(query)[-1] == ("N9", "KG", VALUES["remark"])


@SQLITE
def test_an_operator_without_keys_sees_masks_and_lets_the_worker_work(erp: Keyed) -> None:
    """What needs a key is refused with words; what the worker can do is done."""
    with erp.worker():
        first, _ = erp.poison()
        (erp.folder / "k1").rename(erp.folder / "away")
        assert MASK in erp.said("show", str(first), code=0)
        assert "no key can be read here" in erp.said("show", str(first), "--clear", code=1)
        edit = ("edit", str(first), "--reason", "a test", "--set")
        said = erp.said(*edit, f"fremark={VALUES['edited']}", code=1)
        assert "'fremark' of erp.public.t_material is sensitive, and no key can be read" in said
        assert erp.failures(*edit, "fnumber=N7")["edited"] == [first]
    said = erp.said("retry", "--all", "--yes", code=78)
    assert "without the keys of its sensitive values nothing can be done here" in said
    assert "k1 cannot be read" in erp.said("rotate-key", code=78)
    assert leaks(VALUES, erp.kept()) == []
