#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approves the serving certificates that kubelets ask for, if they name the node and its own addresses and nothing else.

Kubernetes signs requests of the signer kubernetes.io/kubelet-serving but leaves it to others to approve them: a kubelet could ask for
any name and any address, and with such a certificate pose as another node. What addresses a node has is not the node's to say, so it
comes from a file that the administrator writes, and if wished from Node objects that a cloud controller manager has filled in.

Runs on Python 3.11 without further packages.
"""

from __future__ import annotations

import argparse
import base64
import enum
import http.client
import ipaddress
import json
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

SIGNER = "kubernetes.io/kubelet-serving"
NODE_USER = "system:node:"
NODE_GROUP = "system:nodes"
# Kubelets with an RSA key ask for key encipherment as well.
USAGES = (frozenset({"digital signature", "server auth"}), frozenset({"digital signature", "key encipherment", "server auth"}))
COLLECTION = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
WATCH_SECONDS = 60

log = logging.getLogger("kube-csr-approver")


class ApproverError(Exception):
    """Something that the administrator has to look at."""


# ---------------------------------------------------------------------------------------------------------------------------------------
# The request: PKCS#10 in DER. A reader of our own, since the text that command line tools print can be forged from within a name.

INTEGER, BIT_STRING, OID, SEQUENCE, SET = 0x02, 0x03, 0x06, 0x30, 0x31
STRINGS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}
COMMON_NAME, ORGANIZATION = bytes.fromhex("550403"), bytes.fromhex("55040a")
EXTENSION_REQUEST = bytes.fromhex("2a864886f70d01090e")
SUBJECT_ALT_NAME = bytes.fromhex("551d11")
SAN_DNS, SAN_IP = 0x82, 0x87


@dataclass(frozen=True)
class Request:
    """What a certificate request asks for."""

    common_names: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    other_names: int = 0
    other_subject: int = 0


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each DER element in a row."""
    position = 0
    while position < len(data):
        if position + 2 > len(data):
            raise ValueError("a DER element is cut off")
        tag, length = data[position], data[position + 1]
        position += 2
        if tag & 0x1F == 0x1F:
            raise ValueError("a DER tag of several bytes")
        if length & 0x80:
            count = length & 0x7F
            digits = data[position : position + count]
            if not 1 <= count <= 4 or len(digits) != count or digits[0] == 0 or (count == 1 and digits[0] < 0x80):
                raise ValueError("a DER length that is not minimal")
            length = int.from_bytes(digits)
            position += count
        if position + length > len(data):
            raise ValueError("a DER element is cut off")
        yield tag, data[position : position + length]
        position += length


