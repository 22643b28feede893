# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import datetime
import json

import pytest
from ansible_collections.kos.labs.plugins.module_utils import (
    cluster_checks,
    cluster_checks_kubectl,
    cluster_checks_nodes,
    cluster_checks_pods,
    cluster_checks_volume,
)
from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_kubectl import ClusterCheckError, Kubectl, Result, Settings
from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_pods import Pod

SETTINGS = Settings(
    version="v1.2.3",
    masters={"master1": "203.0.113.1"},
    node_ips={"master1": "172.18.0.1", "worker1": "172.18.0.2"},
    floating_ips={"master1": "203.0.113.1", "worker1": "203.0.113.2"},
    api_port=6443,
    domain="cluster.local",
    image="agnhost:1",
    namespace="probe",
    outside_name="example.org",
    timeout=0,
)
PODS = [
    Pod(f"{app}-{node}", app, node, f"10.1.{number}.{offset}")
    for offset, app in enumerate(("first", "second"), 2)
    for number, node in enumerate(("master1", "worker1"))
]
SINGLE = Pod("single-x", "single", "worker1", "10.1.1.9")
SERVICES = {
    "web": {"spec": {"clusterIP": "10.2.0.20", "ports": [{"nodePort": 31000}]}},
    "single": {"spec": {"clusterIP": "10.2.0.21", "ports": [{}]}},
}


class Answers(Kubectl):
    """A kubectl that answers from a list: the first entry whose words are all among the arguments."""

    def __init__(self, *answers):
        super().__init__(program="kubectl", kubeconfig="x", timeout=1)
        self.answers = answers
        self.asked = []

    def run(self, *arguments, text=None, seconds=None):
        self.asked.append((arguments, text))
        for words, answer in self.answers:
            if all(word in " ".join(arguments) for word in words.split()):
                answer = answer(arguments, text) if callable(answer) else answer
                return answer if isinstance(answer, Result) else Result(0, answer if isinstance(answer, str) else json.dumps(answer), "")
        return Result(1, "", f"Error: nobody said what {arguments} answers")


def verdicts(checks):
    return {check.name: check.verdict for check in checks}


READY = "[+]ping ok\n[+]etcd ok\n[+]poststarthook/x ok\nreadyz check passed\n"


@pytest.mark.parametrize(
    ("ready", "version", "expected"),
    [
        (READY, "v1.2.3", ["pass", "pass"]),
        (READY, "v1.2.2", ["pass", "fail"]),
        (Result(1, "", "[+]ping ok\n[-]etcd failed: reason withheld\nError from server"), "v1.2.3", ["fail", "pass"]),
        (Result(1, "", "The connection to the server was refused"), "v1.2.3", ["fail", "pass"]),
    ],
)
def test_api_servers(ready, version, expected):
    kubectl = Answers(("readyz", ready), ("version", {"serverVersion": {"gitVersion": version}}))
    checks = cluster_checks_nodes.check_api_servers(kubectl, SETTINGS)
    assert [check.verdict for check in checks] == expected


def test_a_failed_api_server_is_told_by_its_failed_checks():
    kubectl = Answers(("readyz", Result(1, "", "[-]etcd failed: x")), ("version", {"serverVersion": {"gitVersion": "v1.2.3"}}))
    assert cluster_checks_nodes.check_api_servers(kubectl, SETTINGS)[0].seen == "not ready: etcd"


