# SPDX-License-Identifier: GPL-3.0-or-later
"""What users of claims count on. All stories run at the same time, since each mostly waits; the tests look at how they went."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import re
import subprocess
import time

import pytest
from claims import neighbours

NAMESPACE = "kos-e2e-volumes"
DRIVER = "cinder.csi.openstack.org"
CLUSTER = f"{DRIVER}/cluster"
PATIENCE = 300
GIB = 1 << 30
STORIES = {}


def story(function):
    """Have a function run with all others; it gets the world and returns what it has seen."""
    STORIES[function.__name__] = function
    return function


class World:
    """The cluster as its users have it, and the cloud beneath."""

    def __init__(self, paths, kubectl, tenant, image, nodes):
        self.paths = paths
        self.kubectl, self.tenant, self.image = functools.partial(kubectl, "-n", NAMESPACE), tenant, image
        self.client = kubectl
        self.here, self.there = neighbours(kubectl, nodes)

    def inside(self, node, *command):
        argv = [str(self.paths.root / "tools/ssh_to_node"), node, *command]
        return subprocess.run(argv, env=self.paths.environment(), capture_output=True, text=True, check=True).stdout

    def apply(self, *objects):
        items = [
            {"apiVersion": "v1", **each, "metadata": {"namespace": NAMESPACE, **each["metadata"]}}
            if each["kind"] not in ("StorageClass",)
            else each
            for each in objects
        ]
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def get(self, *what):
        return self.client.json("-n", NAMESPACE, "get", *what, "-o", "json")

    def wait(self, what, state, seconds=PATIENCE):
        """Wait with one call that sleeps; of what does not come, say what was said about it."""
        done = self.client.run("-n", NAMESPACE, "wait", what, f"--for={state}", f"--timeout={seconds}s", timeout=seconds + 30)
        if done.returncode:
            pytest.fail(f"{what} {state}: {done.stderr.strip()} {self.events(what.partition('/')[2])[-3:]}")

    def sees(self, what, look, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > end:
                pytest.fail(f"{what} did not come within {seconds} s; the events: {self.events()[-8:]}")
            time.sleep(3)
        return found

    def events(self, name=""):
        chosen = ["--field-selector", f"involvedObject.name={name}"] if name else []
        found = self.get("events", *chosen)["items"]
        found.sort(key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
        return [each.get("message", "") for each in found]

    def warning(self, name, word):
        """Wait until something is said about an object in which a word occurs, and return it."""
        return self.sees(
            f"an event about {name} with {word}",
            lambda: next((each for each in self.events(name) if word.lower() in each.lower()), ""),
            120,
        )

    def pod(self, name, *claims, node="", tolerate=True, start=True, **more):
        """Start a pod that has each claim under its name below /data, or as a device below /dev."""
        volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
        container = {"name": "main", "image": self.image, "command": ["sh", "-c", "exec sleep infinity"]}
        container["volumeMounts"] = [{"name": each["name"], "mountPath": f"/data/{each['name']}"} for each in volumes]
        container.update(more.pop("container", {}))
        spec = {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}] if tolerate else [],
            "containers": [container],
            "volumes": volumes,
            **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
            **more,
        }
        self.apply({"kind": "Pod", "metadata": {"name": name}, "spec": spec})
        if start:
            self.wait(f"pod/{name}", "condition=Ready")

    def run(self, pod, script):
        return self.kubectl("exec", pod, "--", "sh", "-ec", script)

    def delete(self, *what):
        self.kubectl("delete", *what, f"--timeout={PATIENCE}s", timeout=PATIENCE + 30)

    def grow(self, claim, size):
        self.kubectl("patch", "pvc", claim, "-p", json.dumps({"spec": {"resources": {"requests": {"storage": size}}}}))

    def volume_of(self, claim):
        """Return the names of a claim's PersistentVolume and of its volume in the cloud."""
        name = self.get("pvc", claim)["spec"]["volumeName"]
        return name, self.get("pv", name)["spec"]["csi"]["volumeHandle"]

    def size(self, pod, path):
        return int(self.run(pod, f"df --block-size=1 --output=size {path} | tail -1"))


