# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://controller"]


def test_it_runs(runs):
    runs("keystone")


def test_it_answers(host):
    address = host.ansible.get_variables()["mgmt_ip"]
    assert '"stable"' in host.check_output("curl --silent http://%s:5000/v3", address)


def test_it_refuses_strangers(host):
    address = host.ansible.get_variables()["mgmt_ip"]
    assert host.check_output("curl --silent --output /dev/null --write-out '%%{http_code}' http://%s:5000/v3/users", address) == "401"


def test_secrets_are_private(private):
    private("/etc/keystone/keystone.conf", "keystone")
    private("/etc/keystone/fernet-keys/0", "keystone")


def test_key_repositories_are_whole(host):
    for name in ("fernet-keys", "credential-keys"):
        assert len(host.file(f"/etc/keystone/{name}").listdir()) >= 2
