# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.kos.labs.plugins.modules import node_facts


def test_addresses_are_the_global_ones():
    links = [
        {"ifname": "lo", "mtu": 65536, "addr_info": [{"local": "127.0.0.1", "scope": "host"}]},
        {"ifname": "eth0", "mtu": 1450, "addr_info": [{"local": "172.18.0.11", "scope": "global"}]},
        {},
    ]
    assert node_facts.parse_addresses(json.dumps(links)) == {"172.18.0.11": {"interface": "eth0", "mtu": 1450}}
    assert node_facts.parse_addresses("") == {}


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 127.0.0.53\nnameserver 192.0.2.1 # x\noptions edns0\n", ["192.0.2.1"]),
        ("nameserver ::1\nnameserver 2001:db8::1\nnameserver\n", ["2001:db8::1"]),
        ("# nameserver 192.0.2.1\n", []),
        ("", []),
    ],
)
def test_nameservers_are_those_that_a_pod_can_use(text, servers):
    assert node_facts.parse_nameservers(text) == servers


def test_installed_packages():
    text = "iptables installed\nlibc6:amd64 installed\nnftables config-files\nbroken\n"
    assert node_facts.parse_installed(text) == {"iptables", "libc6"}


@pytest.mark.parametrize(
    ("unit", "provider"),
    [
        ("ExecStart=/usr/local/bin/kubelet --config=x --cloud-provider=external --node-ip=192.0.2.1\n", "external"),
        ("ExecStart=/usr/local/bin/kubelet --config=x\n", ""),
        ("", ""),
    ],
)
def test_cloud_provider_of_the_kubelet_that_is_there(unit, provider):
    assert node_facts.parse_cloud_provider(unit) == provider


def test_oom_score(tmp_path):
    path = tmp_path / "oom_score_adj"
    assert node_facts.oom_score_adjustable(str(path)) is False
    path.write_text("0\n")
    assert node_facts.oom_score_adjustable(str(path)) is True
    assert path.read_text() == "0"


def test_oom_score_that_may_not_be_lowered(tmp_path, monkeypatch):
    path = tmp_path / "oom_score_adj"
    path.write_text("0\n")
    real = open

    def refuse(name, mode="r", **more):
        if mode == "w":
            raise PermissionError
        return real(name, mode, **more)

    monkeypatch.setattr("builtins.open", refuse)
    assert node_facts.oom_score_adjustable(str(path)) is False
