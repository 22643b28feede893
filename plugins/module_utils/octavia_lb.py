# SPDX-License-Identifier: GPL-3.0-or-later
"""A load balancer as a tree of parts: what is wanted, what is there, and the steps from one to the other, without I/O.

Three stages follow each other: parse() and from_api() bring both sides into one form, merge() says what will be there in the end,
make_plan() puts the differences into an order that Octavia accepts.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

__all__ = [
    "KINDS",
    "FloatingIP",
    "FloatingIPWish",
    "OctaviaError",
    "Part",
    "Plan",
    "Policy",
    "Purge",
    "Ref",
    "Step",
    "endpoint",
    "from_api",
    "make_plan",
    "merge",
    "parse",
    "to_dict",
]

Values = t.Mapping[str, t.Any]
Path = tuple[str, ...]


class OctaviaError(Exception):
    """The load balancer cannot be brought into the wanted state; the text says why and what to do, details are for programs."""

    def __init__(self, text: str, **details: t.Any) -> None:
        super().__init__(text)
        self.details = details


# --- Values ---------------------------------------------------------------------------------------------------------------------------


def _text(value: t.Any) -> str:
    return "" if value is None else str(value)


def _same(value: t.Any) -> t.Any:
    return value


def _set(value: t.Any) -> tuple[str, ...]:
    return tuple(sorted({str(item) for item in value or ()}))


def _sequence(value: t.Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value or ())


def _address(value: t.Any) -> str:
    if not value:
        return ""
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise OctaviaError(f"{value} is not an IP address") from None


def _cidrs(value: t.Any) -> tuple[str, ...]:
    try:
        networks = {ipaddress.ip_network(str(item), strict=False) for item in value or ()}
    except ValueError as exc:
        raise OctaviaError(f"allowed_cidrs: {exc}") from None
    return tuple(sorted(str(network) for network in networks))


def _headers(value: t.Any) -> dict[str, str]:
    return {
        str(name): str(content).lower() if isinstance(content, bool) else str(content) for name, content in sorted((value or {}).items())
    }


def _codes(value: t.Any) -> str:
    return _text(value).replace(" ", "")


def _given(value: t.Any) -> dict[str, t.Any]:
    """Keep what is set: what is left out of a dictionary arrives as None."""
    return {key: content for key, content in sorted((value or {}).items()) if content is not None}


def _provider(value: t.Any) -> str:
    # Octavia keeps the old name of its own driver as an alias.
    return "amphora" if value == "octavia" else _text(value)


def _vips(value: t.Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        sorted(
            (item.get("subnet_id") or item.get("subnet") or "", _address(item.get("ip_address") or item.get("address")))
            for item in value or ()
        )
    )


def _same_vips(want: t.Sequence[tuple[str, str]], have: t.Sequence[tuple[str, str]]) -> bool:
    if [subnet for subnet, _address_ in want] != [subnet for subnet, _address_ in have]:
        return False
    return all(address in ("", other[1]) for (_subnet, address), other in zip(want, have))


@dataclasses.dataclass(frozen=True)
class Attribute:
    """What an option of the module is called in the API, and how it behaves there."""

    option: str
    api: str = ""
    form: t.Callable[[t.Any], t.Any] = _same
    # It cannot be changed in place.
    fixed: bool = False
    # It can be emptied again; other attributes fall back to a default that only the server knows.
    empty: bool = False
    # A part that is made anew inherits it from the one it replaces.
    carry: bool = False
    # It holds the name of a pool.
    pool: bool = False

    @property
    def name(self) -> str:
        """The name in the API."""
        return self.api or self.option


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of part: its attributes, its children by option, and the key of the API's bodies."""

    name: str
    title: str
    body: str
    attributes: tuple[Attribute, ...]
    children: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    required: tuple[str, ...] = ()


_NAME = Attribute("name", form=_text, carry=True)
_COMMON = (
    Attribute("description", form=_text, empty=True, carry=True),
    Attribute("admin_state_up", carry=True),
    Attribute("tags", form=_set, empty=True, carry=True),
)
_TLS = (
    Attribute("tls_ciphers", form=_text),
    Attribute("tls_versions", form=_set),
    Attribute("alpn_protocols", form=_sequence),
)

