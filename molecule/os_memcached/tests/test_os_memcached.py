# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://controller"]


def test_it_runs(runs):
    runs("memcached")


def test_it_listens_on_one_inner_address(host, listens):
    assert listens(11211) == {host.ansible.get_variables()["mgmt_ip"]}


def test_it_keeps_what_it_is_given(host):
    address = host.ansible.get_variables()["mgmt_ip"]
    talk = f"import socket; s = socket.create_connection(('{address}', 11211), 5); s.sendall(b'set kos 0 9 2\\r\\nhi\\r\\nget kos\\r\\nquit\\r\\n'); print(s.makefile().read())"
    assert "VALUE kos 0 2" in host.check_output("python3 -c %s", talk)
