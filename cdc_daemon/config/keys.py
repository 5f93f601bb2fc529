"""Model of the keys under ``failures``, with which values of sensitive attributes are sealed.

Not in here: whether they are needed and usable (``sensitive``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from cdc_daemon.config.connections import secret
from cdc_daemon.config.strict import Model
from cdc_daemon.sealing import AES, Vault, key_in

CURRENT = "current"
UNREAD = "unresolved"
"""What stands for a key that could not be read where it need not be."""


class KeysConfig(Model):
    """Keys that values of sensitive attributes are sealed with in the failure queue."""

    keys: dict[str, Annotated[SecretStr, BeforeValidator(secret)]] = Field(
        default_factory=dict,
        description="Keys by id, each 32 bytes in base64 as `cdc-daemon failures new-key` makes "
        "them, and under `current` the id of the one that seals. See "
        "[sensitive values](operations/sensitive-values.md).",
        examples=[{"current": "k2", "k1": "${file:/etc/keys/k1}", "k2": "${cred:k2}"}],
    )
    cipher: Literal["aes-256-gcm", "sm4-gcm"] = Field(
        default=AES, description="What seals with the current key."
    )

    @property
    def current(self) -> str | None:
        """The id of the key that seals."""
        found = self.keys.get(CURRENT)
        return None if found is None else found.get_secret_value()

    @property
    def vault(self) -> Vault:
        """The keys that could be read, and what seals."""
        texts = {name: one.get_secret_value() for name, one in self.keys.items() if name != CURRENT}
        found = {name: key_in(text) for name, text in texts.items()}
        keys = {name: key for name, key in found.items() if key is not None}
        return Vault(keys=keys, current=self.current, cipher=self.cipher)