KINDS: t.Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "load_balancer",
            "load balancer",
            "loadbalancer",
            (
                _NAME,
                *_COMMON,
                Attribute("vip_subnet", "vip_subnet_id", _text, fixed=True),
                Attribute("vip_network", "vip_network_id", _text, fixed=True),
                Attribute("vip_port", "vip_port_id", _text, fixed=True),
                Attribute("vip_address", form=_address, fixed=True),
                Attribute("vip_qos_policy", "vip_qos_policy_id", _text, empty=True, carry=True),
                Attribute("vip_security_groups", "vip_sg_ids", _set, empty=True, carry=True),
                Attribute("additional_vips", form=_vips, fixed=True, empty=True),
                Attribute("provider", form=_provider, fixed=True, carry=True),
                Attribute("flavor", "flavor_id", _text, fixed=True, carry=True),
                Attribute("availability_zone", form=_text, fixed=True, carry=True),
            ),
            {"listeners": "listener", "pools": "pool"},
        ),
        Kind(
            "listener",
            "listener",
            "listener",
            (
                _NAME,
                *_COMMON,
                Attribute("protocol", fixed=True, carry=True),
                Attribute("protocol_port", fixed=True, carry=True),
                Attribute("default_pool", "default_pool_id", _text, empty=True, carry=True, pool=True),
                Attribute("connection_limit", carry=True),
                Attribute("timeout_client_data", carry=True),
                Attribute("timeout_member_connect", carry=True),
                Attribute("timeout_member_data", carry=True),
                Attribute("timeout_tcp_inspect", carry=True),
                Attribute("allowed_cidrs", form=_cidrs, empty=True, carry=True),
                Attribute("insert_headers", form=_headers, empty=True),
                Attribute("default_tls_container_ref", form=_text, empty=True),
                Attribute("sni_container_refs", form=_set, empty=True),
                Attribute("client_ca_tls_container_ref", form=_text, empty=True),
                Attribute("client_crl_container_ref", form=_text, empty=True),
                Attribute("client_authentication"),
                *_TLS,
                Attribute("hsts_max_age"),
                Attribute("hsts_include_subdomains"),
                Attribute("hsts_preload"),
            ),
            {"l7policies": "l7policy"},
            ("protocol", "protocol_port"),
        ),
        Kind(
            "l7policy",
            "L7 policy",
            "l7policy",
            (
                _NAME,
                *_COMMON,
                Attribute("action"),
                Attribute("redirect_pool", "redirect_pool_id", _text, pool=True),
                Attribute("redirect_url", form=_text),
                Attribute("redirect_prefix", form=_text),
                Attribute("redirect_http_code"),
            ),
            {"rules": "rule"},
            ("action",),
        ),
        Kind(
            "rule",
            "L7 rule",
            "rule",
            (
                Attribute("type"),
                Attribute("compare_type"),
                Attribute("key", form=_text, empty=True),
                Attribute("value", form=_text, empty=True),
                Attribute("invert"),
                Attribute("admin_state_up"),
                Attribute("tags", form=_set, empty=True),
            ),
            {},
            ("type", "compare_type"),
        ),
        Kind(
            "pool",
            "pool",
            "pool",
            (
                _NAME,
                *_COMMON,
                Attribute("protocol", fixed=True, carry=True),
                Attribute("lb_algorithm", carry=True),
                Attribute("session_persistence", form=_given, empty=True),
                Attribute("tls_enabled"),
                Attribute("tls_container_ref", form=_text, empty=True),
                Attribute("ca_tls_container_ref", form=_text, empty=True),
                Attribute("crl_container_ref", form=_text, empty=True),
                *_TLS,
            ),
            {"members": "member", "health_monitor": "health_monitor"},
            ("protocol",),
        ),
        Kind(
            "member",
            "member",
            "member",
            (
                Attribute("name", form=_text, empty=True, carry=True),
                Attribute("address", form=_address, carry=True),
                Attribute("protocol_port", carry=True),
                Attribute("subnet", "subnet_id", _text, fixed=True, carry=True),
                Attribute("weight", carry=True),
                Attribute("backup", carry=True),
                Attribute("monitor_address", form=_address, empty=True, carry=True),
                Attribute("monitor_port", carry=True),
                Attribute("admin_state_up", carry=True),
                Attribute("tags", form=_set, empty=True, carry=True),
            ),
            {},
            ("address", "protocol_port"),
        ),
        Kind(
            "health_monitor",
            "health monitor",
            "healthmonitor",
            (
                Attribute("name", form=_text, empty=True, carry=True),
                Attribute("type", fixed=True, carry=True),
                Attribute("delay", carry=True),
                Attribute("timeout", carry=True),
                Attribute("max_retries", carry=True),
                Attribute("max_retries_down", carry=True),
                Attribute("http_method"),
                Attribute("http_version"),
                Attribute("url_path", form=_text),
                Attribute("expected_codes", form=_codes),
                Attribute("domain_name", form=_text),
                Attribute("admin_state_up", carry=True),
                Attribute("tags", form=_set, empty=True, carry=True),
            ),
            {},
            ("type", "delay", "timeout", "max_retries"),
        ),
    )
}


# --- Parts ----------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Part:
    """A load balancer or something in it. Values are keyed by option, in normal form; what nobody decides about is missing.

    A list of children that is None is not managed. A part without an id does not exist yet.
    """

    kind: str
    key: str
    values: Values
    id: str = ""
    children: t.Mapping[str, tuple[Part, ...] | None] = dataclasses.field(default_factory=dict)
    status: str = ""
    # The options that somebody asked for; the other values are as they were found.
    declared: frozenset[str] = frozenset()
    # A member's address as the API spells it: by that, and no other spelling, it knows a member again.
    spelling: str = ""

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{KINDS[self.kind].title} {self.key}".strip()

    def of(self, option: str) -> tuple[Part, ...]:
        """Return its children of an option; none if they are not managed."""
        return self.children.get(option) or ()


def endpoint(address: str, port: t.Any) -> str:
    """Return address and port as one word."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _key(kind: str, values: Values) -> str:
    if kind == "member":
        return endpoint(values["address"], values["protocol_port"])
    if kind == "health_monitor":
        return ""
    if kind == "rule":
        words = [values["type"], values.get("key", ""), "is not" if values.get("invert") else "", values["compare_type"], values["value"]]
        return " ".join(word for word in words if word)
    return str(values["name"])


def parse(params: Values) -> Part:
    """Return what is wanted; names of subnets, flavors and the like are ids already."""
    return _parse("load_balancer", params, "")


def _parse(name: str, params: Values, where: str) -> Part:
    kind = KINDS[name]
    known = {attribute.option: attribute for attribute in kind.attributes}
    label = f"{where}{kind.title} {params.get('name') or params.get('address') or ''}".strip()
    for option in kind.required:
        if params.get(option) in (None, ""):
            raise OctaviaError(f"{label}: {option} is missing")
    # Two rules are the same if their content is, so nothing of it may be open.
    values: dict[str, t.Any] = {"key": "", "invert": False} if name == "rule" else {}
    for option, attribute in known.items():
        if params.get(option) is None:
            continue
        try:
            values[option] = attribute.form(params[option])
        except OctaviaError as exc:
            raise OctaviaError(f"{label}: {exc}") from None
        if values[option] in ("", ()) and not attribute.empty:
            raise OctaviaError(f"{label}: {option} cannot be empty; leave it out to keep it as it is")
    children: dict[str, tuple[Part, ...] | None] = {}
    for option, child in kind.children.items():
        given = params.get(option)
        if option == "health_monitor" and given is not None:
            given = [given] if _given(given) else []
        children[option] = None if given is None else tuple(_parse(child, item, f"{label}: ") for item in given)
        if option != "rules":
            _check_unique(label, children[option] or ())
    part = Part(name, _key(name, values), values, children=children, declared=frozenset(values))
    _CHECKS.get(name, _nothing_to_check)(part, label)
    return part


def from_api(tree: Values) -> Part:
    """Return what is there, from the API's answer with all parts nested as it gives them for a new load balancer."""
    pools = tree.get("pools") or []
    keys = _keys_of(pools)
    return _from_api("load_balancer", tree, {pool["id"]: key for pool, key in zip(pools, keys)}, str(tree.get("name") or tree["id"]))


def _keys_of(items: t.Sequence[Values]) -> list[str]:
    """Parts without a name of their own are known by their id."""
    names = [item.get("name") or "" for item in items]
    return [name if name and names.count(name) == 1 else item["id"] for item, name in zip(items, names)]


