# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role applies, against a real API server: it takes every object, and lets the programs do what they do and nothing else."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml

from kos.cli import Paths

KINDS = ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots")
DRIVER = "cinder.csi.openstack.org"
CONTROLLER, NODE, SNAPSHOTS = (
    f"system:serviceaccount:kube-system:{name}" for name in ("cinder-csi-controller", "cinder-csi-node", "snapshot-controller")
)
READ = ("get", "list", "watch")

# Read in the sources of the pinned versions: what each program asks of the API server.
NEEDED = [
    *((CONTROLLER, verb, what) for verb in READ for what in (
        "persistentvolumes", "persistentvolumeclaims", "nodes", "storage.k8s.io/storageclasses", "storage.k8s.io/csinodes", "storage.k8s.io/volumeattachments",
        "snapshot.storage.k8s.io/volumesnapshotclasses", "snapshot.storage.k8s.io/volumesnapshotcontents", "snapshot.storage.k8s.io/volumesnapshots",
    )),
    *((CONTROLLER, verb, "persistentvolumes") for verb in ("create", "patch", "delete")),
    (CONTROLLER, "update", "persistentvolumeclaims"),
    (CONTROLLER, "patch", "persistentvolumeclaims/status"),
    (CONTROLLER, "patch", "storage.k8s.io/volumeattachments"),
    (CONTROLLER, "patch", "storage.k8s.io/volumeattachments/status"),
    (CONTROLLER, "update", "snapshot.storage.k8s.io/volumesnapshots"),
    *((CONTROLLER, verb, f"snapshot.storage.k8s.io/volumesnapshotcontents{part}") for verb in ("update", "patch") for part in ("", "/status")),
    *((who, verb, "events") for who in (CONTROLLER, SNAPSHOTS) for verb in ("create", "patch")),
    *((who, "create", "coordination.k8s.io/leases") for who in (CONTROLLER, SNAPSHOTS)),
    *((SNAPSHOTS, verb, what) for verb in READ for what in (
        "persistentvolumes", "persistentvolumeclaims", "snapshot.storage.k8s.io/volumesnapshotclasses",
        "snapshot.storage.k8s.io/volumesnapshotcontents", "snapshot.storage.k8s.io/volumesnapshots",
    )),
    (SNAPSHOTS, "update", "persistentvolumeclaims"),
    *((SNAPSHOTS, verb, "snapshot.storage.k8s.io/volumesnapshotcontents") for verb in ("create", "update", "patch", "delete")),
    *((SNAPSHOTS, verb, "snapshot.storage.k8s.io/volumesnapshots") for verb in ("update", "patch")),
    *((SNAPSHOTS, verb, "snapshot.storage.k8s.io/volumesnapshots/status") for verb in ("update", "patch")),
]  # fmt: skip
LEASES = {
    CONTROLLER: (
        "cinder-csi-openstack-org",
        "external-attacher-leader-cinder-csi-openstack-org",
        "external-resizer-cinder-csi-openstack-org",
        "external-snapshotter-leader-cinder-csi-openstack-org",
    ),
    SNAPSHOTS: ("snapshot-controller-leader",),
}
REFUSED = [
    *((who, verb, "secrets") for who in (CONTROLLER, NODE, SNAPSHOTS) for verb in READ),
    *((who, verb, "pods") for who in (CONTROLLER, NODE, SNAPSHOTS) for verb in ("list", "create")),
    *((who, verb, "nodes") for who in (CONTROLLER, NODE, SNAPSHOTS) for verb in ("update", "patch", "delete")),
    (CONTROLLER, "delete", "persistentvolumeclaims"),
    (CONTROLLER, "create", "storage.k8s.io/storageclasses"),
    (NODE, "get", "persistentvolumes"),
    (SNAPSHOTS, "delete", "persistentvolumes"),
]


