# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import stat

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kos.labs.plugins.modules import files


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setattr(files.AnsibleModule, "log", lambda *_arguments, **_options: None)

    def call(check=False, **arguments):
        with patch_module_args({"_ansible_check_mode": check, **arguments}), pytest.raises(SystemExit):
            files.main()
        return json.loads(capsys.readouterr().out)

    return call


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def arguments(root, text="a\n", **more):
    return {
        "directories": [{"path": str(root / "x" / "y"), "mode": "0700"}],
        "files": [{"path": str(root / "x" / "y" / "z"), "content": text, **more}],
    }


def test_writes_once(tmp_path, run):
    first = run(**arguments(tmp_path, mode="0640"))
    written = tmp_path / "x" / "y" / "z"
    assert first["changed"] is True
    assert first["paths"] == [str(tmp_path / "x"), str(tmp_path / "x" / "y"), str(written)]
    assert (written.read_text(), mode_of(written), mode_of(written.parent)) == ("a\n", 0o640, 0o700)
    second = run(**arguments(tmp_path, mode="0640"))
    assert (second["changed"], second["paths"], second["diff"]) == (False, [], [])
    assert os.listdir(written.parent) == ["z"]


def test_check_mode_predicts_and_writes_nothing(tmp_path, run):
    predicted = run(check=True, **arguments(tmp_path))
    assert predicted["paths"] == run(check=True, **arguments(tmp_path))["paths"]
    assert os.listdir(tmp_path) == []
    assert run(**arguments(tmp_path))["paths"] == predicted["paths"]


def test_shows_what_changes_but_for_secrets(tmp_path, run):
    run(**arguments(tmp_path))
    changed = run(**arguments(tmp_path, text="b\n"))
    assert [(entry["before"], entry["after"]) for entry in changed["diff"]] == [("a\n", "b\n")]
    secret = {"files": [{"path": str(tmp_path / "s"), "secret_content": "hush", "mode": "0600"}]}
    assert "hush" not in json.dumps(run(**secret))
    assert mode_of(tmp_path / "s") == 0o600


def test_mends_the_mode_alone(tmp_path, run):
    run(**arguments(tmp_path, mode="0600"))
    changed = run(**arguments(tmp_path, mode="0644"))
    assert (changed["changed"], changed["diff"]) == (True, [])
    assert mode_of(tmp_path / "x" / "y" / "z") == 0o644


def test_one_bad_file_stops_all(tmp_path, run):
    entries = [
        {"path": str(tmp_path / "good"), "content": "good", "validate": "grep --quiet good %s"},
        {"path": str(tmp_path / "bad"), "content": "bad", "validate": "grep --quiet good %s"},
    ]
    result = run(files=entries)
    assert result["failed"] is True
    assert str(tmp_path / "bad") in result["msg"]
    assert os.listdir(tmp_path) == []


def test_keeps_what_is_in_the_way(tmp_path, run):
    (tmp_path / "x").write_text("")
    (tmp_path / "d").mkdir()
    assert "not a directory" in run(**arguments(tmp_path))["msg"]
    assert "is a directory" in run(files=[{"path": str(tmp_path / "d"), "content": ""}])["msg"]


@pytest.mark.parametrize("content", [{}, {"content": "a", "secret_content": "b"}])
def test_wants_exactly_one_content(tmp_path, run, content):
    assert run(files=[{"path": str(tmp_path / "f"), **content}])["failed"] is True
