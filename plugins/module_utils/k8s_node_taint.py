# SPDX-License-Identifier: GPL-3.0-or-later
"""The taints a node is to have, worked out from those it has, and what keeps a taint on a node. No I/O."""

from __future__ import annotations

import dataclasses
import re
import typing as t

__all__ = ["EFFECTS", "KEPT", "STATES", "NodePlan", "Rule", "Taint", "holders", "mistakes", "name_mistake", "plan_node", "taints_of"]

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
STATES = ("present", "absent", "exact")
# Taints that the control plane sets and removes by itself: who takes them away works against it.
KEPT = ("node.kubernetes.io/*", "node.cloudprovider.kubernetes.io/*")

Node = t.Mapping[str, t.Any]

_WORD = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_WORD_LIMIT = 63
_SUBDOMAIN_LIMIT = 253
_WORD_RULE = f"at most {_WORD_LIMIT} letters, digits, '-', '_' and '.', with a letter or digit first and last"
_SUBDOMAIN_RULE = f"at most {_SUBDOMAIN_LIMIT} lower-case letters, digits, '-' and '.', with a letter or digit first and last in each part"


@dataclasses.dataclass(frozen=True)
class Taint:
    """A taint of a node. Key and effect say which one it is; further fields, like the time it was added, stay with it."""

    key: str
    effect: str
    value: str = ""
    further: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, fields: t.Mapping[str, t.Any]) -> Taint:
        """Read what the API returns."""
        further = {name: value for name, value in fields.items() if name not in ("key", "effect", "value")}
        return cls(fields["key"], fields["effect"], fields.get("value") or "", further)

    @property
    def identity(self) -> tuple[str, str]:
        """What is unique among the taints of a node."""
        return self.key, self.effect

    def fields(self) -> dict[str, t.Any]:
        """Return what the API takes."""
        return {"key": self.key, **({"value": self.value} if self.value else {}), "effect": self.effect, **self.further}

    def __str__(self) -> str:
        return self.key + (f"={self.value}" if self.value else "") + f":{self.effect}"


@dataclasses.dataclass(frozen=True)
class Rule:
    """A taint as the user names it. To find taints, no effect is any, and the value is not looked at; to set one, no value is an empty one."""

    key: str
    effect: str | None = None
    value: str | None = None

    def matches(self, taint: Taint) -> bool:
        """Whether this names the taint."""
        return self.key == taint.key and self.effect in (None, taint.effect)

    def taint(self) -> Taint:
        """Return the taint that this asks for."""
        return Taint(self.key, t.cast("str", self.effect), self.value or "")


@dataclasses.dataclass(frozen=True)
class NodePlan:
    """The taints of a node before and after."""

    name: str
    before: tuple[Taint, ...]
    after: tuple[Taint, ...]

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after


def taints_of(node: Node) -> tuple[Taint, ...]:
    """Return the taints of a node object."""
    return tuple(Taint.of(fields) for fields in node["spec"].get("taints") or ())


def plan_node(node: Node, *, rules: t.Sequence[Rule], state: str, keep: t.Sequence[str] = KEPT) -> NodePlan:
    """Return what a node has and what it is to have. The order of the taints that stay is kept, new ones come last."""
    have = taints_of(node)
    if state == "absent":
        after = [taint for taint in have if not any(rule.matches(taint) for rule in rules)]
    else:
        wanted = {taint.identity: taint for taint in (rule.taint() for rule in rules)}
        after = [
            dataclasses.replace(taint, value=wanted[taint.identity].value) if taint.identity in wanted else taint
            for taint in have
            if taint.identity in wanted or state == "present" or _is_kept(taint.key, keep)
        ]
        there = {taint.identity for taint in have}
        after += [taint for identity, taint in wanted.items() if identity not in there]
    return NodePlan(node["metadata"]["name"], have, tuple(after))


def _is_kept(key: str, keep: t.Iterable[str]) -> bool:
    return any(key.startswith(entry[:-1]) if entry.endswith("/*") else key == entry for entry in keep)


def name_mistake(name: str) -> str | None:
    """Return why no node can have this name, or None."""
    if len(name) <= _SUBDOMAIN_LIMIT and _SUBDOMAIN.fullmatch(name):
        return None
    return f"{name!r} cannot be the name of a node: {_SUBDOMAIN_RULE}"


def _word_mistake(word: str) -> bool:
    return len(word) > _WORD_LIMIT or not _WORD.fullmatch(word)


def _key_mistake(key: str) -> str | None:
    prefix, slash, name = key.rpartition("/")
    if "=" in key or ":" in key:
        return f"{key!r} holds more than the key: value and effect are options of their own"
    if slash and (len(prefix) > _SUBDOMAIN_LIMIT or not _SUBDOMAIN.fullmatch(prefix)):
        return f"{key!r} has a wrong part before the '/': {_SUBDOMAIN_RULE}"
    if _word_mistake(name):
        return f"{key!r} is not the key of a taint: {_WORD_RULE}, after an optional domain and '/'"
    return None