@pytest.fixture(scope="module")
def applied(cluster, root, tmp_path_factory):
    """Have the role's objects in the cluster; what changed by a second time fails already here."""
    scratch = tmp_path_factory.mktemp("csi")
    tree = Paths.of().cache / "mirror"
    try:
        files = json.loads((tree / "index.json").read_text(encoding="utf-8"))["files"]
        kinds = [str(tree / files[f"{name}.yaml"]["path"]) for name in KINDS]
    except (OSError, KeyError) as error:
        pytest.skip(f"needs the group storage of the mirror, tools/mirror makes it ({error})")
    login = {"auth": {"auth_url": "https://cloud.test:5000/v3", "application_credential_id": "i", "application_credential_secret": "s"}}
    (scratch / "ca.crt").write_text("certificates\n", encoding="utf-8")
    clouds = {"clouds": {"kos-cluster": {**login, "cacert": str(scratch / "ca.crt")}}}
    (scratch / "clouds.yaml").write_text(yaml.safe_dump(clouds), encoding="utf-8")
    (scratch / "cinder_csi.conf").write_text('[Global]\nauth-url="x"\n', encoding="utf-8")
    groups = {"all": {"children": {"masters": {"hosts": {"master1": {}, "master2": {}, "master3": {}}}, "nodes": {}}}}
    (scratch / "hosts.yaml").write_text(yaml.safe_dump(groups), encoding="utf-8")
    given = {
        "kos_root": str(root),
        "cloud_cinder_csi_encrypted_type": "secret",
        "kubeconfig": cluster.kubeconfig(),
        "kinds": kinds,
        "cluster_name": "blue",
        "kos_state_dir": str(scratch),
        "kubernetes_admin_kubeconfig": cluster.kubeconfig(),
    }
    done = subprocess.run(
        [
            root / ".venv/bin/ansible-playbook",
            "-i",
            scratch / "hosts.yaml",
            "-e",
            json.dumps(given),
            root / "tests/real/cloud_cinder_csi/apply.yaml",
        ],
        cwd=root,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return cluster


def allowed(cluster, who, verb, what, name="", namespace=""):
    """Ask whether a service account may do something."""
    group, _, resource = what.rpartition("/") if "." in what.partition("/")[0] else ("", "", what)
    if "." in what.partition("/")[0]:
        group, resource = what.split("/", 1)
    resource, _, part = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": resource, "subresource": part, "name": name, "namespace": namespace}
    groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]
    review = {"spec": {"user": who, "groups": groups, "resourceAttributes": asked}}
    return cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]


def namespace_of(what):
    return "kube-system" if what.startswith("coordination") else ""


def test_programs_may_do_what_they_do(applied):
    assert [each for each in NEEDED if not allowed(applied, *each, namespace=namespace_of(each[2]))] == []


def test_each_leads_by_its_own_lease(applied):
    lease = "coordination.k8s.io/leases"
    wrong = [
        (who, verb, name)
        for who, names in LEASES.items()
        for name in (*names, "kube-scheduler")
        for verb in ("get", "update")
        if allowed(applied, who, verb, lease, name, "kube-system") != (name in names)
    ]
    assert wrong == []


def test_and_nothing_else(applied):
    assert [each for each in REFUSED if allowed(applied, *each)] == []


def test_one_class_is_the_default(applied):
    found = {each["metadata"]["name"]: each for each in applied.request("GET", "/apis/storage.k8s.io/v1/storageclasses")["items"]}
    default = [
        name for name, each in found.items() if each["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    ]
    assert default == ["cinder"]
    assert {name: each["parameters"] for name, each in found.items() if name in ("cinder-xfs", "cinder-encrypted")} == {
        "cinder-xfs": {"csi.storage.k8s.io/fstype": "xfs"},
        "cinder-encrypted": {"csi.storage.k8s.io/fstype": "ext4", "type": "secret"},
    }
    assert found["cinder-retain"]["reclaimPolicy"] == "Retain"
    assert found["cinder-immediate"]["volumeBindingMode"] == "Immediate"
    assert all(each["allowVolumeExpansion"] and each["provisioner"] == DRIVER for each in found.values())


def test_a_controller_for_each_master(applied):
    for name in ("cinder-csi-controller", "snapshot-controller"):
        assert applied.request("GET", f"/apis/apps/v1/namespaces/kube-system/deployments/{name}")["spec"]["replicas"] == 3


def test_nodes_have_no_login(applied):
    spec = applied.request("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets/cinder-csi-node")["spec"]["template"]["spec"]
    assert not any("secret" in volume for volume in spec["volumes"])
    assert spec["automountServiceAccountToken"] is False