def _from_api(name: str, item: Values, pools: t.Mapping[str, str], key: str) -> Part:
    kind = KINDS[name]
    values: dict[str, t.Any] = {}
    for attribute in kind.attributes:
        if attribute.name in item:
            value = item[attribute.name]
            values[attribute.option] = pools.get(value, "") if attribute.pool else attribute.form(value)
    children: dict[str, tuple[Part, ...] | None] = {}
    for option, child in kind.children.items():
        if option == "health_monitor":
            found = [item["healthmonitor"]] if item.get("healthmonitor") else []
        else:
            found = list(item.get(option) or ())
        if child == "l7policy":
            found.sort(key=lambda policy: policy.get("position") or 0)
        if child in ("member", "rule", "health_monitor"):
            parts = [_from_api(child, one, pools, "") for one in found]
        else:
            parts = [_from_api(child, one, pools, its) for one, its in zip(found, _keys_of(found))]
        children[option] = tuple(parts)
    if name in ("member", "rule"):
        key = _key(name, values)
    return Part(
        name,
        key,
        values,
        id=item["id"],
        children=children,
        status=item.get("provisioning_status") or "",
        spelling=item.get("address") or "",
    )


def to_dict(part: Part) -> dict[str, t.Any]:
    """Return a part with all that is in it, as options and ids."""
    shown = {"id": part.id, **{option: _plain(value) for option, value in part.values.items()}}
    for option in KINDS[part.kind].children:
        parts = [to_dict(child) for child in part.of(option)]
        shown[option] = (parts[0] if parts else {}) if option == "health_monitor" else parts
    return shown


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, tuple):
        return [{"subnet": item[0], "address": item[1]} if isinstance(item, tuple) else item for item in value]
    return value


# --- What can be wrong with what is asked for -----------------------------------------------------------------------------------------

POOLS_OF_LISTENER = {
    "TCP": ("HTTP", "HTTPS", "PROXY", "PROXYV2", "TCP"),
    "HTTP": ("HTTP", "PROXY", "PROXYV2"),
    "HTTPS": ("HTTPS", "PROXY", "PROXYV2", "TCP"),
    "TERMINATED_HTTPS": ("HTTP", "PROXY", "PROXYV2"),
    "UDP": ("UDP",),
    "SCTP": ("SCTP",),
    "PROMETHEUS": (),
}
_DATAGRAMS = ("UDP", "SCTP")
_RANGES = {
    "protocol_port": (1, 65535),
    "monitor_port": (1, 65535),
    "weight": (0, 256),
    "connection_limit": (-1, 2**31 - 1),
    "max_retries": (1, 10),
    "max_retries_down": (1, 10),
    "delay": (0, 2**31 - 1),
    "timeout": (0, 2**31 - 1),
    "hsts_max_age": (0, 2**31 - 1),
    **{f"timeout_{what}": (0, 24 * 24 * 3600 * 1000) for what in ("client_data", "member_connect", "member_data", "tcp_inspect")},
}
_LISTENER_REFS = ("default_tls_container_ref", "sni_container_refs", "client_ca_tls_container_ref", "client_crl_container_ref")
_TARGETS = {
    "REDIRECT_TO_POOL": "redirect_pool",
    "REDIRECT_TO_URL": "redirect_url",
    "REDIRECT_PREFIX": "redirect_prefix",
    "REJECT": "",
}
# What a policy has only together with an action.
_OF_ACTION = frozenset({*filter(None, _TARGETS.values()), "redirect_http_code"})


def _nothing_to_check(_part: Part, _label: str) -> None:
    pass


def _check_ranges(part: Part, label: str) -> None:
    for option, (low, high) in _RANGES.items():
        value = part.values.get(option)
        if value is not None and not low <= value <= high:
            raise OctaviaError(f"{label}: {option} is {value}, but must lie between {low} and {high}")


def _check_unique(label: str, parts: t.Sequence[Part]) -> None:
    keys = [part.key for part in parts]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise OctaviaError(f"{label}: {KINDS[parts[0].kind].title} {twice[0]} stands there twice".lstrip(": "))


def _check_listener(part: Part, label: str) -> None:
    _check_ranges(part, label)
    values = part.values
    protocol = values["protocol"]
    references = [option for option in _LISTENER_REFS if values.get(option)]
    if references and protocol not in ("TERMINATED_HTTPS", "PROMETHEUS"):
        raise OctaviaError(f"{label}: {references[0]} needs the protocol TERMINATED_HTTPS or PROMETHEUS, not {protocol}")
    if values.get("client_crl_container_ref") and values.get("client_ca_tls_container_ref") == "":
        raise OctaviaError(f"{label}: client_crl_container_ref needs client_ca_tls_container_ref")
    if values.get("insert_headers") and protocol not in ("HTTP", "TERMINATED_HTTPS"):
        raise OctaviaError(f"{label}: insert_headers needs the protocol HTTP or TERMINATED_HTTPS, not {protocol}")
    if values.get("hsts_max_age") is not None and protocol != "TERMINATED_HTTPS":
        raise OctaviaError(f"{label}: hsts_max_age needs the protocol TERMINATED_HTTPS, not {protocol}")
    if protocol == "PROMETHEUS" and (values.get("default_pool") or part.of("l7policies")):
        raise OctaviaError(f"{label}: a PROMETHEUS listener has neither a pool nor L7 policies")


def _check_policy(part: Part, label: str) -> None:
    values = part.values
    target = _TARGETS[values["action"]]
    if target and not values.get(target):
        raise OctaviaError(f"{label}: {values['action']} needs {target}")
    others = [option for option in _TARGETS.values() if option and option != target and values.get(option)]
    if others:
        raise OctaviaError(f"{label}: {others[0]} does not go with {values['action']}")
    if values.get("redirect_http_code") is not None and target not in ("redirect_url", "redirect_prefix"):
        raise OctaviaError(f"{label}: redirect_http_code does not go with {values['action']}")
    if len(part.of("rules")) > 50:
        raise OctaviaError(f"{label}: a policy has at most 50 rules")


def _check_rule(part: Part, label: str) -> None:
    values = part.values
    if values["type"] in ("HEADER", "COOKIE", "SSL_DN_FIELD"):
        if not values.get("key"):
            raise OctaviaError(f"{label}: {values['type']} needs a key")
    elif values.get("key"):
        raise OctaviaError(f"{label}: {values['type']} has no key")
    if values["type"] in ("SSL_CONN_HAS_CERT", "SSL_VERIFY_RESULT", "FILE_TYPE"):
        allowed = ("EQUAL_TO", "REGEX") if values["type"] == "FILE_TYPE" else ("EQUAL_TO",)
        if values["compare_type"] not in allowed:
            raise OctaviaError(f"{label}: {values['type']} can be compared with {' or '.join(allowed)} only")
    if values["compare_type"] == "REGEX":
        try:
            re.compile(values["value"])
        except re.error as exc:
            raise OctaviaError(f"{label}: {values['value']!r} is no regular expression: {exc}") from None


