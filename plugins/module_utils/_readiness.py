# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what keeps an object of a cluster from being ready, from the object alone. No I/O."""

from __future__ import annotations

import typing as t

__all__ = ["Blocker", "explain_pods", "pods_of", "problem"]

Object = t.Mapping[str, t.Any]


class Blocker(t.NamedTuple):
    """An object that is not ready, and why."""

    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.reason}"


def _condition(obj: Object, kind: str) -> Object | None:
    for condition in obj.get("status", {}).get("conditions") or []:
        if condition.get("type") == kind:
            return condition
    return None


def _words(condition: Object) -> str:
    reason, message = condition.get("reason"), condition.get("message")
    return ", ".join(part for part in (reason, message) if part) or "no reason given"


def _node(obj: Object) -> str | None:
    ready = _condition(obj, "Ready")
    if ready is None:
        return "its kubelet has not reported yet"
    if ready.get("status") != "True":
        return _words(ready)
    network = _condition(obj, "NetworkUnavailable")
    if network is not None and network.get("status") == "True":
        return _words(network)
    return None


def _observed(obj: Object) -> bool:
    return obj.get("status", {}).get("observedGeneration") == obj["metadata"].get("generation")


def _daemon_set(obj: Object) -> str | None:
    status = obj.get("status", {})
    if not _observed(obj):
        return "no controller has seen it yet"
    wanted = status.get("desiredNumberScheduled", 0)
    for count, words in ((status.get("updatedNumberScheduled") or 0, "up to date"), (status.get("numberReady") or 0, "ready")):
        if count < wanted:
            return f"{count} of {wanted} pods are {words}"
    return None


def _deployment(obj: Object) -> str | None:
    status = obj.get("status", {})
    if not _observed(obj):
        return "no controller has seen it yet"
    wanted = obj["spec"].get("replicas", 1)
    for count, words in ((status.get("updatedReplicas") or 0, "up to date"), (status.get("availableReplicas") or 0, "available")):
        if count < wanted:
            return f"{count} of {wanted} pods are {words}"
    if (status.get("replicas") or 0) > wanted:
        return "an old pod has not ended yet"
    return None


def _any_condition(kind: str) -> t.Callable[[Object], str | None]:
    def check(obj: Object) -> str | None:
        condition = _condition(obj, kind)
        if condition is None:
            return f"condition {kind} has not been reported yet"
        return None if condition.get("status") == "True" else _words(condition)

    return check


_CHECKS: dict[str, t.Callable[[Object], str | None]] = {
    "Node": _node,
    "DaemonSet": _daemon_set,
    "Deployment": _deployment,
}


def problem(*, kind: str, name: str, obj: Object | None, condition: str | None = None) -> Blocker | None:
    """Return what keeps this object from being ready, or None. An object without a check of its own is ready when it exists."""
    if obj is None:
        return Blocker(kind, name, "has not registered" if kind == "Node" else "does not exist")
    check = _any_condition(condition) if condition else _CHECKS.get(kind)
    reason = check(obj) if check else None
    return Blocker(kind, name, reason) if reason else None


def pods_of(workload: Object, pods: t.Iterable[Object]) -> list[Object]:
    """Return those pods that the workload's selector takes; matchLabels is enough for what we write."""
    labels = workload["spec"]["selector"].get("matchLabels", {}).items()
    return [pod for pod in pods if labels <= (pod["metadata"].get("labels") or {}).items()]


def _pod(pod: Object) -> str | None:
    ready = _condition(pod, "Ready")
    if ready is not None and ready.get("status") == "True":
        return None
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return _words(scheduled)
    status = pod.get("status", {})
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        waiting, ended = state.get("waiting"), state.get("terminated") or (container.get("lastState") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            words = "container {} ended with {}".format(container["name"], ended["exitCode"])
            return words + (": " + ended["message"].strip() if ended.get("message") else "")
        if waiting and waiting.get("reason") != "PodInitializing":
            return "container {}: {}".format(container["name"], _words(waiting))
    return _words(ready) if ready is not None else "its kubelet has not started it yet"


def explain_pods(pods: t.Iterable[Object]) -> list[str]:
    """Return one line for each pod that is not ready: its name, its node, what it waits for."""
    lines = []
    for pod in pods:
        reason = _pod(pod)
        if reason:
            node = pod["spec"].get("nodeName")
            lines.append(pod["metadata"]["name"] + (f" on {node}" if node else "") + f": {reason}")
    return sorted(lines)
