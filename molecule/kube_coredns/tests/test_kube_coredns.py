# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import struct

testinfra_hosts = ["ansible://workers"]

# Asks for the address of kubernetes.default.svc; run on a node, since a controller has no route to services.
QUERY = struct.pack("!6H", 1, 0x100, 1, 0, 0, 0)


def question(name):
    return QUERY + b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + struct.pack("!BHH", 0, 1, 1)


def test_names_of_services_are_answered(host):
    packet = question("kubernetes.default.svc.cluster.local").hex()
    answer = host.check_output(
        "python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); "
        f'd = (open("/etc/kubernetes/kubelet/config.yaml").read().split("clusterDNS:\\n- ")[1].split()[0], 53); '
        f's.sendto(bytes.fromhex("{packet}"), d); print(socket.inet_ntoa(s.recv(512)[-4:]))\''
    )
    assert socket.inet_aton(answer)
