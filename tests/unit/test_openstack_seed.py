# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance asks of the metadata service when it starts, against a service that is slow, absent or of few words."""

from __future__ import annotations

import http.server
import importlib.machinery
import importlib.util
import json
import pathlib
import threading
import typing as t

import pytest

PROGRAM = pathlib.Path(__file__).parents[2] / "roles/base_sandbox_image/files/common/usr/local/libexec/openstack-seed"
META = {"uuid": "3d8cbd3e", "name": "master1", "public_keys": {"kos": "ssh-ed25519 AAAA"}, "availability_zone": "nova"}

Answer = t.Union[int, bytes, None]


@pytest.fixture
def seed(tmp_path, monkeypatch):
    loader = importlib.machinery.SourceFileLoader("openstack_seed", str(PROGRAM))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "SEED", tmp_path / "seed")
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(module, "LIMIT", 5.0)
    monkeypatch.setattr(module, "own_id", lambda: META["uuid"])
    return module


@pytest.fixture
def service(seed, monkeypatch):
    """Start a metadata service; each document's answers come one after the other, None is silence, the last one stays."""
    over = threading.Event()
    answers: dict[str, list[Answer]] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            document = self.path.rpartition("/")[2]
            asked.append(document)
            queue = answers[document]
            answer = queue.pop(0) if len(queue) > 1 else queue[0]
            if answer is None:
                over.wait(5)
                return
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(seed, "BASE", f"http://127.0.0.1:{server.server_address[1]}/openstack/latest")

    def run(**documents: list[Answer]) -> list[str]:
        answers.update({"meta_data.json": documents["meta"], "user_data": documents["user"]})
        asked.clear()
        seed.main()
        return list(asked)

    yield run
    over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def written(seed) -> tuple[dict[str, t.Any], bytes]:
    return json.loads((seed.SEED / "meta-data").read_text()), (seed.SEED / "user-data").read_bytes()


def test_what_cloud_init_reads(seed, service):
    service(meta=[json.dumps(META).encode()], user=[b"#cloud-config\n{a: b}\n"])
    meta, user = written(seed)
    assert meta == {"instance-id": "3d8cbd3e", "local-hostname": "master1", "public-keys": ["ssh-ed25519 AAAA"]}
    assert user == b"#cloud-config\n{a: b}\n"


@pytest.mark.parametrize("trouble", [[None], [503, 500], [404], [None, 404]], ids=["silence", "errors", "not known yet", "both"])
def test_it_asks_again(seed, service, trouble):
    service(meta=[*trouble, json.dumps(META).encode()], user=[*(each for each in trouble if each != 404), b"#!/bin/sh\n"])
    meta, user = written(seed)
    assert (meta["local-hostname"], user) == ("master1", b"#!/bin/sh\n")


def test_it_gets_more_patient(seed, monkeypatch):
    """A service that is slow for all is heard in the end; one that does not listen yet costs no patience."""
    seen = []
    answers = iter([OSError("nobody listens"), seed.Silence("1"), seed.Silence("2"), b"{}"])

    def ask(document, patience):
        seen.append(patience)
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(seed, "ask", ask)
    assert seed.get("meta_data.json") == b"{}"
    assert seen == [0.2, 0.2, 0.4, 0.8]


def test_no_user_data_is_no_trouble(seed, service):
    assert sorted(service(meta=[json.dumps(META).encode()], user=[404])) == ["meta_data.json", "user_data"]
    assert written(seed)[1].startswith(b"#cloud-config")


def test_it_gives_up_with_a_sentence(seed, service, monkeypatch):
    monkeypatch.setattr(seed, "LIMIT", 0.1)
    with pytest.raises(SystemExit, match=r"no meta_data.json from http://.* within 0 s: .*500"):
        service(meta=[500], user=[404])
    assert not seed.SEED.exists()


def test_a_restart_asks_nothing(seed, service):
    service(meta=[json.dumps(META).encode()], user=[404])
    assert service(meta=[500], user=[500]) == []


def test_a_copy_of_an_instance_asks_for_its_own(seed, service, monkeypatch):
    service(meta=[json.dumps(META).encode()], user=[404])
    monkeypatch.setattr(seed, "own_id", lambda: "another")
    service(meta=[json.dumps({**META, "uuid": "another", "name": "worker1"}).encode()], user=[404])
    assert written(seed)[0]["local-hostname"] == "worker1"