def one(data: bytes, tag: int) -> bytes:
    """Read the content of the only element in data, which must have this tag."""
    found = list(elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError(f"not a single DER element with tag {tag:#x}")
    return found[0][1]


def text(tag: int, content: bytes) -> str:
    """Decode a string of a subject."""
    if tag not in STRINGS:
        raise ValueError(f"a name of DER type {tag:#x}")
    return content.decode(STRINGS[tag])


def read_subject(subject: bytes) -> tuple[list[str], list[str], int]:
    """Read common names, organizations, and how many other attributes there are."""
    common, organizations, others = [], [], 0
    for tag, relative in elements(subject):
        if tag != SET:
            raise ValueError("a subject without sets")
        for _, attribute in elements(relative):
            (oid_tag, oid), (value_tag, value) = elements(attribute)
            if oid_tag != OID:
                raise ValueError("a subject's attribute without a type")
            if oid == COMMON_NAME:
                common.append(text(value_tag, value))
            elif oid == ORGANIZATION:
                organizations.append(text(value_tag, value))
            else:
                others += 1
    return common, organizations, others


def read_names(attributes: bytes) -> tuple[list[str], list[str], int]:
    """Read DNS names, addresses, and how many alternative names there are of another kind."""
    dns, addresses, others, seen = [], [], 0, 0
    for _, attribute in elements(attributes):
        (_, oid), (_, values) = elements(attribute)
        if oid != EXTENSION_REQUEST:
            continue
        for _, extension in elements(one(values, SEQUENCE)):
            parts = list(elements(extension))
            if parts[0][1] != SUBJECT_ALT_NAME:
                continue
            seen += 1
            for tag, value in elements(one(parts[-1][1], SEQUENCE)):
                if tag == SAN_DNS:
                    dns.append(value.decode("ascii"))
                elif tag == SAN_IP:
                    addresses.append(str(ipaddress.ip_address(value)))
                else:
                    others += 1
    if seen > 1:
        raise ValueError("more than one list of alternative names")
    return dns, addresses, others


def parse_request(pem: str) -> Request:
    """Read a PEM certificate request; ValueError for what is none."""
    match = re.fullmatch(r"\s*-----BEGIN CERTIFICATE REQUEST-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE REQUEST-----\s*", pem)
    if match is None:
        raise ValueError("no single PEM certificate request")
    der = base64.b64decode("".join(match[1].split()), validate=True)
    parts = list(elements(one(der, SEQUENCE)))
    if len(parts) != 3 or parts[0][0] != SEQUENCE:
        raise ValueError("no certificate request")
    info = list(elements(parts[0][1]))
    if [tag for tag, _ in info] not in ([INTEGER, SEQUENCE, SEQUENCE, 0xA0], [INTEGER, SEQUENCE, SEQUENCE]):
        raise ValueError("no certificate request")
    common, organizations, other_subject = read_subject(info[1][1])
    dns, addresses, other_names = read_names(info[3][1]) if len(info) == 4 else ([], [], 0)
    return Request(tuple(common), tuple(organizations), tuple(dns), tuple(addresses), other_names, other_subject)


# ---------------------------------------------------------------------------------------------------------------------------------------
# The decision, without I/O.


class Verdict(enum.Enum):
    """What to do with a request."""

    APPROVE = "approve"
    DENY = "deny"
    LEAVE = "leave"


@dataclass(frozen=True)
class Decision:
    """A verdict and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class KnownNode:
    """What a node is called and which addresses it really has."""

    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = field(default_factory=frozenset)


def decide(spec: Mapping[str, Any], nodes: Mapping[str, KnownNode]) -> Decision:
    """Judge the spec of a CertificateSigningRequest.

    Denied is what no node has a reason to ask for. Left alone is what may become right: a node that is not known yet, or an address.
    """
    if spec.get("signerName") != SIGNER:
        return Decision(Verdict.LEAVE, f"signer {spec.get('signerName')} is not ours to judge")
    user = str(spec.get("username", ""))
    name = user.removeprefix(NODE_USER)
    if not user.startswith(NODE_USER) or not name:
        return Decision(Verdict.DENY, f"{user} is no node")
    if NODE_GROUP not in spec.get("groups", []):
        return Decision(Verdict.DENY, f"{user} is not in the group {NODE_GROUP}")
    usages = spec.get("usages", [])
    if frozenset(usages) not in USAGES or len(usages) != len(set(usages)):
        return Decision(Verdict.DENY, f"usages are {', '.join(sorted(usages))}")
    try:
        request = parse_request(base64.b64decode(spec.get("request", ""), validate=True).decode("ascii"))
    except ValueError as error:
        return Decision(Verdict.DENY, f"the request cannot be read: {error}")
    if request.common_names != (user,) or request.organizations != (NODE_GROUP,) or request.other_subject:
        return Decision(Verdict.DENY, f"the subject is {request.common_names} of {request.organizations}, not {user} of {NODE_GROUP} alone")
    if request.other_names:
        return Decision(Verdict.DENY, "there are alternative names that are neither DNS names nor addresses")
    if not request.dns_names and not request.addresses:
        return Decision(Verdict.DENY, "there are no alternative names")
    node = nodes.get(name)
    if node is None:
        return Decision(Verdict.LEAVE, f"no node {name} is known")
    foreign = [entry for entry in request.dns_names if entry not in node.names | {name}]
    if foreign:
        return Decision(Verdict.DENY, f"{name} is not called {', '.join(foreign)}")
    unknown = [entry for entry in request.addresses if entry not in node.addresses]
    if unknown:
        return Decision(Verdict.LEAVE, f"{name} is not known to have {', '.join(unknown)}")
    return Decision(Verdict.APPROVE, f"{name} has {', '.join(request.dns_names + request.addresses)}")


def is_pending(csr: Mapping[str, Any]) -> bool:
    """Say whether nobody has judged the request yet."""
    return not any(entry.get("type") in ("Approved", "Denied") for entry in csr.get("status", {}).get("conditions", []))


def judged(csr: Mapping[str, Any], decision: Decision, now: datetime) -> dict[str, Any]:
    """Add the condition that tells the verdict."""
    approve = decision.verdict is Verdict.APPROVE
    condition = {
        "type": "Approved" if approve else "Denied",
        "status": "True",
        "reason": "NodeHasAddresses" if approve else "NotThisNodes",
        "message": f"kube-csr-approver: {decision.reason}",
        "lastUpdateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    conditions = [*csr.get("status", {}).get("conditions", []), condition]
    return {**csr, "status": {**csr.get("status", {}), "conditions": conditions}}


def parse_nodes(document: Any) -> dict[str, KnownNode]:
    """Read the administrator's file of nodes: {"NAME": {"names": [...], "addresses": [...]}}."""
    try:
        return {
            str(name): KnownNode(
                frozenset(map(str, entry.get("names", []))), frozenset(str(ipaddress.ip_address(a)) for a in entry["addresses"])
            )
            for name, entry in document.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ApproverError(f"the file of nodes is not as it should be: {error!r}") from error


def with_cloud_addresses(node: KnownNode, status: Mapping[str, Any]) -> KnownNode:
    """Add the addresses of a Node object if a cloud controller manager has initialised it."""
    tainted = any(t.get("key") == "node.cloudprovider.kubernetes.io/uninitialized" for t in status.get("spec", {}).get("taints", []))
    if not status.get("spec", {}).get("providerID") or tainted:
        return node
    found = [a["address"] for a in status.get("status", {}).get("addresses", []) if a.get("type") in ("InternalIP", "ExternalIP")]
    return KnownNode(node.names, node.addresses | {str(ipaddress.ip_address(a)) for a in found})


# ---------------------------------------------------------------------------------------------------------------------------------------
# The daemon.


class Api:
    """The API server, by a connection per call."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self.host, self.port, self.context = host, port, context

    def _send(self, method: str, path: str, body: Any, timeout: float) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=timeout)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Make one call; status and document."""
        with self._send(method, path, body, 30) as response:
            return response.status, json.loads(response.read() or b"{}")

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a watch until the server ends it."""
        with self._send("GET", path, None, WATCH_SECONDS + 15) as response:
            if response.status != 200:
                return
            for line in response:
                yield json.loads(line)


def notify(state: str) -> None:
    """Tell systemd how the service is."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


class Approver:
    """Judges requests as they come, and once a minute those that it left."""

    def __init__(self, api: Api, nodes_file: Path, trust_cloud: bool, clock: Callable[[], datetime]) -> None:
        self.api, self.nodes_file, self.trust_cloud, self.clock = api, nodes_file, trust_cloud, clock
        self.left: dict[str, str] = {}

    def nodes_for(self, name: str) -> dict[str, KnownNode]:
        """Read which nodes are known at this moment."""
        try:
            nodes = parse_nodes(json.loads(self.nodes_file.read_text()))
        except (OSError, json.JSONDecodeError) as error:
            raise ApproverError(f"{self.nodes_file} cannot be read: {error}") from error
        if self.trust_cloud and re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
            status, node = self.api.call("GET", f"/api/v1/nodes/{name}")
            if status == 200:
                nodes[name] = with_cloud_addresses(nodes.get(name, KnownNode()), node)
        return nodes

    def judge(self, csr: Mapping[str, Any]) -> None:
        """Decide on one request and say so to the API server."""
        name = csr["metadata"]["name"]
        if not is_pending(csr):
            self.left.pop(name, None)
            return
        decision = decide(csr["spec"], self.nodes_for(str(csr["spec"].get("username", "")).removeprefix(NODE_USER)))
        if decision.verdict is Verdict.LEAVE:
            if self.left.get(name) != decision.reason:
                log.warning("left %s: %s", name, decision.reason)
            self.left[name] = decision.reason
            return
        status, answer = self.api.call("PUT", f"{COLLECTION}/{name}/approval", judged(csr, decision, self.clock()))
        if status == 200:
            log.log(
                logging.INFO if decision.verdict is Verdict.APPROVE else logging.WARNING,
                "%s %s: %s",
                decision.verdict.value,
                name,
                decision.reason,
            )
        elif status in (404, 409):
            log.info("%s has changed meanwhile", name)
        else:
            raise ApproverError(f"the API server does not let us judge {name}: {status} {answer.get('message')}")

    def round(self) -> None:
        """List once, then watch for a minute."""
        selector = f"fieldSelector=spec.signerName={SIGNER}"
        status, answer = self.api.call("GET", f"{COLLECTION}?{selector}")
        if status != 200:
            raise ApproverError(f"the API server does not let us list requests: {status} {answer.get('message')}")
        notify("WATCHDOG=1\nSTATUS=Watching")
        for csr in answer["items"]:
            self.judge(csr)
        version = answer["metadata"]["resourceVersion"]
        for event in self.api.watch(f"{COLLECTION}?{selector}&watch=1&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"):
            if event.get("type") == "ERROR":
                return
            if event.get("type") in ("ADDED", "MODIFIED"):
                self.judge(event["object"])

    def run(self) -> None:
        """Go on for ever."""
        trouble = ""
        while True:
            try:
                self.round()
                trouble = ""
            except (ApproverError, OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                if str(error) != trouble:
                    log.warning("trying again until this is over: %s", error)
                trouble = str(error)
                notify(f"WATCHDOG=1\nSTATUS={str(error)[:200]}")
                time.sleep(2)


def main() -> None:
    """Run the daemon."""
    parser = argparse.ArgumentParser(description="Approves serving certificates of kubelets for the addresses that their nodes have.")
    parser.add_argument("--host", required=True, help="address of the API server")
    parser.add_argument("--port", type=int, default=6443, help="its port")
    parser.add_argument("--ca", type=Path, required=True, help="certificates that the API server's is checked with")
    parser.add_argument("--certificate", type=Path, required=True, help="our certificate")
    parser.add_argument("--key", type=Path, required=True, help="its key")
    parser.add_argument("--nodes", type=Path, required=True, help="JSON file of nodes and their addresses; read again for each request")
    parser.add_argument(
        "--trust-cloud", action="store_true", help="believe the addresses of Node objects that a cloud controller manager has initialised"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    context = ssl.create_default_context(cafile=options.ca)
    context.load_cert_chain(options.certificate, options.key)
    notify("READY=1")
    Approver(Api(options.host, options.port, context), options.nodes, options.trust_cloud, lambda: datetime.now(timezone.utc)).run()


if __name__ == "__main__":
    main()
