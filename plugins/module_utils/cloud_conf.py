# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud.conf from options: what is refused, what is written, and how it differs from what is there."""

from __future__ import annotations

import dataclasses
import difflib
import fractions
import ipaddress
import re
import typing as t

from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_gcfg import Block, CloudConfError, Line, render, unfit
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_schema import (
    MISPLACED,
    NEWEST,
    OLDEST,
    RETIRED,
    SECTIONS,
    Key,
    Section,
)

__all__ = [
    "HEADER",
    "Change",
    "Login",
    "Plan",
    "Reference",
    "compare",
    "make_plan",
    "nanoseconds",
    "refused_options",
]

HEADER = "Written by Ansible (kos.labs.cloud_conf): what is changed here by hand is changed back."

Options = t.Mapping[str, t.Any]
_Settings = dict[tuple[str, str], dict[str, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class Login:
    """How a program logs in: the part of the file that a check against the cloud needs."""

    # The option it stands in, as messages name it.
    where: str
    # application_credential, password, trust, token or clouds
    way: str
    options: dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Something in the cloud that the file names by its id."""

    where: str
    # network, external_network, subnet, router, flavor, secret
    kind: str
    value: str
    # The network that a subnet must be in, if the file says.
    inside: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The file that is wanted, and what a check against the cloud has to look at."""

    blocks: tuple[Block, ...]
    logins: tuple[Login, ...]
    references: tuple[Reference, ...]
    warnings: tuple[str, ...]
    # Whether the cloud controller manager will ask for Octavia, and end without it.
    octavia: bool

    @property
    def text(self) -> str:
        """The text of the file."""
        return render(self.blocks, header=HEADER)


@dataclasses.dataclass(frozen=True)
class Change:
    """A key that differs. Secrets are no part of it."""

    section: str
    name: str
    key: str
    # added, removed or changed
    change: str
    before: str | None
    after: str | None
    note: str = ""


# What is given, checked


def _given(options: Options | None) -> dict[str, t.Any]:
    return {name: value for name, value in (options or {}).items() if value is not None}


def _groups(options: Options) -> t.Iterator[tuple[Section, str, str, dict[str, t.Any]]]:
    """Yield each section with its name in the file, its place in the options, and what is given for it."""
    for section in SECTIONS:
        given = options.get(section.option)
        if section.named:
            for entry in given or []:
                found = _given(entry)
                name = found.pop("name", "")
                yield section, name, f"{section.option}[{name}]", found
        elif given is not None:
            yield section, "", section.option, _given(given)


def _nearest(name: str, known: t.Iterable[str]) -> str:
    found = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def refused_options(params: Options, top: t.Iterable[str]) -> list[str]:
    """Say a sentence about each option that does not exist, with the nearest one that does."""
    names = [section.option for section in SECTIONS]
    problems = [_unknown(name, "", [*names, *top]) for name in params if name not in names and name not in top]
    for section in SECTIONS:
        given = params.get(section.option)
        known = [key.option for key in section.keys if key.offered] + ["name"] * section.named
        for entry in given if isinstance(given, list) else [given]:
            if isinstance(entry, dict):
                problems += [_unknown(name, section.option, known) for name in entry if name not in known]
    return problems


def _unknown(name: str, section: str, known: t.Sequence[str]) -> str:
    where = f"{section}.{name}" if section else name
    plain = name.lower().replace("-", "_")
    if plain in RETIRED:
        return f"{where}: {RETIRED[plain]}."
    if plain in known:
        return f"{where}: write it {plain}."
    if plain in MISPLACED and MISPLACED[plain] != section:
        return f"{where}: {plain} belongs to {MISPLACED[plain]}."
    nearest = _nearest(name, known)
    if nearest:
        return f"{where} does not exist: {nearest} does."
    return f"{where} does not exist: see the module's documentation for what does."


_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SECOND = 10**9


def nanoseconds(text: str) -> int | None:
    """Return how long a duration in Go's notation is, None if it is not one."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    parts = _DURATION.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        return None
    # Go rounds each part down.
    total = sum(int(fractions.Fraction(number.rstrip(".") if number != "." else "0") * _UNITS[unit]) for number, unit in parts)
    if total >= 2**63:
        return None
    return -total if text.startswith("-") else total


def _check_values(section: Section, where: str, given: dict[str, t.Any], version: tuple[int, int]) -> t.Iterator[str]:
    for key in section.keys:
        if key.option not in given:
            continue
        place = f"{where}.{key.option}"
        if key.since > version[1]:
            yield f"{place} came with 1.{key.since}: the reader of 1.{version[1]} passes over it."
            continue
        value = given[key.option]
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if isinstance(text, str):
                yield from _check_text(key, place, text)
        if not texts:
            yield f"{place} is empty: leave it out."
        limits = _LIMITS.get(key.name)
        if limits and not limits[0] <= value <= limits[1]:
            yield f"{place} is {value}: it must lie between {limits[0]} and {limits[1]}, or the cloud or the reader does not take it."


# Beyond these the reader falls back on its default without a word (attach limit) or Octavia says no.
_LIMITS = {
    "node-volume-attach-limit": (1, 256),
    "monitor-max-retries": (1, 10),
    "monitor-max-retries-down": (1, 10),
    "max-shared-lb": (1, 2**31 - 1),
}


def _check_text(key: Key, place: str, text: str) -> t.Iterator[str]:
    if not text:
        yield f"{place} is empty: leave it out."
    elif unfit(text):
        yield f"{place} {unfit(text)}: take it out."
    elif key.kind == "duration":
        yield from _check_duration(key, place, text)
    elif key.refers and not _UUID.fullmatch(text):
        yield f"{place} is {text!r}, which is no id: the reader does not look for names."
    elif key.name == "address-sort-order":
        yield from _check_cidr(place, text)
    elif key.kind == "list" and text != text.strip():
        yield f"{place} has blanks around {text.strip()!r}, and no network is called so: take them out."


def _check_duration(key: Key, place: str, text: str) -> t.Iterator[str]:
    length = nanoseconds(text)
    if length is None and text.isdigit():
        yield f"{place} is {text!r}, and the reader dies of a number without a unit: write {text}s."
    elif length is None:
        yield f"{place} is {text!r}, of which the reader dies: write a number with a unit, as in 5s or 1m30s."
    elif length <= 0:
        yield f"{place} is {text!r}: it must be longer than nothing."
    elif key.name.startswith("monitor-") and length % _SECOND:
        yield f"{place} is {text!r}, of which only whole seconds count: write it in seconds."


def _check_cidr(place: str, text: str) -> t.Iterator[str]:
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        yield f"{place} has {text!r}, which is no network in CIDR notation, and the reader would pass over it."
    else:
        if "/" not in text or not text.rpartition("/")[2].strip().isdigit():
            yield f"{place} has {text!r} without a prefix length, and the reader would pass over it: write {network}."


# What goes together

_ANYWHERE = {"region", "os_endpoint_type", "ca_file", "cert_file", "key_file", "tls_insecure"}


def _way(where: str, given: dict[str, t.Any]) -> str:
    ways = {
        "application_credential": any(name.startswith("application_credential_") for name in given),
        "trust": any(name.startswith("trust") for name in given),
        "password": "password" in given and not any(name.startswith("trust") for name in given),
        "token": "token" in given,
        "clouds": bool(given.get("use_clouds") or "clouds_file" in given or "cloud" in given),
    }
    found = [name for name, is_there in ways.items() if is_there]
    if len(found) > 1:
        told = " and ".join(f"use_{name}" if name == "clouds" else name for name in found)
        raise CloudConfError(f"{where} has several ways to log in, {told}: keep one.")
    if not found:
        raise CloudConfError(
            f"{where} has no way to log in: give application_credential_id and application_credential_secret, "
            "username and password, trust_id, token or use_clouds."
        )
    return found[0]


def _check_login(where: str, given: dict[str, t.Any]) -> t.Iterator[str]:
    """Say what the reader would die of or pass over, by what gophercloud makes of the keys."""
    way = _way(where, given)
    if way == "clouds":
        if not given.get("use_clouds"):
            yield f"{where}.cloud and clouds_file only work with use_clouds: true."
    elif "auth_url" not in given:
        yield f"{where}.auth_url is missing: say where Keystone is."
    else:
        yield from _check_url(where, given["auth_url"])
    if ("cert_file" in given) != ("key_file" in given):
        yield f"{where}.cert_file and key_file need each other: the reader passes over one alone."
    if given.get("tls_insecure") and "ca_file" in given:
        yield f"{where}.ca_file has no effect with tls_insecure: keep one of them."
    used = set(_ANYWHERE) | {"auth_url", "use_clouds"}
    yield from _RULES[way](where, given, used)
    for name in given:
        if name not in used:
            yield f"{where}.{name} has no effect when the way to log in is {way.replace('_', ' ')}: leave it out."


def _check_url(where: str, url: str) -> t.Iterator[str]:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
        yield f"{where}.auth_url is {url!r}: it must be a URL, as in https://keystone.example.org:5000/v3."
    elif "v2.0" in url:
        yield f"{where}.auth_url is that of version 2.0, which Keystone has no more: write it with /v3."


def _one_of(where: str, given: dict[str, t.Any], used: set[str], first: str, second: str, what: str) -> t.Iterator[str]:
    """Say what is wrong unless exactly one of the two is given."""
    used |= {first, second}
    if first in given and second in given:
        yield f"{where}.{first} and {second} are both given, and the reader takes at most one: keep one."
    elif first not in given and second not in given:
        yield f"{where}.{first} or {second} is missing: {what}."


def _domain(where: str, given: dict[str, t.Any], used: set[str], whose: str, general: bool) -> t.Iterator[str]:
    """Check the domain of a user or of a project; where the general one counts, it stands in for each of its two forms."""
    names = {}
    for form in ("id", "name"):
        own, shared = f"{whose}_domain_{form}", f"domain_{form}"
        if own in given:
            names[form] = own
        elif general and shared in given:
            names[form] = shared
    used |= {f"{whose}_domain_id", f"{whose}_domain_name", *names.values()}
    if len(names) > 1:
        yield f"{where}.{names['id']} and {names['name']} are both given, and the {whose} is in one domain: keep one."
    elif not names:
        yield f"{where}.{whose}_domain_id or {whose}_domain_name is missing: say which domain the {whose} is in."


def _user(where: str, given: dict[str, t.Any], used: set[str], general: bool) -> t.Iterator[str]:
    yield from _one_of(where, given, used, "user_id", "username", "say who logs in")
    if "username" in given and "user_id" not in given:
        yield from _domain(where, given, used, "user", general)


def _project(where: str, given: dict[str, t.Any], used: set[str]) -> t.Iterator[str]:
    used |= {"project_id", "project_name"}
    if "project_id" in given and "project_name" in given:
        yield f"{where}.project_id and project_name are both given, and the reader passes over the name: keep one."
    elif "project_name" in given:
        yield from _domain(where, given, used, "project", True)
        if "user_id" in given and {"domain_id", "domain_name"} & set(given):
            yield f"{where}: with user_id the reader dies of domain_id and domain_name: write project_domain_id or project_domain_name."


def _application_credential(where: str, given: dict[str, t.Any], used: set[str]) -> t.Iterator[str]:
    used.add("application_credential_secret")
    if "application_credential_secret" not in given:
        yield f"{where}.application_credential_secret is missing: the credential does not work without it."
    names = ("application_credential_id", "application_credential_name")
    yield from _one_of(where, given, used, *names, "say which application credential")
    if "application_credential_name" in given and "application_credential_id" not in given:
        yield from _user(where, given, used, True)


def _password(where: str, given: dict[str, t.Any], used: set[str]) -> t.Iterator[str]:
    used.add("password")
    if not {"project_id", "project_name"} & set(given):
        used |= {"domain_id", "domain_name", "project_domain_id", "project_domain_name"}
        yield f"{where}.project_id or project_name is missing: say which project the load balancers and volumes are made in."
    yield from _user(where, given, used, True)
    yield from _project(where, given, used)


def _trust(where: str, given: dict[str, t.Any], used: set[str]) -> t.Iterator[str]:
    used |= {"trust_id", "trustee_id", "trustee_password"}
    if "trust_id" not in given:
        yield f"{where}.trust_id is missing: trustee_id and trustee_password only work with it."
    if ("trustee_id" in given) != ("trustee_password" in given):
        yield f"{where}.trustee_id and trustee_password need each other."
    elif "trustee_id" not in given:
        used.add("password")
        if "password" not in given:
            yield f"{where}.trustee_id and trustee_password are missing: say who uses the trust."
        # Without a project the reader does not take the general domain for the user's.
        yield from _user(where, given, used, False)


def _token(where: str, given: dict[str, t.Any], used: set[str]) -> t.Iterator[str]:
    used.add("token")
    yield from _project(where, given, used)


def _clouds(_where: str, _given_options: dict[str, t.Any], used: set[str]) -> t.Iterator[str]:
    used.discard("auth_url")
    used |= {"clouds_file", "cloud"}
    yield from ()


_RULES: dict[str, t.Callable[[str, dict[str, t.Any], set[str]], t.Iterator[str]]] = {
    "application_credential": _application_credential,
    "password": _password,
    "trust": _trust,
    "token": _token,
    "clouds": _clouds,
}


def _check_addresses(where: str, given: dict[str, t.Any]) -> t.Iterator[str]:
    for name in ("floating_subnet", "floating_subnet_tags"):
        if name in given and "floating_subnet_id" in given:
            yield f"{where}.{name} has no effect beside floating_subnet_id: keep one."
    if given.get("internal_lb"):
        for name in sorted(given):
            if name.startswith("floating_"):
                yield f"{where}.{name} has no effect with internal_lb: true: leave it out."


def _check_load_balancer(where: str, given: dict[str, t.Any]) -> t.Iterator[str]:
    if given.get("enabled") is False:
        others = sorted(set(given) - {"enabled"})
        if others:
            yield f"{where} is not enabled, so {', '.join(others)} {'has' if len(others) == 1 else 'have'} no effect: leave out what does nothing."
        return
    provider = given.get("lb_provider", "amphora")
    if provider == "ovn" and given.get("lb_method") != "SOURCE_IP_PORT":
        yield f"{where}.lb_method must be SOURCE_IP_PORT: the provider ovn knows no other, and the reader takes ROUND_ROBIN by itself."
    if provider == "ovn" and "flavor_id" in given:
        yield f"{where}.flavor_id has no effect: the provider ovn has no flavors."
    delay, timeout = (nanoseconds(given.get(name, default)) for name, default in (("monitor_delay", "5s"), ("monitor_timeout", "3s")))
    if delay and timeout and timeout > delay:
        yield f"{where}.monitor_timeout is longer than monitor_delay: a check has to end before the next one begins."
    if "ingress_hostname_suffix" in given and not given.get("enable_ingress_hostname"):
        yield f"{where}.ingress_hostname_suffix has no effect without enable_ingress_hostname: true."
    reference = given.get("default_tls_container_ref")
    if reference and given.get("container_store", "barbican") == "barbican" and not re.search(r"/(containers|secrets)/[^/]+$", reference):
        yield f"{where}.default_tls_container_ref must end in /containers/ID or /secrets/ID, as Barbican writes it, or container_store be external."


def _check_selector(where: str, given: dict[str, t.Any]) -> t.Iterator[str]:
    for part in given.get("node_selector", "").split(",") if given.get("node_selector") else []:
        if not part.partition("=")[0].strip():
            yield f"{where}.node_selector is {given['node_selector']!r}: write label=value, with commas in between."


def _check_order(where: str, given: dict[str, t.Any]) -> t.Iterator[str]:
    order = given.get("search_order", [])
    if len(set(order)) != len(order):
        yield f"{where}.search_order names a place twice: once is enough."


def _version(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"v?1\.(\d+)(\.\d+)?", text)
    version = (1, int(match[1])) if match else None
    if version is None or not OLDEST <= version <= NEWEST:
        oldest, newest = ("{}.{}".format(*one) for one in (OLDEST, NEWEST))
        raise CloudConfError(f"reader_version is {text!r}: it must lie between {oldest} and {newest}, in quotes.")
    return version


def _check_readers(options: Options, readers: t.Sequence[str], version: tuple[int, int]) -> t.Iterator[str]:
    for section, _name, where, given in _groups(options):
        for key in section.keys:
            if key.readers and key.option in given and not set(key.readers) & set(readers):
                yield f"{where}.{key.option} is used by {' and '.join(key.readers)} only: leave it out."
    for section in SECTIONS:
        if options.get(section.option) is None:
            continue
        if not set(section.readers) & set(readers):
            yield f"{section.option} is read by {' and '.join(section.readers)} only: leave it out or name one of them in readers."
        if section.since > version[1]:
            yield f"{section.option} came with 1.{section.since}: the reader of 1.{version[1]} passes over it."
    need = [reader for reader in readers if reader != "cinder_csi"]
    if options.get("global") is None and need:
        yield f"global is missing: {' and '.join(need)} would have no login."
    elif options.get("global") is None and not options.get("clouds"):
        yield "global or clouds is missing: cinder_csi would have no login."
    if "barbican_kms" in readers and not _given(options.get("key_manager")):
        yield "key_manager.key_id is missing: barbican_kms would have no key."


def _check_names(options: Options) -> t.Iterator[str]:
    seen: set[tuple[str, str]] = set()
    for section, name, where, _found in _groups(options):
        if section.named and not name:
            yield f"{section.option}: an entry has an empty name."
        elif "\n" in name or unfit(name):
            yield f"{where}: a name must not have line breaks or carriage returns, nor what is no Unicode."
        elif (section.option, name) in seen:
            yield f"{where} is there twice: the reader would make one of them."
        seen.add((section.option, name))


def _check(options: Options, readers: t.Sequence[str], version: tuple[int, int]) -> t.Iterator[str]:
    yield from _check_readers(options, readers, version)
    yield from _check_names(options)
    for section, _name, where, given in _groups(options):
        yield from _check_values(section, where, given, version)
        if section.name == "Global":
            try:
                yield from _check_login(where, given)
            except CloudConfError as error:
                yield str(error)
        for rule in _SECTION_RULES.get(section.option, ()):
            yield from rule(where, given)
    if (options.get("load_balancer") or {}).get("enabled") is False and options.get("load_balancer_classes"):
        yield "load_balancer is not enabled, so load_balancer_classes have no effect: leave out what does nothing."


_SECTION_RULES: dict[str, tuple[t.Callable[[str, dict[str, t.Any]], t.Iterator[str]], ...]] = {
    "load_balancer": (_check_addresses, _check_load_balancer, _check_selector),
    "load_balancer_classes": (_check_addresses,),
    "metadata": (_check_order,),
}


# What is written


def _lines(key: Key, value: t.Any) -> list[Line]:
    if key.kind == "list":
        return [Line(key.name, item) for item in value]
    if key.kind == "joined":
        return [Line(key.name, ",".join(item.strip() for item in value))]
    if isinstance(value, bool):
        return [Line(key.name, str(value).lower())]
    return [Line(key.name, str(value))]


def _blocks(options: Options) -> t.Iterator[Block]:
    for section, name, _where, given in _groups(options):
        lines = [line for key in section.keys if key.option in given for line in _lines(key, given[key.option])]
        if lines or name:
            yield Block(section.name, name, tuple(lines))


def _references(options: Options) -> t.Iterator[Reference]:
    for section, _name, where, given in _groups(options):
        for key in section.keys:
            if key.refers and key.option in given:
                inside = given.get("floating_network_id", "") if key.name == "floating-subnet-id" else ""
                yield Reference(f"{where}.{key.option}", key.refers, given[key.option], inside)


def _warnings(options: Options) -> t.Iterator[str]:
    provider = (options.get("load_balancer") or {}).get("lb_provider")
    known = ("amphora", "amphorav2", "octavia", "ovn", "f5")
    if provider is not None and provider not in known:
        nearest = _nearest(provider, known)
        meant = f" Was {nearest} meant?" if nearest else ""
        yield f"load_balancer.lb_provider: cloud-provider-openstack is not made for {provider!r}.{meant}"
    for section, _name, where, given in _groups(options):
        if section.name == "Global" and "token" in given:
            yield f"{where}.token ends after a while, and nothing renews it: take an application credential for what is to last."


def make_plan(options: Options, *, readers: t.Sequence[str], reader_version: str) -> Plan:
    """Return what shall be written, or raise a CloudConfError with a sentence for each thing that is wrong."""
    version = _version(reader_version)
    if not readers:
        raise CloudConfError("readers is empty: say which program the file is for.")
    problems = list(dict.fromkeys(_check(options, readers, version)))
    if problems:
        raise CloudConfError(" ".join(problems))
    logins = [Login(where, _way(where, given), given) for section, _name, where, given in _groups(options) if section.name == "Global"]
    return Plan(
        blocks=tuple(_blocks(options)),
        logins=tuple(logins),
        references=tuple(_references(options)),
        warnings=tuple(_warnings(options)),
        octavia="occm" in readers and (options.get("load_balancer") or {}).get("enabled") is not False,
    )


# How it differs from what is there

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _section_called(name: str, named: bool) -> Section | None:
    """Return the section that a header in a file stands for. One of Global's two has a name, one has not."""
    same = [section for section in SECTIONS if section.name.lower() == name.lower()]
    return next((section for section in same if section.named == named), None)


def _key_called(section: str, name: str, key: str) -> Key | None:
    known = _section_called(section, bool(name))
    return known.key(key) if known else None


def _meaning(key: Key, value: str) -> str:
    """Return what a value is to the reader, in one form for all that mean the same."""
    lowered = value.lower()
    if key.kind == "bool" and lowered in _TRUE + _FALSE:
        return str(lowered in _TRUE).lower()
    if key.kind == "text_bool":
        return str(value == "true").lower()
    if key.kind == "duration" and nanoseconds(value) is not None:
        return f"{nanoseconds(value)}ns"
    if key.kind in ("int", "uint") and re.fullmatch(r"\s*-?(0x[0-9a-f]+|[0-9]+)\s*", value, re.IGNORECASE | re.ASCII):
        return str(int(value, 16 if "x" in lowered else 10))
    if key.kind == "joined":
        return ",".join(item.strip() for item in value.split(","))
    return value


def _settings(blocks: t.Iterable[Block]) -> _Settings:
    """Return what the file says key by key, as the reader puts repeated sections and keys together."""
    found: _Settings = {}
    for block in blocks:
        section = _section_called(block.section, bool(block.name))
        keys = found.setdefault((section.name if section else block.section, block.name), {})
        for line in block.lines:
            key = section.key(line.key) if section else None
            name = key.name if key else line.key
            if key and key.kind == "list":
                # The bare key empties the list.
                keys[name] = () if line.value is None else (*keys.get(name, ()), line.value)
            else:
                keys[name] = ("true" if line.value is None else line.value,)
    return found


def _same(key: Key | None, one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    """Say whether two values are one to the reader. What it does not know differs from whatever is wanted."""
    if key is None or one is None or other is None:
        return False
    return [_meaning(key, value) for value in one] == [_meaning(key, value) for value in other]


def _note(section: str, name: str, key: str) -> str:
    known = _section_called(section, bool(name))
    if known is None:
        nearest = _nearest(section, [one.name.lower() for one in SECTIONS])
        meant = next((f"; {one.name} was meant, perhaps" for one in SECTIONS if one.name.lower() == nearest), "")
        return f"no reader knows this section{meant}"
    if known.key(key) is None:
        nearest = _nearest(key.replace("-", "_"), [one.name.replace("-", "_") for one in known.keys]).replace("_", "-")
        return "no reader knows this key" + (f"; {nearest} was meant, perhaps" if nearest else "")
    return ""


def _shown(section: str, name: str, key: str, values: tuple[str, ...], *, new: bool) -> str:
    """Return a value as others may see it. What no reader knows may be a secret under a wrong name."""
    known = _key_called(section, name, key)
    if known is None:
        return "(not shown)"
    if known.secret:
        return "(new secret)" if new else "(secret)"
    return ", ".join(values)


def compare(before: t.Iterable[Block], after: t.Iterable[Block]) -> tuple[list[Change], dict[str, str]]:
    """Return each key that differs to the reader, and the two files without their secrets for a diff."""
    had, have = _settings(before), _settings(after)
    changes: list[Change] = []
    for section, name in sorted({*had, *have}, key=_order):
        old, new = had.get((section, name), {}), have.get((section, name), {})
        for key in sorted({*old, *new}):
            if not _same(_key_called(section, name, key), old.get(key), new.get(key)):
                what = "added" if key not in old else "changed" if key in new else "removed"
                shown = [_shown(section, name, key, side[key], new=side is new) if key in side else None for side in (old, new)]
                changes.append(Change(section, name, key, what, shown[0], shown[1], _note(section, name, key)))
        # To the reader an empty section is nothing, but for one with a name.
        if name and not (old or new) and ((section, name) in had) != ((section, name) in have):
            changes.append(Change(section, name, "", "removed" if (section, name) in had else "added", None, None))
    changed = {(one.section, one.name, one.key) for one in changes}
    return changes, {"before": _mask(had, set()), "after": _mask(have, changed)}


def _order(place: tuple[str, str]) -> tuple[int, str, str]:
    names = [section.name for section in SECTIONS]
    return (names.index(place[0]) if place[0] in names else len(names), *place)


def _mask(settings: _Settings, changed: set[tuple[str, str, str]]) -> str:
    blocks = []
    for section, name in sorted(settings, key=_order):
        keys = settings[section, name].items()
        lines = [Line(key, _shown(section, name, key, values, new=(section, name, key) in changed)) for key, values in sorted(keys)]
        blocks.append(Block(section, name, tuple(lines)))
    return render(blocks)