def claim(name, size="1Gi", *, mode="ReadWriteOnce", storage_class=None, source=None, **spec):
    """A claim; `source` is a kind and a name to take the content of."""
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": size}}, **spec}
    if storage_class:
        spec["storageClassName"] = storage_class
    if source:
        group = {"apiGroup": "snapshot.storage.k8s.io"} if source[0] == "VolumeSnapshot" else {}
        spec["dataSource"] = {**group, "kind": source[0], "name": source[1]}
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def storage_class(name, binding="Immediate", **parameters):
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": f"{NAMESPACE}-{name}"},
        "provisioner": DRIVER,
        "parameters": parameters,
        "volumeBindingMode": binding,
    }


def volumes(tenant):
    """Return the ids of all volumes and snapshots of the project."""
    return {each["ID"] for kind in (("volume",), ("volume", "snapshot")) for each in tenant.json(*kind, "list", "-f", "json")}


@pytest.fixture(scope="module")
def world(paths, contract, kubectl, tenant, nodes, versions):
    if "cinder" not in contract["offers"] or not (paths.state / "cinder_csi.conf").exists():
        pytest.skip("the cluster of this lab has no volumes")
    if len(nodes) < 2:
        pytest.skip("there is one node only")
    return World(paths, kubectl, tenant, f"registry.k8s.io/e2e-test-images/agnhost:{versions['agnhost_version']}", nodes)


@pytest.fixture(scope="module")
def before(world, tenant):
    return volumes(tenant)


def tidy(world):
    world.client("delete", "namespace", NAMESPACE, "--ignore-not-found", f"--timeout={PATIENCE}s", timeout=PATIENCE + 30)
    classes = world.client("get", "storageclasses", "-o", "name").split()
    if ours := [name for name in classes if f"/{NAMESPACE}-" in name]:
        world.client("delete", *ours)


@pytest.fixture(scope="module")
def told(world, before):
    """Start all stories, and hand out what comes of each."""
    world.client("create", "namespace", NAMESPACE)
    try:
        with concurrent.futures.ThreadPoolExecutor(max_workers=len(STORIES)) as pool:
            futures = {name: pool.submit(each, world) for name, each in STORIES.items()}
            yield lambda name: futures[name].result()
    finally:
        tidy(world)


@story
def moved(world):
    world.apply(claim("moved"))
    world.pod("moved-one", "moved", node=world.here)
    wrote = world.run("moved-one", "head -c 8M /dev/urandom > /data/moved/file; sync /data/moved/file; sha256sum /data/moved/file")
    world.delete("pod/moved-one")
    world.pod("moved-two", "moved", node=world.there)
    return wrote, world.run("moved-two", "sha256sum /data/moved/file")


def test_data_follow_a_pod_to_another_node(told):
    wrote, read = told("moved")
    assert wrote == read


@story
def kept(world):
    world.apply(claim("kept", storage_class="cinder-retain"))
    world.pod("kept-one", "kept")
    world.run("kept-one", "echo still > /data/kept/here; sync /data/kept/here")
    name, number = world.volume_of("kept")
    world.delete("pod/kept-one", "pvc/kept")
    world.wait(f"pv/{name}", "jsonpath={.status.phase}=Released")
    status = world.tenant.json("volume", "show", number, "-f", "json")
    # As a person takes it back: the volume forgets its old claim, and a new one names it.
    world.kubectl("patch", "pv", name, "-p", '{"spec": {"claimRef": null}}')
    world.apply(claim("kept-again", storage_class="cinder-retain", volumeName=name))
    world.pod("kept-two", "kept-again")
    read = world.run("kept-two", "cat /data/kept-again/here")
    world.kubectl("patch", "pv", name, "-p", '{"spec": {"persistentVolumeReclaimPolicy": "Delete"}}')
    return status, read


def test_a_volume_that_is_retained_outlives_its_claim(told):
    status, read = told("kept")
    assert (status["status"] in ("available", "in-use", "detaching"), read) == (True, "still")


def test_a_volume_says_of_which_cluster_it_is(told, inventory):
    status, _ = told("kept")
    cluster = next(iter(inventory["_meta"]["hostvars"][name] for name in inventory["masters"]["hosts"]))["cluster_contract"]["cluster_name"]
    assert status["properties"][CLUSTER] == f"kos.labs cluster {cluster}"


