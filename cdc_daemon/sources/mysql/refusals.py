"""MySQL's and MariaDB's error numbers: which pass, which want a correction, which may be repeated.

Source: "Server Error Message Reference" of MySQL, "MariaDB Error Codes". Numbers that both give to
different errors are not in here.
"""

from __future__ import annotations

from typing import Final

IN_CLEAR: Final = 2061  # the client's own: an authentication plugin reported an error

DENIED: Final = frozenset((1044, 1045, 1142, 1143, 1227, 1370, 1410, 1698))
"""A right that is missing."""

EXPIRED: Final = frozenset((1820, 1862))
"""The password has expired; the first is told to the first statement, after the login."""

_PASSING: Final = frozenset(
    (
        *(1021, 1028, 1037, 1038, 1041),  # disk, memory
        *(1040, 1203, 1226),  # too many connections
        *(1053, 1079, 1080, 1094, 1129, 1152, 1317, 1927, 4031),  # shut down, killed, aborted
        *(1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184),  # the network
        *(1205, 1213, 1412, 1969, 3024, 3572),  # locks, time limits, a table defined anew
        *(2002, 2003, 2005, 2006, 2012, 2013, 2014, 2027, 2055),  # the client's own
        3032,  # offline mode
    )
)
_SPEAKABLE: Final = frozenset(
    (
        *(1044, 1045, 1046, 1049, 1054, 1129, 1130, 1142, 1143, 1146, 1193, 1227, 1235, 1236, 1290),
        *(1305, 1356, 1381, 1412, 1449, 1698, 3024, 4052),
    )
)
"""Errors whose messages name objects, accounts and settings only."""

_STARTUP: Final = {
    1044: "grant the account what is missing on that database",
    1045: "check user and password",
    1049: "correct the database's name",
    1130: "create the account for the address that this machine connects from",
    1251: "give the account another authentication plugin",
    1275: "give the account another authentication plugin",
    1524: "give the account an authentication plugin that the server has",
    1698: "give the account a password, or connect as the operating system's user of its name",
    1820: "set the account's password anew",
    1862: "set the account's password anew: it has expired",
    2059: "give the account another authentication plugin (caching_sha2_password,"
    " mysql_native_password or, with the package pynacl, ed25519)",
    3118: "ALTER USER … ACCOUNT UNLOCK",
    3159: "set sslmode to verify-full, with tls.ca: the server takes encrypted connections only",
    3955: "wait until the account is unlocked, or ALTER USER … ACCOUNT UNLOCK",
    4151: "ALTER USER … ACCOUNT UNLOCK",
}
_NO_TLS: Final = (
    "the server does not speak TLS, and nothing is sent to it without",
    "turn TLS on at the server; sslmode: disable only in a network trusted like this machine",
)
_IN_CLEAR: Final = (
    "the server wants the password in clear, over a connection that nobody vouches for",
    "set sslmode to verify-full, with tls.ca; if nobody changed the account's plugin, find out who"
    " answers there",
)


def at_startup(code: int, said: str) -> tuple[str, str] | None:
    """Why a connection was refused, and the cure; None: another try may do."""
    if code == IN_CLEAR:
        return _IN_CLEAR
    if code == 2026 and "support" in said:
        return _NO_TLS
    if code == 2026:
        return "the TLS handshake failed", "check sslmode and tls"
    cure = _STARTUP.get(code)
    return None if cure is None else (said, cure)


def missing_package(said: str) -> tuple[str, str]:
    """An authentication plugin that needs a Python package which is not installed."""
    for package in ("cryptography", "pynacl"):
        if package in said:
            other = "" if package == "pynacl" else ", or encrypt the connection (sslmode: require)"
            return (
                f"the account's authentication plugin needs the package {package}",
                f"pip install {package}{other}",
            )
    return "the account's authentication plugin is not known", _STARTUP[2059]


def is_passing(code: int) -> bool:
    """Whether the same may succeed later."""
    return code in _PASSING


def speakable(code: int, said: str) -> str:
    """The message where it never quotes a row's values; else the number alone."""
    if code in _SPEAKABLE or code in _PASSING or code < 1000:
        return f"{said} (error {code})" if code else said
    return f"error {code}"
