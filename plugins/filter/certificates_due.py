# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificates have to be made, or made again."""

from __future__ import annotations

DOCUMENTATION = r"""
name: certificates_due
short_description: Which certificates have to be made, or made again
version_added: 0.1.0
author: The kos.labs authors
description:
  - Compares descriptions of certificates with the certificates that exist, without a module call for each of them.
  - A certificate is due if it is missing, ends soon, was issued by another authority, or does not say what its description says.
options:
  _input:
    description:
      - Descriptions, each a dictionary with C(name), C(ca), C(common_name), C(organization) (may be missing),
        C(usages) (V(serverAuth), V(clientAuth)) and C(sans) (a list such as V(DNS:name), V(IP:address)).
    type: list
    elements: dict
    required: true
  found:
    description: Existing certificates, PEM text by name.
    type: dict
    required: true
  authorities:
    description: Certificates of the authorities, PEM text by name.
    type: dict
    required: true
  days:
    description: A certificate that ends within so many days is due.
    type: int
    required: true
"""

EXAMPLES = r"""
due: "{{ wanted | kos.labs.certificates_due(found=found, authorities=authorities, days=30) }}"
"""

RETURN = r"""
_value:
  description: The descriptions that are due, each with the additional key C(reason).
  type: list
  elements: dict
"""

import datetime
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:  # pragma: no cover - requirements.txt has it
    x509 = None  # type: ignore[assignment]
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    names = {f"DNS:{name}" for name in extension.get_values_for_type(x509.DNSName)}
    return names | {f"IP:{address}" for address in extension.get_values_for_type(x509.IPAddress)}


def _normal(san: str) -> str:
    kind, _, value = san.partition(":")
    return f"IP:{ipaddress.ip_address(value)}" if kind == "IP" else san


def _usages(certificate: x509.Certificate) -> set[str]:
    known = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}
    try:
        extension = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return set()
    return {known.get(oid, oid.dotted_string) for oid in extension}


def _subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str | None:
    values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]
    return str(values[0]) if values else None


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def reason_to_issue(wanted: Mapping[str, Any], pem: str | None, authority: str | None, days: int, now: datetime.datetime) -> str | None:
    """Say why a certificate has to be made, None if it is as it should be."""
    if pem is None:
        return "missing"
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return "damaged"
    if certificate.not_valid_after_utc < now + datetime.timedelta(days=days):
        return f"ends {certificate.not_valid_after_utc:%Y-%m-%d}"
    if authority is None or not _issued_by(certificate, x509.load_pem_x509_certificate(authority.encode())):
        return "other authority"
    subject = (_subject(certificate, NameOID.COMMON_NAME), _subject(certificate, NameOID.ORGANIZATION_NAME))
    if subject != (wanted["common_name"], wanted.get("organization")):
        return "other subject"
    if _names(certificate) != {_normal(san) for san in wanted["sans"]}:
        return "other names"
    if _usages(certificate) != set(wanted["usages"]):
        return "other usages"
    return None


def certificates_due(
    wanted: Iterable[Mapping[str, Any]],
    found: Mapping[str, str],
    authorities: Mapping[str, str],
    days: int,
    now: datetime.datetime | None = None,
) -> list[dict[str, Any]]:
    """Find the descriptions whose certificates have to be made, each with the reason."""
    if IMPORT_ERROR is not None:
        raise AnsibleFilterError("the Python library cryptography is missing: install what requirements.txt names") from IMPORT_ERROR
    now = now or datetime.datetime.now(datetime.timezone.utc)
    due = []
    for entry in wanted:
        reason = reason_to_issue(entry, found.get(entry["name"]), authorities.get(entry["ca"]), int(days), now)
        if reason is not None:
            due.append({**entry, "reason": reason})
    return due


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"certificates_due": certificates_due}
