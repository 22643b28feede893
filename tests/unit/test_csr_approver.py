# SPDX-License-Identifier: GPL-3.0-or-later
"""The approver of kubelets' serving certificates: parsing, decision, conversation with the API server."""

from __future__ import annotations

import base64
import importlib.util
import ipaddress
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

PROGRAM = Path(__file__).parents[2] / "roles" / "kube_csr_approver" / "files" / "kube_csr_approver.py"
SPEC = importlib.util.spec_from_file_location("kube_csr_approver", PROGRAM)
assert SPEC is not None
assert SPEC.loader is not None
approver = importlib.util.module_from_spec(SPEC)
sys.modules["kube_csr_approver"] = approver
SPEC.loader.exec_module(approver)

KEY = ec.generate_private_key(ec.SECP256R1())
NODES = approver.parse_nodes({"worker1": {"addresses": ["172.18.0.11", "172.24.4.11"]}, "worker2": {"addresses": ["172.18.0.12"]}})
NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


def names(dns: tuple[str, ...] = (), addresses: tuple[str, ...] = ()) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in dns] + [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]


def request(
    common_name: str | None = "system:node:worker1",
    organizations: tuple[str, ...] = ("system:nodes",),
    san: list[x509.GeneralName] | None = None,
    extra: list[x509.NameAttribute] | None = None,
) -> str:
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
    if common_name is not None:
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject + (extra or [])))
    san = names(("worker1",), ("172.18.0.11",)) if san is None else san
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def spec(pem: str | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "signerName": "kubernetes.io/kubelet-serving",
        "username": "system:node:worker1",
        "groups": ["system:nodes", "system:authenticated"],
        "usages": ["digital signature", "server auth"],
        "request": base64.b64encode((pem or request()).encode()).decode(),
        **changes,
    }


