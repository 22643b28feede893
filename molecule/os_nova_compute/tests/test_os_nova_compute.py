# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://compute"]


def test_it_runs(runs):
    runs("nova-compute")


def test_libvirt_answers(host):
    kind = host.ansible.get_variables().get("os_nova_compute_virt_type", "kvm")
    uri = "lxc:///system" if kind == "lxc" else "qemu:///system"
    assert host.run("virsh --connect %s list --all", uri).rc == 0


def test_passwords_are_private(private):
    private("/etc/nova/nova.conf", "nova")
