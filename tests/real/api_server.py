# SPDX-License-Identifier: GPL-3.0-or-later
"""A real API server with its etcd, from the programs that tools/mirror has built. Nodes are objects in it; no machine stands behind them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import tarfile
import time
import typing as t

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kos.cli import Paths

_PATIENCE = 90
_TOKENS = {"admin": "system:masters", "reader": "", "single": "", "nobody": ""}


def _programs(scratch: pathlib.Path) -> dict[str, str]:
    """Return where kube-apiserver and etcd are, or skip with what is missing."""
    tree = Paths.of().cache / "mirror"
    try:
        files = json.loads((tree / "index.json").read_text(encoding="utf-8"))["files"]
        server, archive = tree / files["kube-apiserver"]["path"], tree / files["etcd"]["path"]
        with tarfile.open(archive) as opened:
            member = next(name for name in opened.getnames() if name.endswith("/etcd"))
            source = t.cast("t.IO[bytes]", opened.extractfile(member))
            (scratch / "etcd").write_bytes(source.read())
        # The mirror's own file is not executable, and a link to it would have the same mode.
        (scratch / "kube-apiserver").write_bytes(server.read_bytes())
    except (OSError, ValueError, KeyError, StopIteration, tarfile.TarError) as error:
        pytest.skip(f"needs kube-apiserver and etcd of the mirror, tools/mirror makes them ({error})")
    for name in ("etcd", "kube-apiserver"):
        (scratch / name).chmod(0o755)
    return {name: str(scratch / name) for name in ("etcd", "kube-apiserver")}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclasses.dataclass
class Cluster:
    """The API server, and clients of it."""

    url: str
    folder: pathlib.Path
    log: pathlib.Path

    def kubeconfig(self, user: str = "admin", *, url: str | None = None) -> str:
        """Return the path of a kubeconfig of this user."""
        path = self.folder / f"{user}-{abs(hash(url)) if url else 'here'}.kubeconfig"
        cluster = {"server": url or self.url, "certificate-authority": str(self.folder / "pki/apiserver.crt")}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": user}}],
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": f"token-of-{user}"}}],
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    def request(self, method: str, path: str, body: t.Any = None, *, kind: str = "application/json") -> t.Any:
        """Ask the API server something as the administrator, past all that is under test."""
        import urllib3

        with urllib3.PoolManager(ca_certs=str(self.folder / "pki/apiserver.crt")) as pool:
            answer = pool.request(
                method,
                self.url + path,
                body=None if body is None else json.dumps(body),
                headers={"Authorization": "Bearer token-of-admin", "Content-Type": kind},
                retries=False,
            )
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.data.decode()}")
        return json.loads(answer.data) if answer.data[:1] == b"{" else answer.data.decode()

    def node(self, name: str, taints: t.Sequence[t.Mapping[str, t.Any]] = (), **more: t.Any) -> str:
        """Make sure of a node that has these taints and no other; return its name."""
        with contextlib.suppress(RuntimeError):
            self.request("DELETE", f"/api/v1/nodes/{name}")
        # The server notes who wrote what only of objects that have something from the start.
        metadata = {"name": name, "labels": {"example.com/test": name, **more.pop("labels", {})}}
        self.request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": more})
        # An admission plugin gives a new node the taint not-ready, so that this cannot be said when it is made.
        self.set_taints(name, taints)
        return name

    def set_taints(self, name: str, taints: t.Sequence[t.Mapping[str, t.Any]]) -> None:
        """Replace the taints of a node."""
        self.request("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": list(taints)}}, kind="application/merge-patch+json")

    def taints(self, name: str) -> list[dict[str, t.Any]]:
        """Return the taints that a node has."""
        return self.request("GET", f"/api/v1/nodes/{name}")["spec"].get("taints") or []

    def version(self, name: str) -> str:
        """Return the version of a node; every write that changes something raises it."""
        return self.request("GET", f"/api/v1/nodes/{name}")["metadata"]["resourceVersion"]

    def calls(self) -> dict[tuple[str, str], int]:
        """Return how many requests of each verb the server has answered, per resource, from its own count."""
        found: dict[tuple[str, str], int] = {}
        for line in self.request("GET", "/metrics").splitlines():
            if line.startswith("apiserver_request_total{"):
                labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.rindex("}")].split(",") if "=" in part)
                place = (labels["verb"].strip('"'), labels["resource"].strip('"'))
                found[place] = found.get(place, 0) + int(float(line.rpartition(" ")[2]))
        return found


@contextlib.contextmanager
def _running(argv: t.Sequence[str], log: pathlib.Path) -> t.Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_ready(cluster: Cluster, *processes: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + _PATIENCE
    problem: Exception | None = None
    while time.monotonic() < limit and all(process.poll() is None for process in processes):
        try:
            if cluster.request("GET", "/readyz") == "ok":
                return
        except Exception as error:  # the reason is shown when the time is over
            problem = error
        time.sleep(0.3)
    tail = cluster.log.read_text(errors="replace")[-2000:]
    pytest.fail(f"the API server is not ready: {problem}\n{tail}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Cluster]:
    """Start the servers, set up who may do what, and end them by their process ids."""
    scratch = tmp_path_factory.mktemp("cluster")
    programs = _programs(scratch)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (scratch / "sa.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (scratch / "tokens.csv").write_text(
        "".join(f"token-of-{user},{user},{user}{f',{group}' if group else ''}\n" for user, group in _TOKENS.items()), encoding="utf-8"
    )
    client, peer, port = _free_ports(3)
    etcd = [
        programs["etcd"],
        f"--data-dir={scratch / 'etcd-data'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
    ]
    server = [
        programs["kube-apiserver"],
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={scratch / 'pki'}",
        "--authorization-mode=RBAC",
        "--allow-privileged",
        f"--token-auth-file={scratch / 'tokens.csv'}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={scratch / 'sa.key'}",
        f"--service-account-signing-key-file={scratch / 'sa.key'}",
    ]
    running = Cluster(f"https://127.0.0.1:{port}", scratch, scratch / "apiserver.log")
    with _running(etcd, scratch / "etcd.log") as one, _running(server, running.log) as two:
        _await_ready(running, one, two)
        _grant(running, "reader", {"verbs": ["get", "list"]})
        _grant(running, "single", {"verbs": ["get", "patch"], "resourceNames": ["allowed"]}, {"verbs": ["get", "list"]})
        yield running
    for program in programs.values():
        # pytest keeps the folders of three runs.
        os.unlink(program)


def _grant(cluster: Cluster, user: str, *rules: t.Mapping[str, t.Any]) -> None:
    """Let a user do something with nodes."""
    group = "rbac.authorization.k8s.io"
    path = f"/apis/{group}/v1/clusterrole"
    role = {"metadata": {"name": user}, "rules": [{"apiGroups": [""], "resources": ["nodes"], **rule} for rule in rules]}
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    cluster.request("POST", path + "s", role)
    cluster.request("POST", path + "bindings", binding)


@pytest.fixture
def kubeconfig(cluster: Cluster) -> str:
    """The administrator's."""
    return cluster.kubeconfig()


@pytest.fixture(autouse=True)
def _no_login_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("K8S_AUTH_", "KUBECONFIG"))]:
        monkeypatch.delenv(name)
