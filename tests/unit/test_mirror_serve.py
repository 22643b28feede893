# SPDX-License-Identifier: GPL-3.0-or-later
"""The two servers: started once, found again, ended by their own numbers only."""

from __future__ import annotations

import collections.abc as c
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from kos import KosError
from kos import mirror_httpd as httpd
from kos import mirror_oci as oci
from kos import mirror_serve as serve

# They are meant to outlive whoever started them.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
needs_registry = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    tree = tmp_path / "mirror"
    (tree / "site").mkdir(parents=True)
    (tree / "site/file").write_bytes(b"content")
    (tree / "index.json").write_text("{}")
    (tree / ".seen.json").write_text("{}")
    storage = oci.Storage(tree / "registry")
    layer = storage.layer([oci.Entry("x", text="x")])
    description = storage.put(oci.CONFIG, oci.config("amd64", [layer]))
    top = storage.put(oci.MANIFEST, oci.manifest(description, [layer]))
    storage.tag("example.org/x/y", "v1", [description, layer], top)
    return tree


@pytest.fixture
def state(tmp_path: pathlib.Path) -> c.Iterator[pathlib.Path]:
    yield tmp_path / "state"
    serve.stop(tmp_path / "state")


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


@needs_registry
def test_it_starts_once_serves_and_stops(tree: pathlib.Path, state: pathlib.Path) -> None:
    port, registry = free_port(), free_port()
    assert serve.start("127.0.0.1", port, registry, tree, state)
    first = {name: serve.running(state, name) for name in ("files", "registry")}
    assert not serve.start("127.0.0.1", port, registry, tree, state)
    assert first == {name: serve.running(state, name) for name in ("files", "registry")}
    assert get(port, "/site/file")[:2] == (200, b"content")

    status, body, headers = get(registry, "/v2/example.org/x/y/manifests/v1?ns=example.org", Accept=oci.MANIFEST)
    assert status == 200
    assert headers["Content-Type"] == oci.MANIFEST
    for part in (json.loads(body)["config"], *json.loads(body)["layers"]):
        status, data, _ = get(registry, f"/v2/example.org/x/y/blobs/{part['digest']}")
        assert (status, len(data)) == (200, part["size"])
    assert get(registry, "/v2/example.org/x/y/blobs/uploads/", "POST")[0] == 405

    assert serve.stop(state)
    assert not serve.stop(state)
    with pytest.raises(OSError, match="refused"):
        get(port, "/site/file")


@needs_registry
def test_another_port_moves_it(tree: pathlib.Path, state: pathlib.Path) -> None:
    old, new, registry = free_port(), free_port(), free_port()
    serve.start("127.0.0.1", old, registry, tree, state)
    assert serve.start("127.0.0.1", new, registry, tree, state)
    assert get(new, "/site/file")[0] == 200
    with pytest.raises(OSError, match="refused"):
        get(old, "/site/file")


@needs_registry
def test_a_server_that_died_is_started_again(tree: pathlib.Path, state: pathlib.Path) -> None:
    port, registry = free_port(), free_port()
    serve.start("127.0.0.1", port, registry, tree, state)
    record = serve.running(state, "files")
    assert record
    os.kill(record["pid"], 9)
    os.waitpid(record["pid"], 0)
    assert serve.start("127.0.0.1", port, registry, tree, state)
    assert get(port, "/site/file")[0] == 200


@needs_registry
def test_a_port_of_somebody_else_is_refused(tree: pathlib.Path, state: pathlib.Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(KosError, match=r"is in use by a program that this mirror did not start: .* --port"):
            serve.start("127.0.0.1", other.getsockname()[1], free_port(), tree, state)
        with pytest.raises(KosError, match="--registry-port"):
            serve.start("127.0.0.1", free_port(), other.getsockname()[1], tree, state)


@needs_registry
def test_a_foreign_address_and_an_empty_mirror_are_refused(tree: pathlib.Path, state: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(KosError, match="not an address of this machine"):
        serve.start("192.0.2.1", free_port(), free_port(), tree, state)
    with pytest.raises(KosError, match="holds no mirror yet"):
        serve.start("127.0.0.1", free_port(), free_port(), tmp_path / "nothing", state)


def test_the_registry_is_asked_for_by_its_package(tree: pathlib.Path, state: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(KosError, match="apt-get install docker-registry"):
        serve.start("127.0.0.1", free_port(), free_port(), tree, state)


def test_a_process_with_a_recycled_number_is_left_alone(state: pathlib.Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        state.mkdir()
        (state / "files.pid").write_text(json.dumps({"pid": stranger.pid, "started": 1, "argv": []}))
        assert serve.running(state, "files") is None
        assert not serve.stop(state)
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_the_file_server_hides_what_is_not_for_nodes(tree: pathlib.Path) -> None:
    with httpd.Server(("127.0.0.1", 0), str(tree)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        status, body, headers = get(port, "/site/file", "HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", "7")
        for path in ("/registry/docker", "/registry", "/.seen.json", "/site/../.seen.json", "/nothing", "/%2e%2e/state"):
            assert get(port, path)[0] == 404, path
        assert get(port, "/site/file", "DELETE")[0] == 501
        server.shutdown()
