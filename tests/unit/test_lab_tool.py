# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/lab, tools/test and what they share."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.kos.labs.plugins.callback import kos_stages

from kos import KosError, bench, cli, footprint, host, lab, node, rings, venv

BIG = host.Host(system="Linux", machine="x86_64", root=True, has_apt=True, memory=24 * host.GB, free={"/": 100 * host.GB})
SANDBOX = lab.needs("sandbox", again=False, environ={})


def fake_clone(folder: pathlib.Path) -> pathlib.Path:
    for name in (
        "labs/lab1.yaml",
        "labs/lab2.yaml",
        "labs/lab10.yaml",
        "labs/cluster.yaml",
        "playbooks/base_sandbox.yaml",
        "playbooks/base_existing.yaml",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("---\n", encoding="ascii")
    return folder


def interpreter(folder: pathlib.Path, name: str, answer: str, code: int = 0) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{answer}'\nexit {code}\n", encoding="ascii")
    path.chmod(0o755)
    return str(path)


# --- the machine


def test_a_good_machine_passes():
    host.check(BIG, SANDBOX)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"root": False}, "as root"),
        ({"system": "Darwin"}, "Darwin"),
        ({"machine": "riscv64"}, "riscv64"),
        ({"has_apt": False}, "apt-get"),
        ({"memory": 8 * host.GB}, "8.0 GB of memory"),
        ({"free": {"/": 100 * host.GB, "/srv": 39 * host.GB}}, "39 GB of free disk space at /srv"),
    ],
)
def test_a_bad_machine_is_told_in_one_sentence(change, word):
    with pytest.raises(KosError, match=word) as caught:
        host.check(dataclasses.replace(BIG, **change), SANDBOX)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_other_bases_ask_for_less():
    host.check(
        dataclasses.replace(BIG, root=False, has_apt=False, memory=host.GB, free={"/": 0}), lab.needs("existing", again=False, environ={})
    )


def test_limits_can_be_changed():
    changed = lab.needs("sandbox", again=False, environ={"KOS_MIN_DISK_GB": "7", "KOS_MIN_MEMORY_GB": "6"})
    assert (changed.memory, changed.disk) == (6 * host.GB, 7 * host.GB)


def test_a_limit_that_is_no_number_is_refused():
    with pytest.raises(KosError, match="KOS_MIN_DISK_GB is '40G'"):
        lab.needs("sandbox", again=False, environ={"KOS_MIN_DISK_GB": "40G"})


def test_a_standing_sandbox_needs_little_more_disk():
    assert lab.needs("sandbox", again=True, environ={}).disk < SANDBOX.disk


def test_this_machine_can_be_probed(tmp_path):
    seen = host.probe(tmp_path / "not" / "yet")
    assert seen.memory > 0
    assert seen.free[str(tmp_path / "not" / "yet")] > 0


# --- labs, bases, layouts


def test_labs_are_named_in_order(tmp_path):
    assert list(lab.labs(fake_clone(tmp_path))) == ["1", "2", "10", "cluster"]


@pytest.mark.parametrize(("name", "file"), [("2", "lab2.yaml"), ("lab2", "lab2.yaml"), ("cluster", "cluster.yaml")])
def test_a_lab_is_found(tmp_path, name, file):
    assert lab.find_lab(fake_clone(tmp_path), name).name == file


def test_an_unknown_lab_is_told_which_exist(tmp_path):
    with pytest.raises(KosError, match="no lab 7; there are 1, 2, 10, cluster"):
        lab.find_lab(fake_clone(tmp_path), "7")


@pytest.mark.parametrize(
    ("option", "word"),
    [("--base=azure", "no base azure; there are existing, sandbox"), ("--layout=huge", "no layout huge; there are compact, full")],
)
def test_unknown_choices_are_told_which_exist(tmp_path, option, word):
    clone = fake_clone(tmp_path)
    options, _ = lab._parse(["1", option], clone)
    with pytest.raises(KosError, match=word):
        lab._settings(clone, options)


def test_arguments_for_ansible_are_kept_apart(tmp_path):
    options, ansible = lab._parse(["2", "--layout", "full", "--", "-e", "kos_base=existing", "--check"], fake_clone(tmp_path))
    assert lab._settings(tmp_path, options) == {"kos_layout": "full"}
    assert ansible == ["-e", "kos_base=existing", "--check"]
    assert lab._value(ansible, "kos_base") == "existing"


