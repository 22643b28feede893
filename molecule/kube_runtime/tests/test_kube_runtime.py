# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re

testinfra_hosts = ["ansible://nodes"]


def info(host):
    with host.sudo():
        return json.loads(host.check_output("/usr/local/bin/crictl info"))


def test_service_runs_now_and_at_boot(host):
    assert host.service("containerd").is_running
    assert host.service("containerd").is_enabled


def test_runtime_is_ready(host):
    conditions = {condition["type"]: condition["status"] for condition in info(host)["status"]["conditions"]}
    assert conditions["RuntimeReady"] is True


def test_cgroup_driver_is_that_of_the_hierarchy(host):
    unified = host.file("/sys/fs/cgroup/cgroup.controllers").exists
    options = info(host)["config"]["containerd"]["runtimes"]["runc"]["options"]
    assert options["SystemdCgroup"] is unified


def test_images_come_by_their_upstream_names(host):
    with host.sudo():
        pause = re.search(r"sandbox = '(registry.k8s.io/pause:\S+)'", host.check_output("/usr/local/bin/containerd config dump")).group(1)
        host.check_output(f"/usr/local/bin/crictl pull {pause}")
        assert pause in host.check_output("/usr/local/bin/crictl images --output json")


def test_plugins_run(host):
    for name in ("bridge", "host-local", "loopback", "portmap"):
        assert "CNI" in host.run(f"CNI_COMMAND=VERSION /opt/cni/bin/{name} < /dev/null").stdout.upper()
