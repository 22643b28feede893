# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud's network is told of pods' addresses: routes of a router, and addresses that ports let through. No I/O."""

from __future__ import annotations

import ipaddress
import typing as t

__all__ = ["PodAddressesError", "foreign_routes", "plan_pairs", "plan_routes"]

Object = t.Mapping[str, t.Any]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class PodAddressesError(Exception):
    """Addresses that cannot be worked with; the message says what to change."""


def plan_routes(routes: t.Iterable[Object], *, pods: str, nexthops: t.Collection[str]) -> list[dict[str, str]]:
    """Return the routes to pods that lead over one of these addresses, which are those that a cluster has no use for any more."""
    return [
        {"destination": route["destination"], "nexthop": route["nexthop"]}
        for route in routes
        if route["nexthop"] in nexthops and _within(route["destination"], _network(pods))
    ]


def foreign_routes(routes: t.Iterable[Object], pods: str, nexthops: t.Collection[str]) -> list[str]:
    """Return, in words, the routes over others than these addresses that a route controller for pods would delete.

    It deletes whatever begins or ends among the pods' addresses. A wider route around them does not harm: theirs are longer.
    """
    inside = _network(pods)
    found = []
    for route in routes:
        other = _network(route["destination"])
        if route["nexthop"] not in nexthops and (other[0] in inside or other[-1] in inside):
            found.append(f"{route['destination']} via {route['nexthop']}")
    return sorted(found)


def plan_pairs(pairs: t.Sequence[Object], *, pods: str, wanted: t.Iterable[str]) -> list[dict[str, str]] | None:
    """Return the address pairs that a port must have, or None if it has them.

    Of parts of the pods' addresses these are the wanted ones and no other. What a port lets through besides is left to those who said so;
    so is a pair for all pods or more, from which Neutron's firewall for Open vSwitch would not come back: with its flows it deletes those
    of every pair that lies within.
    """
    inside = _network(pods)
    want = {_network(each) for each in wanted}
    outside = sorted(str(each) for each in want if not _within(str(each), inside))
    if outside:
        raise PodAddressesError(f"{', '.join(outside)} is not within {pods}: give a port addresses of pods only")
    kept = [dict(pair) for pair in pairs if not _part(pair["ip_address"], inside) or _network(pair["ip_address"]) in want]
    have = {_network(pair["ip_address"]) for pair in kept}
    added = [{"ip_address": str(each)} for each in sorted(want - have, key=str)]
    return [*kept, *added] if added or len(kept) < len(pairs) else None


def _within(text: str, network: Network) -> bool:
    other = _network(text)
    return other.version == network.version and other[0] in network and other[-1] in network


def _part(text: str, network: Network) -> bool:
    return _within(text, network) and _network(text) != network


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise PodAddressesError(f"{text} is no address range such as 10.1.0.0/16 ({error})") from error