@pytest.mark.parametrize(("age", "verdict"), [(3, "pass"), (60, "fail")])
def test_leases(age, verdict):
    now = datetime.datetime(2030, 1, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)
    renewed = (now - datetime.timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    kubectl = Answers(("lease", {"spec": {"renewTime": renewed, "leaseDurationSeconds": 15, "holderIdentity": "master1_uuid"}}))
    checks = cluster_checks_nodes.check_leases(kubectl, SETTINGS, now)
    assert [check.verdict for check in checks] == [verdict, verdict]
    assert checks[0].seen == f"master1 leads, lease renewed {age} s ago"


def test_no_lease_fails():
    kubectl = Answers(("lease", Result(1, "", 'Error from server (NotFound): leases "kube-scheduler" not found')))
    assert {check.verdict for check in cluster_checks_nodes.check_leases(kubectl, SETTINGS)} == {"fail"}


def reviews(turned=()):
    def answer(_arguments, text):
        items = json.loads(text)["items"]
        wanted = [each.allowed for each in cluster_checks_nodes.accesses(SETTINGS)]
        answers = [{**item, "status": {"allowed": allowed != (at in turned)}} for at, (item, allowed) in enumerate(zip(items, wanted))]
        return "\n".join(json.dumps(each, indent=2) for each in answers)

    return answer


@pytest.mark.parametrize(("turned", "verdict"), [((), "pass"), ((0,), "fail"), ((1,), "fail")])
def test_accesses(turned, verdict):
    (check,) = cluster_checks_nodes.check_accesses(Answers(("create", reviews(turned))), SETTINGS)
    assert check.verdict == verdict


def test_what_should_be_refused_and_is_not_is_named():
    (check,) = cluster_checks_nodes.check_accesses(Answers(("create", reviews((0, 1)))), SETTINGS)
    assert check.seen == "system:node:master1 may get secrets; system:node:master1 may not list services"


def node(name, *, ready="True", version="v1.2.3", address=None):
    return {
        "metadata": {"name": name},
        "status": {
            "conditions": [{"type": "Ready", "status": ready, "message": "container runtime network not ready"}],
            "nodeInfo": {"kubeletVersion": version},
            "addresses": [{"type": "InternalIP", "address": address or SETTINGS.node_ips.get(name, "172.18.0.99")}],
        },
    }


@pytest.mark.parametrize(
    ("nodes", "failed"),
    [
        ([node("master1"), node("worker1")], []),
        ([node("master1")], ["Node worker1"]),
        ([node("master1"), node("worker1", ready="False")], ["Node worker1"]),
        ([node("master1", version="v1.2.2"), node("worker1")], ["Node master1"]),
        ([node("master1", address="10.0.0.1"), node("worker1")], ["Node master1"]),
        ([node("master1"), node("worker1"), node("stranger")], ["Node stranger"]),
    ],
    ids=["all", "absent", "not ready", "version", "address", "stranger"],
)
def test_nodes(nodes, failed):
    checks = cluster_checks_nodes.check_nodes(Answers(("get nodes", {"items": nodes})), SETTINGS)
    assert [check.name for check in checks if check.verdict == "fail"] == failed


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Result(1, "", 'nodes "worker1" is forbidden: node "master1" is not allowed to modify node "worker1"'), "pass"),
        (Result(0, "node/worker1 labeled (server dry run)", ""), "fail"),
        (Result(1, "", "connection refused"), "fail"),
    ],
)
def test_node_restriction(answer, verdict):
    (check,) = cluster_checks_nodes.check_node_restriction(Answers(("label", answer)), SETTINGS)
    assert check.verdict == verdict


def test_node_restriction_needs_two_nodes():
    (check,) = cluster_checks_nodes.check_node_restriction(Answers(), dataclasses.replace(SETTINGS, node_ips={"master1": "172.18.0.1"}))
    assert check.verdict == "skip"


def workload(kind, name, ready, wanted, namespace="kube-system"):
    status = {"numberReady": ready, "desiredNumberScheduled": wanted} if kind == "DaemonSet" else {"readyReplicas": ready}
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": {"replicas": wanted}, "status": status}


def test_workloads():
    items = [
        workload("DaemonSet", "flannel", 2, 2),
        workload("Deployment", "coredns", 2, 2),
        workload("Deployment", "single", 0, 1, "probe"),
    ]
    (good,) = cluster_checks_nodes.check_workloads(Answers(("get", {"items": items})), SETTINGS)
    (bad,) = cluster_checks_nodes.check_workloads(Answers(("get", {"items": [*items, workload("Deployment", "x", 0, 1)]})), SETTINGS)
    assert (good.verdict, good.seen) == ("pass", "coredns, flannel")
    assert (bad.verdict, bad.seen) == ("fail", "not ready: kube-system/x 0 of 1")


def answering(broken=()):
    """Answer curl in a pod: every address with 200, but for pairs of pod and address."""

    def answer(arguments, _text):
        pod = arguments[arguments.index("exec") + 1]
        urls = [each for each in arguments if each.startswith("http://")]
        lines = [f"{'000' if (pod, url.split('/')[2].split(':')[0]) in broken else '200'} {url}" for url in urls]
        return Result(28 if broken else 0, "\n".join(lines) + "\n", "curl: (28) timed out" if broken else "")

    return answer


def test_pod_network():
    checks = cluster_checks_pods.check_pod_network(Answers(("exec curl", answering())), SETTINGS, [*PODS, SINGLE], SERVICES)
    assert set(verdicts(checks).values()) == {"pass"}
    assert [check.seen for check in checks[:2]] == ["4 of 4 pairs", "8 of 8 pairs"]