def _check_pool(part: Part, label: str) -> None:
    values = part.values
    protocol = values["protocol"]
    persistence = values.get("session_persistence") or {}
    kind = persistence.get("type")
    if persistence and not kind:
        raise OctaviaError(f"{label}: session_persistence needs a type")
    if (kind == "APP_COOKIE") != bool(persistence.get("cookie_name")):
        raise OctaviaError(f"{label}: cookie_name and the session persistence APP_COOKIE need each other")
    only_datagrams = sorted({"persistence_timeout", "persistence_granularity"} & set(persistence))
    if only_datagrams and protocol not in _DATAGRAMS:
        raise OctaviaError(f"{label}: {only_datagrams[0]} is for UDP and SCTP, not for {protocol}")
    if kind in ("APP_COOKIE", "HTTP_COOKIE") and protocol in _DATAGRAMS:
        raise OctaviaError(f"{label}: session persistence of a pool with {protocol} is SOURCE_IP")
    if values.get("crl_container_ref") and values.get("ca_tls_container_ref") == "":
        raise OctaviaError(f"{label}: crl_container_ref needs ca_tls_container_ref")
    for monitor in part.of("health_monitor"):
        kind = monitor.values["type"]
        if protocol in _DATAGRAMS:
            if kind not in ("UDP-CONNECT", "SCTP", "TCP", "HTTP"):
                raise OctaviaError(f"{label}: a pool with {protocol} is monitored by UDP-CONNECT, SCTP, TCP or HTTP, not by {kind}")
        elif kind in ("UDP-CONNECT", "SCTP"):
            raise OctaviaError(f"{label}: a health monitor {kind} needs a pool with UDP or SCTP, not {protocol}")


def _check_monitor(part: Part, label: str) -> None:
    _check_ranges(part, label)
    values = part.values
    http = [option for option in ("http_method", "url_path", "expected_codes", "http_version", "domain_name") if option in values]
    if http and values["type"] not in ("HTTP", "HTTPS"):
        raise OctaviaError(f"{label}: {http[0]} needs the type HTTP or HTTPS, not {values['type']}")
    if "url_path" in values and not values["url_path"].startswith("/"):
        raise OctaviaError(f"{label}: url_path is {values['url_path']!r}, but must start with a slash")
    codes = values.get("expected_codes")
    if codes and not re.fullmatch(r"\d{3}(,\d{3})*|\d{3}-\d{3}", codes):
        raise OctaviaError(f"{label}: expected_codes is {codes!r}, but must be like 200, 200,202 or 200-204")
    if "domain_name" in values and values.get("http_version", 1.1) != 1.1:
        raise OctaviaError(f"{label}: domain_name needs http_version 1.1")


_CHECKS: t.Mapping[str, t.Callable[[Part, str], None]] = {
    "listener": _check_listener,
    "l7policy": _check_policy,
    "rule": _check_rule,
    "pool": _check_pool,
    "member": _check_ranges,
    "health_monitor": _check_monitor,
}


def _check_places(listeners: t.Iterable[Part]) -> None:
    places: dict[tuple[str, int], str] = {}
    for listener in listeners:
        protocol = listener.values["protocol"]
        place = (protocol if protocol in _DATAGRAMS else "TCP", listener.values["protocol_port"])
        if place in places:
            raise OctaviaError(f"listeners {places[place]} and {listener.key} both want {place[0]} port {place[1]}")
        places[place] = listener.key


# --- What will be there ---------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Purge:
    """At which levels parts that are not declared are removed."""

    listeners: bool = True
    l7policies: bool = True
    rules: bool = True
    pools: bool = True
    members: bool = True
    # A health monitor that is declared as none is always removed: there is no other that it could be confused with.
    health_monitor: bool = True


def merge(want: Part, have: Part | None, purge: Purge) -> Part:
    """Return the whole of what will be there: what is wanted, and of what is there all that is not managed."""
    after = _merge(want, have, purge)
    pools = {pool.key: pool for pool in after.of("pools")}
    protocols = {listener.id: listener.values.get("protocol") for listener in (have.of("listeners") if have else ())}

    def lead(part: Part, option: str, listener: Part) -> Part:
        name = part.values.get(option)
        if not name:
            return part
        if name not in pools:
            if option in part.declared:
                raise OctaviaError(f"{part.title}: {option} is {name}, but there is no such pool; declare it under pools")
            if part.kind == "l7policy":
                raise OctaviaError(
                    f"pool {name} would be removed, but {part.title} of listener {listener.key} sends requests to it; declare one of them"
                )
            # Octavia would forget it, too.
            return dataclasses.replace(part, values={**part.values, option: ""})
        protocol = pools[name].values.get("protocol")
        if protocol not in POOLS_OF_LISTENER.get(listener.values.get("protocol", ""), (protocol,)):
            if option not in part.declared and part.kind == "listener" and protocols.get(part.id) != part.values["protocol"]:
                # What it inherits from the listener that it replaces does not fit any more.
                return dataclasses.replace(part, values={**part.values, option: ""})
            raise OctaviaError(
                f"listener {listener.key}: a pool with {protocol}, {name}, does not go with the protocol {listener.values['protocol']}"
            )
        return part

    listeners = []
    _check_places(after.of("listeners"))
    for listener in after.of("listeners"):
        if listener.values.get("protocol") == "PROMETHEUS" and listener.of("l7policies"):
            raise OctaviaError(f"{listener.title}: a PROMETHEUS listener has no L7 policies; declare l7policies as an empty list")
        policies = tuple(lead(policy, "redirect_pool", listener) for policy in listener.of("l7policies"))
        children = {**listener.children, "l7policies": policies}
        listeners.append(dataclasses.replace(lead(listener, "default_pool", listener), children=children))
    return dataclasses.replace(after, children={**after.children, "listeners": tuple(listeners)})