@story
def block(world):
    world.apply(claim("block", volumeMode="Block"))
    devices = {"volumeMounts": [], "volumeDevices": [{"name": "block", "devicePath": "/dev/disk"}]}
    world.pod("block-one", "block", node=world.here, container=devices)
    world.run("block-one", "test -b /dev/disk; echo raw | dd of=/dev/disk bs=1M seek=100 conv=fsync,notrunc status=none")
    size = int(world.run("block-one", "blockdev --getsize64 /dev/disk"))
    world.delete("pod/block-one")
    world.pod("block-two", "block", node=world.there, container=devices)
    return size, world.run("block-two", "dd if=/dev/disk bs=1M skip=100 count=1 status=none | head -c 3")


def test_a_claim_can_be_a_disk_without_a_file_system(told):
    assert told("block") == (GIB, "raw")


def grow_in_use(world, name, storage_class):
    world.apply(claim(name, storage_class=storage_class))
    world.pod(name, name)
    kind = world.run(name, f"stat --file-system --format=%T /data/{name}")
    world.run(name, f"echo kept > /data/{name}/file")
    world.grow(name, "2Gi")
    world.wait(f"pvc/{name}", "jsonpath={.status.capacity.storage}=2Gi")
    return kind, world.size(name, f"/data/{name}"), world.run(name, f"cat /data/{name}/file")


@story
def grown_xfs(world):
    return grow_in_use(world, "grown-xfs", "cinder-xfs")


@story
def grown_ext4(world):
    # A mounted ext4 grows for those alone who may exceed limits (CAP_SYS_RESOURCE), which a host that is a container may not.
    allowed = int(re.search(r"CapBnd:\s*(\S+)", world.inside(world.here, "cat /proc/1/status"))[1], 16)
    return grow_in_use(world, "grown-ext4", "cinder") if allowed >> 24 & 1 else None


@pytest.mark.parametrize(("name", "kind"), [("grown_xfs", "xfs"), ("grown_ext4", "ext2/ext3")])
def test_a_volume_grows_while_a_pod_uses_it(told, name, kind):
    seen = told(name)
    if seen is None:
        pytest.skip("the nodes' kernel lets nobody there grow a mounted ext4")
    assert (seen[0], seen[1] > 1.8 * GIB, seen[2]) == (kind, True, "kept")


@story
def grown_unused(world):
    world.apply(claim("idle", storage_class="cinder-xfs"))
    world.pod("idle-one", "idle")
    world.delete("pod/idle-one")
    world.sees("the end of its attachment", lambda: not attachments(world, "idle"))
    world.grow("idle", "2Gi")
    name, _ = world.volume_of("idle")
    world.wait(f"pv/{name}", "jsonpath={.spec.capacity.storage}=2Gi")
    world.pod("idle-two", "idle")
    return world.size("idle-two", "/data/idle")


def attachments(world, claimed):
    name, _ = world.volume_of(claimed)
    return [each for each in world.get("volumeattachments")["items"] if each["spec"]["source"].get("persistentVolumeName") == name]


def test_a_volume_grows_while_nobody_uses_it(told):
    assert told("grown_unused") > 1.8 * GIB


@story
def copied(world):
    world.apply(claim("source", storage_class="cinder-xfs"))
    world.pod("source", "source")
    world.run("source", "echo before > /data/source/file; sync -f /data/source")
    snapshot = {"persistentVolumeClaimName": "source"}
    api = "snapshot.storage.k8s.io/v1"
    world.apply({"apiVersion": api, "kind": "VolumeSnapshot", "metadata": {"name": "copied"}, "spec": {"source": snapshot}})
    world.wait("volumesnapshot/copied", "jsonpath={.status.readyToUse}=true")
    world.run("source", "echo after > /data/source/file; sync -f /data/source")
    world.apply(
        claim("restored", "2Gi", storage_class="cinder-xfs", source=("VolumeSnapshot", "copied")),
        claim("cloned", storage_class="cinder-xfs", source=("PersistentVolumeClaim", "source")),
    )
    world.pod("copies", "restored", "cloned")
    read = [world.run("copies", f"cat /data/{name}/file") for name in ("restored", "cloned")]
    return (*read, world.size("copies", "/data/restored"))


def test_a_snapshot_is_as_the_volume_was_and_a_clone_as_it_is(told):
    restored, cloned, _ = told("copied")
    assert (restored, cloned) == ("before", "after")


def test_a_volume_from_a_snapshot_can_be_larger(told):
    assert told("copied")[2] > 1.8 * GIB


