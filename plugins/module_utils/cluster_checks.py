# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a running cluster, made from outside with kubectl alone. They change nothing but a namespace of their own."""

from __future__ import annotations

import base64
import concurrent.futures
import dataclasses
import datetime
import ipaddress
import json
import re
import selectors
import ssl
import subprocess
import time
import typing as t
import urllib.error
import urllib.request

__all__ = ["Check", "ClusterCheckError", "Kubectl", "Settings", "run_checks"]

Object = t.Mapping[str, t.Any]

PASS, FAIL, SKIP = "pass", "fail", "skip"
_APP_PORT = 8080
_HOSTNAME = "kubernetes.io/hostname"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_WORKERS = 6
# Seconds for which CoreDNS and its clients may give the address that a service of this name had in the last run.
_KEPT_BY_DNS = 45


class ClusterCheckError(Exception):
    """A check could not be made; the message says what stood in the way."""


@dataclasses.dataclass(frozen=True)
class Check:
    """A question, the verdict, and what was seen."""

    name: str
    verdict: str
    seen: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the cluster is meant to be, by names of masters and nodes; without nodes the control plane alone is checked."""

    version: str
    masters: t.Mapping[str, str]
    node_ips: t.Mapping[str, str]
    floating_ips: t.Mapping[str, str]
    api_port: int
    domain: str
    image: str
    namespace: str
    outside_name: str | None
    timeout: int
    # Seconds that a cluster which has just started gets until its own parts are well.
    settle: int = 0
    # The project's servers as the compute API has them; None without a cloud controller manager.
    servers: t.Sequence[Object] | None = None
    region: str | None = None
    # Seconds that the cloud gets to make a load balancer; 0 where it makes none.
    load_balancer: int = 0
    # Seconds that a claim gets to become a volume in a pod, and again to follow it; 0 in a cluster without a default class of volumes.
    volume: int = 0
    # Addresses of pods; without them nobody asks which way packets take.
    pod_range: str | None = None
    # The routes of the cluster's router; None where nobody can write any there.
    routes: t.Sequence[Object] | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """How a program ended."""

    code: int
    out: str
    err: str


class Kubectl:
    """The adapter: kubectl with a kubeconfig, as a person has it."""

    def __init__(self, *, program: str, kubeconfig: str, timeout: int) -> None:
        self.base = [program, f"--kubeconfig={kubeconfig}"]
        self.timeout = timeout

    def run(self, *arguments: str, text: str | None = None, seconds: int | None = None) -> Result:
        """Run one command to its end, which may take a number of seconds."""
        limit = seconds or self.timeout
        try:
            done = subprocess.run(
                [*self.base, f"--request-timeout={limit}s", *arguments],
                input=text or "",
                capture_output=True,
                text=True,
                errors="replace",
                # What kubectl says when it waited in vain is better than what we can say.
                timeout=limit + 5,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Result(124, "", f"no answer within {limit} s")
        except OSError as error:
            raise ClusterCheckError(f"{self.base[0]} cannot be run: {error}") from error
        return Result(done.returncode, done.stdout, done.stderr.strip())

    def read(self, *arguments: str, text: str | None = None) -> t.Any:
        """Run one command and parse the JSON that it prints."""
        result = self.run(*arguments, "--output=json", text=text)
        if result.code != 0:
            raise ClusterCheckError(last_line(result.err))
        return json.loads(result.out)

    def forwarded(self, *arguments: str) -> t.Iterator[int]:
        """Run a port-forward and hand out its local port, once, for as long as the caller looks."""
        argv = [*self.base, *arguments]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout is not None
                with selectors.DefaultSelector() as ready:
                    ready.register(process.stdout, selectors.EVENT_READ)
                    line = process.stdout.readline() if ready.select(self.timeout) else ""
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if not found:
                    raise ClusterCheckError(line.strip() or "port-forward printed no port")
                yield int(found.group(1))
            finally:
                process.terminate()


def documents(text: str) -> list[t.Any]:
    """Parse the JSON documents that kubectl prints one after the other when it makes several objects."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        document, position = decoder.raw_decode(text, position)
        found.append(document)
    return found


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


