"""Sensitive values, encrypted: what a key, a cipher and a sealed value are.

A sealed value is ``{"sealed": "<key id>.<cipher>.<nonce>.<ciphertext and tag>"}``, the last two in
base64. Pipeline, table and column are authenticated with it, so that it opens nowhere else. Each
cipher has a key of its own, derived (HKDF-SHA256) from the 32 bytes that a key id names. Not in
here: which columns are sensitive (mapping/sensitive), and payloads (engine/privacy).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cdc_daemon.model.errors import DataError, Stop

MASK: Final = "•••"
"""What is shown in place of a sensitive value."""

SEALED: Final = "sealed"
KEY_BYTES: Final = 32
KEY_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
AES: Final = "aes-256-gcm"
SM4: Final = "sm4-gcm"

_NONCE, _TAG = 12, 16
_BLOCK = 32  # bytes; values are filled up, so that a length tells little, and NULL nothing
_LENGTHS: Final = {AES: 32, SM4: 16}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands; it opens there only. ``table``: source.schema.table."""

    pipeline: str
    table: str
    column: str

    @property
    def data(self) -> bytes:
        """What is authenticated."""
        return json.dumps([self.pipeline, self.table, self.column]).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """Keys by id, each of 32 bytes; ``current`` names the one that seals (None: none does)."""

    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    current: str | None = None
    cipher: str = AES
    _derived: dict[tuple[str, str], bytes] = field(default_factory=dict, repr=False, compare=False)

    def seal(self, value: object, place: Place) -> dict[str, object]:
        """A JSON-ready value, sealed. Raises Stop where no key can seal."""
        if self.current is None or self.current not in self.keys:
            raise Stop(
                f"column {place.column!r} of {place.table} is sensitive, and no key can be read to "
                "seal its values with",
                hint="see failures.keys in the configuration, and cdc-daemon failures new-key",
            )
        plain = json.dumps(value).encode()
        plain += b" " * (-len(plain) % _BLOCK)
        nonce = os.urandom(_NONCE)
        head = f"{self.current}.{self.cipher}"
        key = self._key(self.current, self.cipher)
        box = _SEAL[self.cipher](key, nonce, plain, _bound(head, place))
        return {SEALED: f"{head}.{_text(nonce)}.{_text(box)}"}

    def open(self, sealed: object, place: Place) -> Any:
        """The value again. Raises DataError (``sealed_value``), which names the key."""
        key_id, cipher, nonce, box = _parts(sealed, place)
        if key_id not in self.keys:
            raise _refused(
                place,
                f"is sealed with key {key_id!r}, which cannot be read here: see failures.keys in "
                "the configuration",
            )
        from cryptography.exceptions import InvalidTag

        bound = _bound(f"{key_id}.{cipher}", place)
        try:
            return json.loads(_OPEN[cipher](self._key(key_id, cipher), nonce, box, bound))
        except (InvalidTag, ValueError):
            raise _refused(
                place,
                f"is not what was sealed there with key {key_id!r}: it was altered or moved, or "
                "that key is another one now",
            ) from None

    def is_current(self, sealed: object) -> bool:
        """Whether it is sealed as it would be sealed now."""
        return key_of(sealed) == self.current and _cipher_of(sealed) == self.cipher

    def _key(self, key_id: str, cipher: str) -> bytes:
        found = self._derived.get((key_id, cipher))
        if found is None:
            found = self._derived[key_id, cipher] = _derive(self.keys[key_id], cipher)
        return found


def is_sealed(value: object) -> bool:
    """Whether a value of a payload is a sealed one."""
    return isinstance(value, Mapping) and value.keys() == {SEALED}


def key_of(sealed: object) -> str:
    """The id of the key that it was sealed with; empty for what is no sealed value."""
    return _words(sealed)[0]


def new_key() -> str:
    """A key as the configuration takes it: 32 random bytes in base64."""
    return _text(os.urandom(KEY_BYTES))


def key_in(text: str) -> bytes | None:
    """The 32 bytes that a text of the configuration stands for; None: it is no key."""
    try:
        found = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == KEY_BYTES else None


def can(cipher: str) -> bool:
    """Whether the installed library has the cipher."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        _SEAL[cipher](bytes(_LENGTHS[cipher]), bytes(_NONCE), b"", b"")
    except UnsupportedAlgorithm:
        return False
    return True


def _bound(head: str, place: Place) -> bytes:
    return head.encode() + b"\0" + place.data


def _parts(sealed: object, place: Place) -> tuple[str, str, bytes, bytes]:
    """Key id, cipher, nonce, ciphertext and tag. Raises DataError for what has no such shape."""
    try:
        key_id, cipher, nonce, box = _words(sealed)
        parts = key_id, cipher, _bytes(nonce), _bytes(box)
    except ValueError:
        parts = "", "", b"", b""
    if parts[1] not in _OPEN or len(parts[2]) != _NONCE or len(parts[3]) < _TAG:
        raise _refused(place, "holds a sealed value of no known shape")
    return parts


def _refused(place: Place, why: str) -> DataError:
    return DataError(f"column {place.column!r} of {place.table} {why}", code="sealed_value")


def _words(sealed: object) -> list[str]:
    text = sealed.get(SEALED) if isinstance(sealed, Mapping) else None
    return text.split(".") if isinstance(text, str) else [""]


def _cipher_of(sealed: object) -> str:
    return (*_words(sealed), "", "")[1]


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _derive(key: bytes, cipher: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = f"cdc-daemon failure queue, {cipher}".encode()
    return HKDF(algorithm=SHA256(), length=_LENGTHS[cipher], salt=None, info=info).derive(key)


def _aes_seal(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key).encrypt(nonce, plain, bound)


def _aes_open(key: bytes, nonce: bytes, box: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key).decrypt(nonce, box, bound)


def _sm4_seal(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import SM4 as Algorithm
    from cryptography.hazmat.primitives.ciphers.modes import GCM

    sealing = Cipher(Algorithm(key), GCM(nonce)).encryptor()
    sealing.authenticate_additional_data(bound)
    return sealing.update(plain) + sealing.finalize() + sealing.tag


def _sm4_open(key: bytes, nonce: bytes, box: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import SM4 as Algorithm
    from cryptography.hazmat.primitives.ciphers.modes import GCM

    opening = Cipher(Algorithm(key), GCM(nonce, box[-_TAG:])).decryptor()
    opening.authenticate_additional_data(bound)
    return opening.update(box[:-_TAG]) + opening.finalize()


_Box = Callable[[bytes, bytes, bytes, bytes], bytes]
_SEAL: Final[Mapping[str, _Box]] = {AES: _aes_seal, SM4: _sm4_seal}
_OPEN: Final[Mapping[str, _Box]] = {AES: _aes_open, SM4: _sm4_open}
