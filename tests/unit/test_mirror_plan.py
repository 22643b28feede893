# SPDX-License-Identifier: GPL-3.0-or-later
"""components.yaml: what it says agrees with itself, with versions.yaml and with the Go modules."""

from __future__ import annotations

import pathlib
import re
import shutil

import pytest

from kos import KosError, mirror_build
from kos import mirror_plan as plan

CONTRACT_FILES = {
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "etcd", "containerd", "runc",
    "cni-plugins", "crictl",
}  # fmt: skip
CONTRACT_IMAGES = {
    "registry.k8s.io/pause",
    "registry.k8s.io/kube-proxy",
    "registry.k8s.io/coredns/coredns",
    "ghcr.io/flannel-io/flannel",
    "ghcr.io/flannel-io/flannel-cni-plugin",
    "registry.k8s.io/e2e-test-images/agnhost",
}


@pytest.fixture(params=["amd64", "arm64"])
def components(root: pathlib.Path, request: pytest.FixtureRequest) -> plan.Components:
    return plan.load(root, request.param)


@pytest.fixture
def clone(root: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    for name in (
        "components/components.yaml",
        "group_vars/all/versions.yaml",
        *(str(p.relative_to(root)) for p in root.glob("components/go/*/go.*")),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    return tmp_path


def test_the_contract_is_kept(components: plan.Components) -> None:
    core = plan.select(components, ["core"])
    assert {item.name for item in core if isinstance(item, plan.File)} == CONTRACT_FILES
    assert {item.name for item in core if isinstance(item, plan.Image)} == CONTRACT_IMAGES


def test_digests_are_digests_and_addresses_follow_the_version(components: plan.Components) -> None:
    for item in components.items:
        assert item.digest is None or re.fullmatch("sha256:[0-9a-f]{64}", item.digest), item.name
        assert "{" not in item.version, item.name
        if isinstance(item, plan.File):
            assert "{" not in item.path, item.name
            assert item.version.removeprefix("v") in item.path, item.name
            assert components.arch in item.path or item.member, item.name
            assert item.url in (None, f"https://{item.path}"), item.name
    digests = [item.digest for item in components.items if item.digest]
    assert len(digests) == len(set(digests))


def test_what_is_built_is_a_tool_of_its_module(components: plan.Components) -> None:
    for program in components.programs.values():
        if program.recipe is None:
            assert program.source is not None
            assert program.source.exists()
            continue
        recipe = components.recipes[program.recipe]
        lines = (recipe.directory / "go.mod").read_text().split()
        package = program.package or ""
        ours = recipe.directory / package.removeprefix(f"{lines[1]}/")
        assert package in lines or (package.startswith(f"{lines[1]}/") and ours.is_dir()), program.name


def test_nothing_in_the_list_is_unused(components: plan.Components) -> None:
    used = {name for item in components.items for name in item.programs}
    assert used == {*components.programs}
    assert {program.recipe for program in components.programs.values() if program.recipe} == {*components.recipes}
    layers = {item.layer for item in components.images if item.layer}
    assert layers | {components.layers[name].bundle_from for name in layers} - {None} == {*components.layers}


def test_kubernetes_says_its_version(components: plan.Components) -> None:
    kubelet = components.programs["kubelet"]
    _, major, minor, *_ = re.split(r"[v.]", kubelet.version)
    assert f"k8s.io/component-base/version.gitVersion={kubelet.version}" in kubelet.stamps
    assert f"k8s.io/component-base/version.gitMajor={major}" in kubelet.stamps
    assert f"k8s.io/component-base/version.gitMinor={minor}" in kubelet.stamps


def test_all_of_kubernetes_is_one_release(root: pathlib.Path) -> None:
    pins = plan.pinned((root / "components/go/kubernetes/go.mod").read_text())
    release = pins["k8s.io/kubernetes"].removeprefix("v1.")
    staged = {
        name: version
        for name, version in pins.items()
        if name in ("k8s.io/api", "k8s.io/client-go", "k8s.io/component-base", "k8s.io/kubelet")
    }
    assert set(staged.values()) == {f"v0.{release}"}


def test_a_version_that_the_modules_do_not_have_is_refused(clone: pathlib.Path) -> None:
    versions = clone / "group_vars/all/versions.yaml"
    versions.write_text(re.sub(r"(?m)^etcd_version: .*$", "etcd_version: v9.9.9", versions.read_text()))
    with pytest.raises(KosError, match=r"etcd_version v9\.9\.9, but .*go\.mod pins v3"):
        plan.load(clone, "amd64")


def test_a_version_that_is_missing_is_named(clone: pathlib.Path) -> None:
    versions = clone / "group_vars/all/versions.yaml"
    versions.write_text(re.sub(r"(?m)^pause_version: .*$", "", versions.read_text()))
    with pytest.raises(KosError, match="pause_version"):
        plan.load(clone, "amd64")


def test_what_is_needed_for_snapshots_is_of_one_release(components: plan.Components) -> None:
    kinds = [file for file in components.files if file.member]
    assert {file.version for file in kinds} == {components.programs["snapshot-controller"].version}
    assert {file.name for file in kinds} == {f"volumesnapshot{what}.yaml" for what in ("s", "contents", "classes")}


def test_selection_by_group_name_and_reference(components: plan.Components) -> None:
    pause = next(image for image in components.images if image.name.endswith("/pause"))
    assert plan.select(components, []) == components.items
    assert [item.name for item in plan.select(components, ["kubelet", pause.reference])] == ["kubelet", pause.name]
    assert {item.group for item in plan.select(components, ["storage"])} == {"storage"}
    with pytest.raises(KosError, match=r"nothing in components\.yaml is called kublet"):
        plan.select(components, ["kublet"])


def test_pinned_reads_all_forms_of_go_mod() -> None:
    text = """module x
require single.example/a v1.2.3 // indirect
require (
\tblock.example/b v0.1.0
\tblock.example/c v2.0.0+incompatible // indirect
)
replace block.example/b => block.example/b v0.2.0
replace (
\tblock.example/c => ../c
\tother.example/d => other.example/d v1.0.0
)
"""
    assert plan.pinned(text) == {"single.example/a": "v1.2.3", "block.example/b": "v0.2.0", "block.example/c": "v2.0.0+incompatible"}


def test_go_is_called_once_for_all_programs_of_a_recipe(root: pathlib.Path) -> None:
    components = plan.load(root, "amd64")
    programs = [components.programs["kubelet"], components.programs["agnhost"]]
    arguments = mirror_build.go_arguments(components.recipes["kubernetes"], programs, pathlib.Path("/out"))
    assert arguments[:4] == ["build", "-buildvcs=false", "-o", "/out/"]
    assert arguments[-2:] == ["k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes/test/images/agnhost"]
    mine = next(argument for argument in arguments if argument.startswith("-ldflags=k8s.io/kubernetes/cmd/kubelet="))
    assert "-X=k8s.io/component-base/version.gitVersion=v1." in mine
    assert "-linkmode" not in mine


def test_programs_with_c_are_static(root: pathlib.Path) -> None:
    components = plan.load(root, "amd64")
    arguments = mirror_build.go_arguments(components.recipes["runc"], [components.programs["runc"]], pathlib.Path("/out"))
    assert "seccomp,netgo,osusergo" in arguments
    assert any("-linkmode=external -extldflags=-static" in argument for argument in arguments)


@pytest.mark.parametrize(
    ("package", "name"),
    [("go.etcd.io/etcd/server/v3", "server"), ("k8s.io/kubernetes/cmd/kubelet", "kubelet"), ("github.com/coredns/coredns", "coredns")],
)
def test_names_that_the_compiler_gives(package: str, name: str) -> None:
    assert mirror_build.executable(package) == name
