# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role for volumes applies to a cluster, rendered as Ansible does it."""

from __future__ import annotations

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


@pytest.fixture
def rendered(root):
    """Return the objects of one of the role's templates, by kind, with variables of a run."""
    role = root / "roles/cloud_cinder_csi"

    def render(name, **variables):
        loader = DataLoader()
        found = {"csi_livenessprobe_version": "v1", "csi_node_driver_registrar_version": "v1", "cloud_provider_openstack_version": "v1"}
        for path in ("defaults/main.yml", "vars/main.yml"):
            found |= loader.load_from_file(str(role / path), trusted_as_template=True)
        found |= {"_cloud_cinder_csi_global": {}, **variables}
        text = trust_as_template((role / "templates" / name).read_text(encoding="utf-8"))
        objects = yaml.safe_load_all(Templar(loader=loader, variables=found).template(text))
        return {each["kind"]: each for each in objects if each}

    return render


@pytest.mark.parametrize(
    ("seen", "served"),
    [({}, True), ({"skipped": True}, True), ({"blockers": []}, True), ({"blockers": ["volumesnapshots does not exist"]}, False)],
)
def test_a_class_of_snapshots_needs_its_kind(rendered, seen, served):
    found = rendered("classes.yaml.j2", __cloud_cinder_csi_kinds=seen)
    assert ("VolumeSnapshotClass" in found) == served
    assert found["StorageClass"]["provisioner"] == "cinder.csi.openstack.org"


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({}, "24"),
        ({"cloud_cinder_csi_volumes_per_node": 7}, "7"),
        ({"cloud_cinder_csi_conf": {"block_storage": {"node_volume_attach_limit": 12}}}, "12"),
        ({"cloud_cinder_csi_conf": {"block_storage": {"rescan_on_resize": True}}}, "24"),
    ],
)
def test_nodes_take_as_many_volumes_as_was_said(rendered, given, limit):
    assert f'node-volume-attach-limit="{limit}"\n' in rendered("node.yaml.j2", **given)["ConfigMap"]["data"]["cloud.conf"]
