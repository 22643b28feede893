# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import types

import pytest

pytest.importorskip("kubernetes")

from ansible_collections.kos.labs.plugins.modules.k8s_ready import Cluster, Watched, look
from kubernetes.dynamic.exceptions import NotFoundError
from urllib3.exceptions import HTTPError


class Api:
    """Answers as the client of kubernetes.core does, out of a dictionary; an exception in it is raised."""

    def __init__(self, objects):
        self.objects = objects
        self.asked = []

    def resource(self, kind, api_version):
        return kind, api_version

    def get(self, resource, name=None, namespace=None):
        key = (*resource, namespace, name)
        self.asked.append(key)
        found = self.objects.get(key, NotFoundError(types.SimpleNamespace(status=404, reason="", body="", headers={})))
        if isinstance(found, Exception):
            raise found
        return types.SimpleNamespace(to_dict=lambda: found)


def wanted(kind="Node", **more):
    return {"kind": kind, "api_version": None, "namespace": None, "condition": None, "until": "ready", **more}


NODE = {"metadata": {"name": "w"}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def test_what_is_ready_is_not_returned():
    cluster = Cluster(lambda: Api({("Node", "v1", None, "w"): NODE}))
    watched = [Watched(wanted(), "w"), Watched(wanted(), "x")]
    assert look(cluster, watched) == watched[1:]
    assert watched[0].obj == NODE
    assert watched[1].describe(cluster) == ["Node x: has not registered"]


def test_existing_may_be_enough():
    node = {**NODE, "status": {}}
    cluster = Cluster(lambda: Api({("Node", "v1", None, "w"): node}))
    assert look(cluster, [Watched(wanted(until="exists"), "w")]) == []
    assert look(cluster, [Watched(wanted(), "w")]) != []


def test_a_server_that_does_not_answer_is_waited_for():
    answers = iter([HTTPError("connection refused"), None])

    def connect():
        error = next(answers)
        if error:
            raise error
        return Api({("Node", "v1", None, "w"): NODE})

    cluster, node = Cluster(connect), Watched(wanted(), "w")
    assert look(cluster, [node]) == [node]
    assert node.describe(cluster) == ["Node w: connection refused"]
    assert look(cluster, [node]) == []


def test_a_workload_names_the_pods_that_hold_it():
    workload = {
        "metadata": {"name": "p", "namespace": "kube-system", "generation": 1},
        "spec": {"selector": {"matchLabels": {"a": "b"}}},
        "status": {"observedGeneration": 1, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1},
    }
    pod = {"metadata": {"name": "p-1", "labels": {"a": "b"}}, "spec": {"nodeName": "w"}, "status": {}}
    api = Api({("DaemonSet", "apps/v1", "kube-system", "p"): workload, ("Pod", "v1", "kube-system", None): {"items": [pod]}})
    watched = Watched(wanted("DaemonSet", namespace="kube-system"), "p")
    cluster = Cluster(lambda: api)
    look(cluster, [watched])
    assert watched.describe(cluster) == ["DaemonSet p: 0 of 1 pods are ready", "  pod p-1 on w: its kubelet has not started it yet"]
