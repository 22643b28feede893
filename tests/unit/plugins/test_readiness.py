# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kos.labs.plugins.module_utils._readiness import Blocker, explain_pods, pods_of, problem


def conditions(**states):
    return {"conditions": [{"type": kind, "status": status, "reason": "Because"} for kind, status in states.items()]}


def daemon_set(generation=1, **status):
    return {"metadata": {"generation": generation}, "spec": {}, "status": status}


def deployment(**status):
    return {"metadata": {"generation": 1}, "spec": {"replicas": 2}, "status": status}


@pytest.mark.parametrize(
    ("kind", "obj", "reason"),
    [
        ("Node", None, "has not registered"),
        ("Deployment", None, "does not exist"),
        ("Node", {"status": {}}, "its kubelet has not reported yet"),
        ("Node", {"status": conditions(Ready="False")}, "Because"),
        ("Node", {"status": conditions(Ready="Unknown")}, "Because"),
        ("Node", {"status": conditions(Ready="True", NetworkUnavailable="True")}, "Because"),
        ("Node", {"status": conditions(Ready="True", NetworkUnavailable="False")}, None),
        ("DaemonSet", daemon_set(), "no controller has seen it yet"),
        ("DaemonSet", daemon_set(2, observedGeneration=1, desiredNumberScheduled=0), "no controller has seen it yet"),
        ("DaemonSet", daemon_set(observedGeneration=1, desiredNumberScheduled=3, numberReady=3), "0 of 3 pods are up to date"),
        ("DaemonSet", daemon_set(observedGeneration=1, desiredNumberScheduled=3, updatedNumberScheduled=3), "0 of 3 pods are ready"),
        ("DaemonSet", daemon_set(observedGeneration=1, desiredNumberScheduled=3, updatedNumberScheduled=3, numberReady=3), None),
        ("Deployment", deployment(observedGeneration=1), "0 of 2 pods are up to date"),
        ("Deployment", deployment(observedGeneration=1, updatedReplicas=2, availableReplicas=1), "1 of 2 pods are available"),
        (
            "Deployment",
            deployment(observedGeneration=1, updatedReplicas=2, availableReplicas=3, replicas=3),
            "an old pod has not ended yet",
        ),
        ("Deployment", deployment(observedGeneration=1, updatedReplicas=2, availableReplicas=2), None),
        ("ConfigMap", {"metadata": {}}, None),
    ],
)
def test_problem(kind, obj, reason):
    found = problem(kind=kind, name="x", obj=obj)
    assert found == (Blocker(kind, "x", reason) if reason else None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({}, "condition Available has not been reported yet"),
        (conditions(Available="False"), "Because"),
        (conditions(Available="True"), None),
    ],
)
def test_a_condition_replaces_what_the_kind_says(status, reason):
    found = problem(kind="APIService", name="x", obj={"status": status}, condition="Available")
    assert (found.reason if found else None) == reason


def test_a_blocker_is_a_sentence():
    assert str(Blocker("Node", "worker1", "has not registered")) == "Node worker1: has not registered"


def pod(name="a", node="worker1", labels=None, **status):
    return {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node} if node else {}, "status": status}


def test_pods_of_a_workload_have_its_labels():
    workload = {"spec": {"selector": {"matchLabels": {"app": "x"}}}}
    mine = pod(labels={"app": "x", "hash": "1"})
    assert pods_of(workload, [mine, pod(labels={"app": "y"}), pod()]) == [mine]


def container(**state):
    return [{"name": "main", "state": state}]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (pod(**conditions(Ready="True")), None),
        (pod(), "a on worker1: its kubelet has not started it yet"),
        (pod(node=None, **conditions(PodScheduled="False")), "a: Because"),
        (
            pod(containerStatuses=container(waiting={"reason": "ImagePullBackOff", "message": "no such image"})),
            "a on worker1: container main: ImagePullBackOff, no such image",
        ),
        (
            pod(containerStatuses=container(terminated={"exitCode": 1, "message": "boom\n"})),
            "a on worker1: container main ended with 1: boom",
        ),
        (
            pod(
                initContainerStatuses=container(terminated={"exitCode": 0}),
                containerStatuses=container(waiting={"reason": "PodInitializing"}),
            ),
            "a on worker1: its kubelet has not started it yet",
        ),
        (
            pod(
                containerStatuses=[
                    {"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 2}}}
                ]
            ),
            "a on worker1: container main ended with 2",
        ),
        (pod(containerStatuses=container(running={}), **conditions(Ready="False")), "a on worker1: Because"),
    ],
)
def test_explain_pods(given, line):
    assert explain_pods([given]) == ([line] if line else [])
