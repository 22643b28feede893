# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools/bench measures of volumes: how long claims and snapshots take, and what a pod gets of the disk below."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import typing as t

from kos import KosError, lab, node
from kos.cli import Paths, say, table

__all__ = ["fio_command", "measure", "rates"]

_NAMESPACE = "kos-bench"
_MANY = 30
_SECONDS = 10
_FILE_SIZE = "512M"
# What a backup does and what a database does, past the cache of whoever asks: kind, block size, how many requests at a time.
_PATTERNS = {
    "sequential read, 1 MiB": ("read", "1M", 4),
    "sequential write, 1 MiB": ("write", "1M", 4),
    "random read, 4 KiB": ("randread", "4k", 16),
    "random write, 4 KiB": ("randwrite", "4k", 16),
    "random write, 4 KiB, one at a time": ("randwrite", "4k", 1),
}

Object = dict[str, t.Any]
Run = t.Callable[[t.Sequence[str]], str]


def measure(paths: Paths) -> None:
    """Measure and print, in a namespace that goes again."""
    version = lab.remembered("e2e_busybox_version", paths.root / "group_vars/all/versions.yaml")
    image = f"registry.k8s.io/e2e-test-images/busybox:{version}"
    machines = node.hosts(paths, "storage")
    if not (paths.state / "cinder_csi.conf").exists():
        raise KosError("the lab that stands has no volumes; run tools/lab 7 first.")
    if not machines:
        raise KosError("nobody here reaches the machine that keeps the volumes, to compare with; measure in a cloud that a lab has made.")
    name, machine = next(iter(machines.items()))
    _run(
        [
            *node.ssh_command(machine),
            "command -v fio || { echo there is no fio: run apt-get install fio on " + shlex.quote(name) + " >&2; exit 1; }",
        ]
    )
    kubectl = [str(paths.state / "bin/kubectl"), "--kubeconfig", str(paths.state / "kubeconfig/admin"), "--namespace", _NAMESPACE]
    before = os.getloadavg()[0]
    try:
        _apply(kubectl, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}})
        rows = [
            (
                "a claim, until a pod has it mounted",
                _timed(kubectl, [_claim("one", "cinder"), _pod("one", image)], "pod/one", "condition=Ready"),
            ),
            (
                "a snapshot, until it can be used",
                _timed(kubectl, [_snapshot("one")], "volumesnapshot/one", "jsonpath={.status.readyToUse}=true"),
            ),
            (
                f"{_MANY} claims at once, until all are bound",
                _timed(kubectl, _claims(_MANY), "pvc --all", "jsonpath={.status.phase}=Bound"),
            ),
        ]
        say("\n" + table(("what", "seconds"), [(what, f"{seconds:.1f}") for what, seconds in rows]))
        places: list[tuple[Run, str]] = [
            (lambda argv: _run([*kubectl, "exec", "one", "--", *argv]), "/data/fio"),
            (lambda argv: _run([*node.ssh_command(machine), shlex.join(argv)]), "/var/lib/cinder/fio"),
        ]
        say("\n" + table(("fio", "in the pod", "in a file on the machine", "ratio"), [_compare(name, places) for name in _PATTERNS]))
        say(f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    finally:
        _run([*kubectl, "delete", "namespace", _NAMESPACE, "--ignore-not-found", "--timeout=300s"])


def fio_command(kind: str, size: str, depth: int, file: str) -> list[str]:
    """Return what fio is called with for one pattern."""
    return [
        "fio", "--name=bench", f"--filename={file}", f"--rw={kind}", f"--bs={size}", f"--iodepth={depth}", f"--size={_FILE_SIZE}",
        "--ioengine=libaio", "--direct=1", "--time_based", f"--runtime={_SECONDS}", "--ramp_time=2", "--output-format=json",
    ]  # fmt: skip


def rates(text: str) -> tuple[float, float]:
    """Return MB and requests per second of what fio printed, whether it read or wrote."""
    try:
        # Warnings may stand before it.
        job = json.loads(text[text.index("{") :])["jobs"][0]
    except (ValueError, LookupError):
        raise KosError(f"fio said nothing of its speed but: {text.strip()[-200:] or 'nothing'}") from None
    done = max((job["read"], job["write"]), key=lambda side: side["bw_bytes"])
    return done["bw_bytes"] / 1e6, done["iops"]


def _compare(name: str, places: t.Sequence[tuple[Run, str]]) -> tuple[str, str, str, str]:
    """Run one pattern in each place, one after the other."""
    kind, size, depth = _PATTERNS[name]
    found = []
    for run, file in places:
        try:
            found.append(rates(run(fio_command(kind, size, depth, file))))
        finally:
            run(["rm", "--force", file])
    small = size.endswith("k")
    shown = [f"{requests:.0f} requests/s" if small else f"{speed:.0f} MB/s" for speed, requests in found]
    return name, shown[0], shown[1], f"{found[0][small] / found[1][small]:.2f}"


def _timed(kubectl: t.Sequence[str], objects: t.Sequence[Object], what: str, until: str) -> float:
    begun = time.monotonic()
    _apply(kubectl, *objects)
    _run([*kubectl, "wait", *what.split(), f"--for={until}", "--timeout=300s"])
    return time.monotonic() - begun


def _apply(kubectl: t.Sequence[str], *objects: Object) -> None:
    _run([*kubectl, "apply", "-f", "-"], json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def _run(argv: t.Sequence[str], text: str = "") -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KosError(f"{' '.join(argv[:8])} failed: {done.stderr.strip() or 'no message'}")
    return done.stdout


def _claim(name: str, storage_class: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class, "resources": {"requests": {"storage": "1Gi"}}},
    }


def _claims(number: int) -> list[Object]:
    return [_claim(f"many-{each}", "cinder-immediate") for each in range(number)]


def _pod(claim: str, image: str) -> Object:
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", "exec sleep 86400"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": claim}, "spec": spec}


def _snapshot(claim: str) -> Object:
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": claim},
        "spec": {"source": {"persistentVolumeClaimName": claim}},
    }
