#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Wait until objects of a cluster are ready, and say what holds them if they are not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_ready
short_description: Wait until objects of a cluster are ready, and say what holds them
version_added: 0.1.0
description:
  - Waits for several objects at once, where a wait of M(kubernetes.core.k8s) knows one.
  - When the time is over it names each object that is not ready, and of workloads each pod with what it waits for.
options:
  objects:
    description: What to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - Kind of the object. A V(Node) is ready when its condition Ready is true and its network is not unavailable;
            V(DaemonSet) and V(Deployment) when their rollout is complete. Others are ready when they exist, or when O(objects[].condition) is true.
        type: str
        required: true
      api_version:
        description: API version; known for V(Node), V(DaemonSet) and V(Deployment).
        type: str
      names:
        description: Names of the objects.
        type: list
        elements: str
        required: true
      namespace:
        description: Namespace of the object, if its kind has one.
        type: str
      condition:
        description: Type of a condition that is to be true instead of what the kind says.
        type: str
      until:
        description: Whether the objects are to be ready, or whether it is enough that they exist.
        type: str
        choices: [ready, exists]
        default: ready
  timeout:
    description: Seconds after which to give up.
    type: int
    default: 180
  interval:
    description: Seconds between two looks.
    type: float
    default: 1
attributes:
  check_mode:
    description: Whether the cluster is ready can be told without waiting.
    details: Looks once, does not wait and does not fail.
    support: partial
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
requirements:
  - kubernetes >= 24.2.0
author:
  - The kos.labs authors (@kos-labs)
"""

EXAMPLES = r"""
- name: Wait until the network of two nodes is up
  kos.labs.k8s_ready:
    kubeconfig: .state/kubeconfig/admin
    objects:
      - {kind: Node, names: [worker1, worker2]}
      - {kind: DaemonSet, namespace: kube-flannel, names: [kube-flannel]}
"""

RETURN = r"""
seconds:
  description: How long it took.
  returned: always
  type: int
blockers:
  description: What was not ready, in words; empty on success.
  returned: always
  type: list
  elements: str
  sample: ["Node worker1: has not registered"]
objects:
  description: The objects that exist, in the order in which they were asked for.
  returned: on success
  type: list
  elements: dict
"""

import copy
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kos.labs.plugins.module_utils._readiness import Blocker, explain_pods, pods_of, problem
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import get_api_client
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.core import AnsibleK8SModule
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.exceptions import CoreException

API_VERSIONS = {"Node": "v1", "DaemonSet": "apps/v1", "Deployment": "apps/v1"}


class Cluster:
    """Reads objects; an API server that does not answer is one that has nothing yet."""

    def __init__(self, connect: t.Callable[[], t.Any]) -> None:
        self.connect = connect
        self.client: t.Any = None
        self.trouble: str | None = None

    def _get(self, kind: str, api_version: str, **where: str | None) -> dict[str, t.Any] | None:
        from kubernetes.dynamic.exceptions import DynamicApiError, NotFoundError, ResourceNotFoundError
        from urllib3.exceptions import HTTPError

        self.trouble = None
        try:
            if self.client is None:
                self.client = self.connect()
            resource = self.client.resource(kind, api_version)
            return t.cast("dict[str, t.Any]", self.client.get(resource, **where).to_dict())
        except (NotFoundError, ResourceNotFoundError):
            return None
        except (DynamicApiError, HTTPError) as error:
            self.trouble = str(error).splitlines()[0]
            return None

    def read(self, wanted: dict[str, t.Any]) -> dict[str, t.Any] | None:
        """Return the object, or None."""
        api_version = wanted["api_version"] or API_VERSIONS[wanted["kind"]]
        return self._get(wanted["kind"], api_version, name=wanted["name"], namespace=wanted["namespace"])

    def pods(self, workload: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        """Return the pods of a workload."""
        every = self._get("Pod", "v1", namespace=workload["metadata"]["namespace"])
        return [t.cast("dict[str, t.Any]", pod) for pod in pods_of(workload, (every or {}).get("items", []))]


class Watched:
    """An object that is waited for: what was asked for, the object as it was last seen, and why it is not ready."""

    def __init__(self, wanted: dict[str, t.Any], name: str) -> None:
        self.wanted = dict(wanted, name=name)
        self.obj: dict[str, t.Any] | None = None
        self.blocker: Blocker | None = None

    def look(self, cluster: Cluster) -> None:
        """See how it is now."""
        self.obj = cluster.read(self.wanted)
        self.blocker = None
        if self.obj is None or self.wanted["until"] == "ready":
            kind, name, condition = (self.wanted[key] for key in ("kind", "name", "condition"))
            self.blocker = problem(kind=kind, name=name, obj=self.obj, condition=condition)
        if self.blocker and cluster.trouble:
            self.blocker = self.blocker._replace(reason=cluster.trouble)

    def describe(self, cluster: Cluster) -> list[str]:
        """Return a line that says what is wrong, and one for each pod that holds it."""
        lines = [str(self.blocker)]
        if self.obj and "selector" in self.obj.get("spec", {}):
            lines.extend("  pod " + line for line in explain_pods(cluster.pods(self.obj)))
        return lines


def look(cluster: Cluster, asked: list[Watched]) -> list[Watched]:
    """Return those that are not ready."""
    for one in asked:
        one.look(cluster)
    return [one for one in asked if one.blocker]


def main() -> None:
    """Run the module."""
    spec = {
        "kind": {"type": "str", "required": True},
        "api_version": {"type": "str"},
        "names": {"type": "list", "elements": "str", "required": True},
        "namespace": {"type": "str"},
        "condition": {"type": "str"},
        "until": {"type": "str", "choices": ["ready", "exists"], "default": "ready"},
    }
    module = AnsibleK8SModule(
        module_class=AnsibleModule,
        argument_spec=dict(
            copy.deepcopy(AUTH_ARG_SPEC),
            objects={"type": "list", "elements": "dict", "options": spec, "required": True},
            timeout={"type": "int", "default": 180},
            interval={"type": "float", "default": 1},
        ),
        supports_check_mode=True,
    )
    for one in module.params["objects"]:
        if not one["api_version"] and one["kind"] not in API_VERSIONS:
            module.fail_json(msg="{kind} {names}: give its api_version".format(**one))

    cluster = Cluster(lambda: get_api_client(module=module))
    watched = asked = [Watched(one, name) for one in module.params["objects"] for name in one["names"]]
    start = time.monotonic()
    while True:
        # What was ready stays out of the next looks, and is looked at again before all is called ready.
        try:
            waiting = look(cluster, asked)
        except CoreException as error:
            module.fail_from_exception(error)
        if not waiting and len(asked) < len(watched):
            waiting = look(cluster, watched)
        seconds = int(time.monotonic() - start)
        if not waiting or module.check_mode or seconds >= module.params["timeout"]:
            break
        asked = waiting
        time.sleep(module.params["interval"])

    lines = [line for one in waiting for line in one.describe(cluster)]
    if lines and not module.check_mode:
        module.fail_json(msg="not ready after {} s:\n{}".format(seconds, "\n".join(lines)), blockers=lines, seconds=seconds)
    module.exit_json(changed=False, blockers=lines, seconds=seconds, objects=[one.obj for one in watched if one.obj])


if __name__ == "__main__":
    main()