def _merge(want: Part, have: Part | None, purge: Purge) -> Part:
    children: dict[str, tuple[Part, ...] | None] = {}
    for option in KINDS[want.kind].children:
        wanted = want.children.get(option)
        there = have.of(option) if have else ()
        if wanted is None:
            children[option] = there
            continue
        pairs = _match(wanted, there, getattr(purge, option))
        kept = tuple(_merge(one, other, purge) for one, other in pairs)
        if getattr(purge, option):
            children[option] = kept
        else:
            used = {other.id for _one, other in pairs if other}
            children[option] = (*kept, *(other for other in there if other.id not in used))
    if have is None:
        return dataclasses.replace(want, children=children)
    values = {**have.values, **want.values}
    if want.kind == "rule" and want.key != have.key:
        # It becomes another one.
        values = {**have.values, "admin_state_up": True, "tags": (), **want.values}
    if want.kind == "l7policy" and want.values["action"] != have.values.get("action"):
        # Octavia forgets the old target by itself.
        stale = [option for option in (*_TARGETS.values(), "redirect_http_code") if option and option not in want.values]
        values.update({option: None if option == "redirect_http_code" else "" for option in stale if option in values})
    after = dataclasses.replace(want, values=values, id=have.id, children=children, status=have.status, spelling=have.spelling)
    if want.kind != "load_balancer" and _fixed(after, have):
        # It will be made anew, and not all of the old one goes with what changes.
        carried = {attribute.option for attribute in KINDS[want.kind].attributes if attribute.carry} | want.declared
        return dataclasses.replace(after, values={option: value for option, value in values.items() if option in carried})
    return after


def _match(wanted: t.Sequence[Part], there: t.Sequence[Part], purge: bool) -> list[tuple[Part, Part | None]]:
    """Pair what is wanted with what is there, in the order of what is wanted."""
    left = list(there)
    found: dict[int, Part] = {}

    def take(one: int, fits: t.Callable[[Part, Part], bool]) -> None:
        if one in found:
            return
        candidates = [other for other in left if fits(wanted[one], other)]
        if len(candidates) > 1 and wanted[one].kind in ("listener", "l7policy", "pool"):
            raise OctaviaError(
                f"{len(candidates)} parts are called {wanted[one].title}; parts are told apart by name: rename or remove all but one"
            )
        if candidates:
            found[one] = candidates[0]
            left.remove(candidates[0])

    for one in range(len(wanted)):
        take(one, _named_alike)
    if purge:
        # What would be removed anyway is changed instead where that is possible; for a listener that saves an interruption.
        for one in range(len(wanted)):
            take(one, _could_become)
    return [(part, found.get(one)) for one, part in enumerate(wanted)]


def _named_alike(want: Part, have: Part) -> bool:
    if want.kind in ("listener", "l7policy", "pool"):
        return bool(have.values.get("name") == want.key)
    return have.key == want.key


def _could_become(want: Part, have: Part) -> bool:
    if want.kind == "listener":
        return all(want.values[option] == have.values.get(option) for option in ("protocol", "protocol_port"))
    return want.kind == "rule"


# --- Steps ----------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Ref:
    """The id of a part that may not exist yet."""

    path: Path


@dataclasses.dataclass(frozen=True)
class Step:
    """One call that changes something.

    Verbs are create, update, delete, failover and members, the last for all members of a pool at once; for floating IPs allocate,
    associate, disassociate and release.
    """

    verb: str
    kind: str
    label: str
    id: str | Ref = ""
    # By what later steps know a part that this one makes.
    path: Path = ()
    # The part under whose address it lives.
    parent: Path = ()
    body: Values = dataclasses.field(default_factory=dict)
    additive: bool = False
    before: Values = dataclasses.field(default_factory=dict)
    after: Values = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        if self.verb == "members":
            return f"set members of pool {self.label}"
        title = KINDS[self.kind].title if self.kind in KINDS else self.kind
        return f"{self.verb} {title} {self.label}".strip()


@dataclasses.dataclass(frozen=True)
class Policy:
    """What may be done when the load balancer cannot be changed as it is."""

    recreate: bool = False
    on_error: str = "fail"
    purge: Purge = dataclasses.field(default_factory=Purge)


@dataclasses.dataclass(frozen=True)
class FloatingIP:
    """A floating IP that is there."""

    id: str
    address: str
    network: str
    port: str = ""
    # Whether this module made it.
    ours: bool = False


