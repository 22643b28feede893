#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The cloud.conf that the programs of cloud-provider-openstack read."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_conf
short_description: Write the cloud.conf that cloud-provider-openstack reads
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Writes the configuration of the OpenStack cloud controller manager, the Cinder CSI driver and the Barbican KMS plugin into a file,
    or returns it for a Secret.
  - The readers pass over keys that they do not know, cut values at C(#) and C(;), and end at a duration without a unit.
    This module refuses what they would pass over or end at, says what is meant instead, and quotes each value so that it arrives as it is.
  - Only what a reader understands counts. Comments, order, quoting and other ways to write the same value are no difference;
    a key that no reader knows is one.
  - Options are called as the keys are, with C(_) for C(-) and C(project) for C(tenant). What is left out is not written,
    and the reader takes its default.
  - C(octavia-ingress-controller) and C(k8s-keystone-auth) read no cloud.conf; the former has a YAML file of its own, the latter options.
options:
  path:
    description:
      - File to write. Its directory must exist. Without it nothing is written and the text is returned as RV(content),
        for which the task must have C(no_log=true).
    type: path
  current:
    description: The text that is there now, such as that of a Secret, to compare with when there is no O(path).
    type: str
  readers:
    description:
      - The programs that the file is for, the cloud controller manager, the Cinder CSI driver and the Barbican KMS plugin.
      - Sections that none of them reads are refused, and so is a file in which one of them finds no login.
    type: list
    elements: str
    choices: [occm, cinder_csi, barbican_kms]
    default: [occm, cinder_csi]
  reader_version:
    description: Their release, from V(1.26) on, in quotes. What came later is refused.
    type: str
    default: "1.36"
  global:
    description:
      - Login of the readers, section C([Global]).
      - Read by C(occm), C(cinder_csi), C(barbican_kms).
    type: dict
    suboptions: &login
      auth_url:
        description: URL of Keystone. Needed by all ways to log in but O(global.use_clouds).
        type: str
      user_id:
        description: Id of the user.
        type: str
      username:
        description: Name of the user, whose domain must be said, too.
        type: str
      password:
        description: Password of the user.
        type: str
      project_id:
        description: Id of the project. Written as C(tenant-id).
        type: str
      project_name:
        description: Name of the project, whose domain must be said, too. Written as C(tenant-name).
        type: str
      domain_id:
        description: Id of the domain of the user and of the project, for those of the two that have none of their own.
        type: str
      domain_name:
        description: Name of the domain of the user and of the project, for those of the two that have none of their own.
        type: str
      project_domain_id:
        description: Id of the domain of the project. Written as C(tenant-domain-id).
        type: str
      project_domain_name:
        description: Name of the domain of the project. Written as C(tenant-domain-name).
        type: str
      user_domain_id:
        description: Id of the domain of the user.
        type: str
      user_domain_name:
        description: Name of the domain of the user.
        type: str
      application_credential_id:
        description: Id of an application credential.
        type: str
      application_credential_name:
        description: Name of an application credential, whose user must be said, too.
        type: str
      application_credential_secret:
        description: Secret of the application credential.
        type: str
      trust_id:
        description: Id of a trust, which says for which project it is. The one who uses it is O(global.trustee_id), or a user with a password.
        type: str
      trustee_id:
        description: Id of the user to whom the trust is given.
        type: str
      trustee_password:
        description: Password of that user.
        type: str
      token:
        description: A token. Nothing renews it. Since 1.35.
        type: str
      use_clouds:
        description: Take the login from a clouds.yaml. TLS verification and trusts are not taken from there. The reader's default is C(false).
        type: bool
      clouds_file:
        description: Path of the clouds.yaml as the reader sees it. By default it looks in the usual places.
        type: str
      cloud:
        description: Name of the entry. It may be left out if there is one only.
        type: str
      region:
        description: Region whose endpoints are used.
        type: str
      os_endpoint_type:
        description: Which endpoints are used. The reader takes V(public) if it is left out.
        type: str
        choices: [public, internal, admin]
      ca_file:
        description: Path of the certificates that the cloud's are checked with, as the reader sees it.
        type: str
      cert_file:
        description: Path of a client certificate, as the reader sees it.
        type: str
      key_file:
        description: Path of the key of the client certificate, as the reader sees it.
        type: str
      tls_insecure:
        description: Do not check the cloud's certificate.
        type: bool
  clouds:
    description:
      - Logins by name for the Cinder CSI driver's C(--cloud-name), sections C([Global "name"]). The other readers pass over them.
      - Read by C(cinder_csi) since 1.31.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the login.
        type: str
        required: true
      <<: *login
  load_balancer:
    description:
      - Load balancers for Services, section C([LoadBalancer]).
      - Read by C(occm).
    type: dict
    suboptions:
      enabled:
        description: Whether Services get load balancers. The cloud controller manager ends if this is on and the cloud has no Octavia. The reader's default is C(true).
        type: bool
      floating_network_id: &floating_network_id
        description: Id of the external network that floating IPs are taken from. By default the reader looks for one.
        type: str
      floating_subnet_id: &floating_subnet_id
        description: Id of the subnet that floating IPs are taken from.
        type: str
      floating_subnet: &floating_subnet
        description: Pattern of the names of subnets that floating IPs are taken from; a regular expression after C(~), C(!) in front turns it round.
        type: str
      floating_subnet_tags: &floating_subnet_tags
        description: Tags of subnets that floating IPs are taken from, with commas in between.
        type: str
      network_id: &network_id
        description: Id of the network that the addresses of load balancers are in.
        type: str
      subnet_id: &subnet_id
        description: Id of the subnet that the addresses of load balancers are in.
        type: str
      member_subnet_id: &member_subnet_id
        description: Id of the subnet that the nodes are in. By default that of the load balancer.
        type: str
      lb_provider:
        description: Octavia's provider. The reader's default is C(amphora).
        type: str
      lb_method:
        description: How connections are spread. The provider V(ovn) needs V(SOURCE_IP_PORT). The reader's default is C(ROUND_ROBIN).
        type: str
        choices: [ROUND_ROBIN, LEAST_CONNECTIONS, SOURCE_IP, SOURCE_IP_PORT]
      flavor_id:
        description: Id of Octavia's flavor.
        type: str
      availability_zone:
        description: Octavia's availability zone.
        type: str
      create_monitor:
        description: Whether pools get health monitors. The reader's default is C(false).
        type: bool
      monitor_delay:
        description: How long to wait between two checks, with a unit, as in V(5s). The reader's default is C(5s).
        type: str
      monitor_timeout:
        description: How long a check may take, with a unit. The reader's default is C(3s).
        type: str
      monitor_max_retries:
        description: After how many good checks a member gets connections. The reader's default is C(1).
        type: int
      monitor_max_retries_down:
        description: After how many bad checks a member gets none. The reader's default is C(3). Since 1.29.
        type: int
      manage_security_groups:
        description: Whether the nodes get a security group that lets the load balancers in. The reader's default is C(false).
        type: bool
      internal_lb:
        description: Whether all load balancers stay without floating IPs. The reader's default is C(false).
        type: bool
      node_selector:
        description: Labels of the nodes that become members, as C(label=value) with commas in between. Since 1.31.
        type: str
      cascade_delete:
        description: Whether a load balancer is deleted with all its parts in one call. The reader's default is C(true).
        type: bool
      max_shared_lb:
        description: How many Services may share a load balancer. The reader's default is C(2).
        type: int
      enable_ingress_hostname:
        description: Whether Services with the PROXY protocol get a name instead of an address in their status. The reader's default is C(false).
        type: bool
      ingress_hostname_suffix:
        description: What that name ends with. The reader's default is C(nip.io).
        type: str
      default_tls_container_ref:
        description: URL of the container or secret with the certificate for listeners that end TLS.
        type: str
      container_store:
        description: Where such certificates are kept. The reader's default is C(barbican).
        type: str
        choices: [barbican, external]
      provider_requires_serial_api_calls:
        description: Whether the provider cannot take a load balancer with all its parts in one call. The reader's default is C(false). Since 1.28.
        type: bool
  load_balancer_classes:
    description:
      - Choices for Services' annotation C(loadbalancer.openstack.org/class), sections C([LoadBalancerClass "name"]).
      - Read by C(occm).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the class.
        type: str
        required: true
      floating_network_id: *floating_network_id
      floating_subnet_id: *floating_subnet_id
      floating_subnet: *floating_subnet
      floating_subnet_tags: *floating_subnet_tags
      network_id: *network_id
      subnet_id: *subnet_id
      member_subnet_id: *member_subnet_id
  networking:
    description:
      - Addresses of nodes, section C([Networking]).
      - Read by C(occm).
    type: dict
    suboptions:
      public_network_name:
        description: Networks whose addresses are external ones of nodes.
        type: list
        elements: str
      internal_network_name:
        description: Networks whose addresses are internal ones of nodes. By default all.
        type: list
        elements: str
      ipv6_support_disabled:
        description: Whether IPv6 addresses are left out. The reader's default is C(false).
        type: bool
      address_sort_order:
        description: Networks in CIDR notation; a node's addresses come in this order.
        type: list
        elements: str
  route:
    description:
      - Routes to pods, section C([Route]).
      - Read by C(occm).
    type: dict
    suboptions:
      router_id:
        description: Id of the router that gets the nodes' pod networks as routes. Without it there is no route controller.
        type: str
  metadata:
    description:
      - How a program learns about the machine it runs on, section C([Metadata]).
      - Read by C(occm), C(cinder_csi).
    type: dict
    suboptions:
      search_order:
        description: Where to look, in this order. The reader's default is C(configDrive,metadataService).
        type: list
        elements: str
        choices: [configDrive, metadataService]
      request_timeout:
        description: How long any call of the cloud controller manager to OpenStack may take, with a unit; 60 seconds by default.
        type: str
  block_storage:
    description:
      - Volumes, section C([BlockStorage]).
      - Read by C(cinder_csi).
    type: dict
    suboptions:
      node_volume_attach_limit:
        description: How many volumes a node can have; 256 by default.
        type: int
      rescan_on_resize:
        description: Whether a block device is read anew before its file system grows. The reader's default is C(false).
        type: bool
      ignore_volume_az:
        description: Whether volumes may be in another availability zone than the node. The reader's default is C(false).
        type: bool
      ignore_volume_microversion:
        description: Whether the driver does without microversions of Cinder's, for a cloud older than 3.34. The reader's default is C(false).
        type: bool
  key_manager:
    description:
      - Barbican, section C([KeyManager]).
      - Read by C(barbican_kms).
    type: dict
    suboptions:
      key_id:
        description: Id of the key in Barbican.
        type: str
  verify:
    description:
      - Before anything is written, log in with the very logins of the file and look for each network, subnet, router, flavor and key
        that it names by id, and for Octavia if the cloud controller manager is going to ask for it.
      - So it sees what the readers will see. This needs openstacksdk on the machine that the task runs on. It is done in check mode, too.
    type: bool
    default: false
  verify_files:
    description:
      - Where the files that O(global.ca_file), O(global.cert_file), O(global.key_file) and O(global.clouds_file) name lie on the machine
        that the task runs on, by the path that the reader sees.
    type: dict
    default: {}
  backup:
    description: Keep the file that was there, with a time stamp in its name.
    type: bool
    default: false
  validate:
    description: Command that checks the new file before it is put in place, with C(%s) for its path.
    type: str
  mode:
    description: Permissions of the file, octal and quoted.
    type: raw
    default: "0600"
extends_documentation_fragment:
  - ansible.builtin.files
attributes:
  check_mode:
    support: full
    description: Says what would change and changes nothing.
  diff_mode:
    support: full
    description: Shows the old and the new file key by key. Of a secret it shows only whether it changes, of keys that no reader knows nothing.
  idempotent:
    support: full
    description: A file that says the same to the reader is left alone.
notes:
  - Secrets are options with C(no_log). Where the text is returned it holds them, so the module insists on C(no_log=true) for the task.
requirements:
  - openstacksdk 4.0 or newer, for O(verify=true) only
seealso:
  - name: cloud-provider-openstack
    description: Its documentation of the file.
    link: https://github.com/kubernetes/cloud-provider-openstack/blob/master/docs/openstack-cloud-controller-manager/using-openstack-cloud-controller-manager.md
"""

EXAMPLES = r"""
- name: Write the file for the cloud controller manager and the Cinder CSI driver
  kos.labs.cloud_conf:
    path: /etc/kubernetes/cloud.conf
    global:
      auth_url: https://keystone.example.org:5000/v3
      region: RegionOne
      application_credential_id: 6cb5fa6a13184e6fab65ba2108adf50c
      application_credential_secret: "{{ cluster_credential_secret }}"
      ca_file: /etc/ssl/certs/ca-certificates.crt
    load_balancer:
      floating_network_id: 3dc94023-5e9c-4d36-9b3c-8c0dba2ab1c0
      subnet_id: 61bcb6ed-f8e2-4c4f-92a1-5a7d0e0a2f4d
      create_monitor: true
      monitor_delay: 10s
    load_balancer_classes:
      - name: internal
        subnet_id: 8a55a9b0-fcf5-4ddb-9b21-1ff4c3f0de5e
    route:
      router_id: 0f9f6a3c-0c3f-4f0e-8f63-b9e5b2b0ad7d
    block_storage:
      ignore_volume_az: true
    backup: true
  register: cloud_conf

- name: Have the text for a Secret, checked against the cloud
  kos.labs.cloud_conf:
    global:
      auth_url: https://keystone.example.org:5000/v3
      username: kubernetes
      password: "{{ cluster_password }}"
      project_name: kubernetes
      domain_name: Default
    networking:
      internal_network_name: [pods]
    verify: true
  register: secret_conf
  no_log: true

- name: Write the file of a Cinder CSI driver that serves two clouds
  kos.labs.cloud_conf:
    path: /etc/kubernetes/cinder.conf
    readers: [cinder_csi]
    clouds:
      - name: east
        use_clouds: true
        clouds_file: /etc/config/clouds.yaml
        cloud: east
      - name: west
        auth_url: https://west.example.org:5000/v3
        trust_id: 11e2f1a0b8b04fdd9a0dd1d9a4e9c5b7
        user_id: 9f6aa0cbe6a94b5f8c2c8c9f0d4b1c3d
        password: "{{ west_password }}"
"""

RETURN = r"""
content:
  description: The text, secrets and all.
  returned: without O(path)
  type: str
drift:
  description: What differed from the file that was there, key by key. Secrets are not shown, and neither is what no reader knows.
  returned: always
  type: list
  elements: dict
  contains:
    section:
      description: Section.
      type: str
      sample: LoadBalancer
    name:
      description: Name of the section, empty if it has none.
      type: str
      sample: ""
    key:
      description: Key; empty for a named section without keys.
      type: str
      sample: monitor-delay
    change:
      description: What the new file does about it, V(added), V(removed) or V(changed).
      type: str
      sample: changed
    before:
      description: What was there, null if nothing was.
      type: str
      sample: 5s
    after:
      description: What is wanted, null if nothing is.
      type: str
      sample: 10s
    note:
      description: What is odd about the key that was there.
      type: str
      sample: no reader knows this key; monitor-delay was meant, perhaps
unreadable:
  description: Why the readers could not read the file that was there; empty if they could.
  returned: always
  type: str
  sample: "line 3: a key stands before the first section"
verified:
  description: The logins and ids that were looked at.
  returned: always
  type: list
  elements: str
  sample: [global, load_balancer.floating_network_id]
backup_file:
  description: The copy of the file that was there.
  returned: changed and with O(backup)
  type: str
  sample: /etc/kubernetes/cloud.conf.2131.2026-11-20@10:00:00~
"""

import dataclasses
import os
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.errors import UnsupportedError
from ansible_collections.kos.labs.plugins.module_utils import cloud_conf_verify
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf import Plan, compare, make_plan, refused_options
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_gcfg import CloudConfError, parse
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_schema import READERS, SECTIONS, argument_spec

OWN = {
    "path": {"type": "path"},
    "current": {"type": "str", "no_log": True},
    "readers": {"type": "list", "elements": "str", "choices": list(READERS), "default": ["occm", "cinder_csi"]},
    "reader_version": {"type": "str", "default": "1.36"},
    "verify": {"type": "bool", "default": False},
    "verify_files": {"type": "dict", "default": {}},
    "backup": {"type": "bool", "default": False},
    "validate": {"type": "str"},
    "mode": {"type": "raw", "default": "0600"},
}


class CloudConfModule(AnsibleModule):
    """Says which option is meant when one does not exist, and keeps its arguments out of the machine's log."""

    def _log_invocation(self) -> None:
        # A secret of several lines is not recognized and masked there.
        self.log(f"Invoked for {self.params['path'] or 'a text'}")

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        """Fail with advice if it is because of options that do not exist."""
        validation = getattr(self, "validation_result", None)
        if validation is not None and any(isinstance(error, UnsupportedError) for error in validation.errors):
            known = [name for name in self.argument_spec if name not in {section.option for section in SECTIONS}]
            given = {name: value for name, value in self.params.items() if not name.startswith("_ansible_")}
            msg = " ".join(refused_options(given, known)) or msg
        super().fail_json(msg, **kwargs)


def read(path: str) -> bytes | None:
    """Read the file that is there, None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CloudConfError(f"{path} cannot be read: {error.strerror}.") from error


class Writer:
    """Brings the file to what is planned."""

    def __init__(self, module: AnsibleModule, plan: Plan) -> None:
        self.module = module
        self.plan = plan
        # A link stays, and what it leads to is replaced.
        self.path = os.path.realpath(module.params["path"]) if module.params["path"] else ""
        self.result: dict[str, t.Any] = {"changed": False, "unreadable": "", "verified": []}

    def run(self) -> dict[str, t.Any]:
        """Compare, verify, write; return the result."""
        before = self.before()
        self.compare(before)
        if self.module.params["verify"]:
            self.result["verified"] = cloud_conf_verify.verify(self.plan, self.module.params["verify_files"])
        if not self.path:
            return {**self.result, "content": self.plan.text}
        temporary = self.temporary() if self.result["changed"] else ""
        if temporary and not self.module.check_mode:
            if self.module.params["backup"] and before is not None:
                self.result["backup_file"] = self.module.backup_local(self.path)
            self.replace(temporary)
        if os.path.exists(self.path):  # not so in check mode
            attributes = self.module.load_file_common_arguments(self.module.params, path=self.path)
            self.result["changed"] = self.module.set_fs_attributes_if_different(attributes, self.result["changed"])
        return self.result

    def before(self) -> bytes | None:
        """Return what is there."""
        if not self.path:
            current = self.module.params["current"]
            return None if current is None else current.encode(errors="surrogateescape")
        if os.path.isdir(self.path):
            raise CloudConfError(f"{self.path} is a directory: name a file in it.")
        if not os.path.isdir(os.path.dirname(self.path)) and not self.module.check_mode:
            raise CloudConfError(f"{os.path.dirname(self.path)} does not exist: make the directory first.")
        return read(self.path)

    def compare(self, before: bytes | None) -> None:
        """Note what differs. Where nothing is written and nothing is said to be there, there is nothing to compare."""
        self.result["drift"] = []
        if before is None and not self.path:
            return
        blocks: t.Any = ()
        try:
            blocks = parse(before or b"")
        except CloudConfError as error:
            self.result["unreadable"] = str(error)
        changes, diff = compare(blocks, self.plan.blocks)
        if self.result["unreadable"]:
            diff["before"] = f"# no reader gets through this file: {self.result['unreadable']}\n"
        header = self.path or "cloud.conf"
        self.result["changed"] = bool(changes or before is None or self.result["unreadable"])
        self.result["drift"] = [dataclasses.asdict(change) for change in changes]
        self.result["diff"] = {**diff, "before_header": header, "after_header": header}

    def temporary(self) -> str:
        """Write the new file to where only we see it and check it with the command that was given."""
        descriptor, source = tempfile.mkstemp(dir=self.module.tmpdir)
        self.module.add_cleanup_file(source)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(self.plan.text)
        command = self.module.params["validate"]
        if command and "%s" not in command:
            raise CloudConfError("validate must have %s where the path of the new file comes.")
        # In check mode what the command needs may not be installed yet.
        if command and not self.module.check_mode:
            rc, out, err = self.module.run_command(command.replace("%s", source))
            if rc != 0:
                raise CloudConfError(f"what was to become {self.path} is not valid: {(err or out).strip()}")
        return source

    def replace(self, source: str) -> None:
        """Put the new file in its place, with nobody's eyes on a secret in between."""
        descriptor, target = tempfile.mkstemp(dir=os.path.dirname(self.path), prefix=".cloud-conf-")
        self.module.add_cleanup_file(target)
        with os.fdopen(descriptor, "wb") as file, open(source, "rb") as content:
            file.write(content.read())
            file.flush()
            os.fsync(file.fileno())
        self.module.set_fs_attributes_if_different(self.module.load_file_common_arguments(self.module.params, path=target), False)
        try:
            os.replace(target, self.path)
        except OSError as error:
            if not self.module.params["unsafe_writes"]:
                raise CloudConfError(f"{self.path} cannot be replaced: {error.strerror}; if it is a mount, see unsafe_writes.") from error
            with open(self.path, "w", encoding="utf-8", newline="") as mounted:
                mounted.write(self.plan.text)


def make_module() -> CloudConfModule:
    """Return the module with its options."""
    return CloudConfModule(
        argument_spec={**argument_spec(), **OWN},
        mutually_exclusive=[("path", "current")],
        add_file_common_args=True,
        supports_check_mode=True,
    )


def main() -> None:
    """Entry point."""
    module = make_module()
    params = module.params
    if not params["path"] and not module.no_log:
        module.fail_json(msg="Without path the text is returned, secrets and all: give the task no_log=true, or a path.")
    if params["verify"] and cloud_conf_verify.SDK_ERROR:
        module.fail_json(msg=missing_required_lib("openstacksdk", reason="to verify"), exception=cloud_conf_verify.SDK_ERROR)
    try:
        plan = make_plan(
            {section.option: params[section.option] for section in SECTIONS},
            readers=params["readers"],
            reader_version=params["reader_version"],
        )
        for warning in plan.warnings:
            module.warn(warning)
        result = Writer(module, plan).run()
    except CloudConfError as error:
        module.fail_json(msg=str(error))
    if not params["path"]:
        # The task hides its whole result; stars in the text would end up in the Secret.
        module.no_log_values.clear()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