def test_a_name_that_still_leads_to_the_last_run_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(cluster_checks.time, "sleep", lambda _seconds: None)
    stale, fresh, silent = answering([("first-master1", "web")]), answering(), Result(28, "", "curl: (28) timed out")
    rounds = {pod.name: iter([silent, stale, fresh]) for pod in PODS}

    def answer(arguments, text):
        one = next(rounds[next(word for word in arguments if word in rounds)])
        return one(arguments, text) if callable(one) else one

    kubectl = Answers(("exec curl", answer))
    checks = cluster_checks_pods.check_pod_network(kubectl, dataclasses.replace(SETTINGS, timeout=60), [*PODS, SINGLE], SERVICES)
    assert verdicts(checks)["Service by name"] == "pass"
    assert len(kubectl.asked) == 2 * len(PODS) + 1


@pytest.mark.parametrize(
    ("broken", "failed"),
    [
        (("first-master1", "10.1.0.3"), "Pod to pod, same node"),
        (("first-master1", "10.1.1.2"), "Pod to pod, other node"),
        (("second-worker1", "10.2.0.20"), "Service by ClusterIP"),
        (("second-worker1", "web"), "Service by name"),
    ],
)
def test_pod_network_tells_which_way_is_broken(broken, failed):
    checks = cluster_checks_pods.check_pod_network(Answers(("exec curl", answering([broken]))), SETTINGS, [*PODS, SINGLE], SERVICES)
    assert [check.name for check in checks if check.verdict == "fail"] == [failed]
    assert broken[0] in next(check.seen for check in checks if check.verdict == "fail")


def test_a_pod_that_cannot_be_entered_is_an_error():
    kubectl = Answers(("exec", Result(1, "", "error dialing backend: tls: internal error")))
    with pytest.raises(ClusterCheckError, match="tls: internal error"):
        cluster_checks_pods.curl(kubectl, SETTINGS, PODS[0], ["http://10.1.0.2/"])


@pytest.mark.parametrize(("code", "verdict"), [(200, "pass"), (503, "fail")])
def test_hairpin(code, verdict):
    kubectl = Answers(("exec curl", f"{code} http://10.2.0.21/hostname\n"))
    (check,) = cluster_checks_pods.check_hairpin(kubectl, SETTINGS, SINGLE, SERVICES)
    assert check.verdict == verdict


@pytest.mark.parametrize(
    ("name", "out", "verdict"),
    [("example.org", "alias.example.org.\n192.0.2.7\n", "pass"), ("example.org", ";; connection timed out\n", "fail"), (None, "", "skip")],
)
def test_outside_name(name, out, verdict):
    (check,) = cluster_checks_pods.check_outside_name(Answers(("dig", out)), dataclasses.replace(SETTINGS, outside_name=name), SINGLE)
    assert check.verdict == verdict


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [({"203.0.113.1": "first-master1", "203.0.113.2": "second-worker1"}, "pass"), ({"203.0.113.1": "first-master1"}, "fail")],
)
def test_node_port(monkeypatch, answers, verdict):
    monkeypatch.setattr(cluster_checks_pods, "fetch", lambda url: answers.get(url.split("/")[2].split(":")[0], "timed out"))
    (check,) = cluster_checks_pods.check_node_port(Answers(), SETTINGS, PODS, SERVICES)
    assert check.verdict == verdict


BALANCED = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9", "ipMode": "VIP"}]}}}
EVENTS = {"items": [{"message": "Error syncing load balancer: quota exceeded"}]}


