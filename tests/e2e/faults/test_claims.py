# SPDX-License-Identifier: GPL-3.0-or-later
"""Thirty claims at once with a controller that is killed meanwhile; a node that goes while its pod writes. Nothing is lost, and nothing is left."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from claims import claim, namespace, neighbours, writer
from volumes import inside

NAMESPACE = "kos-e2e-claims"
MANY = 30
CONTROLLER = ("-n", "kube-system", "delete", "pod", "-l", "app=cinder-csi-controller", "--grace-period=0", "--force", "--wait=false")
TAINT = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


@pytest.fixture(scope="module")
def us(paths, contract, kubectl):
    with namespace(paths, contract, kubectl, NAMESPACE) as run:
        yield run


@pytest.fixture(scope="module")
def volumes(tenant):
    """Return a look at the ids of all volumes."""

    def look():
        return {each["ID"] for each in tenant.json("volume", "list", "-f", "json")}

    return look


@pytest.fixture(scope="module")
def many(us, kubectl, volumes):
    """Claim thirty volumes and kill the controller in between; then the same with their end."""
    before = volumes()
    begun = time.monotonic()
    items = [claim(f"many-{number}", "cinder-immediate") for number in range(MANY)]
    us("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    time.sleep(2)
    kubectl(*CONTROLLER)
    us("wait", "pvc", "-l", "part=many", "--for=jsonpath={.status.phase}=Bound", "--timeout=300s")
    bound = time.monotonic() - begun
    made = volumes() - before
    begun = time.monotonic()
    us("delete", "pvc", "-l", "part=many", "--wait=false")
    time.sleep(2)
    kubectl(*CONTROLLER)
    return before, bound, made, begun


def test_thirty_claims_are_thirty_volumes_whoever_is_killed(many):
    _, bound, made, _ = many
    print(f"{MANY} claims bound after {bound:.0f} s, the controller killed after 2")
    assert len(made) == MANY


def test_they_go_whoever_is_killed(many, volumes, wait_for):
    _, _, made, begun = many
    wait_for("the end of all volumes", lambda: not volumes() & made, 300)
    print(f"{MANY} volumes gone after {time.monotonic() - begun:.0f} s, the controller killed after 2")


def snapshot(name, of):
    spec = {"source": {"persistentVolumeClaimName": of}}
    return {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def interrupted(us, kubectl, versions, volumes, tenant, wait_for):
    """Have one volume go through all that the controller does, and kill that a moment after it was asked for each; return what is left."""

    def counted():
        return volumes(), {each["ID"] for each in tenant.json("volume", "snapshot", "list", "-f", "json")}

    def attachments():
        volume = us("get", "pvc", "hurt", "-o", "jsonpath={.spec.volumeName}")
        return [
            each for each in kubectl.json("get", "volumeattachments", "-o", "json")["items"] if volume in each["spec"]["source"].values()
        ]

    def interrupt(what, *arguments, **options):
        us(*arguments, **options)
        time.sleep(1)
        kubectl(*CONTROLLER)
        done.append(what)

    before, done = counted(), []
    container = {
        "name": "main",
        "image": f"registry.k8s.io/e2e-test-images/agnhost:{versions['agnhost_version']}",
        "command": ["sh", "-ec", "echo kept > /data/file; sync /data/file; exec sleep infinity"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "hurt"}}],
    }
    clone = claim("hurt-clone", "cinder-immediate")
    clone["spec"]["dataSource"] = {"kind": "PersistentVolumeClaim", "name": "hurt"}
    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}

    interrupt("create", "apply", "-f", "-", input=json.dumps(claim("hurt", "cinder-immediate")))
    us("wait", "pvc/hurt", "--for=jsonpath={.status.phase}=Bound", "--timeout=300s")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hurt"}, "spec": spec}
    interrupt("attach", "apply", "-f", "-", input=json.dumps(pod))
    us("wait", "pod/hurt", "--for=condition=Ready", "--timeout=300s")
    interrupt("snapshot", "apply", "-f", "-", input=json.dumps(snapshot("hurt", "hurt")))
    us("wait", "volumesnapshot/hurt", "--for=jsonpath={.status.readyToUse}=true", "--timeout=300s")
    interrupt("clone", "apply", "-f", "-", input=json.dumps(clone))
    us("wait", "pvc/hurt-clone", "--for=jsonpath={.status.phase}=Bound", "--timeout=300s")
    assert us("exec", "hurt", "--", "cat", "/data/file").strip() == "kept"
    interrupt("detach", "delete", "pod/hurt", "--timeout=120s")
    wait_for("the end of the attachment", lambda: not attachments(), 300)
    interrupt("expand", "patch", "pvc/hurt", "--patch", json.dumps(larger))
    volume = us("get", "pvc", "hurt", "-o", "jsonpath={.spec.volumeName}")
    kubectl("wait", f"pv/{volume}", "--for=jsonpath={.spec.capacity.storage}=2Gi", "--timeout=300s", timeout=330)
    made = counted()
    interrupt("delete", "delete", "volumesnapshot/hurt", "pvc/hurt", "pvc/hurt-clone", "--wait=false")
    # What was there before may have gone meanwhile.
    wait_for("the end of what was made", lambda: all(now <= then for now, then in zip(counted(), before, strict=True)), 300)
    return done, [len(now - then) for now, then in zip(made, before, strict=True)]


def test_whatever_the_controller_is_killed_at_is_done_once(interrupted):
    done, made = interrupted
    assert done == ["create", "attach", "snapshot", "clone", "detach", "expand", "delete"]
    # The volume and its clone; the snapshot.
    assert made == [2, 1]


# Run where a server may be: it ends there, and nobody in it is asked or told.
KILL = """
if [ -e /run/libvirt/lxc/{name}.pid ]; then
  pid=$(cat /run/libvirt/lxc/{name}.pid)
  kill -KILL $(cat /proc/$pid/task/$pid/children)
  echo killed