@dataclasses.dataclass(frozen=True)
class FloatingIPWish:
    """The floating IP that is wanted; with neither network nor address, none is."""

    network: str = ""
    address: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The steps, the ids of the parts that stay, and what will be there."""

    steps: tuple[Step, ...] = ()
    ids: t.Mapping[Path, str] = dataclasses.field(default_factory=dict)
    after: Part | None = None

    @property
    def rebuilds(self) -> bool:
        """Whether the whole load balancer is made anew."""
        return self.after is not None and any(step.kind == "load_balancer" and step.verb == "delete" for step in self.steps)

    def diff(self) -> dict[str, str]:
        """Return both sides of the differences for people."""
        return {side: "".join(_lines(step, getattr(step, side)) for step in self.steps) for side in ("before", "after")}


def _lines(step: Step, values: Values) -> str:
    subject = str(step).split(" ", 1)[1]
    return "".join(f"{subject}: {option} = {_plain(value)}\n" for option, value in values.items())


def make_plan(
    *,
    want: Part | None,
    have: Part | None,
    policy: Policy,
    wish: FloatingIPWish | None = None,
    ips: t.Sequence[FloatingIP] = (),
) -> Plan:
    """Return how to come from what is there to what is wanted; want is None when nothing is to be left.

    The floating IPs are those on the VIP's port, those that this module made for the load balancer, and the one with the wanted address.
    """
    if want is None:
        steps = [_delete_balancer(have)] if have else []
        steps += [_release(ip) for ip in ips if ip.ours]
        return Plan(tuple(steps))
    after = merge(want, have, policy.purge)
    if have is None:
        _check_new(after)
        return Plan((_create_balancer(after), *_plan_ip(wish, ips, "")), {}, after)
    ids: dict[Path, str] = {("load_balancer",): have.id}
    steps = []
    if have.status == "ERROR":
        if policy.on_error == "fail":
            raise OctaviaError(
                f"{have.title} is in ERROR and takes no changes; look into Octavia's logs, then set on_error to failover or recreate"
            )
        if policy.on_error == "recreate":
            return _recreate(after, want, have, wish, ips)
        steps.append(Step("failover", "load_balancer", have.key, id=have.id, before={"status": "ERROR"}, after={"status": "ACTIVE"}))
    fixed = _fixed(after, have)
    if fixed:
        if not policy.recreate:
            _refuse(after, have, fixed)
        return _recreate(after, want, have, wish, ips)
    steps += _Differ(after, have, policy, ids).steps()
    return Plan((*steps, *_plan_ip(wish, ips, str(have.values.get("vip_port", "")))), ids, after)


def _differences(after: Part, have: Part) -> list[str]:
    """Return the options that differ, in the order of the kind."""
    differing = []
    for attribute in KINDS[after.kind].attributes:
        option = attribute.option
        if option not in after.values:
            continue
        wanted, there = after.values[option], have.values.get(option, attribute.form(None))
        same = _same_vips(wanted, there) if option == "additional_vips" else wanted == there
        if not same:
            differing.append(option)
    return differing


def _fixed(after: Part, have: Part) -> list[str]:
    fixed = {attribute.option for attribute in KINDS[after.kind].attributes if attribute.fixed}
    return [option for option in _differences(after, have) if option in fixed]


def _refuse(after: Part, have: Part, options: t.Sequence[str]) -> t.NoReturn:
    changes = ", ".join(f"{o} (now {_plain(have.values.get(o)) or 'none'}, wanted {_plain(after.values[o])})" for o in options)
    raise OctaviaError(
        f"{after.title} cannot be changed in place: {changes}; set recreate to when_needed to have it made anew", options=list(options)
    )


def _api(part: Part, options: t.Collection[str] | None = None, *, new: bool) -> dict[str, t.Any]:
    """Return the body of a request. What is empty goes as null when it changes, and is left out of what is new."""
    body: dict[str, t.Any] = {}
    for attribute in KINDS[part.kind].attributes:
        option = attribute.option
        if option not in part.values or (options is not None and option not in options):
            continue
        value = part.values[option]
        if value in ("", (), {}, None) and (part.kind, option) != ("rule", "value"):
            if new:
                continue
            value = [] if isinstance(value, tuple) and option != "allowed_cidrs" else "" if option in ("name", "description") else None
        elif attribute.pool:
            value = Ref(("pool", value))
        elif option == "additional_vips":
            value = [{"subnet_id": s, "ip_address": a} if a else {"subnet_id": s} for s, a in value]
        elif isinstance(value, tuple):
            value = list(value)
        body[attribute.name] = value
    return body


def _whole(part: Part) -> dict[str, t.Any]:
    """Return the body that makes a part with all that is in it."""
    body = _api(part, new=True)
    if "name" in {attribute.option for attribute in KINDS[part.kind].attributes} and part.key and part.kind != "member":
        body["name"] = part.key
    for attribute in KINDS[part.kind].attributes:
        if attribute.pool and attribute.name in body:
            body[attribute.name[: -len("_id")]] = {"name": body.pop(attribute.name).path[1]}
    for option in KINDS[part.kind].children:
        children = [_whole(child) for child in part.of(option)]
        if option == "health_monitor":
            if children:
                body["healthmonitor"] = children[0]
        elif children:
            body[option] = children
    if part.kind == "pool":
        body.setdefault("lb_algorithm", "ROUND_ROBIN")
    return body


def _check_new(after: Part) -> None:
    if not any(after.values.get(option) for option in ("vip_subnet", "vip_network", "vip_port")):
        raise OctaviaError(f"{after.title} does not exist and cannot be made without one of vip_subnet, vip_network and vip_port")
    for listener in after.of("listeners"):
        _check_certificate(listener)


def _check_certificate(listener: Part) -> None:
    if listener.values["protocol"] == "TERMINATED_HTTPS" and not any(
        listener.values.get(option) for option in ("default_tls_container_ref", "sni_container_refs")
    ):
        raise OctaviaError(f"{listener.title}: TERMINATED_HTTPS needs default_tls_container_ref or sni_container_refs")


def _summary(part: Part) -> dict[str, t.Any]:
    counts = {"present": "yes"}
    for option in ("listeners", "pools"):
        if part.of(option):
            counts[option] = ", ".join(child.key for child in part.of(option))
    return counts


def _create_balancer(after: Part) -> Step:
    return Step("create", "load_balancer", after.key, path=("load_balancer",), body=_whole(after), after=_summary(after))


def _delete_balancer(have: Part) -> Step:
    return Step("delete", "load_balancer", have.key, id=have.id, before=_summary(have))


def _recreate(after: Part, want: Part, have: Part, wish: FloatingIPWish | None, ips: t.Sequence[FloatingIP]) -> Plan:
    """Make the whole load balancer anew, with what nobody declares as it was, at the same address unless the VIP itself changes."""
    values = {a.option: after.values[a.option] for a in KINDS["load_balancer"].attributes if a.carry and a.option in after.values}
    vip = ("vip_subnet", "vip_network", "vip_port", "vip_address", "additional_vips")
    # A port that Octavia made goes away with the load balancer.
    keep = [option for option in vip if option != "vip_port"]
    if set(_fixed(after, have)) & set(vip):
        keep = [] if want.declared & {"vip_subnet", "vip_network", "vip_port"} else ["vip_subnet"]
    values.update({option: have.values[option] for option in keep if have.values.get(option)})
    values.update(want.values)
    new = dataclasses.replace(after, values=values, id="")
    _check_new(new)
    # The port is gone by then, so every address is free again.
    freed = [dataclasses.replace(ip, port="") if ip.port == have.values.get("vip_port") else ip for ip in ips]
    if wish is None:
        # It is not declared, but belonged to the old one.
        moved = [ip for ip in ips if ip.port and ip.port == have.values.get("vip_port")]
        again = [_associate(ip) for ip in freed if ip.id in {one.id for one in moved}]
    else:
        again = _plan_ip(wish, freed, "")
    return Plan((_delete_balancer(have), _create_balancer(new), *again), {}, new)


class _Differ:
    """Puts the differences between two trees into an order in which no step asks for something that is not there any more, or not yet."""

    def __init__(self, after: Part, have: Part, policy: Policy, ids: dict[Path, str]) -> None:
        self.after, self.have, self.policy, self.ids = after, have, policy, ids

    def steps(self) -> list[Step]:
        have, after = self.have, self.after
        self.listeners = self._pair(after.of("listeners"), have.of("listeners"))
        self.pools = self._pair(after.of("pools"), have.of("pools"))
        steps = self._update(after, have, have.key)
        gone_listeners = self._gone(have.of("listeners"), self.listeners)
        gone_pools = self._gone(have.of("pools"), self.pools)
        # Ports are free again, and pools that served only these can go.
        steps += [Step("delete", "listener", one.key, id=one.id, before=self._shown(one)) for one in gone_listeners]
        for new, old in self.listeners:
            if old:
                steps += self._gone_policies(new, old)
        in_use = self._pools_in_use()
        early = [pool for pool in gone_pools if pool.id not in in_use]
        steps += [self._delete_pool(pool) for pool in early]
        # Smaller pools first: a quota of members may be tight.
        kept = sorted(
            ((new, old) for new, old in self.pools if old), key=lambda pair: len(pair[0].of("members")) - len(pair[1].of("members"))
        )
        for new, old in kept:
            self.ids[("pool", new.key)] = old.id
            steps += self._update(new, old, new.key) + self._members(new, old) + self._monitor(new, old)
        for new, old in self.pools:
            if not old:
                steps += self._new_pool(new)
        for new, old in self.listeners:
            if old:
                self.ids[("listener", new.key)] = old.id
                steps += self._update(new, old, new.key)
        for new, old in self.listeners:
            if not old:
                steps += self._new_listener(new)
        for new, old in self.listeners:
            steps += self._policies(new, old)
        steps += [self._delete_pool(pool) for pool in gone_pools if pool.id in in_use]
        return steps

    def _pair(self, after: t.Sequence[Part], have: t.Sequence[Part]) -> list[tuple[Part, Part | None]]:
        """Pair by id; a part that has to be made anew has no partner."""
        by_id = {part.id: part for part in have}
        pairs: list[tuple[Part, Part | None]] = []
        for part in after:
            old = by_id.get(part.id) if part.id else None
            if old:
                fixed = _fixed(part, old)
                if fixed:
                    if not self.policy.recreate:
                        _refuse(part, old, fixed)
                    part, old = dataclasses.replace(part, id=""), None
            pairs.append((part, old))
        return pairs

    @staticmethod
    def _gone(have: t.Sequence[Part], pairs: t.Sequence[tuple[Part, Part | None]]) -> list[Part]:
        stays = {old.id for _new, old in pairs if old}
        return [part for part in have if part.id not in stays]

    @staticmethod
    def _shown(part: Part) -> dict[str, t.Any]:
        return {option: value for option, value in part.values.items() if value not in ("", (), {}, None)}

    def _update(self, new: Part, old: Part, label: str, parent: Path = ()) -> list[Step]:
        options = _differences(new, old)
        if new.kind in ("listener", "l7policy"):
            options = self._with_references(new, old, options)
        if not options:
            return []
        if new.kind == "l7policy" and (_OF_ACTION | {"action"}) & set(options):
            # Octavia forgets what does not come together with the action.
            of_action = {option for option in _OF_ACTION if new.values.get(option) not in ("", None)}
            sent = {"action"} | of_action | (set(options) - _OF_ACTION)
        else:
            sent = set(options)
        return [
            Step(
                "update",
                new.kind,
                label,
                id=old.id,
                parent=parent,
                body=_api(new, sent, new=False),
                before={option: old.values.get(option) for option in options},
                after={option: new.values[option] for option in options},
            )
        ]

    def _with_references(self, new: Part, old: Part, options: list[str]) -> list[str]:
        """Add the reference to a pool that is made anew: it has the old one's name, but not its id."""
        anew = {pool.key for pool, there in self.pools if not there}
        option = "default_pool" if new.kind == "listener" else "redirect_pool"
        if option not in options and new.values.get(option) in anew and old.values.get(option):
            return [*options, option]
        return options

    def _pools_in_use(self) -> set[str]:
        """Ids of the pools that listeners and policies still refer to when what has to go has gone."""
        keys = {pool.key: pool.id for pool in self.have.of("pools")}
        used = set()
        for new, old in self.listeners:
            if old:
                stay = {policy.id for policy in new.of("l7policies")}
                names = [old.values.get("default_pool"), *(p.values.get("redirect_pool") for p in old.of("l7policies") if p.id in stay)]
                used |= {keys[name] for name in names if name in keys}
        return used

    def _delete_pool(self, pool: Part) -> Step:
        return Step("delete", "pool", pool.key, id=pool.id, before=self._shown(pool))

    def _members(self, new: Part, old: Part) -> list[Step]:
        pairs = self._pair(new.of("members"), old.of("members"))
        gone = self._gone(old.of("members"), pairs)
        anew = {part.key for part, there in pairs if not there}
        replaced = [part for part in gone if part.key in anew]
        changed = [(part, there) for part, there in pairs if not there or _differences(part, there)]
        steps = [
            Step("delete", "member", f"{part.key} of pool {new.key}", id=part.id, parent=("pool", new.key), before=self._shown(part))
            for part in replaced
        ]
        if not changed and len(gone) == len(replaced):
            return steps
        # Members that stay as they are need not be sent when none goes; then nobody else's new member can be lost, either.
        additive = len(gone) == len(replaced)
        sent = changed if additive else pairs
        before = {part.key: self._member(part) for part in gone if part not in replaced}
        before.update({there.key: self._member(there) for _part, there in changed if there})
        steps.append(
            Step(
                "members",
                "member",
                new.key,
                parent=("pool", new.key),
                body={"members": [self._member_body(part, there) for part, there in sent]},
                additive=additive,
                before=before,
                after={part.key: self._member(part) for part, _there in changed},
            )
        )
        return steps

    @staticmethod
    def _member_body(part: Part, there: Part | None) -> dict[str, t.Any]:
        if there is None:
            return _api(part, new=True)
        # What is left out of a member falls back to a default, and its subnet is not to be touched.
        body = _api(part, [option for option in part.values if option != "subnet"], new=False)
        return {**body, "address": there.spelling}

    @staticmethod
    def _member(part: Part) -> str:
        words = [f"{option}={_plain(value)}" for option, value in part.values.items() if option not in ("address", "protocol_port")]
        return " ".join(words)

    def _monitor(self, new: Part, old: Part) -> list[Step]:
        label = f"of pool {new.key}"
        pairs = self._pair(new.of("health_monitor"), old.of("health_monitor"))
        steps = [
            Step("delete", "health_monitor", label, id=part.id, before=self._shown(part))
            for part in self._gone(old.of("health_monitor"), pairs)
        ]
        for part, there in pairs:
            steps += self._update(part, there, label) if there else [self._new_monitor(part, new)]
        return steps

    def _new_monitor(self, part: Part, pool: Part) -> Step:
        body = {**_api(part, new=True), "pool_id": Ref(("pool", pool.key))}
        return Step("create", "health_monitor", f"of pool {pool.key}", body=body, after=self._shown(part))

    def _new_pool(self, new: Part) -> list[Step]:
        body = {**_api(new, new=True), "name": new.key, "loadbalancer_id": Ref(("load_balancer",))}
        body.setdefault("lb_algorithm", "ROUND_ROBIN")
        steps = [Step("create", "pool", new.key, path=("pool", new.key), body=body, after=self._shown(new))]
        if new.of("members"):
            members = {"members": [_api(part, new=True) for part in new.of("members")]}
            after = {part.key: self._member(part) for part in new.of("members")}
            steps.append(Step("members", "member", new.key, parent=("pool", new.key), body=members, after=after))
        return steps + [self._new_monitor(part, new) for part in new.of("health_monitor")]

    def _new_listener(self, new: Part) -> list[Step]:
        _check_certificate(new)
        body = {**_api(new, new=True), "name": new.key, "loadbalancer_id": Ref(("load_balancer",))}
        return [Step("create", "listener", new.key, path=("listener", new.key), body=body, after=self._shown(new))]

    def _gone_policies(self, new: Part, old: Part) -> list[Step]:
        stay = {policy.id for policy in new.of("l7policies")}
        gone = [policy for policy in old.of("l7policies") if policy.id not in stay]
        return [
            Step("delete", "l7policy", f"{policy.key} of listener {new.key}", id=policy.id, before=self._shown(policy)) for policy in gone
        ]

    def _policies(self, new: Part, old: Part | None) -> list[Step]:
        there = {policy.id: policy for policy in old.of("l7policies")} if old else {}
        stay = {policy.id for policy in new.of("l7policies")}
        order = [number for number in there if number in stay]
        steps = []
        for position, policy in enumerate(new.of("l7policies")):
            path = ("l7policy", new.key, policy.key)
            known = there.get(policy.id) if policy.id else None
            if known is None:
                steps += self._new_policy(policy, new, position + 1)
                order.insert(position, path[-1])
                continue
            self.ids[path] = known.id
            label = f"{policy.key} of listener {new.key}"
            update = self._update(policy, known, label)
            if order[position] != known.id:
                was = order.index(known.id)
                order.insert(position, order.pop(was))
                step = update[0] if update else Step("update", "l7policy", label, id=known.id)
                update = [
                    dataclasses.replace(
                        step,
                        body={**step.body, "position": position + 1},
                        before={**step.before, "position": was + 1},
                        after={**step.after, "position": position + 1},
                    )
                ]
            steps += update
            steps += self._rules(policy, known, path)
        return steps

    def _new_policy(self, policy: Part, listener: Part, position: int) -> list[Step]:
        path = ("l7policy", listener.key, policy.key)
        label = f"{policy.key} of listener {listener.key}"
        body = {**_api(policy, new=True), "name": policy.key, "listener_id": Ref(("listener", listener.key)), "position": position}
        # Half of its rules would match too much.
        waits = len(policy.of("rules")) > 1 and policy.values.get("admin_state_up") is not False
        if waits:
            body["admin_state_up"] = False
        steps = [Step("create", "l7policy", label, path=path, body=body, after=self._shown(policy))]
        steps += [self._new_rule(rule, path) for rule in policy.of("rules")]
        if waits:
            enabled = {"admin_state_up": True}
            steps.append(Step("update", "l7policy", label, id=Ref(path), body=enabled, after=enabled))
        return steps

    def _new_rule(self, rule: Part, policy: Path) -> Step:
        return Step("create", "rule", f"{rule.key} of {policy[-1]}", parent=policy, body=_api(rule, new=True), after=self._shown(rule))

    def _rules(self, new: Part, old: Part, path: Path) -> list[Step]:
        pairs = self._pair(new.of("rules"), old.of("rules"))
        steps = []
        for rule, known in pairs:
            if known is None:
                steps.append(self._new_rule(rule, path))
            else:
                steps += self._update(rule, known, f"{rule.key} of {new.key}", path)
        # A policy must not lose its last rule before it has the next one.
        gone = self._gone(old.of("rules"), pairs)
        steps += [Step("delete", "rule", f"{rule.key} of {new.key}", id=rule.id, parent=path, before=self._shown(rule)) for rule in gone]
        return steps


