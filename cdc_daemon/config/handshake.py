"""Why an encrypted connection is refused, in words that name the cure.

libpq says no more than "certificate verify failed"; which of expired, foreign and wrong it is, is
found by a second handshake that sends nothing and stops before any credential. An answer is about
that moment: an attacker in between may give another one, so it only ever explains a refusal.
Source: "SSL Session Encryption" of the PostgreSQL protocol; X509_V_ERR codes of OpenSSL.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Mapping

TLS_REFUSED = (
    r"certificate verify failed|server certificate for|does not support SSL|root certificate file"
    r"|channel binding|valid client certificate|private key file|weak sslmode|SSL error"
    r"|sslmode value|could not read certificate|certificate authentication failed"
)
"""What libpq or the server says where TLS is the matter."""

_SSL_REQUEST = struct.pack(">II", 8, (1234 << 16) + 5679)
_SECONDS = 5.0
_EXPIRED, _NOT_YET, _HOST, _ADDRESS = 10, 9, 62, 64
_NAME_CURE = (
    "connect by a name that it bears (hostaddr may give the address), or have it issued anew"
)

_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        r"server does not support SSL",
        "the server does not speak TLS, and nothing is sent to it without",
        "turn ssl on at the server; sslmode: disable only in a network trusted like this machine",
    ),
    (
        r"root certificate file .* does not exist|could not read root certificate file",
        "there is no file, or no readable one, with the authority that signed its certificate",
        "name it in tls.ca (system: the system's own)",
    ),
    (
        r"channel binding",
        "the server does not log in by SCRAM bound to this TLS channel",
        "store its role's password as scram-sha-256; channel_binding=prefer in the address where"
        " a pooler stands between or pg_hba.conf says otherwise",
    ),
    (
        r"valid client certificate|certificate authentication failed",
        "the server asks for a client certificate that it trusts for this role",
        "name it in tls.cert and tls.key",
    ),
    (
        r"private key file .* has group or world access",
        "others may read the client's private key",
        "chmod 0600 the file that tls.key names",
    ),
    (
        r"private key file|could not read certificate",
        "the client's certificate or private key cannot be read",
        "correct tls.cert and tls.key",
    ),
    (
        r"weak sslmode",
        "the system's authorities are of use with sslmode: verify-full only",
        "take sslmode out, or name a file in tls.ca",
    ),
)
_BY_CODE = {
    _EXPIRED: ("the server's certificate has expired", "have it renewed"),
    _NOT_YET: (
        "the server's certificate is not valid yet",
        "check the clocks of both machines, or have it issued anew",
    ),
    _HOST: ("the server's certificate is for another name", _NAME_CURE),
    _ADDRESS: ("the server's certificate is for another name", _NAME_CURE),
}
_FOREIGN = (
    "the server's certificate was not signed by an authority that is trusted",
    "name the right one in tls.ca; if nobody changed it, find out who answers there",
)


def tls_problem(said: str, conninfo: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with the encryption, and the cure; None: it is something else.

    ``said``: the message of libpq.
    """
    if not re.search(TLS_REFUSED, said):
        return None
    for pattern, what, cure in _WORDS:
        if re.search(pattern, said):
            return what, cure
    other = re.search(
        r'server certificate for "([^"]*)".* does not match host name "([^"]*)"', said
    )
    if other is not None:
        return f"the server's certificate is for {other[1]}, not for {other[2]}", _NAME_CURE
    if "certificate verify failed" not in said:
        return None
    code = _verification_code(conninfo)
    return None if code is None else certificate_problem(code)


def certificate_problem(code: int) -> tuple[str, str]:
    """What is wrong with a certificate by OpenSSL's number for it, and the cure."""
    return _BY_CODE.get(code, _FOREIGN)


def _verification_code(conninfo: Mapping[str, str]) -> int | None:
    """OpenSSL's reason for not trusting the first host's certificate; None: no answer, or trust."""
    host = conninfo.get("host", "").split(",")[0]
    address = conninfo.get("hostaddr", "").split(",")[0] or host
    port = int(conninfo.get("port", "5432").split(",")[0] or 5432)
    try:
        with socket.create_connection((address, port), _SECONDS) as connection:
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) == b"S":
                with _context(conninfo).wrap_socket(connection, server_hostname=host or address):
                    return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_code
    except (OSError, ValueError):
        return None
    return None


def _context(conninfo: Mapping[str, str]) -> ssl.SSLContext:
    authority = conninfo.get("sslrootcert", "")
    context = ssl.create_default_context(cafile=None if authority == "system" else authority)
    context.check_hostname = conninfo.get("sslmode") == "verify-full"
    return context