elif [ -e /run/libvirt/qemu/{name}.pid ]; then
  kill -KILL $(cat /run/libvirt/qemu/{name}.pid)
  echo killed
fi
"""


@pytest.fixture(scope="module")
def kill(paths, operator, inventory, nodes):
    """Return what kills the server of a node."""
    machines = inventory.get("compute", {}).get("hosts", ())
    if not machines:
        pytest.skip("nobody here operates this cloud")

    def call(node):
        server = operator.json("server", "show", nodes[node]["server_id"], "-f", "json")
        script = KILL.format(name=server["OS-EXT-SRV-ATTR:instance_name"])
        assert "killed" in [inside(paths, machine, script) for machine in machines]

    return call


@pytest.fixture(scope="module")
def moved(us, kubectl, kill, tenant, versions, inventory, wait_for, tmp_path_factory):
    """Kill a node while a pod on it writes; return the number that the pod said last, and what its successor finds."""
    here, there = neighbours(kubectl, inventory["workers"]["hosts"])
    assert here != there, "a pod has nowhere to go"
    us("apply", "-f", "-", input=json.dumps(writer("written", versions, here)))
    us("rollout", "status", "deployment/written", "--timeout=180s")

    def logs(pod):
        return us("logs", pod).split("\n")

    pod = us("get", "pods", "-l", "app=written", "-o", "name")
    assert us("get", pod, "-o", "jsonpath={.spec.nodeName}") == here
    heard = tmp_path_factory.mktemp("heard") / "numbers"

    def last():
        # The end may have come in the middle of a line.
        return int(heard.read_text(encoding="ascii").rpartition("\n")[0].rpartition("\n")[2] or 0)

    def off():
        return tenant.json("server", "show", here, "-f", "json")["status"] == "SHUTOFF"

    try:
        with heard.open("w", encoding="ascii") as file:
            argv = [*kubectl.argv, "-n", NAMESPACE, "logs", "--follow", pod]
            with subprocess.Popen(argv, env=kubectl.env, stdout=file, stderr=subprocess.DEVNULL) as follower:
                try:
                    wait_for("numbers", lambda: last() > 20, 60)
                    kill(here)
                    # Nova is told, or else looks every ten minutes.
                    wait_for("the end of the server", off, 660)
                finally:
                    follower.terminate()
        said = last()
        begun = time.monotonic()
        # As its administrator says who has looked: nothing runs there any more.
        kubectl("taint", "node", here, TAINT)
        # The old one is listed until its node is back.
        pod = min(wait_for("another pod", lambda: {*us("get", "pods", "-l", "app=written", "-o", "name").split()} - {pod}, 120))
        us("wait", pod, "--for=condition=Ready", "--timeout=300s")
        after = time.monotonic() - begun
        assert us("get", pod, "-o", "jsonpath={.spec.nodeName}") == there
        found = int(wait_for("its word", lambda: logs(pod)[0], 60).removeprefix("found "))
    finally:
        kubectl.run("taint", "node", here, f"{TAINT}-")
        tenant.run("server", "start", here)
    kubectl("wait", f"node/{here}", "--for=condition=Ready", "--timeout=300s", timeout=330)
    return said, found, after


def test_what_was_synced_is_there_when_a_node_goes(moved):
    said, found, after = moved
    print(
        f"a pod of a node that is gone writes elsewhere {after:.0f} s after that was said; {found - said} numbers later than the last that was heard"
    )
    assert found >= said
