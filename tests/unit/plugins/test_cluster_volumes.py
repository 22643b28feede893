# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kos.labs.plugins.filter.cluster_servers import describe
from ansible_collections.kos.labs.plugins.filter.cluster_volumes import MARK_KEY, cluster_volumes


def volume(number, cluster=None, **more):
    metadata = (
        {MARK_KEY: describe(cluster), "csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pvc/name": number} if cluster else {}
    )
    return {"id": f"id-{number}", "name": f"pvc-{number}", "size": 1, "status": "available", "metadata": metadata, **more}


def snapshot(number, of, cluster=None):
    return {**volume(number), "volume_id": f"id-{of}", "metadata": {MARK_KEY: describe(cluster)} if cluster else None}


def ids(found):
    return {kind: [each["id"] for each in found[kind]] for kind in ("volumes", "snapshots")}


# Of a cluster of the same name that has a driver of its own.
NAMESAKE = {**volume("c"), "metadata": {MARK_KEY: "kos"}}


@pytest.mark.parametrize("project", [{}, {"volumes": [], "snapshots": []}, {"volumes": [volume("a"), volume("b", "blue"), NAMESAKE]}])
def test_what_is_of_others_is_not_ours(project):
    assert cluster_volumes(project, "kos") == {"volumes": [], "snapshots": [], "held": []}


def test_volumes_and_snapshots_of_the_cluster_are_found_with_their_claims():
    project = {
        "volumes": [volume("a", "kos"), volume("b", "kos-two")],
        "snapshots": [snapshot("s", "a", "kos"), snapshot("t", "b", "kos-two")],
    }
    found = cluster_volumes(project, "kos")
    assert ids(found) == {"volumes": ["id-a"], "snapshots": ["id-s"]}
    assert found["volumes"][0]["says"] == "id-a, 1 GB, available, of shop/a"


def test_a_volume_with_a_snapshot_of_somebody_else_is_held():
    found = cluster_volumes({"volumes": [volume("a", "kos")], "snapshots": [snapshot("s", "a")]}, "kos")
    assert (ids(found), found["held"]) == ({"volumes": [], "snapshots": []}, ["id-a, 1 GB, available, of shop/a (snapshot id-s)"])


def attached(server):
    return {"status": "in-use", "attachments": [{"server_id": server}]}


def test_a_volume_is_held_by_a_server_that_is_there_and_by_no_other():
    project = {"volumes": [volume("a", "kos", **attached("gone")), volume("b", "kos", **attached("theirs"))], "servers": [{"id": "theirs"}]}
    found = cluster_volumes(project, "kos")
    assert (ids(found)["volumes"], found["held"]) == (["id-a"], ["id-b, 1 GB, in-use, of shop/b (server theirs)"])


def test_what_cinder_failed_to_delete_is_held_and_so_is_the_volume_of_such_a_snapshot():
    stuck = {"status": "error_deleting"}
    project = {
        "volumes": [volume("a", "kos", **stuck), volume("b", "kos")],
        "snapshots": [{**snapshot("s", "b", "kos"), **stuck}],
    }
    found = cluster_volumes(project, "kos")
    assert ids(found) == {"volumes": [], "snapshots": []}
    assert found["held"] == [
        "id-a, 1 GB, error_deleting, of shop/a (which only the cloud's operator can end)",
        "id-b, 1 GB, available, of shop/b (snapshot id-s)",
        "id-s, 1 GB, error_deleting (which only the cloud's operator can end)",
    ]
