#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read resources of several OpenStack services in one session."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_resources_info
short_description: Read resources of several OpenStack services in one session
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Asks a cloud any number of questions with one login, where modules that read one kind of resource log in once each.
  - Reads only. What the SDK offers to change a cloud cannot be reached through it.
options:
  resources:
    description:
      - The questions. A key names the answer, a value says what to ask.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: The module reads only.
notes:
  - A question is a dictionary with O(resources) keys C(service) and C(type) as the SDK names them (C(network) and C(subnet)),
    and optionally C(parameters), the SDK's filters for lists of that type.
  - With C(id) the question is for the one resource of that name or id, for services that know no list (C(compute), C(quota_set)).
  - With C(optional) the answer is an empty list where the cloud lacks the service or refuses this user, and RV(refused) has the reason.
  - A string in C(parameters) or C(id) may contain C({project_id}) and C({user_id}), the ids of the session itself.
  - The interface and the region come from the entry of clouds.yaml unless given.
extends_documentation_fragment:
  - openstack.cloud.openstack
"""

EXAMPLES = r"""
- name: Read networks, flavors and the quota of this project
  kos.labs.cloud_resources_info:
    cloud: kos-tenant
    resources:
      networks: {service: network, type: network, parameters: {is_router_external: true}}
      load_balancers: {service: load_balancer, type: load_balancer, optional: true}
      flavors: {service: compute, type: flavor}
      quota: {service: compute, type: quota_set, id: "{project_id}"}
  register: cloud
"""

RETURN = r"""
resources:
  description: The answers under the names of the questions. A list of resources, or with C(id) a list of one, or an empty one.
  returned: always
  type: dict
  sample: {flavors: [{id: "1", name: small}]}
refused:
  description: Why the cloud did not answer, for questions that are C(optional).
  returned: always
  type: dict
  sample: {load_balancers: "there is no load_balancer service"}
"""

import typing as t

from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule

try:
    from keystoneauth1.exceptions import EndpointNotFound, Unauthorized
except ImportError:  # said by the base class
    EndpointNotFound = Unauthorized = OSError

KEYS = frozenset({"service", "type", "parameters", "id", "optional"})


class QuestionError(Exception):
    """A question that cannot be asked; its text tells the user what to change."""


def check_question(name: str, question: t.Any) -> dict[str, t.Any]:
    """Return the question if it is well formed."""
    if not isinstance(question, dict):
        raise QuestionError(f"resources.{name}: give a dictionary with service and type")
    unknown = sorted(set(question) - KEYS)
    if unknown:
        raise QuestionError(f"resources.{name}: remove {', '.join(unknown)}, known are {', '.join(sorted(KEYS))}")
    for key in ("service", "type"):
        if not isinstance(question.get(key), str) or not question[key].isidentifier():
            raise QuestionError(f"resources.{name}: set {key} to the SDK's name of it, such as network or subnet")
    if not isinstance(question.get("parameters") or {}, dict):
        raise QuestionError(f"resources.{name}: give parameters as a dictionary")
    if not isinstance(question.get("optional", False), bool):
        raise QuestionError(f"resources.{name}: set optional to true or false")
    return question


def method_name(question: dict[str, t.Any]) -> str:
    """Return the SDK's method that answers: plural nouns list, get_ reads one; nothing else is ever called."""
    kind: str = question["type"]
    if "id" in question:
        return "get_" + kind
    if kind.endswith("amphora"):
        return kind + "e"
    if kind.endswith("y"):
        return kind[:-1] + "ies"
    return kind + "s"


def fill(value: t.Any, ids: dict[str, str]) -> t.Any:
    """Return value with {project_id} and {user_id} replaced in its strings."""
    if isinstance(value, str):
        for key, text in ids.items():
            value = value.replace("{" + key + "}", text)
        return value
    if isinstance(value, dict):
        return {key: fill(inner, ids) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, ids) for inner in value]
    return value


def reason(error: Exception) -> str:
    """Return why a cloud did not answer, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


class CloudResourcesInfo(OpenStackModule):
    """The module: one connection, one answer per question."""

    argument_spec: t.ClassVar = {"resources": {"type": "dict", "required": True}}
    module_kwargs: t.ClassVar = {"supports_check_mode": True}

    def run(self) -> None:
        """Ask every question and exit with the answers."""
        try:
            questions = {name: check_question(name, question) for name, question in self.params["resources"].items()}
        except QuestionError as exc:
            self.fail_json(msg=str(exc))
        # The base class takes it away when it connects.
        cloud = self.params.get("cloud")
        try:
            resources, refused = self.answers(questions)
        except Unauthorized as exc:
            entry = cloud if isinstance(cloud, str) else "that was given"
            self.fail_json(
                msg=f"Keystone does not let the login {entry} in: correct its secret or password in clouds.yaml, or make a new one. It says: {reason(exc)}"
            )
        self.exit_json(changed=False, resources=resources, refused=refused)

    def answers(self, questions: dict[str, dict[str, t.Any]]) -> tuple[dict[str, list[dict[str, t.Any]]], dict[str, str]]:
        """Return the answer to each question, and why some were not answered."""
        ids: dict[str, str] = {}
        if "{project_id}" in str(questions) or "{user_id}" in str(questions):
            ids = {"project_id": self.conn.current_project_id or "", "user_id": self.conn.current_user_id or ""}
        resources: dict[str, list[dict[str, t.Any]]] = {}
        refused: dict[str, str] = {}
        for name, question in questions.items():
            try:
                resources[name] = self.ask(name, fill(question, ids))
            except self.no_answer() as exc:
                if not question.get("optional"):
                    raise
                resources[name], refused[name] = [], reason(exc)
        return resources, refused

    def no_answer(self) -> tuple[type[Exception], ...]:
        """Return what says that a cloud or its operator has decided so; that it is broken just now is not among that."""
        known = self.sdk.exceptions
        return (known.ForbiddenException, known.NotFoundException, known.ServiceDisabledException, EndpointNotFound)

    def ask(self, name: str, question: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        """Return the resources that answer one question."""
        method = getattr(getattr(self.conn, question["service"], None), method_name(question), None)
        if method is None:
            self.fail_json(msg=f"resources.{name}: this SDK has no {question['service']}.{method_name(question)}, correct service and type")
        parameters = question.get("parameters") or {}
        if "id" not in question:
            return [found.to_dict(computed=False) for found in method(**parameters)]
        try:
            return [method(question["id"], **parameters).to_dict(computed=False)]
        except self.sdk.exceptions.NotFoundException:
            return []


def main() -> None:
    """Entry point."""
    CloudResourcesInfo()()


if __name__ == "__main__":
    main()