@pytest.fixture
def hurried(monkeypatch):
    """Let each second of waiting pass at once."""
    now = [0.0]
    monkeypatch.setattr(cluster_checks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cluster_checks.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


@pytest.mark.parametrize(
    ("pages", "answers", "verdict", "seen"),
    [
        ([pod.name for pod in PODS], [("get service", BALANCED), ("delete service", "")], "pass", "203.0.113.9 led to all 4 pods"),
        ([PODS[0].name, "timed out"], [("get service", BALANCED)], "fail", "1 of 4 pods answered at 203.0.113.9, timed out at last"),
        ([], [("get service", {}), ("get events", EVENTS)], "fail", "no address: Error syncing load balancer: quota exceeded"),
        ([], [("get service", {}), ("get events", {"items": []})], "fail", "the cloud controller manager has not answered"),
        ([pod.name for pod in PODS], [("get service", BALANCED), ("delete", Result(1, "", "timed out"))], "fail", "does not go away"),
    ],
)
def test_load_balancer(monkeypatch, hurried, pages, answers, verdict, seen):
    left = list(pages)
    monkeypatch.setattr(cluster_checks_pods, "fetch", lambda url, attempts: left.pop(0) if len(left) > 1 else left[0])
    settings = dataclasses.replace(SETTINGS, load_balancer=20)
    (check,) = cluster_checks_pods.check_load_balancer(Answers(*answers), settings, [*PODS, SINGLE], 0)
    assert (check.verdict, seen in check.seen) == (verdict, True), check


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_load_balancer_is_asked_for_where_the_cloud_makes_them(seconds):
    objects = cluster_checks_pods.manifests(dataclasses.replace(SETTINGS, load_balancer=seconds))["items"]
    assert [each["spec"]["type"] for each in objects if each["kind"] == "Service"].count("LoadBalancer") == (seconds > 0)


def keeper_pods(*states):
    """Answer with one pod after the other: a node, and whether it is ready there."""
    told = iter(states)

    def answer(*_):
        node, ready = next(told)
        return {"items": [{**pod_object(f"keeper-{node}", ready=ready), "spec": {"nodeName": node}}]}

    return ("get pods --selector=app=keeper", lambda *_: Result(0, json.dumps(answer()), ""))


def attachment(name, volume):
    return {"metadata": {"name": name}, "spec": {"source": {"persistentVolumeName": volume}}}


def classes(*default):
    notes = [{"annotations": {"storageclass.kubernetes.io/is-default-class": each}} if each else {} for each in default]
    return ("get storageclasses", {"items": [{"metadata": each} for each in notes]})


CLAIM = ("get persistentvolumeclaim keeper jsonpath", "pvc-1")
KEPT = [
    classes("", "true"),
    CLAIM,
    ("patch persistentvolume pvc-1", "patched"),
    ("patch deployment", "patched"),
    ("cat /data/seen", "worker1\nmaster1\n"),
    ("get volumeattachments", {"items": [attachment("csi-1", "pvc-1"), attachment("csi-2", "pvc-2")]}),
    ("delete deployment/keeper --", ""),
    ("wait --for=delete volumeattachment/csi-1 --", ""),
    ("delete persistentvolumeclaim/keeper --", ""),
    ("wait --for=delete persistentvolume/pvc-1", ""),
]
NO_TYPE = {"items": [{"message": "failed to provision volume: no such type"}]}


@pytest.mark.parametrize(
    ("pods", "answers", "verdict", "seen"),
    [
        ([("worker1", False), ("worker1", True), ("worker1", True), ("master1", True)], KEPT, "pass", "read on master1"),
        (
            [("worker1", True), ("master1", True)],
            [("cat", "master1\n"), *KEPT],
            "fail",
            "holds ['master1'], and not what was written on worker1",
        ),
        (
            [("worker1", True), ("master1", True)],
            [("persistentvolume/", Result(1, "", "timed out waiting")), *KEPT],
            "fail",
            "does not go away with its claim: timed out",
        ),
        # It was gone before anybody could wait.
        (
            [("worker1", True), ("master1", True)],
            [("persistentvolume/", Result(1, "", "Error: pvc-1 NotFound, not found")), *KEPT],
            "pass",
            "gone in",
        ),
    ],
    ids=["follows", "lost", "stays", "gone at once"],
)
def test_volume(hurried, pods, answers, verdict, seen):
    settings = dataclasses.replace(SETTINGS, volume=20)
    kubectl = Answers(keeper_pods(*pods), *answers)
    (check,) = cluster_checks_volume.check_volume(kubectl, settings, 0)
    assert check.verdict == verdict
    assert seen in check.seen
    assert lent(kubectl)


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        (None, ("c", "b")),
        ({"a": "one", "b": "one", "c": "one"}, ("c", "b")),
        ({"a": "one", "b": "two", "c": "one"}, ("c", "a")),
        ({"a": "one", "b": "one", "c": "two"}, ("c", "c")),
    ],
)
def test_the_pod_with_a_volume_stays_in_its_zone(zones, expected):
    servers = zones and [{"name": name, "availability_zone": zone} for name, zone in zones.items()]
    settings = dataclasses.replace(SETTINGS, node_ips=dict.fromkeys("abc", "172.18.0.1"), servers=servers)
    assert cluster_checks_volume.keeper_nodes(settings) == expected


