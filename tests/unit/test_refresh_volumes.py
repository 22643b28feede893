# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that removes a cluster, with modules that only play the cloud: what becomes of the rest when volumes do not go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

# All that the role calls. The cloud is a file.
CLOUD = """
import json, pathlib
from ansible.module_utils.basic import AnsibleModule
spec = {key: {} for key in ("cloud", "region_name", "timeout", "name", "state", "wait")}
module = AnsibleModule(argument_spec={**spec, "resources": {"type": "dict", "default": {}}})
path = pathlib.Path(%r)
cloud, (asked, wanted) = json.loads(path.read_text()), (module.params["resources"], module.params["name"])
if "volumes" in asked:
    # So many answers, and then no more.
    cloud["answers"] -= 1
    path.write_text(json.dumps(cloud))
    if cloud["answers"] < 0:
        module.fail_json(msg="HTTP 500")
for each in cloud["volumes"]:
    if each["id"] == wanted:
        if each.get("refused"):
            module.fail_json(msg="HTTP 400: not now")
        each["status"] = "error_deleting" if each.get("fails") else "deleting"
if not asked:
    cloud["volumes"] = [each for each in cloud["volumes"] if each["status"] != "deleting"]
    cloud["snapshots"] = [each for each in cloud["snapshots"] if each["id"] != wanted]
    path.write_text(json.dumps(cloud))
module.exit_json(resources={key: cloud.get(key, []) for key in asked}, refused={})
"""
MODULES = {
    "kos/labs": ("cloud_resources_info", "octavia_lb"),
    "openstack/cloud": ("port", "resource", "router", "security_group", "server", "server_group", "volume", "volume_snapshot"),
}
MARK = {"cinder.csi.openstack.org/cluster": "kos.labs cluster kos"}
SNAPSHOT = {"id": "copy", "volume_id": "copied", "status": "available", "metadata": MARK}


@pytest.fixture
def refresh(root, tmp_path):
    """Return a call of the role for a cloud with some volumes; it returns how that ended, what was said, what the cloud has, and what the state."""
    for collection, names in MODULES.items():
        folder = tmp_path / "ansible_collections" / collection / "plugins/modules"
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.py").write_text(CLOUD % str(tmp_path / "cloud.json"), encoding="utf-8")
    labs = tmp_path / "ansible_collections/kos/labs"
    (labs / "plugins/filter").symlink_to(root / "plugins/filter")
    (labs / "plugins/module_utils").symlink_to(root / "plugins/module_utils")
    (labs / "meta").symlink_to(root / "meta")
    shutil.copytree(root / "roles/node_servers", labs / "roles/node_servers")
    for path in (labs / "roles/node_servers/tasks").iterdir():
        text = path.read_text(encoding="utf-8").replace("delay: 5", "delay: 0").replace("retries: 12", "retries: 1")
        path.write_text(text, encoding="utf-8")
    contract = tmp_path / "inventory/cluster.yaml"
    contract.parent.mkdir()
    contract.write_text("---\n", encoding="utf-8")
    settings = {
        "ansible_python_interpreter": sys.executable,
        "cloud": {"name": "x", "region": "x", "image": "x", "keypair": "x", "external_network": "x", "flavors": {}},
        "cluster_masters": 1,
        "cluster_name": "kos",
        "cluster_node_prefix": "",
        "cluster_workers": 0,
        "kos_state_dir": str(tmp_path),
        "node_servers_remove_volumes": True,
        "node_servers_state": "absent",
        "node_servers_timeout": 10,
    }
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["kos.labs.node_servers"]}
    (tmp_path / "play.yaml").write_text(json.dumps([play]), encoding="utf-8")

    def run(*volumes, snapshots=(), answers=1000):
        cloud = {
            "volumes": [{"status": "available", "metadata": MARK, **each} for each in volumes],
            "snapshots": snapshots,
            "answers": answers,
        }
        cloud["servers"] = [{"id": "theirs", "name": "theirs", "status": "ACTIVE"}]
        (tmp_path / "cloud.json").write_text(json.dumps(cloud), encoding="utf-8")
        done = subprocess.run(
            ["ansible-playbook", "play.yaml", "-e", json.dumps(settings)],
            cwd=tmp_path,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        left = {each["id"] for each in json.loads((tmp_path / "cloud.json").read_text(encoding="utf-8"))["volumes"]}
        return done.returncode, done.stdout, left, contract.exists()

    return run


def test_volumes_and_snapshots_go_and_what_others_use_is_told(refresh):
    code, said, left, known = refresh(
        {"id": "copied"}, {"id": "used", "status": "in-use", "attachments": [{"server_id": "theirs"}]}, snapshots=[SNAPSHOT]
    )
    assert (code, left, known) == (0, {"used"}, False), said
    assert "in-use (server theirs)" in said


def test_a_cloud_that_cannot_tell_its_volumes_keeps_its_cluster(refresh):
    code, said, _, known = refresh({"id": "one"}, answers=0)
    assert (code, known) == (2, True), said
    assert "Remove the servers" not in said


@pytest.mark.parametrize(("how", "why"), [("refused", "HTTP 400: not now"), ("fails", "only the cloud's operator")])
def test_a_volume_that_does_not_go_is_named_when_the_rest_is_gone(refresh, how, why):
    code, said, left, known = refresh({"id": "one"}, {"id": "stays", how: True}, {"id": "two"})
    assert (code, left, known) == (2, {"stays"}, False), said
    assert "stays, ? GB" in said
    assert why in said


@pytest.mark.parametrize("answers", [1, 2])
def test_a_cloud_that_ceases_to_tell_its_volumes_has_the_rest_removed_and_them_named(refresh, answers):
    code, said, _, known = refresh({"id": "one", "refused": True}, answers=answers)
    assert (code, known) == (2, False), said
    assert "one, ? GB" in said.rpartition("fatal: ")[2]
    assert "tools/refresh --volumes deletes them" in said