# --- what is asked of the API server, without a node -------------------------------------------------------------------------------


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


# --- what is asked of nodes and pods -----------------------------------------------------------------------------------------------


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

    with concurrent.futures.ThreadPoolExecutor(max_workers=_WORKERS) as pool:
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


def manifests(settings: Settings) -> Object:
    """Return the objects of our namespace: two pods on each node, and a single one for what needs a known pod."""

    def template(app: str) -> Object:
        return {
            "metadata": {"labels": {"app": app, "part": "web" if app != "single" else "single"}},
            "spec": {
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "runAsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "agnhost",
                        "image": settings.image,
                        "args": ["netexec", f"--http-port={_APP_PORT}"],
                        "ports": [{"containerPort": _APP_PORT}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": _APP_PORT}, "periodSeconds": 1},
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
        }

    def meta(name: str) -> Object:
        return {"name": name, "namespace": settings.namespace}

    def workload(kind: str, app: str) -> Object:
        return {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": meta(app),
            "spec": {"selector": {"matchLabels": {"app": app}}, "template": template(app)},
        }

    def service(name: str, kind: str, part: str = "") -> Object:
        ports = [{"port": 80, "targetPort": _APP_PORT}]
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta(name),
            "spec": {"type": kind, "selector": {"part": part or name}, "ports": ports},
        }

    objects: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": settings.namespace, "labels": {"app.kubernetes.io/managed-by": "kos.labs"}},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta("probe"), "stringData": {"probe": "readable only through the API"}},
    ]
    if settings.node_ips:
        objects += [
            service("web", "NodePort"),
            service("single", "ClusterIP"),
            workload("DaemonSet", "first"),
            workload("DaemonSet", "second"),
            workload("Deployment", "single"),
        ]
    if settings.node_ips and settings.load_balancer:
        # Asked for now and looked at last, as it takes the longest.
        objects.append(service("balanced", "LoadBalancer", "web"))
    if settings.node_ips and settings.volume:
        objects += [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": meta(_KEEPER),
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            },
            keeper(workload("Deployment", _KEEPER), keeper_nodes(settings)[0]),
        ]
    return {"apiVersion": "v1", "kind": "List", "items": objects}


_KEEPER = "keeper"


def keeper_nodes(settings: Settings) -> tuple[str, str]:
    """Return where the pod with a volume is first, and where it moves to: workers, if there are two. A volume does not leave its zone."""
    zones = {each["name"]: each.get("availability_zone") for each in settings.servers or ()}
    *others, first = sorted(settings.node_ips)
    near = [name for name in others if zones.get(name) == zones.get(first)]
    return first, near[-1] if near else first


