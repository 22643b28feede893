# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a running cluster, made from outside with kubectl alone. They change nothing but a namespace of their own."""

from __future__ import annotations

import concurrent.futures
import time
import typing as t

from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_kubectl import (
    FAIL,
    PASS,
    WORKERS,
    Check,
    ClusterCheckError,
    Kubectl,
    Settings,
)
from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_nodes import (
    check_accesses,
    check_anonymous,
    check_api_servers,
    check_heartbeats,
    check_leases,
    check_node_restriction,
    check_nodes,
    check_servers,
    check_ways,
    check_workloads,
)
from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_pods import (
    check_exec,
    check_hairpin,
    check_load_balancer,
    check_logs,
    check_node_port,
    check_outside_name,
    check_pod_network,
    check_port_forward,
    prepare,
    wait_for_pods,
)
from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_volume import check_volume

__all__ = ["run_checks"]

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

    with concurrent.futures.ThreadPoolExecutor(max_workers=WORKERS) as pool:
        return [check for checks in pool.map(answer, questions) for check in checks]
