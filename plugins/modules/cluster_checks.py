#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check a running Kubernetes cluster from outside."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_checks
short_description: Check a running Kubernetes cluster from outside
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Asks a cluster, as a person would with kubectl, whether it does what a cluster must, and returns a verdict for each question with what was seen.
  - Makes a namespace with a few pods. The caller removes it; the module waits for one that is still going away.
options:
  kubectl:
    description: Path of kubectl.
    type: path
    required: true
  kubeconfig:
    description: Path of an administrator's kubeconfig with embedded certificates.
    type: path
    required: true
  version:
    description: Version that API servers and kubelets must have.
    type: str
    required: true
  masters:
    description: Addresses of the API servers by name of the master, as this machine reaches them.
    type: dict
    required: true
  node_ips:
    description: Addresses of the nodes that must be there, by name. Without any, the control plane alone is checked.
    type: dict
    default: {}
  floating_ips:
    description: Addresses by which the nodes are reached from outside, by name.
    type: dict
    default: {}
  servers:
    description:
      - The servers of the project as the compute API has them, to compare nodes with what a cloud controller manager has written there.
      - Leave them out if there is none.
    type: list
    elements: dict
  region:
    description: Region that nodes must say they are in, if O(servers) are given.
    type: str
  load_balancer:
    description: Seconds that the cloud gets to make a load balancer for a service. With V(0) none is asked for.
    type: int
    default: 0
  volume:
    description: Seconds that a claim gets to become a volume in a pod, and again to follow it to another node. With V(0) none is asked for.
    type: int
    default: 0
  pod_range:
    description: Addresses of pods. With it, the ways that packets take from node to node are compared with Flannel's backend.
    type: str
  routes:
    description:
      - The routes of the cluster's router as the network API has them, to compare with the nodes' ranges of pods.
      - Leave them out if there is no cloud controller manager.
    type: list
    elements: dict
  api_port:
    description: Port of the API servers.
    type: int
    default: 6443
  domain:
    description: Domain of the cluster's services.
    type: str
    default: cluster.local
  image:
    description: Image of the pods. It must be agnhost, with curl, dig and a shell.
    type: str
    required: true
  namespace:
    description: Namespace to work in.
    type: str
    default: kos-verify
  outside_name:
    description: A name that CoreDNS must resolve with the help of the nodes' resolver. Leave it out where there is none.
    type: str
  timeout:
    description: Seconds to wait for pods.
    type: int
    default: 180
  settle:
    description: Seconds that a cluster which has just started gets until its own parts are well.
    type: int
    default: 0
attributes:
  check_mode:
    description: Checks nothing, since it would have to make pods.
    support: none
"""

EXAMPLES = r"""
- name: Check a control plane
  kos.labs.cluster_checks:
    kubectl: /usr/local/bin/kubectl
    kubeconfig: "{{ kos_state_dir }}/kubeconfig/admin"
    version: "{{ kubernetes_version }}"
    image: registry.k8s.io/e2e-test-images/agnhost:{{ agnhost_version }}
    masters:
      master1: 172.24.4.10
"""

RETURN = r"""
checks:
  description: The questions, in a stable order, each with C(name), C(verdict) (pass, fail or skip) and C(seen).
  returned: success
  type: list
  elements: dict
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kos.labs.plugins.module_utils.cluster_checks import run_checks
from ansible_collections.kos.labs.plugins.module_utils.cluster_checks_kubectl import ClusterCheckError, Kubectl, Settings

_REQUEST_TIMEOUT = 60


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "kubectl": {"type": "path", "required": True},
            "kubeconfig": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "masters": {"type": "dict", "required": True},
            "node_ips": {"type": "dict", "default": {}},
            "floating_ips": {"type": "dict", "default": {}},
            "servers": {"type": "list", "elements": "dict"},
            "region": {"type": "str"},
            "load_balancer": {"type": "int", "default": 0},
            "volume": {"type": "int", "default": 0},
            "pod_range": {"type": "str"},
            "routes": {"type": "list", "elements": "dict"},
            "api_port": {"type": "int", "default": 6443},
            "domain": {"type": "str", "default": "cluster.local"},
            "image": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": "kos-verify"},
            "outside_name": {"type": "str"},
            "timeout": {"type": "int", "default": 180},
            "settle": {"type": "int", "default": 0},
        }
    )
    given = dict(module.params)
    kubectl = Kubectl(program=given.pop("kubectl"), kubeconfig=given.pop("kubeconfig"), timeout=_REQUEST_TIMEOUT)
    try:
        checks = run_checks(kubectl, Settings(**given))
    except ClusterCheckError as error:
        module.fail_json(msg=str(error))
    # The namespace is the caller's to remove: nothing lasting has changed.
    module.exit_json(changed=False, checks=[dataclasses.asdict(check) for check in checks])


if __name__ == "__main__":
    main()