def lent(kubectl):
    """Tell whether the volume was made one that goes with its claim."""
    return any(
        "persistentvolume" in asked and '"persistentVolumeReclaimPolicy": "Delete"' in asked[-1]
        for asked, _ in kubectl.asked
        if asked[0] == "patch"
    )


@pytest.mark.parametrize(("volume", "expected"), [("", False), ("pvc-1", True)])
def test_a_claim_that_stays_one_is_told_with_its_reason(hurried, volume, expected):
    kubectl = Answers(
        classes("true"),
        keeper_pods(*[("worker1", False)] * 50),
        ("involvedObject.name=keeper ", NO_TYPE),
        ("get events", {"items": []}),
        ("get persistentvolumeclaim", volume),
        ("patch persistentvolume pvc-1", ""),
    )
    with pytest.raises(ClusterCheckError, match="no pod on worker1 has it after 20 s: failed to provision volume: no such type"):
        cluster_checks_volume.check_volume(kubectl, dataclasses.replace(SETTINGS, volume=20), 0)
    assert lent(kubectl) == expected


@pytest.mark.parametrize("default", [(), ("",), ("false",)])
def test_without_a_default_class_no_volume_is_waited_for(default):
    (check,) = cluster_checks_volume.check_volume(Answers(classes(*default)), dataclasses.replace(SETTINGS, volume=20), 0)
    assert (check.verdict, check.seen) == ("skip", "no class of volumes is the default")


@pytest.mark.parametrize("seconds", [0, 20])
def test_a_volume_is_claimed_where_there_are_any(seconds):
    objects = cluster_checks_pods.manifests(dataclasses.replace(SETTINGS, volume=seconds))["items"]
    claims = [each for each in objects if each["kind"] == "PersistentVolumeClaim"]
    assert len(claims) == (seconds > 0)
    pods = [each["spec"]["template"] for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"] == "keeper"]
    # Others wait for all pods that have a part.
    assert all("part" not in pod["metadata"]["labels"] and pod["spec"]["securityContext"]["fsGroup"] for pod in pods)


def pod_object(name, *, ready=True, waiting=None):
    return {
        "metadata": {"name": name, "labels": {"app": name.split("-")[0]}},
        "spec": {"nodeName": "worker1"},
        "status": {
            "podIP": "10.1.1.5",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "message": "containers with unready status"}],
            "containerStatuses": [{"state": {"waiting": waiting}}] if waiting else [],
        },
    }


def test_pods_that_do_not_start_are_told_with_their_reason():
    stuck = pod_object("second-a", ready=False, waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    with pytest.raises(ClusterCheckError, match="1 of 5 pods ready after 0 s; second-a on worker1: ImagePullBackOff no such image"):
        cluster_checks_pods.wait_for_pods(Answers(("get pods", {"items": [pod_object("first-a"), stuck]})), SETTINGS)


def test_pods_that_are_ready_are_returned():
    items = [pod_object(name) for name in ("single-a", "second-a", "first-b", "first-a", "second-b")]
    pods = cluster_checks_pods.wait_for_pods(Answers(("get pods", {"items": items})), SETTINGS)
    assert [pod.app for pod in pods] == ["first", "first", "second", "second", "single"]


def test_a_cluster_that_does_not_answer_is_one_failed_check():
    kubectl = Answers(("apply", Result(1, "", "The connection to the server 203.0.113.1:6443 was refused")))
    (check,) = cluster_checks.run_checks(kubectl, SETTINGS)
    assert (check.name, check.verdict) == ("Cluster answers", "fail")
    assert "refused" in check.seen


def test_a_control_plane_alone_gets_no_pods():
    kubectl = Answers(("apply", ""), ("readyz", READY), ("version", {"serverVersion": {"gitVersion": "v1.2.3"}}), ("create", reviews()))
    cluster_checks.run_checks(kubectl, dataclasses.replace(SETTINGS, node_ips={}, floating_ips={}))
    made = next(json.loads(text) for arguments, text in kubectl.asked if "apply" in arguments)
    assert [item["kind"] for item in made["items"]] == ["Namespace", "Secret"]


NOW = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)


def node_lease(name, second):
    return {"metadata": {"name": name}, "spec": {"renewTime": f"2026-01-01T11:59:{second:02}.000000Z", "leaseDurationSeconds": 40}}


