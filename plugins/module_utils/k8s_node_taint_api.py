# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes the taints of nodes through the API server, so that what others write meanwhile is not lost."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import time
import typing as t

from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint import Node, NodePlan, Rule, Taint, holders, taints_of

__all__ = ["Api", "ConflictError", "NodeTaintError", "Outcome", "Patience", "UnreachableError", "apply", "read_all", "wait_until_gone"]

_PAGE = 500
_TRIES = 20
_LONGEST_PAUSE = 2.0
# What the API server answers when nothing is wrong with the request but its moment.
_PASSING = (409, 429)
# Seconds to connect and seconds between two pieces of an answer. urllib3 tries four times.
_SILENCE = (10.0, 60.0)
_MANAGER = "kos.labs.k8s_node_taint"


class NodeTaintError(Exception):
    """The taints of a node could not be read or written; the text says of which one and why."""


class ConflictError(NodeTaintError):
    """Somebody else wrote the node since it was read, or the server is busy: reading it again helps."""


class UnreachableError(NodeTaintError):
    """The API server does not answer, so that further requests are in vain."""


class Client(t.Protocol):
    """What is used of the client of kubernetes.core. In check mode it asks the server for a dry run."""

    def resource(self, kind: str, api_version: str) -> t.Any:
        """Return what stands for a kind."""

    def get(self, resource: t.Any, **params: t.Any) -> t.Any:
        """Read an object, or several."""

    def patch(self, resource: t.Any, definition: dict[str, t.Any], **params: t.Any) -> t.Any:
        """Change an object."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a node: its taints before and after, the node as it was seen last, and why that is not what was asked for."""

    name: str
    before: tuple[Taint, ...]
    after: tuple[Taint, ...]
    node: Node
    error: str | None = None

    @property
    def changed(self) -> bool:
        """Whether its taints differ."""
        return self.before != self.after


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait, how often to look, and the clock for it."""

    timeout: float
    interval: float
    clock: t.Callable[[], float] = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep


class Api:
    """The nodes of a cluster."""

    def __init__(self, connect: t.Callable[[], Client]) -> None:
        _limit_silence()
        self._client: Client = self._call("the API server", connect)
        self._resource = self._call("the API server", lambda: self._client.resource("Node", "v1"))

    @staticmethod
    def _call(what: str, request: t.Callable[[], t.Any]) -> t.Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return request()
        except ApiException as error:
            kind = ConflictError if error.status in _PASSING else NodeTaintError
            raise kind(f"{what}: {error.status} {_words(error)}") from error
        except HTTPError as error:
            raise UnreachableError(f"{what}: no answer, {_cause(error)}") from error

    def read(self, name: str) -> Node:
        """Return a node."""
        node: Node = self._call(f"node {name}", lambda: self._client.get(self._resource, name=name)).to_dict()
        return node

    def select(self, selector: str) -> list[Node]:
        """Return the nodes with these labels."""
        nodes: list[Node] = []
        more: dict[str, t.Any] = {}
        while True:
            request = functools.partial(self._client.get, self._resource, label_selector=selector, limit=_PAGE, **more)
            page = self._call(f"nodes with {selector}", request).to_dict()
            nodes += page.get("items") or []
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return nodes
            more = {"_continue": token}

    def write(self, node: Node, taints: t.Iterable[Taint]) -> Node:
        """Give a node these taints if nobody has written it since it was read."""
        name, version = node["metadata"]["name"], node["metadata"]["resourceVersion"]
        # The list has no merge key: whatever the kind of patch, it is replaced as a whole. The version is what keeps it from losing others' taints.
        body = {"metadata": {"resourceVersion": version}, "spec": {"taints": [taint.fields() for taint in taints]}}
        params = {"name": name, "content_type": "application/merge-patch+json", "field_manager": _MANAGER}
        written: Node = self._call(f"node {name}", lambda: self._client.patch(self._resource, body, **params)).to_dict()
        return written


def _limit_silence() -> None:
    """Let the client give up on a server that takes a connection and says nothing: without a limit it waits for ever."""
    from kubernetes.client.rest import RESTClientObject

    request = RESTClientObject.request
    if hasattr(request, "__wrapped__"):
        return

    @functools.wraps(request)
    def limited(*arguments: t.Any, **options: t.Any) -> t.Any:
        return request(*arguments, **{**options, "_request_timeout": options.get("_request_timeout") or _SILENCE})

    # The client asks for what the server has before it can be given any option, so the limit cannot come with each request.
    RESTClientObject.request = limited


def _words(error: t.Any) -> str:
    """Return what the server says, without the headers that the exception's own text has."""
    try:
        message = json.loads(error.body)["message"]
    except (KeyError, TypeError, ValueError):
        message = None
    return str(message or error.reason)


