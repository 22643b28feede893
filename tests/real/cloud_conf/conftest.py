# SPDX-License-Identifier: GPL-3.0-or-later
"""The readers themselves: a program made of cloud-provider-openstack's own code, asked over a pipe."""

from __future__ import annotations

import base64
import json
import pathlib
import shutil
import subprocess

import pytest

from kos import mirror_build
from kos.cli import Paths

SOURCE = pathlib.Path(__file__).parent / "reader"
# What go says when it is not the code that is wrong.
UNREACHABLE = ("dial tcp", "no such host", "403 Forbidden", "404 Not Found", "i/o timeout", "TLS handshake", "module lookup disabled")


class Reader:
    """Answers what the readers make of a text."""

    def __init__(self, program: pathlib.Path) -> None:
        self.process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.asked = 0

    def ask(self, op: str, reader: str, text: bytes | str = b"") -> dict:
        data = text.encode() if isinstance(text, str) else text
        self.process.stdin.write(json.dumps({"op": op, "reader": reader, "text": base64.b64encode(data).decode()}) + "\n")
        self.process.stdin.flush()
        self.asked += 1
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


def find_go(cache: pathlib.Path) -> str | None:
    own = next(mirror_build.installed_go(cache), None)
    return str(own) if own else shutil.which("go")


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    cache = Paths.of().cache
    go = find_go(cache)
    if go is None:
        pytest.skip("there is no Go: tools/mirror installs it into the cache")
    program = tmp_path_factory.mktemp("reader") / "reader"
    environment = {**mirror_build.go_environment(cache), "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "CGO_ENABLED": "0"}
    built = subprocess.run([go, "build", "-o", str(program), "."], cwd=SOURCE, env=environment, capture_output=True, text=True, check=False)
    if built.returncode and any(word in built.stderr for word in UNREACHABLE):
        pytest.skip(f"the readers' code cannot be had: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    running = Reader(program)
    yield running
    running.close()
    print(f"\n{running.asked} questions asked of the readers")