@pytest.mark.parametrize(
    ("leases", "verdict", "seen"),
    [
        ([node_lease("master1", 55), node_lease("worker1", 50)], "pass", "all within 10 s"),
        ([node_lease("master1", 55), node_lease("worker1", 5)], "fail", "last heard of: worker1 55 s ago"),
        ([node_lease("master1", 55)], "fail", "last heard of: worker1 never"),
    ],
)
def test_a_kubelet_that_is_gone_is_seen_before_its_node_turns_unready(leases, verdict, seen):
    (check,) = cluster_checks_nodes.check_heartbeats(Answers(("get leases", {"items": leases})), SETTINGS, NOW)
    assert (check.verdict, check.seen) == (verdict, seen)


def test_a_cluster_that_has_just_started_gets_time(monkeypatch):
    answers = iter([[cluster_checks_kubectl.Check("x", "fail", "starting")], [cluster_checks_kubectl.Check("x", "pass", "well")]])
    monkeypatch.setattr(cluster_checks.time, "sleep", lambda seconds: None)
    assert cluster_checks._settled([("x", lambda: next(answers))], 60)[0].verdict == "pass"


def test_no_object_is_a_bare_pod():
    kinds = {item["kind"] for item in cluster_checks_pods.manifests(SETTINGS)["items"]}
    assert kinds == {"Namespace", "Secret", "Service", "DaemonSet", "Deployment"}


def test_a_program_that_is_absent_is_a_sentence():
    with pytest.raises(ClusterCheckError, match="cannot be run"):
        Kubectl(program="/nonexistent/kubectl", kubeconfig="x", timeout=1).run("version")


def test_a_port_forward_that_says_nothing_is_an_error(tmp_path):
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\necho 'error: unable to forward port because pod is not running'\n", encoding="ascii")
    program.chmod(0o755)
    with pytest.raises(ClusterCheckError, match="pod is not running"):
        list(Kubectl(program=str(program), kubeconfig="x", timeout=5).forwarded("port-forward"))


SERVER = {
    "id": "5f2",
    "name": "worker1",
    "availability_zone": "zone one",
    "flavor": {"original_name": "kos.worker"},
    "addresses": {"kos": [{"addr": "172.18.0.2", "OS-EXT-IPS:type": "fixed"}, {"addr": "203.0.113.2", "OS-EXT-IPS:type": "floating"}]},
}
WITH_CLOUD = dataclasses.replace(SETTINGS, node_ips={"worker1": "172.18.0.2"}, servers=[SERVER], region="RegionOne")


def initialised(**changes):
    """Return the node of SERVER as a cloud controller manager leaves it, with changes."""
    what = {
        "provider": "openstack:///5f2",
        "internal": ["172.18.0.2"],
        "external": ["203.0.113.2"],
        "flavor": "kos.worker",
        "zone": "zone-one",
        "region": "RegionOne",
        "taints": [],
        **changes,
    }
    addresses = [
        ("Hostname", "worker1"),
        *(("InternalIP", each) for each in what["internal"]),
        *(("ExternalIP", each) for each in what["external"]),
    ]
    labels = {
        "node.kubernetes.io/instance-type": what["flavor"],
        "topology.kubernetes.io/zone": what["zone"],
        "topology.kubernetes.io/region": what["region"],
    }
    return {
        "metadata": {"name": "worker1", "labels": {key: value for key, value in labels.items() if value}},
        "spec": {**({"providerID": what["provider"]} if what["provider"] else {}), "taints": [{"key": key} for key in what["taints"]]},
        "status": {"addresses": [{"type": kind, "address": address} for kind, address in addresses]},
    }


@pytest.mark.parametrize("changes", [{}, {"provider": "openstack://RegionOne/5f2"}])
def test_a_node_that_knows_its_server(changes):
    (check,) = cluster_checks_nodes.check_servers(Answers(("get nodes", {"items": [initialised(**changes)]})), WITH_CLOUD)
    assert check.verdict == "pass"
    assert all(word in check.seen for word in ("5f2", "ExternalIP 203.0.113.2", "kos.worker", "zone-one", "RegionOne"))


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"provider": ""}, "providerID none, its server is 5f2"),
        ({"provider": "openstack:///5f23"}, "providerID openstack:///5f23"),
        ({"taints": ["node.cloudprovider.kubernetes.io/uninitialized"]}, "not initialised"),
        ({"internal": ["172.18.0.9"]}, "InternalIP 172.18.0.9, its server has 172.18.0.2"),
        ({"internal": []}, "InternalIP none"),
        ({"external": []}, "ExternalIP none, its server has 203.0.113.2"),
        ({"external": ["203.0.113.2", "203.0.113.9"]}, "ExternalIP 203.0.113.2, 203.0.113.9"),
        ({"flavor": "other"}, "instance-type other, its server has kos.worker"),
        ({"zone": ""}, "zone none, its server has zone-one"),
        ({"region": "RegionTwo"}, "region RegionTwo, its server has RegionOne"),
    ],
)
def test_a_node_that_does_not(changes, seen):
    (check,) = cluster_checks_nodes.check_servers(Answers(("get nodes", {"items": [initialised(**changes)]})), WITH_CLOUD)
    assert check.verdict == "fail"
    assert seen in check.seen


