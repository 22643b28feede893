# SPDX-License-Identifier: GPL-3.0-or-later
"""What a login of somebody's clouds.yaml is, and what to say when it does not work. No I/O."""

from __future__ import annotations

import os
import typing as t

__all__ = ["entry_of", "is_application_credential", "why_not"]

# What of a login other programs need to log in the same way.
_PROGRAM = frozenset(
    {
        "auth_url",
        "application_credential_id",
        "application_credential_name",
        "application_credential_secret",
        "user_id",
        "username",
        "user_domain_id",
        "user_domain_name",
    }
)
_KEPT = ("interface", "cacert", "cert", "key")


def is_application_credential(auth_type: str | None, auth: t.Mapping[str, t.Any]) -> bool:
    """Tell whether a login is one of a program, which carries no password of a person."""
    return "applicationcredential" in (auth_type or "") or "application_credential_secret" in auth


def entry_of(config: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the entry of a clouds.yaml that logs in as a resolved configuration of the SDK does."""
    auth = {key: value for key, value in config["auth"].items() if value not in (None, "")}
    auth_type = config.get("auth_type") or "password"
    if is_application_credential(auth_type, auth):
        auth_type = "v3applicationcredential"
        # It has its project in it, and is refused with another beside it.
        auth = {key: value for key, value in auth.items() if key in _PROGRAM}
    entry: dict[str, t.Any] = {"auth_type": auth_type, "auth": auth, "region_name": config.get("region_name") or ""}
    for key in _KEPT:
        value = config.get(key)
        if value:
            entry[key] = os.path.abspath(os.path.expanduser(value)) if key != "interface" else value
    if config.get("verify") is False:
        entry["verify"] = False
    return entry


def why_not(error: BaseException, *, cloud: str, where: str, url: str = "", known: t.Sequence[str] = ()) -> str:
    """Return the sentence that tells a user why a login does not work and what to change."""
    # By name: what the libraries call their errors is steadier than where they keep them.
    names = {kind.__name__ for kind in type(error).__mro__}
    entry = f"the entry {cloud} of {where}" if where else f"the entry {cloud} of clouds.yaml"
    if "ConfigException" in names:
        if "not found" in str(error):
            have = f"it has {', '.join(known)}" if known else "it has none"
            place = (
                f"{where}: {have}" if where else "any clouds.yaml: name its file with OS_CLIENT_CONFIG_FILE, or run the command beside it"
            )
            return f"There is no entry {cloud} in {place}."
        return f"{entry[0].upper()}{entry[1:]} cannot be read: {_line(error)}."
    if "MissingRequiredOptions" in names:
        return f"{entry[0].upper()}{entry[1:]} is not complete: {_line(error)}."
    if "Unauthorized" in names or "Forbidden" in names:
        return f"Keystone at {url} does not let {entry} in: correct its user, password, domains and project, or its application credential."
    if "SSLFailure" in names:
        return f"The certificate of {url} is not trusted: set cacert in {entry} to the file of its authority ({_line(error)})."
    if names & {"ConnectFailure", "ConnectTimeout", "DiscoveryFailure", "ConnectionError"}:
        return f"No Keystone answers at {url}: correct auth_url in {entry}, or look at the way there ({_line(error)})."
    if "NotFound" in names:
        return f"There is no Keystone at {url}: auth_url in {entry} ends in /v3 as a rule."
    return f"The login of {entry} at {url} failed: {_line(error)}."


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]
