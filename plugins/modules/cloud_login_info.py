#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Try a login of a clouds.yaml and tell what it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_login_info
short_description: Try a login of a clouds.yaml and tell what it is
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Finds an entry of a C(clouds.yaml) as the OpenStack SDK does, with C(secure.yaml) and vendor profiles, logs in with it, and returns
    whose login it is, in which project, with which roles, and what services the catalog has.
  - A login that does not work is not a failure of the module but a sentence in RV(problem), so that a caller can tell it with what else is wrong.
  - Reads only.
options:
  cloud:
    description: Name of the entry.
    type: str
    required: true
  clouds_file:
    description: The C(clouds.yaml) to look in. By default the SDK looks at C(OS_CLIENT_CONFIG_FILE), here, in C(~/.config/openstack) and in C(/etc/openstack).
    type: path
  region_name:
    description: Region, if not that of the entry.
    type: str
requirements:
  - openstacksdk
attributes:
  check_mode:
    support: full
    description: The module reads only.
notes:
  - What it returns holds the login with its secrets. Give the task C(no_log).
"""

EXAMPLES = r"""
- name: Try the login
  kos.labs.cloud_login_info:
    cloud: mine
  register: login
  no_log: true
"""

RETURN = r"""
problem:
  description: Why the login does not work and what to change, in a sentence; empty if it works.
  returned: always
  type: str
file:
  description: The C(clouds.yaml) that holds the entry.
  returned: always
  type: str
login:
  description: An entry of a C(clouds.yaml) that logs in the same way and stands alone.
  returned: when there is such an entry
  type: dict
application_credential:
  description: Whether it is the login of a program.
  returned: when there is such an entry
  type: bool
session:
  description: C(project_id), C(project_name), C(user_id), C(user_name), C(roles), and the types of the C(services) in the catalog.
  returned: when the login works
  type: dict
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kos.labs.plugins.module_utils.cloud_login import entry_of, is_application_credential, why_not


def look(cloud: str, clouds_file: str | None, region_name: str | None) -> dict[str, t.Any]:
    """Return what the module returns."""
    from keystoneauth1 import exceptions as refused
    from openstack import exceptions
    from openstack.config import OpenStackConfig

    url, where, known = "", clouds_file or "", []
    if clouds_file and not os.path.exists(clouds_file):
        return {"problem": f"There is no file {clouds_file}: name the clouds.yaml that has the entry {cloud}.", "file": clouds_file}
    result: dict[str, t.Any] = {}
    try:
        config = OpenStackConfig(config_files=[clouds_file] if clouds_file else None)
        where, known = config.config_filename or where, sorted(config.get_cloud_names())
        region = config.get_one(cloud=cloud, **({"region_name": region_name} if region_name else {}))
        url = region.config["auth"].get("auth_url", "")
        login = entry_of(region.config)
        result = {"login": login, "application_credential": is_application_credential(login["auth_type"], login["auth"])}
        session = region.get_session()
        access = session.auth.get_access(session)
    except (refused.ClientException, exceptions.SDKException, OSError, KeyError, ValueError) as error:
        return {**result, "problem": why_not(error, cloud=cloud, where=where, url=url, known=known), "file": where}
    if not access.project_id:
        problem = f"The entry {cloud} of {where} names no project: add project_name and project_domain_name to its auth."
        return {**result, "problem": problem, "file": where}
    regions = sorted(
        {endpoint["region"] for service in access.service_catalog.catalog for endpoint in service["endpoints"] if endpoint.get("region")}
    )
    if not login["region_name"]:
        if len(regions) > 1:
            problem = f"The entry {cloud} of {where} names no region and the cloud has {', '.join(regions)}: add region_name to it."
            return {**result, "problem": problem, "file": where}
        login["region_name"] = regions[0] if regions else "RegionOne"
    elif login["region_name"] not in regions:
        problem = f"The cloud has no region {login['region_name']}, which the entry {cloud} of {where} names: set region_name to {' or '.join(regions)}."
        return {**result, "problem": problem, "file": where}
    result["session"] = {
        "project_id": access.project_id,
        "project_name": access.project_name,
        "user_id": access.user_id,
        "user_name": access.username,
        "roles": sorted(access.role_names),
        "services": sorted({service["type"] for service in access.service_catalog.catalog}),
    }
    return {**result, "problem": "", "file": os.path.abspath(where) if where else ""}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "cloud": {"type": "str", "required": True},
            "clouds_file": {"type": "path"},
            "region_name": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        import openstack  # noqa: F401
    except ImportError:
        module.fail_json(msg="openstacksdk is required for this module")
    module.exit_json(changed=False, **look(module.params["cloud"], module.params["clouds_file"], module.params["region_name"]))


if __name__ == "__main__":
    main()
