# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

testinfra_hosts = ["ansible://masters"]

ETCDCTL = "ETCDCTL_CACERT=/etc/etcd/ca.crt ETCDCTL_CERT=/etc/etcd/server.crt ETCDCTL_KEY=/etc/etcd/server.key /usr/local/bin/etcdctl"


def test_service_runs_now_and_at_boot(runs):
    runs("etcd")


def test_members_are_healthy(host):
    with host.sudo():
        health = json.loads(host.check_output(f"{ETCDCTL} endpoint health --cluster --write-out=json"))
    assert [member["endpoint"] for member in health if not member["health"]] == []


def test_data_are_private(host):
    with host.sudo():
        data = host.file("/var/lib/etcd")
        assert (data.mode, data.user) == (0o700, "etcd")


def test_nobody_gets_in_without_a_certificate(host):
    with host.sudo():
        assert host.run("/usr/local/bin/etcdctl --cacert /etc/etcd/ca.crt --command-timeout=3s get a").rc != 0
    assert host.run("curl --silent --max-time 3 http://127.0.0.1:2379/version").rc != 0