def keeper(deployment: Object, node: str) -> Object:
    """Make of a Deployment one whose pod stays on a node and notes in its volume that it was there."""
    template = deployment["spec"]["template"]
    pod = {key: value for key, value in template["spec"].items() if key != "containers"}
    plain = {key: template["spec"]["containers"][0][key] for key in ("name", "image", "securityContext")}
    container = {
        **plain,
        "command": ["sh", "-ec", 'echo "$NODE" >> /data/seen; sync /data/seen; exec sleep infinity'],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        # Ready is who has written.
        "readinessProbe": {"exec": {"command": ["grep", "--quiet", ".", "/data/seen"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod.update(
        containers=[container],
        nodeSelector={_HOSTNAME: node},
        securityContext={**pod["securityContext"], "fsGroup": 65532},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": _KEEPER}}],
    )
    spec = {**deployment["spec"], "strategy": {"type": "Recreate"}, "template": {"metadata": {"labels": {"app": _KEEPER}}, "spec": pod}}
    return {**deployment, "spec": spec}


def prepare(kubectl: Kubectl, settings: Settings) -> None:
    """Make the namespace and what is in it; a namespace of an earlier run that is still going away is waited for."""
    begun = time.monotonic()
    while True:
        result = kubectl.run("apply", "--filename=-", text=json.dumps(manifests(settings)))
        if result.code == 0:
            return
        going = "being terminated" in result.err or "object is being deleted" in result.err
        if time.monotonic() - begun > (settings.timeout if going else settings.settle):
            raise ClusterCheckError(f"namespace {settings.namespace} cannot be made: {last_line(result.err)}")
        time.sleep(1)


@dataclasses.dataclass(frozen=True)
class Pod:
    """A pod of ours."""

    name: str
    app: str
    node: str
    address: str


def wait_for_pods(kubectl: Kubectl, settings: Settings) -> list[Pod]:
    """Wait until two pods run on each node and the single one somewhere; on a time-out say what holds them."""
    end, wanted = time.monotonic() + settings.timeout, 2 * len(settings.node_ips) + 1
    while True:
        # All but the one that waits for its volume.
        items = kubectl.read(f"--namespace={settings.namespace}", "get", "pods", "--selector=part")["items"]
        ready = [pod for pod in items if is_ready(pod)]
        if len(ready) == len(items) == wanted:
            return sorted(
                (
                    Pod(pod["metadata"]["name"], pod["metadata"]["labels"]["app"], pod["spec"]["nodeName"], pod["status"]["podIP"])
                    for pod in ready
                ),
                key=lambda pod: (pod.app, pod.node),
            )  # fmt: skip
        if time.monotonic() > end:
            held = [
                f"{pod['metadata']['name']} on {pod['spec'].get('nodeName', 'no node')}: {why_not_ready(pod)}"
                for pod in items
                if not is_ready(pod)
            ]
            raise ClusterCheckError(
                f"{len(ready)} of {wanted} pods ready after {settings.timeout} s; {'; '.join(held) or 'the others were never made'}"
            )
        time.sleep(1)


def is_ready(pod: Object) -> bool:
    """Tell whether a pod is ready and staying."""
    conditions = pod["status"].get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def why_not_ready(pod: Object) -> str:
    """Return the reason that the kubelet, or else the scheduler, gives."""
    for container in pod["status"].get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return f"{waiting.get('reason')} {waiting.get('message', '')}".strip()
    for condition in pod["status"].get("conditions", []):
        if condition["status"] == "False" and condition.get("message"):
            return str(condition["message"])
    return str(pod["status"].get("phase", "unknown"))


def curl(kubectl: Kubectl, settings: Settings, pod: Pod, urls: t.Sequence[str]) -> set[str]:
    """Fetch addresses from within a pod, all at a time; return those that answered."""
    # The retries are for rules of services that are a moment old.
    options = ["--silent", "--show-error", "--parallel", "--max-time", "10", "--retry", "2", "--retry-delay", "1", "--retry-all-errors"]
    wanted = [word for url in urls for word in ("--output", "/dev/null", url)]
    result = kubectl.run(
        f"--namespace={settings.namespace}", "exec", pod.name, "--", "curl", *options, "--write-out", "%{http_code} %{url_effective}\\n", *wanted
    )  # fmt: skip
    answered = set(re.findall(r"^200 (http://\S+)$", result.out, re.MULTILINE))
    if not answered and result.code != 0:
        raise ClusterCheckError(f"kubectl exec in {pod.name} on {pod.node}: {last_line(result.err)}")
    return answered


def curl_until(kubectl: Kubectl, settings: Settings, pod: Pod, urls: t.Sequence[str]) -> set[str]:
    """Fetch addresses from within a pod, and those that did not answer again for as long as an old answer of the DNS may be kept."""
    answered: set[str] = set()
    end = time.monotonic() + min(_KEPT_BY_DNS, settings.timeout)
    while True:
        late = time.monotonic() >= end
        try:
            answered |= curl(kubectl, settings, pod, [url for url in urls if url not in answered])
        except ClusterCheckError:
            if late:
                raise
        if late or answered.issuperset(urls):
            return answered
        time.sleep(1)


def check_pod_network(kubectl: Kubectl, settings: Settings, pods: t.Sequence[Pod], services: t.Mapping[str, Object]) -> list[Check]:
    """See that every pod reaches every other, and a service by address and by name."""
    everyone = [pod for pod in pods if pod.app != "single"]
    address = f"http://{services['web']['spec']['clusterIP']}/hostname"
    names = ["http://web/hostname", f"http://web.{settings.namespace}.svc.{settings.domain}/hostname"]
    direct = {pod: f"http://{pod.address}:{_APP_PORT}/hostname" for pod in everyone}
    urls = [*direct.values(), address, *names]

    with concurrent.futures.ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        answers = dict(zip(everyone, pool.map(lambda pod: curl_until(kubectl, settings, pod, urls), everyone)))

    def pairs(name: str, chosen: t.Callable[[Pod, Pod], bool], none: str) -> Check:
        asked = [(one, other) for one in everyone for other in everyone if one != other and chosen(one, other)]
        broken = [f"{one.node}/{one.name} to {other.node}/{other.name}" for one, other in asked if direct[other] not in answers[one]]
        if not asked:
            return Check(name, SKIP, none)
        return Check(name, FAIL if broken else PASS, f"no answer: {', '.join(broken)}" if broken else f"{len(asked)} of {len(asked)} pairs")

    def service(name: str, wanted: t.Sequence[str]) -> Check:
        broken = [f"{pod.node}/{pod.name} to {url}" for pod in everyone for url in wanted if url not in answers[pod]]
        return Check(
            name,
            FAIL if broken else PASS,
            f"no answer: {', '.join(broken)}" if broken else f"{' and '.join(wanted)} from {len(everyone)} pods",
        )

    return [
        pairs("Pod to pod, same node", lambda one, other: one.node == other.node, "there is one pod on each node"),
        pairs("Pod to pod, other node", lambda one, other: one.node != other.node, "there is one node only"),
        service("Service by ClusterIP", [address]),
        service("Service by name", names),
    ]


def check_hairpin(kubectl: Kubectl, settings: Settings, single: Pod, services: t.Mapping[str, Object]) -> list[Check]:
    """See that a pod reaches itself through its service."""
    url = f"http://{services['single']['spec']['clusterIP']}/hostname"
    reached = url in curl(kubectl, settings, single, [url])
    return [Check("Hairpin", PASS if reached else FAIL, f"{single.name} {'reaches' if reached else 'does not reach'} itself by {url}")]


def check_outside_name(kubectl: Kubectl, settings: Settings, single: Pod) -> list[Check]:
    """See that CoreDNS resolves names of the world, where the nodes have a resolver."""
    name = "Outside name"
    if settings.outside_name is None:
        return [Check(name, SKIP, "the cloud gives its servers no resolver")]
    result = kubectl.run(
        f"--namespace={settings.namespace}",
        "exec",
        single.name,
        "--",
        "dig",
        "+short",
        "+time=3",
        "+tries=2",
        f"{settings.outside_name}.",
        "A",
    )
    addresses = [line for line in result.out.split() if is_address(line)]
    return [
        Check(
            name, PASS if addresses else FAIL, f"{settings.outside_name}: {', '.join(addresses[:2]) or last_line(result.out or result.err)}"
        )
    ]


def is_address(text: str) -> bool:
    """Tell whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_node_port(kubectl: Kubectl, settings: Settings, pods: t.Sequence[Pod], services: t.Mapping[str, Object]) -> list[Check]:
    """See that every node's floating IP answers on the service's port."""
    port = services["web"]["spec"]["ports"][0]["nodePort"]
    known = {pod.name for pod in pods}
    addresses = settings.floating_ips
    if not addresses:
        return [Check("NodePort from outside", SKIP, "no node has a floating IP")]
    broken = []
    for name, address in sorted(addresses.items()):
        body = fetch(f"http://{address}:{port}/hostname")
        if body not in known:
            broken.append(f"{name} {address}:{port} answers {body}")
    return [
        Check(
            "NodePort from outside",
            FAIL if broken else PASS,
            "; ".join(broken) or f"port {port} of {', '.join(addresses[name] for name in sorted(addresses))}",
        )
    ]


def fetch(url: str, attempts: int = 3) -> str:
    """Fetch a page; return its body, or the error in words."""
    said = ""
    for _attempt in range(attempts):
        try:
            # Without the proxy of the environment: the address is a server's own.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
                return str(answer.read().decode(errors="replace"))
        except OSError as error:
            said = str(error)
    return said


def check_load_balancer(kubectl: Kubectl, settings: Settings, pods: t.Sequence[Pod], begun: float) -> list[Check]:
    """See that a service gets a load balancer that leads to all its pods, and that it goes with the service."""
    name, ours = "Load balancer", f"--namespace={settings.namespace}"
    wanted, end = {pod.name for pod in pods if pod.app != "single"}, time.monotonic() + settings.load_balancer
    address, said = "", "the cloud controller manager has not answered"
    answered: set[str] = set()
    # It balances over nodes, and each node over pods by lot.
    while time.monotonic() < end and answered < wanted:
        if not address:
            address = _ingress(kubectl.read(ours, "get", "service", "balanced"))
            said = said if address else _last_event(kubectl, settings, "balanced") or said
        else:
            said = fetch(f"http://{address}/hostname", attempts=1)
            answered |= {said} & wanted
        if said not in wanted:
            time.sleep(1)
    made = time.monotonic() - begun
    if answered < wanted:
        seen = f"{len(answered)} of {len(wanted)} pods answered at {address}, {said} at last" if address else f"no address: {said}"
        return [Check(name, FAIL, f"{seen}, after {made:.0f} s")]
    deleted = time.monotonic()
    gone = kubectl.run(ours, "delete", "service", "balanced", f"--timeout={kubectl.timeout}s")
    if gone.code != 0:
        return [Check(name, FAIL, f"it does not go away with its service: {last_line(gone.err)}")]
    seen = f"{address} led to all {len(wanted)} pods {made:.0f} s after it was asked for, and went in {time.monotonic() - deleted:.0f} s"
    return [Check(name, PASS, seen)]


def _ingress(service: Object) -> str:
    """Return the address of a service's load balancer, or nothing."""
    found = service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    return str(found[0].get("ip", ""))


def _last_event(kubectl: Kubectl, settings: Settings, name: str) -> str:
    """Return what was said last about an object that something is wrong with."""
    chosen = f"--field-selector=type=Warning,involvedObject.name={name}"
    events = kubectl.read(f"--namespace={settings.namespace}", "get", "events", chosen, "--sort-by=.lastTimestamp")["items"]
    return str(events[-1].get("message", "")) if events else ""


def check_volume(kubectl: Kubectl, settings: Settings, begun: float) -> list[Check]:
    """See that a claim becomes a volume, that its data follow the pod to another node, and that it goes with the claim."""
    name, ours = "Volume", f"--namespace={settings.namespace}"
    classes = kubectl.read("get", "storageclasses")["items"]
    if not any((each["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true" for each in classes):
        return [Check(name, SKIP, "no class of volumes is the default")]
    first, second = keeper_nodes(settings)
    try:
        pod = await_keeper(kubectl, settings, first)
        made = time.monotonic() - begun
    finally:
        volume = lend(kubectl, settings)
    # The note has a pod begin anew where there is no other node.
    move = {"metadata": {"annotations": {"kos.labs/moved-to": second}}, "spec": {"nodeSelector": {_HOSTNAME: second}}}
    begun = time.monotonic()
    patched = kubectl.run(ours, "patch", "deployment", _KEEPER, "--patch", json.dumps({"spec": {"template": move}}))
    if patched.code != 0:
        return [Check(name, FAIL, last_line(patched.err))]
    pod = await_keeper(kubectl, settings, second, besides=pod)
    moved = time.monotonic() - begun
    found = kubectl.run(ours, "exec", pod, "--", "cat", "/data/seen")
    if found.out.split() != [first, second]:
        return [Check(name, FAIL, f"on {second} it holds {found.out.split() or last_line(found.err)}, and not what was written on {first}")]
    begun = time.monotonic()
    wait = f"--timeout={settings.volume}s"
    attachments = [
        f"volumeattachment/{each['metadata']['name']}"
        for each in kubectl.read("get", "volumeattachments")["items"]
        if each["spec"]["source"].get("persistentVolumeName") == volume
    ]
    # One after the other: whoever deletes a volume that is still attached waits twice as long after each attempt.
    for command in (
        (ours, "delete", f"deployment/{_KEEPER}", wait),
        ("wait", "--for=delete", *attachments, wait),
        (ours, "delete", f"persistentvolumeclaim/{_KEEPER}", wait),
        ("wait", "--for=delete", f"persistentvolume/{volume}", wait),
    ):
        gone = kubectl.run(*command, seconds=settings.volume)
        if gone.code != 0 and "not found" not in gone.err.lower():
            return [Check(name, FAIL, f"it does not go away with its claim: {last_line(gone.err)}")]
    seen = f"written on {first} {made:.0f} s after it was claimed, read on {second} {moved:.0f} s later, gone in {time.monotonic() - begun:.0f} s"
    return [Check(name, PASS, seen)]


def lend(kubectl: Kubectl, settings: Settings) -> str:
    """Have the claim's volume go with it, whatever its class keeps, and return its name, or nothing if there is none yet."""
    ours = f"--namespace={settings.namespace}"
    volume = kubectl.run(ours, "get", "persistentvolumeclaim", _KEEPER, "--output=jsonpath={.spec.volumeName}").out.strip()
    if volume:
        kubectl.run("patch", "persistentvolume", volume, "--patch", json.dumps({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}))
    return volume


def await_keeper(kubectl: Kubectl, settings: Settings, node: str, besides: str = "") -> str:
    """Wait until the pod with a volume has written on a node, and return its name; on a time-out say what holds it."""
    end = time.monotonic() + settings.volume
    while True:
        pods = kubectl.read(f"--namespace={settings.namespace}", "get", "pods", f"--selector=app={_KEEPER}")["items"]
        new = [pod for pod in pods if pod["metadata"]["name"] != besides]
        for pod in new:
            if is_ready(pod) and pod["spec"].get("nodeName") == node:
                return str(pod["metadata"]["name"])
        if time.monotonic() > end:
            said = [_last_event(kubectl, settings, each) for each in (_KEEPER, *(pod["metadata"]["name"] for pod in new))]
            why = next(filter(None, reversed(said)), "") or next(map(why_not_ready, new), "its pod was never made")
            raise ClusterCheckError(f"no pod on {node} has it after {settings.volume} s: {why}")
        time.sleep(1)


def check_logs(kubectl: Kubectl, settings: Settings, single: Pod) -> list[Check]:
    """See that kubectl logs works."""
    result = kubectl.run(f"--namespace={settings.namespace}", "logs", single.name)
    good = result.code == 0 and bool(result.out.strip())
    return [Check("kubectl logs", PASS if good else FAIL, last_line(result.out) if good else last_line(result.err))]


def check_exec(kubectl: Kubectl, settings: Settings, single: Pod) -> list[Check]:
    """See that kubectl exec works."""
    result = kubectl.run(f"--namespace={settings.namespace}", "exec", single.name, "--", "curl", "--version")
    good = result.code == 0 and result.out.startswith("curl")
    return [Check("kubectl exec", PASS if good else FAIL, " ".join(result.out.split()[:2]) if good else last_line(result.err))]


def check_port_forward(kubectl: Kubectl, settings: Settings, single: Pod) -> list[Check]:
    """See that kubectl port-forward works."""
    for port in kubectl.forwarded(f"--namespace={settings.namespace}", "port-forward", f"pod/{single.name}", f":{_APP_PORT}"):
        body = fetch(f"http://127.0.0.1:{port}/hostname")
        return [Check("kubectl port-forward", PASS if body == single.name else FAIL, f"127.0.0.1:{port} answers {body}")]
    return [Check("kubectl port-forward", FAIL, "it ended at once")]


# --- all together ------------------------------------------------------------------------------------------------------------------

_Ask = t.Callable[[], list[Check]]


def run_checks(kubectl: Kubectl, settings: Settings) -> list[Check]:
    """Make every check that applies, as many as possible at a time, and return them in a stable order."""
    begun = time.monotonic()
    try:
        prepare(kubectl, settings)
    except ClusterCheckError as error:
        return [Check("Cluster answers", FAIL, str(error))]

    control_plane: list[tuple[str, _Ask]] = [
        ("API server", lambda: check_api_servers(kubectl, settings)),
        ("Controller manager and scheduler", lambda: check_leases(kubectl, settings)),
        ("Anonymous is refused", lambda: check_anonymous(kubectl, settings)),
        ("Authorisation", lambda: check_accesses(kubectl, settings)),
    ]
    if not settings.node_ips:
        return _settled(control_plane, settings.settle)

    cluster = [
        ("Kubelets report", lambda: check_heartbeats(kubectl, settings)),
        ("Nodes", lambda: check_nodes(kubectl, settings)),
        ("Servers of nodes", lambda: check_servers(kubectl, settings) if settings.servers is not None else []),
        ("Way between pods", lambda: check_ways(kubectl, settings)),
        ("Nodes cannot change others", lambda: check_node_restriction(kubectl, settings)),
        ("System workloads", lambda: check_workloads(kubectl, settings)),
    ]
    checks = _settled([*control_plane, *cluster], settings.settle)
    if all(check.verdict == FAIL for check in checks if check.name.startswith("Node ")):
        return [*checks, Check("Pods start", FAIL, "no node is ready for them")]
    try:
        pods = wait_for_pods(kubectl, settings)
        found = kubectl.read(f"--namespace={settings.namespace}", "get", "services")["items"]
    except ClusterCheckError as error:
        return [*checks, Check("Pods start", FAIL, str(error))]
    services = {each["metadata"]["name"]: each for each in found}
    single = next(pod for pod in pods if pod.app == "single")
    checks.append(Check("Pods start", PASS, f"{len(pods)} pods on {len(settings.node_ips)} nodes"))
    return checks + _ask(
        [
            ("Pod network", lambda: check_pod_network(kubectl, settings, pods, services)),
            ("Hairpin", lambda: check_hairpin(kubectl, settings, single, services)),
            ("Outside name", lambda: check_outside_name(kubectl, settings, single)),
            ("NodePort from outside", lambda: check_node_port(kubectl, settings, pods, services)),
            ("kubectl logs", lambda: check_logs(kubectl, settings, single)),
            ("kubectl exec", lambda: check_exec(kubectl, settings, single)),
            ("kubectl port-forward", lambda: check_port_forward(kubectl, settings, single)),
            ("Load balancer", lambda: check_load_balancer(kubectl, settings, pods, begun) if settings.load_balancer else []),
            ("Volume", lambda: check_volume(kubectl, settings, begun) if settings.volume else []),
        ]
    )


def _settled(questions: t.Sequence[tuple[str, _Ask]], seconds: int) -> list[Check]:
    """Ask until nothing fails or the time is over, and return the last answers."""
    end = time.monotonic() + seconds
    while True:
        checks = _ask(questions)
        if all(check.verdict != FAIL for check in checks) or time.monotonic() >= end:
            return checks
        time.sleep(2)


def _ask(questions: t.Sequence[tuple[str, _Ask]]) -> list[Check]:
    def answer(question: tuple[str, _Ask]) -> list[Check]:
        name, ask = question
        try:
            return ask()
        except ClusterCheckError as error:
            return [Check(name, FAIL, str(error))]

    with concurrent.futures.ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        return [check for checks in pool.map(answer, questions) for check in checks]