@story
def fleeting(world):
    template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    mounts = {"volumeMounts": [{"name": "scratch", "mountPath": "/data"}]}
    world.pod("fleeting", container=mounts, volumes=[{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}])
    world.run("fleeting", "touch /data/file")
    name, _ = world.volume_of("fleeting-scratch")
    world.delete("pod/fleeting")
    world.wait(f"pv/{name}", "delete")
    return [each["metadata"]["name"] for each in world.get("pvc")["items"]]


def test_an_ephemeral_volume_goes_with_its_pod(told):
    assert "fleeting-scratch" not in told("fleeting")


@story
def three(world):
    container = {
        "name": "main",
        "image": world.image,
        "command": ["sh", "-ec", "[ -e /data/name ] || hostname > /data/name; exec sleep infinity"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    labels = {"app": "three"}
    world.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "three"},
            "spec": {
                "serviceName": "three",
                "replicas": 3,
                "podManagementPolicy": "Parallel",
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}},
                "volumeClaimTemplates": [{**claim("data"), "apiVersion": "v1"}],
            },
        }
    )
    world.wait("statefulset/three", "jsonpath={.status.readyReplicas}=3")
    world.kubectl("scale", "statefulset/three", "--replicas=0")
    for number in range(3):
        world.wait(f"pod/three-{number}", "delete")
    world.kubectl("scale", "statefulset/three", "--replicas=3")
    world.wait("statefulset/three", "jsonpath={.status.readyReplicas}=3")
    return [world.run(f"three-{number}", "cat /data/name") for number in range(3)]


def test_each_pod_of_a_stateful_set_finds_its_own_again(told):
    assert told("three") == ["three-0", "three-1", "three-2"]


@story
def single(world):
    world.apply(claim("single", mode="ReadWriteOncePod"))
    world.pod("single-one", "single")
    world.pod("single-two", "single", start=False)
    said = world.warning("single-two", "ReadWriteOncePod")
    world.delete("pod/single-one")
    world.wait("pod/single-two", "condition=Ready")
    return said


def test_a_volume_for_one_pod_is_for_one_pod(told):
    assert "ReadWriteOncePod" in told("single")


@story
def many(world):
    limits = {
        each["metadata"]["name"]: driver["allocatable"]["count"]
        for each in world.get("csinodes")["items"]
        for driver in each["spec"]["drivers"] or []
        if driver["name"] == DRIVER
    }
    names = [f"many-{number}" for number in range(max(limits.values()) + 1)]
    world.apply(*map(claim, names))
    world.pod("many", *names, start=False)
    said = world.warning("many", "max volume count")
    world.delete("pod/many", *(f"pvc/{name}" for name in names))
    return limits, said


def test_a_pod_with_more_volumes_than_a_node_takes_is_refused(told, nodes):
    limits, said = told("many")
    assert set(limits) == set(nodes)
    assert "exceed max volume count" in said


@story
def refused(world):
    world.apply(
        storage_class("zone", availability="nowhere"),
        storage_class("type", type="no-such-type"),
        claim("zone", storage_class=f"{NAMESPACE}-zone"),
        claim("type", storage_class=f"{NAMESPACE}-type"),
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": {"name": "of-nothing"},
            "spec": {"source": {"persistentVolumeClaimName": "nobody"}},
        },
    )
    said = {
        "zone": world.warning("zone", "nowhere"),
        "type": world.warning("type", "no-such-type"),
        "snapshot": world.sees(
            "the snapshot's error",
            lambda: world.get("volumesnapshot", "of-nothing").get("status", {}).get("error", {}).get("message"),
            120,
        ),
    }
    world.delete("pvc/zone", "pvc/type")
    return said


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("zone", ["Availability zone", "nowhere"]),
        ("type", ["Volume type", "no-such-type"]),
        ("snapshot", ["nobody", "not found"]),
    ],
)
def test_what_cannot_be_had_is_said_in_words(told, what, words):
    said = told("refused")[what]
    assert all(word in said for word in words), said


def test_nothing_is_left(told, world, before, tenant):
    """When all stories have ended: no volume, no snapshot, no attachment."""
    for name in STORIES:
        told(name)
    tidy(world)
    world.sees("the end of all volumes", lambda: volumes(tenant) == before)
    assert [each["metadata"]["name"] for each in world.get("volumeattachments")["items"] if each["spec"]["attacher"] == DRIVER] == []
