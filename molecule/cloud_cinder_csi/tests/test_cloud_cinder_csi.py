# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import stat

testinfra_hosts = ["ansible://nodes"]

FOLDER = "/var/lib/kubelet/plugins/cinder.csi.openstack.org"


def test_the_driver_is_well(host):
    assert host.check_output("curl --silent --fail http://127.0.0.1:9808/healthz") == "ok"


def test_nobody_else_asks_how_it_is(host):
    assert host.run("curl --silent --max-time 3 http://%s:9808/healthz", host.ansible.get_variables()["node_ip"]).rc != 0


def test_the_kubelet_has_found_it(host):
    with host.sudo():
        assert host.file(f"{FOLDER}/csi.sock").is_socket
        assert host.file("/var/lib/kubelet/plugins_registry/cinder.csi.openstack.org-reg.sock").is_socket


def test_the_login_is_on_no_node_but_masters(host):
    with host.sudo():
        found = host.check_output("grep --recursive --files-with-matches application-credential-secret /var/lib/kubelet/pods || true")
    if "masters" not in host.ansible.get_variables()["group_names"]:
        assert found == ""


def test_the_controllers_copy_is_for_its_owner_alone():
    conf = pathlib.Path(os.environ["KOS_STATE"]) / "cinder_csi.conf"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600
