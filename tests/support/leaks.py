"""Searching for what must not be seen, in every form that a program might give it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus


def forms(secret: str) -> dict[str, bytes]:
    """The forms of a secret, by name."""
    raw = secret.encode()
    found = {
        "raw": raw,
        "quoted": quote(secret, safe="").encode(),
        "quoted as in a path": quote(secret).encode(),
        "quoted as in a form": quote_plus(secret).encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
        "JSON in UTF-8": json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
        "repr": repr(secret)[1:-1].encode(),
        "repr of bytes": repr(raw)[2:-1].encode(),
        "SQL": secret.replace("'", "''").encode(),
        "conninfo": secret.replace("\\", "\\\\").replace("'", "\\'").encode(),
        "hex": raw.hex().encode(),
    }
    for offset in range(3):  # wherever in a longer text it begins
        for name, encode in (("", base64.b64encode), ("URL ", base64.urlsafe_b64encode)):
            text = encode(bytes(offset) + raw)
            begin = 0 if offset == 0 else 4
            whole = (offset + len(raw)) // 3 * 4
            found[f"{name}base64 at {offset}"] = text[begin:whole]
    return found


def leaks(secrets: dict[str, str], texts: dict[str, bytes]) -> list[str]:
    """Which secret is seen where, and in which form; neither is said itself."""
    return [
        f"{name} ({form}) in {place}"
        for name, secret in secrets.items()
        for form, bytes_ in forms(secret).items()
        for place, text in texts.items()
        if bytes_ in text
    ]
