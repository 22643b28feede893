# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of nodes that are deleted. The last of the faults, as the node that the lab makes in its place has other addresses."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from claims import namespace, neighbours, writer

from kos import lab, rings


@pytest.fixture(scope="module")
def us(paths, contract, kubectl):
    with namespace(paths, contract, kubectl, "kos-e2e-servers") as run:
        yield run


@pytest.fixture(scope="module")
def lab_again(paths):
    """Return what runs the newest lab again: it makes what is missing."""

    def run():
        argv = [str(paths.root / "tools/lab"), lab.numbered(paths.root)[-1], *rings.BRIEFLY]
        done = subprocess.run(
            argv, env=paths.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]

    return run


@pytest.fixture(scope="module")
def followed(us, kubectl, tenant, versions, inventory, lab_again, wait_for):
    """Delete the server of a node on which a pod writes; return the number that the pod said last, and what its successor finds."""
    here, there = neighbours(kubectl, inventory["workers"]["hosts"])
    assert here != there, "a pod has nowhere to go"
    us("apply", "-f", "-", input=json.dumps(writer("orphaned", versions, here)))
    us("rollout", "status", "deployment/orphaned", "--timeout=180s")
    pod = us("get", "pods", "-l", "app=orphaned", "-o", "name")
    assert us("get", pod, "-o", "jsonpath={.spec.nodeName}") == here
    wait_for("numbers", lambda: us("logs", pod).count("\n") > 20, 60)
    said = int(us("logs", pod, "--tail=2").split()[0])
    begun = time.monotonic()
    try:
        tenant("server", "delete", here, "--wait")
        wait_for("the end of the node", lambda: kubectl.run("get", "node", here).returncode, 300)
        pod = min(wait_for("another pod", lambda: {*us("get", "pods", "-l", "app=orphaned", "-o", "name").split()} - {pod}, 300))
        # Nobody can say that the volume is not mounted there any more, so Kubernetes waits six minutes before it takes it away.
        us("wait", pod, "--for=condition=Ready", "--timeout=600s", timeout=630)
        after = time.monotonic() - begun
        assert us("get", pod, "-o", "jsonpath={.spec.nodeName}") == there
        found = int(wait_for("its word", lambda: us("logs", pod), 60).removeprefix("found "))
    finally:
        lab_again()
    kubectl("wait", f"node/{here}", "--for=condition=Ready", "--timeout=300s", timeout=330)
    return said, found, after


def test_data_follow_when_a_server_is_deleted(followed):
    said, found, after = followed
    print(f"a pod whose server was deleted goes on elsewhere {after:.0f} s after that was asked for")
    assert found >= said
