# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of volumes: a claim becomes one, its data follow the pod to another node, and it goes with the claim."""

from __future__ import annotations

import json
import time
import typing as t

from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_kubectl import (
    FAIL,
    HOSTNAME,
    PASS,
    SKIP,
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

__all__ = ["check_volume", "objects"]

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_KEEPER = "keeper"


def objects(settings: Settings, workload: t.Callable[[str, str], Object]) -> list[Object]:
    """Return a claim, and what has a pod that uses it; `workload` makes a plain one of a kind and a name."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": _KEEPER, "namespace": settings.namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    return [claim, keeper(workload("Deployment", _KEEPER), keeper_nodes(settings)[0])]


def keeper_nodes(settings: Settings) -> tuple[str, str]:
    """Return where the pod with a volume is first, and where it moves to: workers, if there are two. A volume does not leave its zone."""
    zones = {each["name"]: each.get("availability_zone") for each in settings.servers or ()}
    *others, first = sorted(settings.node_ips)
    near = [name for name in others if zones.get(name) == zones.get(first)]
    return first, near[-1] if near else first


def keeper(deployment: Object, node: str) -> Object:
    """Make of a Deployment one whose pod stays on a node and notes in its volume that it was there."""
    template = deployment["spec"]["template"]
    pod = {key: value for key, value in template["spec"].items() if key != "containers"}
    plain = {key: template["spec"]["containers"][0][key] for key in ("name", "image", "securityContext")}
    container = {
        **plain,
        "command": ["sh", "-ec", 'echo "$NODE" >> /data/seen; sync /data/seen; exec sleep infinity'],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        # Ready is who has written.
        "readinessProbe": {"exec": {"command": ["grep", "--quiet", ".", "/data/seen"]}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod.update(
        containers=[container],
        nodeSelector={HOSTNAME: node},
        securityContext={**pod["securityContext"], "fsGroup": 65532},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": _KEEPER}}],
    )
    spec = {**deployment["spec"], "strategy": {"type": "Recreate"}, "template": {"metadata": {"labels": {"app": _KEEPER}}, "spec": pod}}
    return {**deployment, "spec": spec}


def check_volume(kubectl: Kubectl, settings: Settings, begun: float) -> list[Check]:
    """See that a claim becomes a volume, that its data follow the pod to another node, and that it goes with the claim."""
    name, ours = "Volume", f"--namespace={settings.namespace}"
    classes = kubectl.read("get", "storageclasses")["items"]
    if not any((each["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true" for each in classes):
        return [Check(name, SKIP, "no class of volumes is the default")]
    first, second = keeper_nodes(settings)
    try:
        pod = await_keeper(kubectl, settings, first)
        made = time.monotonic() - begun
    finally:
        volume = lend(kubectl, settings)
    # The note has a pod begin anew where there is no other node.
    move = {"metadata": {"annotations": {"kos.labs/moved-to": second}}, "spec": {"nodeSelector": {HOSTNAME: second}}}
    begun = time.monotonic()
    patched = kubectl.run(ours, "patch", "deployment", _KEEPER, "--patch", json.dumps({"spec": {"template": move}}))
    if patched.code != 0:
        return [Check(name, FAIL, last_line(patched.err))]
    pod = await_keeper(kubectl, settings, second, besides=pod)
    moved = time.monotonic() - begun
    found = kubectl.run(ours, "exec", pod, "--", "cat", "/data/seen")
    if found.out.split() != [first, second]:
        return [Check(name, FAIL, f"on {second} it holds {found.out.split() or last_line(found.err)}, and not what was written on {first}")]
    begun = time.monotonic()
    wait = f"--timeout={settings.volume}s"
    attachments = [
        f"volumeattachment/{each['metadata']['name']}"
        for each in kubectl.read("get", "volumeattachments")["items"]
        if each["spec"]["source"].get("persistentVolumeName") == volume
    ]
    # One after the other: whoever deletes a volume that is still attached waits twice as long after each attempt.
    for command in (
        (ours, "delete", f"deployment/{_KEEPER}", wait),
        ("wait", "--for=delete", *attachments, wait),
        (ours, "delete", f"persistentvolumeclaim/{_KEEPER}", wait),
        ("wait", "--for=delete", f"persistentvolume/{volume}", wait),
    ):
        gone = kubectl.run(*command, seconds=settings.volume)
        if gone.code != 0 and "not found" not in gone.err.lower():
            return [Check(name, FAIL, f"it does not go away with its claim: {last_line(gone.err)}")]
    seen = f"written on {first} {made:.0f} s after it was claimed, read on {second} {moved:.0f} s later, gone in {time.monotonic() - begun:.0f} s"
    return [Check(name, PASS, seen)]


def lend(kubectl: Kubectl, settings: Settings) -> str:
    """Have the claim's volume go with it, whatever its class keeps, and return its name, or nothing if there is none yet."""
    ours = f"--namespace={settings.namespace}"
    volume = kubectl.run(ours, "get", "persistentvolumeclaim", _KEEPER, "--output=jsonpath={.spec.volumeName}").out.strip()
    if volume:
        kubectl.run("patch", "persistentvolume", volume, "--patch", json.dumps({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}))
    return volume


def await_keeper(kubectl: Kubectl, settings: Settings, node: str, besides: str = "") -> str:
    """Wait until the pod with a volume has written on a node, and return its name; on a time-out say what holds it."""
    end = time.monotonic() + settings.volume
    while True:
        pods = kubectl.read(f"--namespace={settings.namespace}", "get", "pods", f"--selector=app={_KEEPER}")["items"]
        new = [pod for pod in pods if pod["metadata"]["name"] != besides]
        for pod in new:
            if is_ready(pod) and pod["spec"].get("nodeName") == node:
                return str(pod["metadata"]["name"])
        if time.monotonic() > end:
            said = [last_event(kubectl, settings, each) for each in (_KEEPER, *(pod["metadata"]["name"] for pod in new))]
            why = next(filter(None, reversed(said)), "") or next(map(why_not_ready, new), "its pod was never made")
            raise ClusterCheckError(f"no pod on {node} has it after {settings.volume} s: {why}")
        time.sleep(1)
