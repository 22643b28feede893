# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' own end-to-end tests of a storage driver, External.Storage, against the lab's: from outside, with its classes."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import re
import subprocess
import xml.etree.ElementTree

import pytest

DRIVER = pathlib.Path(__file__).with_name("cinder.yaml")
MINUTES = 60

# What is left out, by a pattern, and why.
LEFT_OUT = {
    r"\[Disruptive\]": "stops kubelets by a login to the nodes that only the clouds of Kubernetes' own CI have",
    r"\[Slow\]": "minutes each",
    r"\[Serial\]": "wants the cluster for itself",
    r"\[Feature:Windows\]": "there is no Windows node",
}
# Side by side, as most of it waits for the cloud. Each finds what the ones before it leave.
PARTS = (r"provisioning|snapshottable|topology", r"subPath", r"volumes|volumeMode|volume-expand|multiVolume", r".")


@pytest.fixture(scope="module")
def program(paths):
    """Return the tests' program as the mirror has built it."""
    tree = paths.cache / "mirror"
    try:
        return tree / json.loads((tree / "index.json").read_text(encoding="utf-8"))["files"]["external-storage"]["path"]
    except (OSError, KeyError):
        pytest.fail("external-storage is not in the mirror; `tools/mirror auto --only tests` makes it")


@pytest.fixture(scope="module")
def results(program, paths, kubectl, tmp_path_factory):
    """Run it all; return what became of each test that ran: nothing, or why it failed."""
    place = tmp_path_factory.mktemp("external")

    def run(number: int) -> pathlib.Path:
        before = "|".join(PARTS[:number])
        skip = "|".join([*LEFT_OUT, *([f"(?:{before})"] if before else [])])
        report = place / f"{number}.xml"
        argv = [
            str(program), f"--kubeconfig={paths.state / 'kubeconfig/admin'}", f"--kubectl-path={kubectl.argv[0]}", "--provider=skeleton",
            f"--storage.testdriver={DRIVER}", "--allowed-not-ready-nodes=0", f"--ginkgo.focus=External.Storage.*(?:{PARTS[number]})",
            f"--ginkgo.skip={skip}", f"--ginkgo.junit-report={report}", f"--ginkgo.timeout={MINUTES}m", "--ginkgo.no-color",
        ]  # fmt: skip
        with (place / f"{number}.log").open("wb") as log:
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=(MINUTES + 5) * 60, check=False)
        assert report.exists(), (place / f"{number}.log").read_text(encoding="utf-8", errors="replace")[-3000:]
        return report

    found = {}
    with concurrent.futures.ThreadPoolExecutor(len(PARTS)) as pool:
        for report in pool.map(run, range(len(PARTS))):
            for each in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
                name = each.get("name", "")
                if name.startswith("[It]") and each.find("skipped") is None:
                    failures = [failure.get("message", "") for kind in ("failure", "error") for failure in each.findall(kind)]
                    found[re.sub(r"^\[It\] External Storage ", "", name)] = "".join(failures)
    return found


def test_kubernetes_own_tests_pass(results):
    failed = {name: why for name, why in results.items() if why}
    print(f"{len(results) - len(failed)} of {len(results)} of Kubernetes' tests of storage passed; left out:")
    print(*(f"- {pattern}: {why}" for pattern, why in LEFT_OUT.items()), sep="\n")
    assert failed == {}
    assert len(results) > 40
