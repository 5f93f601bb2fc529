"""Sensitive attributes: which columns they make sensitive, and the keys that they need."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.config.secrets import SECTIONS
from cdc_daemon.mapping.compile import sensitive_columns
from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.sealing import new_key
from cdc_daemon.worker_document import configuration_of, document, same_work

BODY = """
    sources:
      hr: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/hr"}
    target: {url: "postgresql://cdc@127.0.0.1/control"}
    entities:
      person:
        key: [person_no]
        attributes:
          person_no: {type: string(20), sensitivity: personal}
          name: string(80)
          pay: {type: string(20), sensitivity: secret}
          grade: {type: string(20), sensitivity: secret}
      desk:
        key: [code]
        attributes:
          code: string(20)
          owner: {type: string(20), references: person}
    mappings:
      - from: hr.public.t_person
        to: person
        where: "state = 'A' AND wage > 0"
        key: {person_no: no}
        fields:
          name: full_name
          pay: {expr: "wage || bonus"}
          grade: {from: level, map: {a: b}}
      - from: hr.public.t_desk
        to: desk
        key: {code: code}
        fields: {owner: {ref: person_id, from: hr.public.t_person}}
"""


def read(
    folder: Path,
    failures: str,
    environ: Mapping[str, str] | None = None,
    needed: Collection[str] = SECTIONS,
) -> Configuration:
    path = folder / "cdc.yaml"
    path.write_text(dedent(BODY) + dedent(failures), "utf-8")
    return load([path], environ=environ or {}, needed=needed)


def keys(**given: str) -> str:
    return f"\nfailures: {{keys: {{{', '.join(f'{k}: {v!r}' for k, v in given.items())}}}}}\n"


FIXED = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="  # the same in every process
GOOD = keys(current="k1", k1=FIXED)


def test_columns_follow_from_attributes(tmp_path: Path) -> None:
    """Bare, by map, by expression, by key; by ref too, where a sensitive key is referred to."""
    found = read(tmp_path, GOOD)
    assert found.entities["desk"].attribute("owner").sensitivity == "personal"
    person, desk = (one.from_ for one in found.mappings)
    assert sensitive_columns(found, person) == {"no", "wage", "bonus", "level"}
    assert sensitive_columns(found, desk) == {"person_id"}
    (warning,) = [one for one in found.warnings if "sensitive" in one.what]
    assert "'person_no' is sensitive and part of the key of person" in str(warning)


def test_every_mapping_of_a_table_has_the_same_sensitive_columns(tmp_path: Path) -> None:
    """What is parked of a row holds what any of them reads."""
    text = BODY.replace("hr.public.t_desk\n", "hr.public.t_person\n")
    path = tmp_path / "cdc.yaml"
    path.write_text(dedent(text) + GOOD, "utf-8")
    found = load([path], environ={})
    columns = sensitive_columns(found, found.mappings[1].from_)
    assert columns == {"no", "wage", "bonus", "level", "person_id"}


@pytest.mark.parametrize(
    "failures, told",
    [
        ("", "'pay' is sensitive, and there is no key to seal its values with"),
        ("", "cdc-daemon failures new-key"),
        (keys(current="k1", k1="abc"), "this is no key: 32 bytes in base64"),
        (keys(current="k1", k1="unresolved"), "this is no key: 32 bytes in base64"),
        (keys(current="k2", k1=FIXED), "'current' names no key (keys are k1)"),
        (keys(k1=FIXED), "nothing says which key seals"),
        (keys(current="K.1", **{"K.1": FIXED}), "'K.1' cannot be the id of a key"),
        (keys(current="k1", k1="${file:/nowhere/k1}"), "the file /nowhere/k1 cannot be read"),
        ("\nfailures: {cipher: rot13}\n", "'rot13' is not one of aes-256-gcm, sm4-gcm"),
    ],
)
def test_what_is_wrong_with_keys_is_told(tmp_path: Path, failures: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, failures)
    assert told in str(refused.value)
    assert "abc" not in str(refused.value)


def test_a_cipher_that_the_library_lacks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc_daemon.config.sensitive.can", lambda cipher: cipher != "sm4-gcm")
    with pytest.raises(ConfigurationError, match="library cryptography has no sm4-gcm"):
        read(tmp_path, GOOD.replace("{keys:", "{cipher: sm4-gcm, keys:"))


def test_who_only_looks_needs_no_keys(tmp_path: Path) -> None:
    """The same files, where the key's file is not to be read, or without any keys."""
    some = {"sources", "target"}
    found = read(tmp_path, keys(current="k1", k1="${file:/nowhere/k1}"), needed=some)
    assert found.failures.vault.keys == {}
    assert read(tmp_path, "", needed=some).failures.vault.current is None


def test_keys_come_from_where_secrets_do_and_are_not_shown(tmp_path: Path) -> None:
    key = new_key()
    (tmp_path / "k1").write_text(key + "\n")
    given = keys(current="k2", k1=f"${{file:{tmp_path}/k1}}", k2="${KEY}")
    found = read(tmp_path, given, {"KEY": new_key()})
    assert sorted(found.failures.vault.keys) == ["k1", "k2"]
    assert found.failures.vault.current == "k2"
    assert "KEY" in found.variables
    assert key not in f"{found.describe()}{found!r}"


def test_a_worker_gets_the_keys_and_other_keys_are_other_work(tmp_path: Path) -> None:
    """So a reload starts a pipeline anew whose keys have changed."""
    found, other = (read(tmp_path, keys(current="k1", k1=new_key())) for _ in range(2))
    sent = document(found, "hr")
    assert configuration_of(sent).failures.vault == found.failures.vault
    assert same_work(sent, document(found, "hr"))
    assert not same_work(sent, document(other, "hr"))


def test_a_key_that_everybody_may_read_is_a_warning(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert "a key stands in a file that everybody may read" in str(found.warnings)
