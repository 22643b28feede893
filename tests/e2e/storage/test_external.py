# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' own end-to-end tests of a storage driver, External.Storage, against the lab's: from outside, with its classes."""

from __future__ import annotations

import collections
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess

import pytest

DRIVER = pathlib.Path(__file__).with_name("cinder.yaml")
MINUTES = 60
# Most of it waits for the cloud.
AT_A_TIME = 8

# What is left out, by a pattern, and why. What the driver's definition does not have the tests leave out themselves.
LEFT_OUT = {
    r"\[Disruptive\]": "stops kubelets by a login to the nodes that only the clouds of Kubernetes' own CI have",
    r"\[Slow\]": "minutes each",
    r"\[Serial\]": "wants the cluster for itself",
    r"\[Feature:Windows\]": "there is no Windows node",
    r"should allow exec of files on the volume": "wants a pod of nginx, which is not among the components",
}
# One of each kind, where time is short.
BRIEF = (
    r"Dynamic PV \(default fs\)\] volumes should store data",
    r"Dynamic PV \(block volmode\)\] volumes should store data",
    r"Dynamic PV \(default fs\)\] subPath should support existing directory$",
    r"Dynamic PV \(default fs\)\] provisioning should provision storage with snapshot data source \[",
    r"Dynamic PV \(default fs\)\(allowExpansion\)\] volume-expand should resize volume when PVC is edited while pod is using it",
    r"Generic Ephemeral-volume \(default fs\) \(late-binding\)\] ephemeral should create read/write inline ephemeral volume",
    r"read-write-once-pod should block a second pod",
)


@pytest.fixture(scope="module")
def program(mirrored, tmp_path_factory):
    """Return the tests' program as the mirror has built it, and only offers to be downloaded."""
    built = mirrored("external-storage")
    ours = pathlib.Path(shutil.copy(built, tmp_path_factory.mktemp("program") / built.name))
    ours.chmod(0o755)
    return ours


def text(spec):
    """Return what patterns are compared with."""
    return " ".join(filter(None, [*spec["ContainerHierarchyTexts"], spec["LeafNodeText"]]))


@pytest.fixture(scope="module")
def run(program, paths, kubectl, briefly, tmp_path_factory):
    """Return what runs tests by a pattern of their names, and gives back what their report says of each."""
    place = tmp_path_factory.mktemp("external")
    minutes = 15 if briefly else MINUTES

    def run(name, pattern, *more):
        report = place / f"{name}.json"
        argv = [
            str(program), f"--kubeconfig={paths.state / 'kubeconfig/admin'}", f"--kubectl-path={kubectl.argv[0]}", "--provider=skeleton",
            f"--storage.testdriver={DRIVER}", "--allowed-not-ready-nodes=0", f"--ginkgo.focus={pattern}", f"--ginkgo.skip={'|'.join(LEFT_OUT)}",
            f"--ginkgo.json-report={report}", f"--ginkgo.timeout={minutes}m", "--ginkgo.no-color", *more,
        ]  # fmt: skip
        with (place / f"{name}.log").open("wb") as log:
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=(minutes + 5) * 60, check=False)
        assert report.exists(), (place / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-3000:]
        specs = json.loads(report.read_text(encoding="utf-8"))[0]["SpecReports"]
        # What goes before all tests; where it fails none has run.
        broken = [
            each["Failure"]["Message"] for each in specs if each["LeafNodeType"] != "It" and each["State"] not in ("passed", "skipped")
        ]
        assert broken == []
        return {text(each): each for each in specs if each["LeafNodeType"] == "It"}

    return run


@pytest.fixture(scope="module")
def results(run, briefly):
    """Run them; return the names of all, and why some failed and some left themselves out."""
    which = rf"External Storage.*(?:{'|'.join(BRIEF)})" if briefly else "External Storage"
    planned = sorted(name for name, spec in run("plan", which, "--ginkgo.dry-run").items() if spec["State"] == "passed")
    # Those that are alike, and take alike, stand beside each other.
    shares = [planned[number::AT_A_TIME] for number in range(min(AT_A_TIME, len(planned)))]
    patterns = [f"{'|'.join(f' {re.escape(name)}$' for name in share)}" for share in shares]
    failed, left_out = {}, {}
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        for share, specs in zip(shares, pool.map(run, map(str, range(len(shares))), patterns), strict=True):
            assert all(specs[name]["State"] != "skipped" or specs[name].get("Failure") for name in share), (
                "a pattern finds less than it was made of"
            )
            for name in share:
                why = specs[name].get("Failure", {}).get("Message", "")
                kind = {"passed": None, "skipped": left_out}.get(specs[name]["State"], failed)
                if kind is not None:
                    kind[name] = why or specs[name]["State"]
    return planned, failed, left_out


def test_kubernetes_own_tests_pass(results, briefly):
    planned, failed, left_out = results
    ran = len(planned) - len(left_out)
    print(f"{ran - len(failed)} of {ran} of Kubernetes' tests of storage passed; left out:")
    print(*(f"- {pattern}: {why}" for pattern, why in LEFT_OUT.items()), sep="\n")
    print(*(f"- {count}: {why}" for why, count in collections.Counter(left_out.values()).items()), sep="\n")
    assert failed == {}
    assert ran > (5 if briefly else 40)