def test_a_node_without_a_server():
    settings = dataclasses.replace(WITH_CLOUD, servers=[])
    (check,) = cluster_checks_nodes.check_servers(Answers(("get nodes", {"items": [initialised()]})), settings)
    assert (check.verdict, check.seen) == ("fail", "the cloud has no server of this name")


def test_a_server_without_a_floating_address_gives_none_to_its_node():
    server = {**SERVER, "addresses": {"kos": SERVER["addresses"]["kos"][:1]}}
    settings = dataclasses.replace(WITH_CLOUD, servers=[server])
    (good,) = cluster_checks_nodes.check_servers(Answers(("get nodes", {"items": [initialised(external=[])]})), settings)
    (bad,) = cluster_checks_nodes.check_servers(Answers(("get nodes", {"items": [initialised()]})), settings)
    assert (good.verdict, bad.verdict) == ("pass", "fail")


def test_the_kubelet_chooses_among_the_addresses_of_a_server():
    networks = {**SERVER["addresses"], "second": [{"addr": "10.9.0.5", "OS-EXT-IPS:type": "fixed"}]}
    settings = dataclasses.replace(WITH_CLOUD, servers=[{**SERVER, "addresses": networks}])
    (check,) = cluster_checks_nodes.check_servers(Answers(("get nodes", {"items": [initialised()]})), settings)
    assert check.verdict == "pass"


@pytest.mark.parametrize(("servers", "asked"), [(None, 2), ([], 3)])
def test_the_leader_for_the_cloud_is_asked_for_where_there_is_one(servers, asked):
    kubectl = Answers(("lease", Result(1, "", "not found")))
    checks = cluster_checks_nodes.check_leases(kubectl, dataclasses.replace(SETTINGS, servers=servers))
    assert len(checks) == asked


