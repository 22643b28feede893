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
# It starts its instance, speaks with libvirt, listens only then for its instance's end, and asks once what has ended: all in the order of libvirt's own.
PROGRAM = """#!/usr/bin/env python3
import os, pathlib, signal, sys, time

state = pathlib.Path(os.environ["KOS_LIBVIRT_STATE"])
(state / "arguments").write_text(" ".join(sys.argv[1:]))
reads, writes = map(int, sys.argv[sys.argv.index("--handshakefds") + 1].split(":"))
init = os.fork()
if not init:
    os.close(reads), os.close(writes)
    while not (state / "die").exists() and not (state / "end").exists():
        time.sleep(0.01)
    os._exit(0)
os.write(writes, b"1")
(state / "answer").write_bytes(os.read(reads, 1))
os.write(writes, b"2")
os.close(writes)
time.sleep(0.2)

def ended(*_):
    if os.waitpid(-1, os.WNOHANG)[0] == init:
        (state / "ended").touch()

signal.signal(signal.SIGCHLD, ended)
while not (state / "end").exists():
    time.sleep(0.01)
    (state / "alive").touch()
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
    def libvirt(self, place):
        """Start the program as libvirt does; return what libvirt reads from, what it writes to, and the program."""
        reads, theirs_to_write = os.pipe()
        theirs_to_read, writes = os.pipe()
        argv = [str(place / "libvirt_lxc"), "--name", "one", "--console", "25", "--handshakefds", f"{theirs_to_read}:{theirs_to_write}"]
        with subprocess.Popen(argv, pass_fds=(theirs_to_read, theirs_to_write)) as program:
            (place / "one.pid").write_text(str(program.pid), encoding="ascii")
            os.close(theirs_to_read)
            os.close(theirs_to_write)
            yield reads, writes, program
            program.kill()
            (place / "end").touch()
        for each in (reads, writes):
            os.close(each)

    def test_the_program_waits_until_libvirt_listens(self, place, libvirt):
        reads, writes, program = libvirt
        assert os.read(reads, 1) == b"1"
        os.write(writes, b"c")
        assert os.read(reads, 1) == b"2"
        until(lambda: state_of(program.pid) == "T", "it was not stopped")
        (place / "alive").unlink(missing_ok=True)
        subprocess.run([str(FILES / "etc/libvirt/hooks/lxc"), "one", "started", "begin", "-"], check=True, stdin=subprocess.DEVNULL)
        until((place / "alive").exists, "it was not continued")
        assert (place / "answer").read_bytes() == b"c"
        assert (place / "arguments").read_text(encoding="ascii").split()[:4] == ["--name", "one", "--console", "25"]
        # No child that the program does not know of is in the way of this.
        (place / "die").touch()
        until((place / "ended").exists, "it does not see its instance end")

    def test_libvirt_hears_of_a_program_that_ends(self, libvirt):
        reads, _, program = libvirt
        assert os.read(reads, 1) == b"1"
        program.kill()
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


def test_instances_are_told_to_power_off_before_the_machine_stops(tmp_path, monkeypatch):
    monkeypatch.setenv("KOS_LIBVIRT_STATE", str(tmp_path))
    (tmp_path / "gone.pid").write_text("999999999", encoding="ascii")
    # With the name that libvirt's own program has behind the one that stands before it, and of which the kernel keeps a part.
    program = tmp_path / "libvirt_lxc.distrib"
    program.write_text(
        '#!/bin/bash\nbash -c \'trap "touch $0/off; exit" RTMIN+4; touch "$0/ready"; while :; do sleep 0.05; done\' "$1" &\nwait\n',
        encoding="ascii",
    )
    program.chmod(0o755)
    with subprocess.Popen([str(program), str(tmp_path)]) as supervisor:
        (tmp_path / "one.pid").write_text(str(supervisor.pid), encoding="ascii")
        children = pathlib.Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
        until(lambda: children.read_text(encoding="ascii").split(), "it starts nothing")
        until((tmp_path / "ready").exists, "it does not get ready")
        subprocess.run([str(FILES / "usr/local/lib/kos-machine/guests-stop")], check=True, timeout=60)
        assert supervisor.wait(20) == 0
    assert (tmp_path / "off").exists()