def _cause(error: BaseException) -> str:
    """Return the innermost reason; what urllib3 wraps around it names objects in memory."""
    reason = getattr(error, "reason", None)
    text = str(reason if reason is not None else error)
    return text.rpartition(">: ")[2] or type(error).__name__


def apply(
    api: Api,
    nodes: t.Iterable[Node],
    plan: t.Callable[[Node], NodePlan],
    *,
    sleep: t.Callable[[float], None] = time.sleep,
) -> t.Iterator[Outcome]:
    """Give the nodes the taints that are planned, one by one; a node that refuses does not keep the others from theirs."""
    lost: UnreachableError | None = None
    for node in nodes:
        have = taints_of(node)
        if lost and plan(node).changed:
            yield Outcome(node["metadata"]["name"], have, have, node, str(lost))
            continue
        try:
            yield _apply_one(api, node, plan, sleep)
        except NodeTaintError as error:
            lost = error if isinstance(error, UnreachableError) else lost
            yield Outcome(node["metadata"]["name"], have, have, node, str(error))


def _apply_one(api: Api, node: Node, plan: t.Callable[[Node], NodePlan], sleep: t.Callable[[float], None]) -> Outcome:
    planned = plan(node)
    tries = 0
    while planned.changed:
        try:
            node = api.write(node, planned.after)
            break
        except ConflictError as conflict:
            tries += 1
            if tries == _TRIES:
                raise NodeTaintError(f"{conflict} (given up after {_TRIES} tries)") from conflict
        # Writers that met once are not to meet again: a pause of random length.
        sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.02 * 2**tries)))
        node = api.read(planned.name)
        planned = plan(node)
    return Outcome(planned.name, planned.before, taints_of(node), node)


def read_all(api: Api, names: t.Iterable[str]) -> list[Node]:
    """Return the nodes with these names; what is wrong with any of them is said in one error."""
    nodes, errors = [], []
    for name in dict.fromkeys(names):
        try:
            nodes.append(api.read(name))
        except UnreachableError:
            raise
        except NodeTaintError as error:
            errors.append(str(error))
    if errors:
        raise NodeTaintError("\n".join(errors))
    return nodes


def wait_until_gone(api: Api, nodes: t.Iterable[Node], rules: t.Sequence[Rule], patience: Patience) -> list[str]:
    """Wait until no node has a taint that the rules name; return a line for each that is there when the time is over."""
    end = patience.clock() + patience.timeout
    holding = {node["metadata"]["name"]: holders(node, rules) for node in nodes}
    while any(holding.values()):
        left = end - patience.clock()
        if left <= 0:
            break
        patience.sleep(min(patience.interval, left))
        holding = {name: _look(api, name, rules) for name, lines in holding.items() if lines}
    return [line for lines in holding.values() for line in lines]


def _look(api: Api, name: str, rules: t.Sequence[Rule]) -> list[str]:
    # A server that restarts is one to wait for, and so is a node that registers anew.
    try:
        return holders(api.read(name), rules)
    except NodeTaintError as error:
        return [str(error)]