def flannel(backend, said):
    """A cluster with Flannel; `said` is what each node's pod of Flannel prints of its ways."""
    addresses = {"10.1.0.0/24": "master1", "10.1.1.0/24": "worker1"}
    nodes = [{"metadata": {"name": name}, "spec": {"podCIDR": each}} for each, name in addresses.items()]
    pods = [
        {
            "metadata": {"name": f"flannel-{name}"},
            "spec": {"nodeName": name},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        for name in said
    ]
    return Answers(
        ("get configmap", {"data": {"net-conf.json": json.dumps({"Network": "10.1.0.0/16", "Backend": {"Type": backend}})}}),
        ("get nodes", {"items": nodes}),
        ("get pods", {"items": pods}),
        *((f"exec flannel-{name}", text) for name, text in said.items()),
    )


OWN = "10.1.0.0/24 dev cni0 proto kernel scope link src 10.1.0.1\n"
OVERLAY = "flannel.1        UNKNOWN        aa:bb:cc:dd:ee:ff <BROADCAST,MULTICAST,UP,LOWER_UP>\n"
BY_ROUTE = {"master1": OWN + "10.1.1.0/24 via 172.18.0.2 dev eth0\n", "worker1": "10.1.0.0/24 via 172.18.0.1 dev eth0\n"}
BY_OVERLAY = {
    "master1": OWN + "10.1.1.0/24 via 10.1.1.0 dev flannel.1 onlink\n" + OVERLAY,
    "worker1": "10.1.0.0/24 via 10.1.0.0 dev flannel.1 onlink\n" + OVERLAY,
}
BY_CLOUD = {"master1": OWN, "worker1": ""}
ROUTED = [{"destination": "10.1.0.0/24", "nexthop": "172.18.0.1"}, {"destination": "10.1.1.0/24", "nexthop": "172.18.0.2"}]
FOREIGN_ROUTE = {"destination": "198.51.100.0/24", "nexthop": "172.18.0.99"}


def look_at_ways(backend, said, routes=None):
    settings = dataclasses.replace(SETTINGS, pod_range="10.1.0.0/16", routes=routes)
    return {check.name: (check.verdict, check.seen) for check in cluster_checks_nodes.check_ways(flannel(backend, said), settings)}


@pytest.mark.parametrize(
    ("backend", "said", "seen"),
    [
        ("vxlan", BY_OVERLAY, "an overlay, on 2 nodes"),
        ("host-gw", BY_ROUTE, "routes on the nodes, on 2 nodes"),
        ("alloc", BY_CLOUD, "routes of the cloud, on 2 nodes"),
    ],
)
def test_packets_take_the_way_that_is_meant(backend, said, seen):
    assert look_at_ways(backend, said) == {"Way between pods": ("pass", seen)}


@pytest.mark.parametrize(
    ("backend", "said", "seen"),
    [
        ("vxlan", {**BY_OVERLAY, "worker1": ""}, "worker1: no route to 10.1.0.0/24 of 172.18.0.1"),
        ("vxlan", {**BY_OVERLAY, "worker1": BY_ROUTE["worker1"] + OVERLAY}, "worker1: 10.1.0.0/24 goes by eth0 and not through the overlay"),
        ("host-gw", {**BY_ROUTE, "worker1": "10.1.0.0/24 via 172.18.0.7 dev eth0\n"}, "worker1: 10.1.0.0/24 goes via 172.18.0.7, its node is 172.18.0.1"),
        ("host-gw", {**BY_ROUTE, "worker1": BY_ROUTE["worker1"] + OVERLAY}, "worker1: the overlay's flannel.1 is still there"),
        ("host-gw", {**BY_ROUTE, "worker1": BY_ROUTE["worker1"] + "10.1.7.0/24 via 172.18.0.7 dev eth0\n"},
         "worker1: a route to 10.1.7.0/24 via 172.18.0.7, where no node is"),
        ("alloc", {**BY_CLOUD, "worker1": BY_ROUTE["worker1"]}, "worker1: it has a route of its own to 10.1.0.0/24 via 172.18.0.1"),
        ("alloc", {"master1": OWN}, "worker1: no pod of Flannel is ready there"),
        ("alloc", {"master1": OWN, "worker1": Result(1, "", "Error from server")}, "worker1: Error from server"),
    ],
)  # fmt: skip
def test_a_way_that_is_not_meant_is_told(backend, said, seen):
    assert look_at_ways(backend, said) == {"Way between pods": ("fail", seen)}


@pytest.mark.parametrize(
    ("backend", "said", "routes", "verdict", "seen"),
    [
        ("alloc", BY_CLOUD, ROUTED, "pass", "10.1.0.0/24 via 172.18.0.1, 10.1.1.0/24 via 172.18.0.2"),
        ("alloc", BY_CLOUD, [*ROUTED, FOREIGN_ROUTE], "pass", "10.1.0.0/24 via 172.18.0.1, 10.1.1.0/24 via 172.18.0.2, and 1 of others"),
        ("alloc", BY_CLOUD, ROUTED[:1], "fail", "no route to 10.1.1.0/24 via 172.18.0.2"),
        ("alloc", BY_CLOUD, [*ROUTED, {"destination": "10.1.9.0/24", "nexthop": "172.18.0.9"}], "fail",
         "a route to 10.1.9.0/24 via 172.18.0.9 that should not be"),
        ("host-gw", BY_ROUTE, [], "pass", "none to pods"),
        ("host-gw", BY_ROUTE, [FOREIGN_ROUTE], "pass", "none to pods, and 1 of others"),
        ("host-gw", BY_ROUTE, ROUTED[:1], "fail", "a route to 10.1.0.0/24 via 172.18.0.1 that should not be"),
    ],
)  # fmt: skip
def test_the_router_leads_to_pods_where_it_should(backend, said, routes, verdict, seen):
    assert look_at_ways(backend, said, routes)["Routes of the router"] == (verdict, seen)


def test_without_flannel_nobody_asks_for_its_ways():
    settings = dataclasses.replace(SETTINGS, pod_range="10.1.0.0/16")
    assert cluster_checks_nodes.check_ways(Answers(("get configmap", "")), settings) == []


def test_a_node_that_is_cut_off_is_not_well():
    cut = node("master1", address="172.18.0.1")
    cut["status"]["conditions"].append(
        {"type": "NetworkUnavailable", "status": "True", "message": "RouteController failed to create a route"}
    )
    settings = dataclasses.replace(SETTINGS, node_ips={"master1": "172.18.0.1"})
    (check,) = cluster_checks_nodes.check_nodes(Answers(("get nodes", {"items": [cut]})), settings)
    assert (check.verdict, check.seen) == ("fail", "no network: RouteController failed to create a route")