# --- Floating IPs ---------------------------------------------------------------------------------------------------------------------


def _associate(ip: FloatingIP) -> Step:
    return Step("associate", "floating IP", ip.address, id=ip.id, before={"port": ip.port or "none"}, after={"port": "the VIP's"})


def _release(ip: FloatingIP) -> Step:
    return Step("release", "floating IP", ip.address, id=ip.id, before={"present": "yes"})


def _plan_ip(wish: FloatingIPWish | None, ips: t.Sequence[FloatingIP], port: str) -> list[Step]:
    """Lead the wanted floating IP to the VIP's port. One that this module made goes when it is not wanted any more, others are let go."""
    if wish is None:
        return []
    on_port = [ip for ip in ips if port and ip.port == port]
    fitting = [
        ip
        for ip in ips
        if (wish.network or wish.address)
        and wish.address in ("", ip.address)
        and wish.network in ("", ip.network)
        # Without an address, what others made is theirs.
        and (wish.address or ip.ours or ip in on_port)
    ]
    # The one that is in place comes first.
    chosen = next(iter(sorted(fitting, key=lambda ip: ip not in on_port)), None)
    steps = []
    for ip in ips:
        if ip == chosen:
            continue
        if ip.ours:
            steps.append(_release(ip))
        elif ip in on_port:
            steps.append(Step("disassociate", "floating IP", ip.address, id=ip.id, before={"port": port}, after={"port": "none"}))
    if chosen is None:
        if wish.network or wish.address:
            wanted = wish.address or "any"
            if not wish.network:
                raise OctaviaError(f"there is no floating IP {wish.address}; give floating_ip.network to have it made")
            body = {"floating_network_id": wish.network, **({"floating_ip_address": wish.address} if wish.address else {})}
            steps.append(Step("allocate", "floating IP", wish.address, body=body, after={"address": wanted}))
    elif chosen not in on_port:
        if chosen.port:
            raise OctaviaError(f"floating IP {chosen.address} belongs to port {chosen.port}; release it there or ask for another one")
        steps.append(_associate(chosen))
    return steps
