# SPDX-License-Identifier: GPL-3.0-or-later
"""What upstream tries every CSI driver with, against the one that the lab has, with its image and its login, on a worker."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import tempfile
import xml.etree.ElementTree

import pytest
from csi_relay import relay
from volumes import connect

from kos.node import ssh_command

POD = "csi-sanity"
# Where a login without rights may come, and where mounts reach from the driver to the node.
PLACE = "/run/kos-sanity"
MOUNTS = "/var/lib/kubelet/plugins/kos-sanity"
MINUTES = 20
GIB = 2**30

# What is left out, by a part of its name, and why.
LEFT_OUT = {
    "should fail when an invalid starting_token is passed": "the driver looks at the token only where a number of entries is asked for",
}


# One of each kind, where time is short.
BRIEF = ("Identity Service", "volume lifecycle should work", "NodeExpandVolume should work", "already existing name and same source volume")


@pytest.fixture(scope="module")
def node(inventory):
    return sorted(inventory["workers"]["hosts"])[-1]


@pytest.fixture(scope="module")
def inside(paths, node):
    def run(script, **options):
        argv = [str(paths.root / "tools/ssh_to_node"), node, f"sudo sh -euc '{script}'"]
        return subprocess.run(argv, env=paths.environment(), capture_output=True, check=False, **options)

    return run


@pytest.fixture(scope="module")
def driver(kubectl, node, inside, wait_for):
    """Run a driver with both of its services, as csi-sanity wants one that has both."""
    running = kubectl.json("-n", "kube-system", "get", "daemonset", "cinder-csi-node", "-o", "json")["spec"]["template"]["spec"]
    plugin = next(each for each in running["containers"] if each["name"] == "cinder-csi-plugin")
    flags = [flag for flag in plugin["command"] if not flag.startswith("--provide-") and not flag.startswith("--cloud-config")]
    mounts = [each for each in plugin["volumeMounts"] if each["name"] in ("kubelet", "devices")]
    volumes = [each for each in running["volumes"] if each["name"] in ("kubelet", "devices")]
    spec = {
        "nodeName": node,
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "driver",
                "image": plugin["image"],
                "command": [*flags, "--cloud-config=/etc/openstack/cloud.conf", "--cluster=csi-sanity"],
                "securityContext": {"privileged": True},
                "volumeMounts": [*mounts, {"name": "own", "mountPath": "/csi"}, {"name": "login", "mountPath": "/etc/openstack"}],
            }
        ],
        "volumes": [
            *volumes,
            {"name": "own", "hostPath": {"path": PLACE, "type": "DirectoryOrCreate"}},
            {"name": "login", "secret": {"secretName": "cinder-csi-cloud-config"}},
        ],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": "kube-system"}, "spec": spec}
    try:
        assert inside(f"mkdir --parents {MOUNTS}").returncode == 0
        kubectl("apply", "-f", "-", input=json.dumps(pod))
        wait_for("the driver's socket", lambda: inside(f"test -S {PLACE}/csi.sock").returncode == 0, 120)
        yield f"{PLACE}/csi.sock"
    finally:
        kubectl("-n", "kube-system", "delete", "pod", POD, "--ignore-not-found", "--timeout=60s")
        inside(f"rm --recursive --force {PLACE} {MOUNTS}")


@pytest.fixture(scope="module")
def settle(paths, contract, wait_for):
    """Return what waits until the cloud has done what it was asked for."""
    storage = connect(paths, contract).block_storage

    def settled():
        # Of those that begin with "error" nothing comes any more.
        states = [each.status for each in (*storage.volumes(), *storage.snapshots())]
        return not any(state.endswith("ing") and not state.startswith("error") for state in states)

    return lambda: wait_for("the end of what the driver has begun", settled, 120)


@pytest.fixture(scope="module")
def endpoint(driver, settle, inside, nodes, node, wait_for):
    """Return a socket on the node that leads to the driver by way of the relay, which runs here."""
    asked = f"{PLACE}/asked.sock"
    # A folder whose name leaves room: sockets' names are short.
    with tempfile.TemporaryDirectory(prefix="kos-csi-") as folder:
        theirs, ours = pathlib.Path(folder, "driver.sock"), pathlib.Path(folder, "relay.sock")
        assert inside(f"chmod 0777 {PLACE}; chmod 0666 {driver}").returncode == 0
        *ssh, address = ssh_command(nodes[node])
        argv = [*ssh, "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{theirs}:{driver}", "-R", f"{asked}:{ours}", address]
        with relay(theirs, ours, settle), subprocess.Popen(argv, stdin=subprocess.DEVNULL) as tunnel:
            try:
                wait_for("the way to the relay", lambda: inside(f"test -S {asked}").returncode == 0, 60)
                yield asked
            finally:
                tunnel.terminate()


@pytest.fixture(scope="module")
def results(mirrored, endpoint, inside, paths, briefly):
    """Run it all; return what became of each of its tests: nothing, or why it failed."""
    with mirrored("csi-sanity").open("rb") as binary:
        assert inside(f"cat > {PLACE}/csi-sanity; chmod 0755 {PLACE}/csi-sanity", stdin=binary).returncode == 0
    argv = [
        f"{PLACE}/csi-sanity", f"--csi.endpoint=unix://{endpoint}", f"--csi.mountdir={MOUNTS}/target", f"--csi.stagingdir={MOUNTS}/staging",
        f"--csi.testvolumesize={GIB}", f"--csi.testvolumeexpandsize={2 * GIB}", f"--ginkgo.junit-report={PLACE}/junit.xml",
        f"--ginkgo.timeout={MINUTES}m", "--ginkgo.no-color",
    ]  # fmt: skip
    if LEFT_OUT:
        argv.append(f"--ginkgo.skip={'|'.join(map(re.escape, LEFT_OUT))}")
    if briefly:
        argv.append(f"--ginkgo.focus={'|'.join(BRIEF)}")
    done = inside(" ".join(f'"{word}"' for word in argv), timeout=(MINUTES + 2) * 60)
    (paths.state / "csi-sanity.log").write_bytes(done.stdout + done.stderr)
    report = inside(f"cat {PLACE}/junit.xml")
    assert report.returncode == 0, (done.stdout + done.stderr)[-3000:].decode(errors="replace")
    cases = xml.etree.ElementTree.fromstring(report.stdout).iter("testcase")
    found = {each.get("name"): each for each in cases if each.get("name", "").startswith("[It]") and each.find("skipped") is None}
    return {
        name: "".join(failure.get("message", "") for kind in ("failure", "error") for failure in each.findall(kind))
        for name, each in found.items()
    }


def test_upstreams_sanity_tests_pass(results, briefly):
    failed = {name: why for name, why in results.items() if why}
    print(f"{len(results) - len(failed)} of {len(results)} of csi-sanity's tests passed, {len(LEFT_OUT)} left out")
    assert failed == {}
    assert len(results) > (5 if briefly else 40)


def test_it_leaves_no_volume_behind(results, tenant):
    left = tenant.json("volume", "list", "--long", "-f", "json")
    assert [each["ID"] for each in left if each["Properties"].get("cinder.csi.openstack.org/cluster") == POD] == []
