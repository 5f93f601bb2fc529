"""A sealed value opens where it was sealed, with the key that it names, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdc_daemon.model.errors import DataError, Stop
from cdc_daemon.sealing import (
    AES,
    SEALED,
    SM4,
    Place,
    Vault,
    _sm4_seal,
    can,
    is_sealed,
    key_in,
    key_of,
    new_key,
)

HERE = Place("hr", "hr.public.t_person", "id_number")
KEYS = {"k1": bytes(range(32)), "k2": bytes(range(32, 64))}
VAULT = Vault(keys=KEYS, current="k2")


@pytest.mark.parametrize("cipher", [AES, SM4])
@pytest.mark.parametrize("value", ["110101199003074514", None, "", {"invalid": "AA==", "x": 1}])
def test_a_value_comes_back_and_is_not_to_be_seen(cipher: str, value: object) -> None:
    vault = replace(VAULT, cipher=cipher)
    sealed = vault.seal(value, HERE)
    assert is_sealed(sealed)
    assert key_of(sealed) == "k2"
    assert vault.open(sealed, HERE) == value
    assert "110101" not in str(sealed)
    assert sealed != vault.seal(value, HERE)
    assert VAULT.is_current(sealed) is (cipher == AES)


def test_null_is_as_long_as_a_value() -> None:
    lengths = {len(str(VAULT.seal(value, HERE))) for value in (None, "", "110101199003074514")}
    assert len(lengths) == 1


@pytest.mark.parametrize("cipher", [AES, SM4])
@pytest.mark.parametrize("other", [{"pipeline": "x"}, {"table": "x"}, {"column": "x"}])
def test_it_opens_in_no_other_place(cipher: str, other: dict[str, str]) -> None:
    vault = replace(VAULT, cipher=cipher)
    sealed = vault.seal("4514", HERE)
    with pytest.raises(DataError, match="altered or moved") as refused:
        vault.open(sealed, replace(HERE, **other))
    assert refused.value.code == "sealed_value"
    assert "4514" not in str(refused.value)


@pytest.mark.parametrize("cipher", [AES, SM4])
def test_what_was_altered_does_not_open(cipher: str) -> None:
    vault = replace(VAULT, cipher=cipher)
    parts = str(vault.seal("4514", HERE)[SEALED]).split(".")
    swapped = "B" if parts[3][5] == "A" else "A"
    parts[3] = parts[3][:5] + swapped + parts[3][6:]
    with pytest.raises(DataError, match="altered"):
        vault.open({SEALED: ".".join(parts)}, HERE)
    parts[0] = "k1"  # another key than it was sealed with
    with pytest.raises(DataError, match="'k1'"):
        vault.open({SEALED: ".".join(parts)}, HERE)


def test_a_key_that_is_not_there_is_named() -> None:
    sealed = VAULT.seal("4514", HERE)
    with pytest.raises(DataError, match="sealed with key 'k2', which cannot be read here"):
        replace(VAULT, keys={"k1": KEYS["k1"]}).open(sealed, HERE)
    assert replace(VAULT, current="k1").open(sealed, HERE) == "4514"
    for without in (Vault(), Vault(keys=KEYS, current="k3")):
        with pytest.raises(Stop, match="no key can be read"):
            without.seal("4514", HERE)


@pytest.mark.parametrize("sealed", ["", "a.b", "k2.rot13.AAAA.AAAA", "k2.sm4-gcm.?.?", 7, None])
def test_what_has_no_shape_is_no_crash(sealed: Any) -> None:
    with pytest.raises(DataError, match="no known shape"):
        VAULT.open({SEALED: sealed}, HERE)


def test_keys_are_not_printed() -> None:
    VAULT.seal("x", HERE)
    assert repr(VAULT) == "Vault(current='k2', cipher='aes-256-gcm')"


def test_a_new_key_is_one() -> None:
    assert key_in(new_key() + "\n") not in (None, key_in(new_key()))
    assert key_in("abc") is None
    assert key_in("not a key at all, but as long as one is!!!!=") is None


def test_sm4_gcm_is_the_one_of_rfc_8998() -> None:
    """Appendix A.1: the library has the cipher, and its parts are in the right order."""
    assert can(SM4)
    assert can(AES)
    key, nonce = "0123456789abcdeffedcba9876543210", "00001234567800000000abcd"
    bound = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
    plain = "".join(two * 8 for two in ("aa", "bb", "cc", "dd", "ee", "ff", "ee", "aa"))
    sealed = _sm4_seal(*map(bytes.fromhex, (key, nonce, plain, bound)))
    assert sealed.hex() == (
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
        "83de3541e4c2b58177e065a9bf7b62ec"
    )