def test_a_cloud_is_enough_to_say_that_it_is_there_already(tmp_path):
    options, _ = lab._parse(["2", "--base", "existing", "--cloud", "mine", "--settings", "my.yaml"], fake_clone(tmp_path))
    assert lab._settings(tmp_path, options) == {"kos_base": "existing", "base_existing_cloud": "mine"}
    assert options.settings == pathlib.Path("my.yaml")


def test_settings_are_kept_for_every_playbook(tmp_path):
    (tmp_path / "my.yaml").write_text("kos_base: existing\ncluster_workers: 1\n", encoding="ascii")
    kept = tmp_path / "state/inventory/group_vars/all/settings.yaml"
    assert lab.remembered("kos_base", None, kept) is None
    assert lab.remembered("kos_base", tmp_path / "my.yaml", kept) == "existing"
    lab.keep(tmp_path / "state", tmp_path / "my.yaml")
    lab.keep(tmp_path / "state", None)
    assert (kept.read_text(encoding="ascii"), kept.stat().st_mode & 0o777) == ((tmp_path / "my.yaml").read_text(encoding="ascii"), 0o600)
    assert lab.remembered("kos_base", None, kept) == "existing"
    assert lab.remembered("base_existing_clouds_file", None, kept) is None


def test_settings_that_are_not_there_are_told(root, tmp_path):
    environment = {**os.environ, "KOS_STATE": str(tmp_path / "state"), "KOS_CACHE": str(tmp_path / "cache")}
    argv = [sys.executable, str(root / "tools/lab"), "1", "--cloud", "mine", "--settings", "none.yaml"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no file none.yaml; docs/existing.md" in done.stderr


def test_a_clouds_yaml_beside_the_user_is_found(tmp_path):
    state = tmp_path / ".state"
    assert lab.with_clouds({"A": "1"}, state, tmp_path) == {"A": "1"}
    (tmp_path / "clouds.yaml").touch()
    assert lab.with_clouds({}, state, tmp_path) == {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml")}
    theirs = {"OS_CLIENT_CONFIG_FILE": "/theirs", "OS_CLOUD": "mine"}
    assert lab.with_clouds(theirs, state, tmp_path) == theirs


def test_the_logins_of_the_state_folder_are_not_what_somebody_brings(tmp_path):
    ours = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / ".state/clouds.yaml"), "OS_CLOUD": "kos-tenant"}
    assert lab.with_clouds(ours, tmp_path / ".state", tmp_path) == {}


def test_two_runs_do_not_share_a_state(tmp_path):
    with cli.alone(tmp_path / "state"), pytest.raises(KosError, match="another run"), cli.alone(tmp_path / "state"):
        pass


def test_where_to_go_next_names_only_what_is_there(tmp_path):
    paths = cli.Paths(root=tmp_path, state=tmp_path / ".state", cache=tmp_path)
    (paths.state / "kubeconfig").mkdir(parents=True)
    (paths.state / "kubeconfig/admin").touch()
    assert lab.where_to_go_next(paths) == "  Kubernetes  kubectl --kubeconfig .state/kubeconfig/admin get nodes"


# --- Python and .venv


def test_the_newest_python_that_works_is_taken(tmp_path):
    names = [
        interpreter(tmp_path, "python3.15", "3 15 0 1"),
        interpreter(tmp_path, "python3.14", "pyenv: python3.14: command not found", 127),
        interpreter(tmp_path, "python3.13", "3 13 0 0"),
        interpreter(tmp_path, "python3.12", "3 12 1 1"),
    ]
    assert venv.newest(names) == venv.Python((3, 12, 1), names[3], True)
    assert venv.newest(names[:3]) == venv.Python((3, 13, 0), names[2], False)


def test_no_python_is_told(tmp_path):
    with pytest.raises(KosError, match=r"no Python between 3\.11 and 3\.14"):
        venv.newest([interpreter(tmp_path, "python3", "3 9 2 1"), str(tmp_path / "missing")])


