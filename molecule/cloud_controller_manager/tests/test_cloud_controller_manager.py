# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import stat

import pytest

testinfra_hosts = ["ansible://masters"]


@pytest.fixture
def url(host):
    return f"https://{host.ansible.get_variables()['node_ip']}:10258"


def test_it_is_healthy(host, url):
    assert host.check_output(f"curl --silent --fail --insecure {url}/healthz") == "ok"


def test_metrics_are_not_for_everybody(host, url):
    assert host.check_output(f"curl --silent --insecure {url}/metrics --output /dev/null --write-out '%{{http_code}}'") in ("401", "403")


def test_no_copy_of_cloud_conf_is_for_everybody(host):
    conf = pathlib.Path(os.environ["KOS_STATE"]) / "cloud.conf"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600
    with host.sudo():
        found = host.check_output("find /etc /var/lib/kubelet -name cloud.conf -follow -perm /o+r")
    assert found == ""


def test_its_login_is_on_no_disk(host):
    with host.sudo():
        kinds = host.check_output("find /var/lib/kubelet/pods -name cloud.conf -follow -printf '%F\\n'").split()
    assert set(kinds) == {"tmpfs"}
