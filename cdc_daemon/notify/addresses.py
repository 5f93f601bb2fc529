"""Which addresses may be sent to: none inside, unless the channel names the host.

A name in a configuration, or whoever answers for it in DNS, could otherwise lead into the network
that the daemon stands in. Addresses that carry an IPv4 address (mapped, compatible, 6to4, NAT64)
are judged by both. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "fd00:ec2::254"))
)
"""Where clouds hand out a machine's own credentials: AWS and its like, Alibaba Cloud, AWS by v6."""

_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")  # RFC 3056
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_NAT64_INSIDE = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, deprecated
_TEREDO = ipaddress.IPv6Network("2001::/32")  # RFC 4380: leads to whoever it likes
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")  # RFC 3879, deprecated


def refusal(address: Address, *, private: bool) -> str | None:
    """Why nothing is sent there; None: it may be. ``private``: the channel names the host."""
    for one in (address, *_carried(address)):
        reason = _never(one) or (None if private else _inside(one))
        if reason is not None:
            return reason
    return None


def _never(address: Address) -> str | None:
    if address in METADATA:
        return "a cloud's metadata service"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or (address.version == 4 and address.is_reserved):
        return "no host's address"
    return "a Teredo address" if address in _TEREDO else None


def _inside(address: Address) -> str | None:
    if address.is_loopback:
        return "a loopback address"
    if address in _SITE_LOCAL or address in _NAT64_INSIDE:
        return "a private address"
    if any(True for _ in _carried(address)):
        return None  # what it carries is what counts
    return None if address.is_global else "a private address"


def _carried(address: Address) -> Iterator[Address]:
    """The IPv4 address inside an IPv6 one."""
    if address.version == 4:
        return
    number = int(address)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _SIX_TO_FOUR:
        yield ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)
    elif number > 1 and any(address in net for net in (_NAT64, _NAT64_INSIDE, _COMPATIBLE)):
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