def test_candidates_stand_on_path_and_in_pyenv(tmp_path):
    on_path, pyenv = tmp_path / "bin", tmp_path / ".pyenv/versions/3.14.1/bin"
    on_path.mkdir()
    pyenv.mkdir(parents=True)
    interpreter(on_path, "python3.12", "")
    interpreter(pyenv, "python3.14", "")
    assert venv.candidates({"HOME": str(tmp_path), "PATH": str(on_path)}) == [str(pyenv / "python3.14"), str(on_path / "python3.12")]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone whose pip does nothing but write down what it is asked for."""
    (tmp_path / "requirements.txt").write_text("thing==1\n", encoding="ascii")
    asked = []

    def pip(root, folder, requirements):
        asked.append(list(requirements))
        (folder / "bin/pip").touch()

    monkeypatch.setattr(venv, "_MAKE", ("-m", "venv", "--clear", "--without-pip"))
    monkeypatch.setattr(venv, "_pip", pip)
    return tmp_path, asked


def test_venv_is_made_once_and_follows_its_requirements(clone):
    folder, asked = clone
    made = venv.ensure(folder, "requirements.txt")
    assert (made / "bin/python").exists()
    assert (made / "ansible_collections/kos/labs").resolve() == folder.resolve()
    venv.ensure(folder, "requirements.txt")
    assert len(asked) == 1
    (folder / "requirements.txt").write_text("thing==2\n", encoding="ascii")
    venv.ensure(folder, "requirements.txt")
    assert len(asked) == 2


def test_an_interrupted_venv_is_made_anew(clone, monkeypatch):
    folder, asked = clone

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(venv, "_pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            venv.ensure(folder, "requirements.txt")
    (folder / ".venv/half-installed").touch()
    venv.ensure(folder, "requirements.txt")
    assert not (folder / ".venv/half-installed").exists()
    assert asked == [["requirements.txt"]]


def test_a_venv_whose_python_is_gone_is_made_anew(clone):
    folder, asked = clone
    made = venv.ensure(folder, "requirements.txt")
    (made / "bin/python").unlink()
    (made / "bin/python").symlink_to(folder / "gone")
    venv.ensure(folder, "requirements.txt")
    assert len(asked) == 2


# --- the shell of a command


def test_a_table_sets_numbers_to_the_right():
    assert (
        cli.table(("what", "s"), [("a", 1.25), ("long name", 100.0)])
        == "what           s\n---------  -----\na            1.2\nlong name  100.0"
    )


@pytest.mark.parametrize(("argv", "code", "word"), [(["99"], 2, "there is no lab 99"), (["1", "--base", "azure"], 2, "azure")])
def test_bad_input_ends_with_one_line(root, tmp_path, argv, code, word):
    environment = {**os.environ, "KOS_STATE": str(tmp_path / "state"), "KOS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, str(root / "tools/lab"), *argv], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_call_returns_the_code_of_a_signal():
    assert cli.call([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]) == 128 + signal.SIGKILL


# --- stages


def test_a_stage_is_named_by_its_playbook():
    assert kos_stages.stage_of("/a/b/playbooks/control_plane.yaml:12") == "control_plane"


def test_stages_are_rendered_with_a_total():
    stages = [{"stage": "base", "play": "Make machines", "tasks": 3, "changed": 2, "failed": 0, "seconds": 4.2}]
    lines = kos_stages.render({"stages": stages, "seconds": 5.0}).splitlines()
    assert lines[-1].split() == ["total", "3", "2", "5.0"]


def test_callback_writes_what_the_other_tools_read(root, tmp_path):
    playbook = tmp_path / "openstack.yaml"
    playbook.write_text(
        "- name: Say it\n  hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - name: Change\n      ansible.builtin.debug: {msg: hello}\n      changed_when: true\n",
        encoding="ascii",
    )
    environment = {
        **os.environ,
        **cli.Paths(root=root, state=tmp_path / "state", cache=tmp_path).environment(),
        "ANSIBLE_INVENTORY": str(root / "hosts.yaml"),
        "ANSIBLE_CALLBACKS_ENABLED": "kos.labs.kos_stages",
        "KOS_TIMINGS": str(tmp_path / "timings.json"),
    }
    done = subprocess.run(["ansible-playbook", str(playbook)], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "==> openstack: Say it" in done.stdout
    report = json.loads((tmp_path / "timings.json").read_text(encoding="utf-8"))
    assert [(stage["stage"], stage["tasks"], stage["changed"]) for stage in report["stages"]] == [("openstack", 1, 1)]
    with pytest.raises(KosError, match="localhost"):
        rings.unchanged(tmp_path / "timings.json")
    assert bench.stage_rows(report) == [("openstack", 1, 1, report["stages"][0]["seconds"])]


# --- rings


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("4096+0 records in\n4096+0 records out\n268435456 bytes (268 MB, 256 MiB) copied, 0.5 s, 537 MB/s\n", 536.870912),
        ("4096+0 records in\n4096+0 records out\n268435456 bytes (256.0MB) copied, 2.000000 seconds, 128.0MB/s\n", 134.217728),
    ],
)
def test_bench_reads_the_speed_that_dd_says(said, expected):
    assert bench.rate(said) == pytest.approx(expected)


def test_bench_that_moved_nothing_is_a_sentence():
    with pytest.raises(KosError, match="dd said nothing of its speed but: nc: refused"):
        bench.rate("nc: refused")


def test_scenarios_run_in_the_order_of_the_stages(tmp_path):
    clone = fake_clone(tmp_path)
    (clone / "labs/lab1.yaml").write_text(
        "- ansible.builtin.import_playbook: ../playbooks/cloud.yaml\n- ansible.builtin.import_playbook: ../playbooks/nodes.yaml\n",
        encoding="ascii",
    )
    # That a role looks at the machines beforehand does not say where it belongs.
    beforehand = "- tasks:\n  - import_role:\n      name: kos.labs.os_a\n      tasks_from: preflight\n"
    (clone / "playbooks/cloud.yaml").write_text(f"{beforehand}- roles: [kos.labs.os_b, kos.labs.os_a]\n", encoding="ascii")
    (clone / "playbooks/nodes.yaml").write_text("- roles: [kos.labs.node_x]\n", encoding="ascii")
    assert rings.in_order_of_stages(clone, ["default", "extra", "node_x", "os_a", "os_b"]) == ["os_b", "os_a", "node_x", "extra"]


def test_the_report_sums_up():
    verdicts = [
        rings.Verdict("1", "unit tests", "passed", 40, 0, 3.0),
        rings.Verdict("2", "os_x", "failed", 0, 1, 9.0),
        rings.Verdict("-", "KVM", "not run"),
    ]
    assert rings.report(verdicts).splitlines()[-1] == "40 passed, 1 failed in 0.2 minutes of steps"


def test_what_is_left_over_is_named():
    before = {"interface": frozenset({"lo"}), "mount": frozenset({"/"})}
    after = {"interface": frozenset({"lo", "kos1"}), "mount": frozenset({"/"})}
    assert footprint.left_over(before, after) == ["interface kos1"]
    with pytest.raises(KosError, match="interface kos1"):
        footprint.check(before, after)


def test_this_host_has_a_footprint():
    seen = footprint.take()
    assert "lo" in seen["interface"]
    assert "/" in seen["mount"]
    assert footprint.take(["lo"])["interface"].isdisjoint({"lo"})


def test_counts_of_pytest_are_read(tmp_path):
    junit = tmp_path / "x.xml"
    junit.write_text('<testsuites><testsuite tests="9" failures="1" errors="1" skipped="2"/></testsuites>', encoding="ascii")
    assert rings._counts(junit) == ((5, 2), "2 skipped")
    assert rings._counts(tmp_path / "none.xml") == (None, "")


@pytest.mark.parametrize(("argv", "chosen"), [([], ["1", "2", "3"]), (["3", "1"], ["1", "3"]), (["full"], ["full"])])
def test_rings_are_chosen_by_name(argv, chosen):
    assert rings.chosen(rings._parse(argv)) == chosen


@pytest.mark.parametrize(
    ("names", "memory", "disk", "expected"),
    [
        (["1", "2", "3"], 24, 60, [["1"], ["2", "3"]]),
        (["1", "2", "3"], 16, 60, [["1"], ["2"], ["3"]]),
        (["1", "2", "3"], 24, 45, [["1"], ["2"], ["3"]]),
        (["1", "2", "3", "full"], 64, 900, [["1"], ["2", "3"], ["full"]]),
        (["1", "3"], 64, 900, [["1"], ["3"]]),
    ],
)
def test_rings_run_side_by_side_where_there_is_room(monkeypatch, names, memory, disk, expected):
    for name in ("KOS_MIN_MEMORY_GB", "KOS_MIN_DISK_GB"):
        monkeypatch.delenv(name, raising=False)
    machine = dataclasses.replace(BIG, memory=memory * host.GB, free={"/": disk * host.GB})
    assert rings.lanes(names, machine) == expected


def test_rings_side_by_side_are_told_apart_and_one_that_dies_failed(tmp_path, monkeypatch, capsys):
    (tmp_path / "tools").mkdir()
    # The third argument is where a ring leaves what it found.
    (tmp_path / "tools/test").write_text(
        """import pathlib, sys
