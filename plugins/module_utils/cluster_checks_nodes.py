# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the control plane and of nodes: what the API server is asked, and what nodes say of themselves."""

from __future__ import annotations

import base64
import concurrent.futures
import dataclasses
import datetime
import ipaddress
import json
import re
import ssl
import typing as t
import urllib.error
import urllib.request

from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_kubectl import (
    FAIL,
    PASS,
    SKIP,
    WORKERS,
    Check,
    ClusterCheckError,
    Kubectl,
    Object,
    Settings,
    documents,
    is_ready,
    last_line,
)

__all__ = [
    "check_accesses",
    "check_anonymous",
    "check_api_servers",
    "check_heartbeats",
    "check_leases",
    "check_node_restriction",
    "check_nodes",
    "check_servers",
    "check_ways",
    "check_workloads",
]


def check_api_servers(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """See that every API server says it is ready, and is of the wanted version."""
    checks = []
    for name, address in sorted(settings.masters.items()):
        server = f"--server=https://{address}:{settings.api_port}"
        ready = kubectl.run(server, "get", "--raw", "/readyz?verbose")
        good = re.findall(r"^\[\+\](\S+) ok", ready.out, re.MULTILINE)
        bad = re.findall(r"^\[-\](\S+)", ready.out + "\n" + ready.err, re.MULTILINE)
        if ready.code == 0 and not bad:
            checks.append(
                Check(
                    f"API server on {name}", PASS, f"{len(good)} readiness checks ok, etcd among them: {'yes' if 'etcd' in good else 'no'}"
                )
            )
        else:
            checks.append(Check(f"API server on {name}", FAIL, f"not ready: {', '.join(bad)}" if bad else last_line(ready.err)))
    seen = kubectl.read("version")["serverVersion"]["gitVersion"]
    checks.append(Check("API server version", PASS if seen == settings.version else FAIL, f"{seen}, wanted {settings.version}"))
    return checks


def check_leases(kubectl: Kubectl, settings: Settings, now: datetime.datetime | None = None) -> list[Check]:
    """See that controller manager and scheduler, and that of the cloud if there is one, have a leader that renews its lease."""
    checks = []
    clouds = ["cloud-controller-manager"] if settings.servers is not None else []
    for component in ("kube-controller-manager", "kube-scheduler", *clouds):
        lease = kubectl.run("--namespace=kube-system", "get", "lease", component, "--output=json")
        if lease.code != 0:
            checks.append(Check(component, FAIL, last_line(lease.err)))
            continue
        spec = json.loads(lease.out)["spec"]
        age = _lease_age(spec, now)
        fresh = age <= spec["leaseDurationSeconds"]
        holder = (spec.get("holderIdentity") or "nobody").split("_")[0]
        checks.append(Check(component, PASS if fresh and holder != "nobody" else FAIL, f"{holder} leads, lease renewed {age:.0f} s ago"))
    return checks


def check_anonymous(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """See that nobody reads secrets without credentials."""
    config = kubectl.read("config", "view", "--raw", "--minify")["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=base64.b64decode(config["certificate-authority-data"]).decode())
    url = f"{config['server']}/api/v1/secrets"
    try:
        with urllib.request.urlopen(url, context=context, timeout=kubectl.timeout) as answer:
            return [Check("Anonymous is refused", FAIL, f"GET /api/v1/secrets answers {answer.status} to anybody")]
    except urllib.error.HTTPError as error:
        return [Check("Anonymous is refused", PASS if error.code in (401, 403) else FAIL, f"GET /api/v1/secrets answers {error.code}")]
    except OSError as error:
        return [Check("Anonymous is refused", FAIL, f"{url}: {error}")]


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may do what."""

    who: str
    groups: tuple[str, ...]
    verb: str
    resource: str
    namespace: str
    allowed: bool

    def review(self) -> Object:
        """Return the SubjectAccessReview that asks."""
        group, _, resource = self.resource.rpartition("/")
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": self.who,
                "groups": [*self.groups, "system:authenticated"],
                "resourceAttributes": {"verb": self.verb, "group": group, "resource": resource, "namespace": self.namespace, "name": ""},
            },
        }


def accesses(settings: Settings) -> list[Access]:
    """Return what must be refused, and next to it what must not, so that a cluster that refuses everything fails too."""
    node = next(iter(settings.node_ips), "worker1")
    ours = settings.namespace
    account = f"system:serviceaccount:{ours}:default"
    accounts = ("system:serviceaccounts", f"system:serviceaccounts:{ours}")
    return [
        Access(f"system:node:{node}", ("system:nodes",), "get", "secrets", "kube-system", False),
        Access(f"system:node:{node}", ("system:nodes",), "list", "services", "", True),
        Access(account, accounts, "list", "secrets", ours, False),
        Access(account, accounts, "create", "pods", ours, False),
        Access("system:kube-scheduler", (), "list", "secrets", "kube-system", False),
        Access("system:kube-scheduler", (), "list", "pods", "", True),
        Access("kube-apiserver-kubelet-client", (), "list", "secrets", "kube-system", False),
        Access("system:bootstrap:abcdef", ("system:bootstrappers",), "list", "secrets", "kube-system", False),
    ]


def check_accesses(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """See that RBAC and the node authorizer allow and refuse as they should."""
    asked = accesses(settings)
    reviews = {"apiVersion": "v1", "kind": "List", "items": [each.review() for each in asked]}
    result = kubectl.run("create", "--filename=-", "--output=json", text=json.dumps(reviews))
    if result.code != 0:
        raise ClusterCheckError(last_line(result.err))
    answers = documents(result.out)
    wrong = [
        f"{each.who} {'may not' if each.allowed else 'may'} {each.verb} {each.resource}"
        for each, answer in zip(asked, answers)
        if bool(answer["status"].get("allowed")) != each.allowed
    ]
    refused = sum(not each.allowed for each in asked)
    return [
        Check(
            "Authorisation",
            FAIL if wrong else PASS,
            "; ".join(wrong) or f"{refused} requests refused and {len(asked) - refused} allowed, as they should",
        )
    ]


def _lease_age(spec: Object, now: datetime.datetime | None) -> float:
    """Return how many seconds ago a lease was renewed."""
    renewed = datetime.datetime.strptime(spec["renewTime"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    return max(((now or datetime.datetime.now(datetime.timezone.utc)) - renewed).total_seconds(), 0)


def check_heartbeats(kubectl: Kubectl, settings: Settings, now: datetime.datetime | None = None) -> list[Check]:
    """See that every kubelet is alive now: for most of a minute a Node says Ready though its kubelet is gone."""
    leases = kubectl.read("--namespace=kube-node-lease", "get", "leases")["items"]
    specs = {lease["metadata"]["name"]: lease["spec"] for lease in leases if lease["spec"].get("renewTime")}
    ages = {name: _lease_age(spec, now) for name, spec in specs.items()}
    silent = [
        f"{name} {ages[name]:.0f} s ago" if name in ages else f"{name} never"
        for name in sorted(settings.node_ips)
        if name not in ages or ages[name] > specs[name]["leaseDurationSeconds"]
    ]
    oldest = max((ages[name] for name in settings.node_ips if name in ages), default=0)
    seen = f"last heard of: {', '.join(silent)}" if silent else f"all within {oldest:.0f} s"
    return [Check("Kubelets report", FAIL if silent else PASS, seen)]


def check_nodes(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """See that every node is there, Ready, of the wanted version, and known by the address of its port."""
    found = {node["metadata"]["name"]: node for node in kubectl.read("get", "nodes")["items"]}
    checks = []
    for name in sorted({*settings.node_ips, *found}):
        if name not in found:
            checks.append(Check(f"Node {name}", FAIL, "it has not registered"))
            continue
        status = found[name]["status"]
        ready = next((each for each in status["conditions"] if each["type"] == "Ready"), {"status": "Unknown", "message": "no condition"})
        version = status["nodeInfo"]["kubeletVersion"]
        address = next((each["address"] for each in status["addresses"] if each["type"] == "InternalIP"), "none")
        wanted = settings.node_ips.get(name)
        problems = []
        lost = next((each for each in status["conditions"] if each["type"] == "NetworkUnavailable"), {"status": "False"})
        if lost["status"] != "False":
            problems.append(f"no network: {lost.get('message', '')}")
        if ready["status"] != "True":
            problems.append(f"not Ready: {ready.get('message', '')}")
        if version != settings.version:
            problems.append(f"version {version}, wanted {settings.version}")
        if wanted is None:
            problems.append("no server of the cluster has this name")
        elif wanted != address:
            problems.append(f"address {address}, its port has {wanted}")
        checks.append(Check(f"Node {name}", FAIL if problems else PASS, "; ".join(problems) or f"Ready, {version}, {address}"))
    return checks


_UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
_FLAVOR, _ZONE, _REGION = "node.kubernetes.io/instance-type", "topology.kubernetes.io/zone", "topology.kubernetes.io/region"


def server_addresses(server: Object, kind: str) -> set[str]:
    """Return the fixed or the floating addresses of a server."""
    every = [each for addresses in server["addresses"].values() for each in addresses]
    return {each["addr"] for each in every if each["OS-EXT-IPS:type"] == kind}


def as_label(text: str) -> str:
    """Return a text as the cloud controller manager makes a label's value of it."""
    return re.sub(r"[^-a-zA-Z0-9_.]+", "-", text).strip("-_.")[:63]


def server_problems(node: Object, server: Object, region: str | None) -> t.Iterator[str]:
    """Say in what a node differs from its server."""
    labels, spec = node["metadata"].get("labels", {}), node["spec"]
    provider = spec.get("providerID", "none")
    if not re.fullmatch(rf"openstack://[^/]*/{re.escape(server['id'])}", provider):
        yield f"providerID {provider}, its server is {server['id']}"
    if any(taint["key"] == _UNINITIALIZED for taint in spec.get("taints") or []):
        yield "it is not initialised yet"
    for kind, place in (("InternalIP", "fixed"), ("ExternalIP", "floating")):
        seen = {each["address"] for each in node["status"].get("addresses", []) if each["type"] == kind}
        there = server_addresses(server, place)
        # The kubelet says which of several fixed addresses is the node's.
        if not seen <= there or (there and not seen) or (kind == "ExternalIP" and seen != there):
            yield f"{kind} {', '.join(sorted(seen)) or 'none'}, its server has {', '.join(sorted(there)) or 'none'}"
    for label, wanted in (
        (_FLAVOR, server["flavor"].get("original_name")),
        (_ZONE, as_label(server.get("availability_zone") or "")),
        (_REGION, region),
    ):
        if wanted and labels.get(label) != wanted:
            yield f"{label} {labels.get(label, 'none')}, its server has {wanted}"


def check_servers(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """See that every node says of itself what the cloud says of its server."""
    servers = {server["name"]: server for server in settings.servers or []}
    nodes = {node["metadata"]["name"]: node for node in kubectl.read("get", "nodes")["items"]}
    checks = []
    for name in sorted(set(settings.node_ips) & set(nodes)):
        if name not in servers:
            checks.append(Check(f"Server of {name}", FAIL, "the cloud has no server of this name"))
            continue
        node, server = nodes[name], servers[name]
        problems = list(server_problems(node, server, settings.region))
        addresses = [f"{each['type']} {each['address']}" for each in node["status"].get("addresses", []) if each["type"] != "Hostname"]
        labels = [node["metadata"].get("labels", {}).get(label, "") for label in (_FLAVOR, _ZONE, _REGION)]
        seen = ", ".join(filter(None, [node["spec"].get("providerID", ""), *addresses, *labels]))
        checks.append(Check(f"Server of {name}", FAIL if problems else PASS, "; ".join(problems) or seen))
    return checks


_BACKENDS = {"vxlan": "an overlay", "host-gw": "routes on the nodes", "alloc": "routes of the cloud"}
_FLANNEL = "--namespace=kube-flannel"


@dataclasses.dataclass(frozen=True)
class Way:
    """How a node sends to a range of pods."""

    range: str
    gateway: str
    device: str


def ways(text: str) -> list[Way]:
    """Parse what `ip route` prints of the ways that lead to other machines."""
    found = [re.match(r"(?P<range>\S+) via (?P<gateway>\S+) dev (?P<device>\S+)", line) for line in text.splitlines()]
    return [Way(**each.groupdict()) for each in found if each]


def ways_problems(
    backend: str, own: str, ranges: t.Mapping[str, str], seen: t.Sequence[Way], overlays: t.Collection[str]
) -> t.Iterator[str]:
    """Say in what a node's ways differ from those that Flannel's backend has; `ranges` are pods' ranges by address of the node."""
    there = {way.range: way for way in seen}
    others = {each: address for address, each in ranges.items() if address != own}
    if backend == "alloc":
        yield from (f"it has a route of its own to {way.range} via {way.gateway}" for way in seen)
    for each, address in sorted(others.items()) if backend != "alloc" else []:
        way = there.pop(each, None)
        if way is None:
            yield f"no route to {each} of {address}"
        elif backend == "host-gw" and way.gateway != address:
            yield f"{each} goes via {way.gateway}, its node is {address}"
        elif backend == "vxlan" and way.device not in overlays:
            yield f"{each} goes by {way.device} and not through the overlay"
    if backend != "alloc":
        yield from (f"a route to {each} via {way.gateway}, where no node is" for each, way in sorted(there.items()))
    if backend != "vxlan" and overlays:
        yield f"the overlay's {', '.join(sorted(overlays))} is still there"


def check_ways(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """See that packets to pods of other nodes take the way that Flannel's backend is for, and no other is left."""
    found = kubectl.run(_FLANNEL, "get", "configmap", "kube-flannel", "--ignore-not-found", "--output=json")
    if found.code != 0:
        raise ClusterCheckError(last_line(found.err))
    if settings.pod_range is None or not found.out.strip():
        return []
    backend = json.loads(json.loads(found.out)["data"]["net-conf.json"])["Backend"]["Type"]
    nodes = [node for node in kubectl.read("get", "nodes")["items"] if node["metadata"]["name"] in settings.node_ips]
    ranges = {settings.node_ips[node["metadata"]["name"]]: node["spec"].get("podCIDR", "none") for node in nodes}
    pods = kubectl.read(_FLANNEL, "get", "pods", "--selector=app=flannel")["items"]
    of_node = {pod["spec"].get("nodeName"): pod["metadata"]["name"] for pod in pods if is_ready(pod)}
    script = f"ip -4 route show root {settings.pod_range}; ip -brief link show type vxlan"

    def look(name: str) -> list[str]:
        if name not in of_node:
            return [f"{name}: no pod of Flannel is ready there"]
        result = kubectl.run(_FLANNEL, "exec", of_node[name], "--container=flannel", "--", "sh", "-c", script)
        if result.code != 0:
            return [f"{name}: {last_line(result.err)}"]
        overlays = re.findall(r"^(flannel\.\S+)", result.out, re.MULTILINE)
        return [f"{name}: {problem}" for problem in ways_problems(backend, settings.node_ips[name], ranges, ways(result.out), overlays)]

    with concurrent.futures.ThreadPoolExecutor(max_workers=WORKERS) as pool:
        problems = [problem for each in pool.map(look, sorted(settings.node_ips)) for problem in each]
    seen = f"{_BACKENDS.get(backend, backend)}, on {len(settings.node_ips)} nodes"
    checks = [Check("Way between pods", FAIL if problems else PASS, "; ".join(problems) or seen)]
    if settings.routes is not None:
        checks.append(check_router(settings, backend, ranges))
    return checks


def check_router(settings: Settings, backend: str, ranges: t.Mapping[str, str]) -> Check:
    """See that the cluster's router leads to the pods of each node if the cloud is to route them, and to none if not."""
    name, pods = "Routes of the router", ipaddress.ip_network(settings.pod_range or "")
    routes = {(each["destination"], each["nexthop"]) for each in settings.routes or []}
    inside = {each for each in routes if ipaddress.ip_network(each[0]).version == pods.version and ipaddress.ip_network(each[0])[0] in pods}
    others = f", and {len(routes) - len(inside)} of others" if len(routes) > len(inside) else ""
    wanted = {(each, address) for address, each in ranges.items()} if backend == "alloc" else set()
    # What leads elsewhere is not ours, and harms only where the cloud routes.
    mine = inside if backend == "alloc" else {each for each in inside if each[1] in ranges}
    problems = [f"no route to {one} via {other}" for one, other in sorted(wanted - mine)]
    problems += [f"a route to {one} via {other} that should not be" for one, other in sorted(mine - wanted)]
    seen = ", ".join(f"{one} via {other}" for one, other in sorted(wanted)) or "none to pods"
    return Check(name, FAIL if problems else PASS, "; ".join(problems) or seen + others)


def check_node_restriction(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """See that a node cannot change another node."""
    names = sorted(settings.node_ips)
    if len(names) < 2:
        return [Check("Nodes cannot change others", SKIP, "there is one node only")]
    result = kubectl.run(
        f"--as=system:node:{names[0]}", "--as-group=system:nodes", "label", "node", names[1], "kos.labs/verify=1", "--dry-run=server"
    )  # fmt: skip
    refused = result.code != 0 and "forbidden" in result.err.lower()
    return [
        Check(
            "Nodes cannot change others",
            PASS if refused else FAIL,
            f"{names[0]} labels {names[1]}: {'forbidden' if refused else last_line(result.err + result.out)}",
        )
    ]


def check_workloads(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """See that what runs in the cluster already is complete."""
    items = kubectl.read("get", "deployments,daemonsets,statefulsets", "--all-namespaces")["items"]
    theirs = [each for each in items if each["metadata"]["namespace"] != settings.namespace]
    short = [
        f"{each['metadata']['namespace']}/{each['metadata']['name']} {ready} of {wanted}"
        for each in theirs
        for ready, wanted in [replicas(each)]
        if ready < wanted
    ]
    names = ", ".join(sorted(each["metadata"]["name"] for each in theirs))
    return [Check("System workloads", FAIL if short else PASS, f"not ready: {', '.join(short)}" if short else names or "none")]


def replicas(workload: Object) -> tuple[int, int]:
    """Return how many replicas of a workload are ready, and how many it wants."""
    status = workload.get("status", {})
    if workload["kind"] == "DaemonSet":
        return status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
    return status.get("readyReplicas", 0), workload["spec"].get("replicas", 1)
