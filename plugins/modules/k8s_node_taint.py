#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the taints of nodes, and wait for those that others take away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_node_taint
short_description: Keep the taints of nodes, and wait for those that others take away
version_added: 0.1.0
description:
  - Sets, removes or declares the taints of one or several nodes, named or selected by labels.
  - Nothing that kubelets, controllers or other tasks write at the same time is lost. A node is written only if it is still as it was read;
    if not, it is read again and the change is worked out anew.
  - Waits, if asked to, for taints that another component removes, and says what keeps them when the time is over.
options:
  names:
    description: Names of the nodes. All have to exist.
    type: list
    elements: str
    aliases: [name]
  label_selectors:
    description: Labels of the nodes, as C(kubectl --selector) takes them. A node has to match all of them.
    type: list
    elements: str
    aliases: [label_selector]
  allow_no_match:
    description: Whether it is fine when O(label_selectors) select no node or O(names) is empty. Otherwise that is an error.
    type: bool
    default: false
  taints:
    description:
      - The taints that O(state) is about.
      - An empty list with O(state=exact) leaves nothing but what O(keep) names.
    type: list
    elements: dict
    suboptions:
      key:
        description: Key of the taint.
        type: str
        required: true
      effect:
        description:
          - Effect of the taint. A node can have the same key with several effects, they are different taints.
          - Required unless O(state=absent), where a key without an effect means all taints with that key.
        type: str
        choices: [NoSchedule, PreferNoSchedule, NoExecute]
      value:
        description:
          - Value of the taint, empty if it is not given. Quote what YAML takes for something else, like V(true).
          - With O(state=absent) it does not matter, a taint is the same whatever its value.
        type: str
  state:
    description:
      - V(present) sets the taints with their values and leaves all others.
      - V(absent) removes the taints and leaves all others.
      - V(exact) sets the taints and removes all others but those that O(keep) names.
    type: str
    choices: [present, absent, exact]
    default: present
  keep:
    description:
      - Keys of taints that O(state=exact) does not remove. A domain followed by C(/*) stands for all keys in it.
      - The default are taints that the control plane sets and removes by itself, like the one of a node that is not ready or that is cordoned.
    type: list
    elements: str
    default: [node.kubernetes.io/*, node.cloudprovider.kubernetes.io/*]
  wait_gone:
    description:
      - Taints that another component removes. Once O(taints) are in place, waits until none of the nodes has any of them.
      - The node is not changed for this.
    type: list
    elements: dict
    default: []
    suboptions:
      key:
        description: Key of the taint.
        type: str
        required: true
      effect:
        description: Effect of the taint. Any, if it is not given.
        type: str
        choices: [NoSchedule, PreferNoSchedule, NoExecute]
  wait_timeout:
    description: Seconds after which to give up waiting.
    type: int
    default: 300
  wait_interval:
    description: Seconds between two looks.
    type: float
    default: 2
attributes:
  check_mode:
    description: Predicts what it would do and changes nothing.
    details:
      - The API server is asked for a dry run, so what it would refuse, for lack of rights for example, fails in check mode, too.
      - O(wait_gone) looks once, does not wait and does not fail.
    support: full
  diff_mode:
    description: Shows the taints of each node that changes, before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
notes:
  - The time at which a taint was added, C(timeAdded), and fields that are not known here stay with a taint as long as it has the same key and effect.
    The API server does not set that time, and neither does this module.
  - A node that refuses a change does not keep the others from theirs. The task fails, and RV(nodes) says which were changed.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
requirements:
  - kubernetes >= 24.2.0
seealso:
  - module: kubernetes.core.k8s_taint
  - module: kos.labs.k8s_ready
author:
  - The kos.labs authors (@kos-labs)
"""

EXAMPLES = r"""
- name: Keep two nodes for one team
  kos.labs.k8s_node_taint:
    kubeconfig: .state/kubeconfig/admin
    names: [worker1, worker2]
    taints:
      - {key: example.com/dedicated, value: research, effect: NoSchedule}

- name: Remove the taint again, whatever its value and effect
  kos.labs.k8s_node_taint:
    kubeconfig: .state/kubeconfig/admin
    names: [worker1, worker2]
    state: absent
    taints:
      - key: example.com/dedicated

- name: Let control plane nodes have this taint and no other
  kos.labs.k8s_node_taint:
    kubeconfig: .state/kubeconfig/admin
    label_selectors: [node-role.kubernetes.io/control-plane]
    state: exact
    taints:
      - {key: node-role.kubernetes.io/control-plane, effect: NoSchedule}

- name: Wait until the cloud controller manager has initialised a node
  kos.labs.k8s_node_taint:
    kubeconfig: .state/kubeconfig/admin
    names: [worker1]
    wait_gone:
      - key: node.cloudprovider.kubernetes.io/uninitialized
    wait_timeout: 120
"""

RETURN = r"""
nodes:
  description: The nodes, in the order in which they were named or selected. After an error, what became of each.
  returned: success, and failure after the nodes were read
  type: list
  elements: dict
  contains:
    name:
      description: Name of the node.
      returned: always
      type: str
      sample: worker1
    changed:
      description: Whether its taints differ from before.
      returned: always
      type: bool
    before:
      description: Its taints before, as the API has them.
      returned: always
      type: list
      elements: dict
      sample: []
    after:
      description: Its taints after, as the API server answered. In check mode those of the dry run.
      returned: always
      type: list
      elements: dict
      sample: [{key: example.com/dedicated, value: research, effect: NoSchedule}]
    error:
      description: Why the node does not have what was asked for.
      returned: when it does not
      type: str
holding:
  description: A line for each taint of O(wait_gone) that is still there, with what keeps it. Empty on success, but not always in check mode.
  returned: success, and failure of the wait
  type: list
  elements: str
  sample: ["worker1 has node.cloudprovider.kubernetes.io/uninitialized=true:NoSchedule; its providerID is empty: …"]
"""

import copy
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint import (
    EFFECTS,
    KEPT,
    STATES,
    Node,
    NodePlan,
    Rule,
    Taint,
    mistakes,
    name_mistake,
    plan_node,
)
from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint_api import (
    Api,
    NodeTaintError,
    Outcome,
    Patience,
    apply,
    read_all,
    wait_until_gone,
)
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import get_api_client
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.core import AnsibleK8SModule
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.exceptions import CoreException


def argument_spec() -> dict[str, t.Any]:
    """Return the options: those that say how to log in are kubernetes.core's."""
    key, effect = {"type": "str", "required": True, "no_log": False}, {"type": "str", "choices": list(EFFECTS)}
    return dict(
        copy.deepcopy(AUTH_ARG_SPEC),
        names={"type": "list", "elements": "str", "aliases": ["name"]},
        label_selectors={"type": "list", "elements": "str", "aliases": ["label_selector"]},
        allow_no_match={"type": "bool", "default": False},
        taints={"type": "list", "elements": "dict", "options": {"key": key, "effect": effect, "value": {"type": "str"}}},
        state={"type": "str", "choices": list(STATES), "default": "present"},
        keep={"type": "list", "elements": "str", "default": list(KEPT), "no_log": False},
        wait_gone={"type": "list", "elements": "dict", "options": {"key": key, "effect": effect}, "default": []},
        wait_timeout={"type": "int", "default": 300},
        wait_interval={"type": "float", "default": 2},
    )


def check(params: dict[str, t.Any], rules: list[Rule], awaited: list[Rule]) -> list[str]:
    """Return what is wrong with the options, in words."""
    found = mistakes(rules=rules, state=params["state"], keep=params["keep"], wait_gone=awaited)
    found += [f"names: {mistake}" for mistake in map(name_mistake, params["names"] or ()) if mistake]
    if params["names"] is None and params["label_selectors"] is None:
        found.append("names: give them, or label_selectors")
    if params["label_selectors"] is not None and not any(selector.strip() for selector in params["label_selectors"]):
        found.append("label_selectors: an empty one would select every node; give kubernetes.io/hostname if that is what you want")
    if params["taints"] is None and not awaited:
        found.append("taints: give them, or wait_gone")
    if params["taints"] is None and params["state"] != "present":
        found.append(f"taints: state {params['state']} needs them")
    if params["wait_timeout"] < 0:
        found.append("wait_timeout: cannot be below 0")
    if params["wait_interval"] <= 0:
        found.append("wait_interval: has to be above 0")
    return found


def find(api: Api, params: dict[str, t.Any]) -> list[Node]:
    """Return the nodes that the options name."""
    if params["names"] is not None:
        nodes, words = read_all(api, params["names"]), "names is empty"
    else:
        selector = ",".join(filter(None, map(str.strip, params["label_selectors"])))
        nodes, words = api.select(selector), f"no node matches {selector}"
    if not nodes and not params["allow_no_match"]:
        raise NodeTaintError(f"{words}; set allow_no_match if that is fine")
    return nodes


def shown(outcome: Outcome) -> dict[str, t.Any]:
    """Return what the module returns of a node."""
    taints = {side: [taint.fields() for taint in getattr(outcome, side)] for side in ("before", "after")}
    return {"name": outcome.name, "changed": outcome.changed, **taints, **({"error": outcome.error} if outcome.error else {})}


def difference(outcome: Outcome) -> dict[str, str]:
    """Return the diff of a node, a taint per line."""

    def lines(taints: tuple[Taint, ...]) -> str:
        return "".join(f"{taint}\n" for taint in taints)

    header = f"taints of node {outcome.name}"
    return {"before_header": header, "before": lines(outcome.before), "after_header": header, "after": lines(outcome.after)}


def main() -> None:
    """Check the options, find the nodes, write what differs, wait."""
    module = AnsibleK8SModule(
        module_class=AnsibleModule,
        argument_spec=argument_spec(),
        mutually_exclusive=[("names", "label_selectors")],
        required_one_of=[("names", "label_selectors")],
        supports_check_mode=True,
    )
    params = module.params
    rules = [Rule(**taint) for taint in params["taints"] or ()]
    awaited = [Rule(**taint) for taint in params["wait_gone"]]
    wrong = check(params, rules, awaited)
    if wrong:
        module.fail_json(msg="\n".join(wrong))

    def plan(node: Node) -> NodePlan:
        return plan_node(node, rules=rules, state=params["state"], keep=params["keep"])

    try:
        api = Api(lambda: get_api_client(module=module))
        nodes = find(api, params)
    except CoreException as error:
        module.fail_from_exception(error)
    except NodeTaintError as error:
        module.fail_json(msg=str(error))

    outcomes = list(apply(api, nodes, plan))
    changed = [outcome for outcome in outcomes if outcome.changed]
    result = {
        "changed": bool(changed),
        "nodes": [shown(outcome) for outcome in outcomes],
        "diff": [difference(outcome) for outcome in changed],
    }
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors:
        words = "changed nevertheless: " + ", ".join(outcome.name for outcome in changed) if changed else "no node was changed"
        module.fail_json(msg="\n".join([*errors, words]), **result)

    patience = Patience(0 if module.check_mode else params["wait_timeout"], params["wait_interval"])
    holding = wait_until_gone(api, [outcome.node for outcome in outcomes], awaited, patience)
    if holding and not module.check_mode:
        words = f"not gone after {params['wait_timeout']} s:\n"
        module.fail_json(msg=words + "\n".join(holding), holding=holding, **result)
    module.exit_json(holding=holding, **result)


if __name__ == "__main__":
    main()