APPROVED = [
    spec(),
    spec(usages=["key encipherment", "digital signature", "server auth"]),
    spec(request(san=names(("worker1",)))),
    spec(request(san=names((), ("172.18.0.11", "172.24.4.11")))),
]
DENIED = [
    (spec(username="kubernetes-admin"), "no node"),
    (spec(username="system:node:"), "no node"),
    (spec(username="system:node:worker2"), "subject"),
    (spec(groups=["system:authenticated"]), "group"),
    (spec(usages=["digital signature", "client auth"]), "usages"),
    (spec(usages=["digital signature", "server auth", "client auth"]), "usages"),
    (spec(usages=[]), "usages"),
    (spec(usages=["server auth", "server auth", "digital signature"]), "usages"),
    (spec(request(common_name="system:node:worker2")), "subject"),
    (spec(request(common_name=None)), "subject"),
    (spec(request(organizations=("system:masters",))), "subject"),
    (spec(request(organizations=("system:nodes", "system:masters"))), "subject"),
    (spec(request(extra=[x509.NameAttribute(NameOID.COMMON_NAME, "system:node:worker1")])), "subject"),
    (spec(request(extra=[x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x")])), "subject"),
    (spec(request(san=[])), "no alternative names"),
    (spec(request(san=names(("worker2",), ("172.18.0.11",)))), "worker2"),
    (spec(request(san=names(("worker1", "kubernetes.default"), ("172.18.0.11",)))), "kubernetes.default"),
    (spec(request(san=names(("WORKER1",)))), "WORKER1"),
    (spec(request(san=names(("worker1, IP Address:172.18.0.11",)))), "not called"),
    (spec(request(san=[*names(("worker1",)), x509.RFC822Name("root@worker1")])), "neither"),
    (spec(request(san=[*names(("worker1",)), x509.UniformResourceIdentifier("https://worker1")])), "neither"),
    (spec("nothing"), "cannot be read"),
    (spec(request() + request()), "cannot be read"),
    (spec(request=""), "cannot be read"),
    (spec(request="%%%"), "cannot be read"),
]
LEFT = [
    (spec(signerName="kubernetes.io/kube-apiserver-client"), "not ours"),
    (spec(request(san=names(("worker1",), ("172.18.0.12",)))), "172.18.0.12"),
    (spec(request(san=names((), ("fd00::1",)))), "fd00::1"),
    (spec(request(common_name="system:node:worker9"), username="system:node:worker9"), "no node worker9"),
]


@pytest.mark.parametrize("wanted", APPROVED)
def test_approves_own_names_and_addresses(wanted: dict[str, Any]) -> None:
    assert approver.decide(wanted, NODES).verdict is approver.Verdict.APPROVE


@pytest.mark.parametrize(("wanted", "reason"), DENIED)
def test_denies_what_no_node_asks_for(wanted: dict[str, Any], reason: str) -> None:
    decision = approver.decide(wanted, NODES)
    assert decision.verdict is approver.Verdict.DENY
    assert reason in decision.reason


@pytest.mark.parametrize(("wanted", "reason"), LEFT)
def test_leaves_what_may_become_right(wanted: dict[str, Any], reason: str) -> None:
    decision = approver.decide(wanted, NODES)
    assert decision.verdict is approver.Verdict.LEAVE
    assert reason in decision.reason


LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=30)
ADDRESS = st.ip_addresses().map(str)


@settings(max_examples=60, deadline=None)
@given(dns=st.lists(LABEL, max_size=4), addresses=st.lists(ADDRESS, max_size=4), organizations=st.lists(LABEL, max_size=3), name=LABEL)
def test_reads_what_another_library_wrote(dns: list[str], addresses: list[str], organizations: list[str], name: str) -> None:
    read = approver.parse_request(request(name, tuple(organizations), names(tuple(dns), tuple(addresses))))
    assert read == approver.Request((name,), tuple(organizations), tuple(dns), tuple(addresses))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_rubbish_is_an_error_and_no_crash(data: bytes) -> None:
    body = base64.encodebytes(data).decode()
    with pytest.raises(ValueError, match=r"[a-z]"):
        approver.parse_request(f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_damaged_request_never_gains_names(position: int, flip: int) -> None:
    der = bytearray(x509.load_pem_x509_csr(request().encode()).public_bytes(serialization.Encoding.DER))
    der[position % len(der)] ^= flip
    body = base64.encodebytes(bytes(der)).decode()
    damaged = spec(f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")
    if approver.decide(damaged, NODES).verdict is approver.Verdict.APPROVE:
        read = approver.parse_request(base64.b64decode(damaged["request"]).decode())
        assert set(read.dns_names) <= {"worker1"}
        assert set(read.addresses) <= set(NODES["worker1"].addresses)


def test_file_of_nodes_is_checked() -> None:
    for wrong in ([], {"worker1": []}, {"worker1": {}}, {"worker1": {"addresses": ["x"]}}):
        with pytest.raises(approver.ApproverError):
            approver.parse_nodes(wrong)


def node_object(provider: str | None, taints: list[dict[str, str]]) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": "172.18.0.99"}, {"type": "Hostname", "address": "worker1"}]
    return {"spec": {"providerID": provider, "taints": taints}, "status": {"addresses": addresses}}


def test_cloud_addresses_count_only_when_initialised() -> None:
    uninitialised = [{"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule"}]
    assert "172.18.0.99" in approver.with_cloud_addresses(NODES["worker1"], node_object("openstack:///1", [])).addresses
    assert approver.with_cloud_addresses(NODES["worker1"], node_object("openstack:///1", uninitialised)) == NODES["worker1"]
    assert approver.with_cloud_addresses(NODES["worker1"], node_object(None, [])) == NODES["worker1"]


class FakeApi:
    """An API server that has requests and hears verdicts."""

    def __init__(self, items: list[dict[str, Any]], events: list[dict[str, Any]], put_status: int = 200) -> None:
        self.items, self.events, self.put_status = items, events, put_status
        self.verdicts: list[tuple[str, str]] = []

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        if method == "PUT":
            self.verdicts.append((path.split("/")[-2], body["status"]["conditions"][-1]["type"]))
            return self.put_status, {"message": "no"}
        if "/nodes/" in path:
            return 200, node_object("openstack:///1", [])
        return 200, {"metadata": {"resourceVersion": "7"}, "items": self.items}

    def watch(self, path: str) -> list[dict[str, Any]]:
        assert "resourceVersion=7" in path
        return self.events


def csr(name: str, wanted: dict[str, Any], *conditions: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": wanted, "status": {"conditions": [{"type": condition} for condition in conditions]}}


def daemon(tmp_path: Path, api: FakeApi, trust_cloud: bool = False) -> Any:
    file = tmp_path / "nodes.json"
    file.write_text(json.dumps({"worker1": {"addresses": ["172.18.0.11"]}}))
    return approver.Approver(api, file, trust_cloud, lambda: NOW)


def test_judges_what_is_listed_and_what_comes(tmp_path: Path) -> None:
    api = FakeApi(
        [csr("old", spec(), "Approved"), csr("good", spec()), csr("left", LEFT[1][0])],
        [
            {"type": "ADDED", "object": csr("bad", DENIED[0][0])},
            {"type": "DELETED", "object": csr("gone", spec())},
            {"type": "BOOKMARK", "object": {}},
        ],
    )
    daemon(tmp_path, api).round()
    assert api.verdicts == [("good", "Approved"), ("bad", "Denied")]


def test_says_once_what_it_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = daemon(tmp_path, FakeApi([csr("left", LEFT[1][0])], []))
    one.round()
    one.round()
    assert [record.message for record in caplog.records] == ["left left: worker1 is not known to have 172.18.0.12"]


def test_a_conflict_is_no_error_and_a_refusal_is(tmp_path: Path) -> None:
    daemon(tmp_path, FakeApi([csr("good", spec())], [], put_status=409)).round()
    with pytest.raises(approver.ApproverError, match="does not let us judge good"):
        daemon(tmp_path, FakeApi([csr("good", spec())], [], put_status=403)).round()


def test_believes_the_cloud_only_when_told(tmp_path: Path) -> None:
    wanted = spec(request(san=names((), ("172.18.0.99",))))
    for trust, verdicts in ((False, []), (True, [("new", "Approved")])):
        api = FakeApi([csr("new", wanted)], [])
        daemon(tmp_path, api, trust).round()
        assert api.verdicts == verdicts


def test_a_missing_file_of_nodes_is_said(tmp_path: Path) -> None:
    one = daemon(tmp_path, FakeApi([csr("good", spec())], []))
    (tmp_path / "nodes.json").unlink()
    with pytest.raises(approver.ApproverError, match=r"nodes\.json"):
        one.round()