print("a line")
if sys.argv[1] == "2":
    pathlib.Path(sys.argv[3]).write_text('[{"ring": "2", "name": "a role", "word": "passed", "passed": 1}]')
else:
    sys.exit(3)
""",
        encoding="ascii",
    )
    monkeypatch.setattr(rings, "_destroy", lambda paths: None)
    paths = cli.Paths(root=tmp_path, state=tmp_path, cache=tmp_path)
    found = rings._side_by_side(["2", "3"], paths, tmp_path, rings._parse([]))
    assert sorted(capsys.readouterr().out.splitlines()) == ["2| a line", "3| a line"]
    assert [(each.ring, each.word, each.note) for each in found] == [("2", "passed", ""), ("3", "failed", "ended with 3")]


def test_an_unknown_ring_is_refused(capsys):
    with pytest.raises(SystemExit):
        rings._parse(["4"])
    assert "there is no ring 4; there are 1, 2, 3, existing, faults, full, masters, storage" in capsys.readouterr().err


def test_tools_test_runs_on_the_python_that_is_there(root):
    """tools/test is started by the machine's own Python, not by that of .venv."""
    program = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    code = "import sys; sys.path.insert(0, 'tools'); from kos import rings; print(rings.chosen(rings._parse([])))"
    done = subprocess.run([program, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['1', '2', '3']"


@pytest.mark.parametrize(
    ("ended", "verdict"), [({"killed_after": 2}, ("passed", "after 2 s")), ({"limit": 2}, ("failed", "stopped after 0 minutes"))]
)
def test_a_step_that_is_ended_leaves_nothing_of_its_own(root, tmp_path, ended, verdict):
    """As a worker of Ansible does, the child of this one has a session of its own."""
    code = (
        "import pathlib, subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        f"pathlib.Path('{tmp_path}/pid').write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    paths = cli.Paths(root=root, state=tmp_path, cache=tmp_path)
    seen = rings._run("1", rings.Step("ended", [sys.executable, "-c", code], **ended), paths, tmp_path, quiet=True)
    assert (seen.word, seen.note) == verdict
    stat = pathlib.Path("/proc", (tmp_path / "pid").read_text(), "stat")
    end = time.monotonic() + 10
    # Nobody may have asked yet how it ended.
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
        assert time.monotonic() < end, "it runs on"
        time.sleep(0.05)


def test_a_step_that_hangs_is_ended(root, tmp_path):
    paths = cli.Paths(root=root, state=tmp_path, cache=tmp_path)
    verdict = rings._run("1", rings.Step("hang", ["sleep", "60"], limit=1), paths, tmp_path, quiet=True)
    assert (verdict.word, verdict.failed) == ("failed", 1)


def test_what_needs_a_filled_mirror_fails_without_one_once_it_is_filled(root, tmp_path, monkeypatch):
    monkeypatch.setattr(rings, "_in_sandbox", lambda ring, steps, *_: steps)
    paths = cli.Paths(root=root, state=tmp_path, cache=tmp_path)
    steps = rings.ring2(paths, tmp_path, rings._parse(["2"]))
    assert [step.name for step in steps[:2]] == ["reset", "create"]
    (step,) = (step for step in steps if step.name == "components in Go")
    words = [rings._run("2", each, paths, tmp_path, quiet=True).word for each in (step, dataclasses.replace(step, environ={}))]
    assert words == ["failed", "passed"]


@pytest.mark.parametrize("volumes", [False, True])
def test_who_is_asked_is_told_which_volumes_go(monkeypatch, tmp_path, volumes):
    asked = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "y")
    assert node._agrees(["master1"], cli.Paths(root=tmp_path, state=tmp_path, cache=tmp_path), volumes=volumes)
    assert all((words in asked[0]) == volumes for words in ("with all data", "cinder-retain", "clusters before this one"))
