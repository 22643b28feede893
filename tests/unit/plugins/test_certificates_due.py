# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import ipaddress

import pytest
from ansible_collections.kos.labs.plugins.filter.certificates_due import certificates_due
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
WANTED = {
    "name": "master1/apiserver",
    "ca": "cluster",
    "common_name": "kube-apiserver",
    "usages": ["serverAuth"],
    "sans": ["DNS:master1", "IP:172.18.0.10", "IP:fd00::1"],
}


class Authority:
    def __init__(self, name="ca"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = self.sign(self.name, self.key, None, [])

    def sign(self, subject, key, usages, names, days=365):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + days * DAY)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, common_name="kube-apiserver", organization=None, usages=(ExtendedKeyUsageOID.SERVER_AUTH,), addresses=(), days=365):
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        names = [x509.DNSName("master1")] + [
            x509.IPAddress(ipaddress.ip_address(address)) for address in addresses or ("172.18.0.10", "fd00:0::1")
        ]
        return self.sign(x509.Name(attributes), ec.generate_private_key(ec.SECP256R1()), usages, names, days)


@pytest.fixture(scope="module")
def authority():
    return Authority()


def reasons(authority, pem, wanted=None, days=30, authorities=None):
    found = {} if pem is None else {"master1/apiserver": pem}
    authorities = {"cluster": authority.pem} if authorities is None else authorities
    return [entry["reason"] for entry in certificates_due([wanted or WANTED], found, authorities, days, NOW)]


def test_a_sound_certificate_is_not_due(authority):
    assert reasons(authority, authority.issue()) == []


def test_missing_and_damaged_are_due(authority):
    assert reasons(authority, None) == ["missing"]
    assert reasons(authority, "rubbish") == ["damaged"]


@pytest.mark.parametrize(("left", "renew", "due"), [(31, 30, False), (29, 30, True), (-1, 0, True), (1, 0, False)])
def test_what_ends_soon_is_due(authority, left, renew, due):
    assert bool(reasons(authority, authority.issue(days=left), days=renew)) is due


def test_another_authority_of_the_same_name_makes_all_due(authority):
    assert reasons(authority, Authority().issue()) == ["other authority"]
    assert reasons(authority, authority.issue(), authorities={}) == ["other authority"]


@pytest.mark.parametrize(
    ("issued", "reason"),
    [
        ({"common_name": "x"}, "other subject"),
        ({"organization": "x"}, "other subject"),
        ({"usages": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)}, "other usages"),
        ({"usages": (ExtendedKeyUsageOID.CODE_SIGNING,)}, "other usages"),
        ({"usages": ()}, "other usages"),
        ({"addresses": ("172.18.0.10",)}, "other names"),
        ({"addresses": ("172.18.0.10", "fd00::1", "172.18.0.11")}, "other names"),
    ],
)
def test_what_says_something_else_is_due(authority, issued, reason):
    assert reasons(authority, authority.issue(**issued)) == [reason]


def test_the_description_is_kept(authority):
    (entry,) = certificates_due([WANTED], {}, {"cluster": authority.pem}, 30)
    assert entry == {**WANTED, "reason": "missing"}


def test_order_is_kept_and_only_what_is_due_is_there(authority):
    wanted = [{**WANTED, "name": name} for name in ("a", "b", "c")]
    due = certificates_due(wanted, {"b": authority.issue()}, {"cluster": authority.pem}, 30, NOW)
    assert [entry["name"] for entry in due] == ["a", "c"]
