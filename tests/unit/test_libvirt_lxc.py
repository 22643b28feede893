# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands before libvirt's own libvirt_lxc on machines of the sandbox, with a libvirt and a program that only do what is to be seen."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import time

import pytest

FILES = pathlib.Path(__file__).parents[2] / "roles/base_sandbox/files/machine"
DEFINITION = """<domstatus state='running' reason='unknown' pid='0'>
  <domain type='lxc'>
    <os>
      <type>exe</type>
    </os>
    <clock offset='utc'/>
  </domain>
</domstatus>
"""
# It goes into the background, speaks with libvirt, and then has something to say to whoever connects.
PROGRAM = """#!/bin/bash
set -eu
state=$KOS_LIBVIRT_STATE
echo "$@" >"$state/arguments"
(
    printf 1 >&"$WRITES"
    read -r -N 1 -u "$READS" answer
    echo "$answer" >"$state/answer"
    printf 2 >&"$WRITES"
    exec {WRITES}>&- {READS}<&-
    until [ -e "$state/end" ]; do sleep 0.01; date +%s%N >"$state/alive"; done
) &
printf %s $! >"$state/one.pid"
"""


def until(condition, what):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def state_of(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


@pytest.fixture
def place(tmp_path, monkeypatch):
    shutil.copy(FILES / "usr/lib/libvirt/libvirt_lxc", tmp_path)
    program = tmp_path / "libvirt_lxc.distrib"
    program.write_text(PROGRAM, encoding="ascii")
    program.chmod(0o755)
    (tmp_path / "one.xml").write_text(DEFINITION, encoding="ascii")
    monkeypatch.setenv("KOS_LIBVIRT_STATE", str(tmp_path))
    yield tmp_path
    (tmp_path / "end").touch()


class TestStart:
    @pytest.fixture
    def libvirt(self, place, monkeypatch):
        """Start the program as libvirt does; return what libvirt reads from, what it writes to, and the process to be."""
        reads, theirs_to_write = os.pipe()
        theirs_to_read, writes = os.pipe()
        monkeypatch.setenv("READS", str(theirs_to_read))
        monkeypatch.setenv("WRITES", str(theirs_to_write))
        ends = f"{theirs_to_read}:{theirs_to_write}"
        argv = [str(place / "libvirt_lxc"), "--name", "one", "--console", "25", "--handshakefds", ends, "--background"]
        subprocess.run(argv, check=True, pass_fds=(theirs_to_read, theirs_to_write), timeout=20)
        os.close(theirs_to_read)
        os.close(theirs_to_write)
        yield reads, writes, int((place / "one.pid").read_text(encoding="ascii"))
        for each in (reads, writes):
            os.close(each)

    def test_the_program_waits_until_libvirt_listens(self, place, libvirt):
        reads, writes, pid = libvirt
        assert os.read(reads, 1) == b"1"
        os.write(writes, b"c")
        assert os.read(reads, 1) == b"2"
        until(lambda: state_of(pid) == "T", "it was not stopped")
        subprocess.run([str(FILES / "etc/libvirt/hooks/lxc"), "one", "started", "begin", "-"], check=True, stdin=subprocess.DEVNULL)
        until((place / "alive").exists, "it was not continued")
        assert (place / "answer").read_bytes() == b"c\n"
        assert (place / "arguments").read_text(encoding="ascii").split()[:4] == ["--name", "one", "--console", "25"]

    def test_libvirt_hears_of_a_program_that_ends(self, libvirt):
        reads, _, pid = libvirt
        os.kill(pid, 9)
        assert os.read(reads, 10) in (b"1", b"")
        assert os.read(reads, 10) == b""

    @pytest.mark.parametrize("operation", ["prepare", "started", "reconnect", "release"])
    def test_libvirt_goes_on_also_where_the_program_is_gone(self, place, operation):
        # libvirt ends the instance when its hook fails.
        argv = [str(FILES / "etc/libvirt/hooks/lxc"), "gone", operation, "begin", "-"]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


class TestDefinition:
    def test_instances_keep_the_right_to_make_devices(self, place):
        subprocess.run([str(place / "libvirt_lxc"), "--name", "one"], check=False, timeout=20)
        text = (place / "one.xml").read_text(encoding="ascii")
        assert text.count("<mknod state='on'/>") == 1
        assert text.index("<features>") < text.index("<clock ")

    def test_a_definition_with_features_stays(self, place):
        mine = DEFINITION.replace("<clock ", "<features><acpi/></features>\n    <clock ")
        (place / "one.xml").write_text(mine, encoding="ascii")
        subprocess.run([str(place / "libvirt_lxc"), "--name", "one"], check=False, timeout=20)
        assert (place / "one.xml").read_text(encoding="ascii") == mine
