# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of pods and of what leads to them: networks, services, load balancers, kubectl."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import ipaddress
import json
import re
import time
import typing as t
import urllib.request

from ansible_collections.kos.labs.plugins.module_utils import cluster_checks_volume
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
    is_ready,
    last_event,
    last_line,
    why_not_ready,
)

__all__ = [
    "Pod",
    "check_exec",
    "check_hairpin",
    "check_load_balancer",
    "check_logs",
    "check_node_port",
    "check_outside_name",
    "check_pod_network",
    "check_port_forward",
    "prepare",
    "wait_for_pods",
]

_APP_PORT = 8080
# Seconds for which CoreDNS and its clients may give the address that a service of this name had in the last run.
_KEPT_BY_DNS = 45


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
        objects += cluster_checks_volume.objects(settings, workload)
    return {"apiVersion": "v1", "kind": "List", "items": objects}


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

    with concurrent.futures.ThreadPoolExecutor(max_workers=WORKERS) as pool:
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
            said = said if address else last_event(kubectl, settings, "balanced") or said
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
