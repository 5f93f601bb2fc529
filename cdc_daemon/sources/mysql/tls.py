"""Why an encrypted connection failed, in words."""

from __future__ import annotations

import ssl

from cdc_daemon.config.handshake import certificate_problem


def tls_words(error: object) -> tuple[str, str] | None:
    """What is wrong with the encryption, and the cure; None: it is something else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_problem(error.verify_code)
    if isinstance(error, ssl.SSLError):
        return (
            "the TLS handshake failed",
            "see which versions of TLS the server speaks: 1.2 or later",
        )
    return None