def mistakes(*, rules: t.Sequence[Rule], state: str, keep: t.Sequence[str] = KEPT, wait_gone: t.Sequence[Rule] = ()) -> list[str]:
    """Return what is wrong with the input by the rules of the API server, each with the name of the option."""
    found = []
    for option, entries in (("taints", rules), ("wait_gone", wait_gone)):
        for number, rule in enumerate(entries):
            place = f"{option}[{number}]"
            key_mistake = _key_mistake(rule.key)
            if key_mistake:
                found.append(f"{place}.key: {key_mistake}")
            if rule.value and _word_mistake(rule.value):
                found.append(f"{place}.value: {rule.value!r} is not the value of a taint: {_WORD_RULE}, or empty")
    if state != "absent":
        found += _setting_mistakes(rules, wait_gone)
    for number, entry in enumerate(keep):
        key_mistake = _key_mistake(entry[:-1] + "any" if entry.endswith("/*") else entry)
        if key_mistake:
            found.append(f"keep[{number}]: {entry!r} is neither a key nor a domain with '/*'")
    return found


def _setting_mistakes(rules: t.Sequence[Rule], wait_gone: t.Sequence[Rule]) -> t.Iterator[str]:
    """Yield what is wrong with taints that are to be set, but not with ones that are to be found."""
    first: dict[tuple[str, str | None], int] = {}
    for number, rule in enumerate(rules):
        if rule.effect is None:
            yield f"taints[{number}].effect: a taint that is set needs one, {', '.join(EFFECTS[:-1])} or {EFFECTS[-1]}"
            continue
        identity = (rule.key, rule.effect)
        if identity in first:
            yield f"taints[{number}]: {rule.key} with {rule.effect} is in taints[{first[identity]}], and a node can have it once"
        first.setdefault(identity, number)
        if any(awaited.matches(rule.taint()) for awaited in wait_gone):
            yield f"wait_gone: {rule.taint()} is what taints[{number}] sets"


_CONDITIONS = {
    "node.kubernetes.io/not-ready": "Ready",
    "node.kubernetes.io/unreachable": "Ready",
    "node.kubernetes.io/network-unavailable": "NetworkUnavailable",
    "node.kubernetes.io/memory-pressure": "MemoryPressure",
    "node.kubernetes.io/disk-pressure": "DiskPressure",
    "node.kubernetes.io/pid-pressure": "PIDPressure",
}


def _condition(node: Node, kind: str) -> str:
    for condition in node.get("status", {}).get("conditions") or ():
        if condition.get("type") == kind:
            words = ", ".join(condition[part] for part in ("reason", "message") if condition.get(part))
            return f"its condition {kind} is {condition.get('status')}" + (f" ({words})" if words else "")
    return f"its kubelet has not reported the condition {kind}"


def _uninitialized(node: Node) -> str:
    provider = node["spec"].get("providerID")
    if provider:
        return f"its providerID is {provider}, but the cloud controller manager has not finished with it"
    return (
        "its providerID is empty: no cloud controller manager has initialised it; see whether one runs and what its log says of this node"
    )


def _unschedulable(node: Node) -> str:
    if node["spec"].get("unschedulable"):
        return "it is cordoned; kubectl uncordon ends that"
    return "it is not cordoned; the controller manager has yet to take it away"


_REASONS: dict[str, t.Callable[[Node], str]] = {
    "node.cloudprovider.kubernetes.io/uninitialized": _uninitialized,
    "node.cloudprovider.kubernetes.io/shutdown": lambda node: "the cloud says that its server is shut down",
    "node.kubernetes.io/unschedulable": _unschedulable,
    "node.kubernetes.io/out-of-service": lambda node: "only who has set it takes it away",
}


def _writer(node: Node) -> str | None:
    """Return who wrote the taints of a node last; the API server notes that."""
    entries = [
        entry for entry in node["metadata"].get("managedFields") or () if "f:taints" in (entry.get("fieldsV1") or {}).get("f:spec", {})
    ]
    if not entries:
        return None
    last = max(entries, key=lambda entry: entry.get("time") or "")
    return f"{last.get('manager')} wrote its taints last" + (f", {last['time']}" if last.get("time") else "")


def holders(node: Node, rules: t.Iterable[Rule]) -> list[str]:
    """Return a line for each taint of a node that the rules name: the taint, and what is known to keep it there."""
    rules = tuple(rules)
    lines = []
    for taint in taints_of(node):
        if not any(rule.matches(taint) for rule in rules):
            continue
        reasons = []
        if taint.key in _CONDITIONS:
            reasons.append(_condition(node, _CONDITIONS[taint.key]))
        if taint.key in _REASONS:
            reasons.append(_REASONS[taint.key](node))
        writer = _writer(node)
        if writer:
            reasons.append(writer)
        since = taint.further.get("timeAdded")
        lines.append(f"{node['metadata']['name']} has {taint}" + (f" since {since}" if since else "") + "".join(f"; {r}" for r in reasons))
    return lines
