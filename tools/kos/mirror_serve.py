# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts and ends the mirror's two servers: the file server and Debian's docker-registry. What runs is recorded in a state folder."""

from __future__ import annotations

import dataclasses
import errno
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t

from kos import KosError
from kos import mirror_oci as oci

__all__ = ["Service", "registry_config", "running", "services", "start", "stop"]

_PATIENCE = 15.0


@dataclasses.dataclass(frozen=True)
class Service:
    """A server: where it listens, what is run, and what it answers when it is up."""

    name: str
    address: str
    port: int
    argv: tuple[str, ...]
    probe: str


def services(address: str, port: int, registry_port: int, tree: pathlib.Path, state: pathlib.Path) -> tuple[Service, Service]:
    """Describe the two servers for these addresses."""
    httpd = pathlib.Path(__file__).with_name("mirror_httpd.py")
    return (
        Service("files", address, port, (sys.executable, str(httpd), address, str(port), str(tree)), "/index.json"),
        Service("registry", address, registry_port, ("docker-registry", "serve", str(state / "registry.json")), "/v2/"),
    )


def registry_config(address: str, port: int, storage: pathlib.Path) -> dict[str, t.Any]:
    """Return the configuration of docker-registry; JSON is YAML. It only reads: `tools/mirror` alone writes its storage."""
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "maintenance": {"readonly": {"enabled": True}}},
        "http": {"addr": f"[{address}]:{port}" if ":" in address else f"{address}:{port}"},
    }


def start(address: str, port: int, registry_port: int, tree: pathlib.Path, state: pathlib.Path) -> bool:
    """Bring both servers up; returns whether anything had to be done."""
    if not shutil.which("docker-registry"):
        raise KosError("images are served by docker-registry, which this machine lacks: apt-get install docker-registry")
    if not (tree / "index.json").exists():
        raise KosError(f"{tree} holds no mirror yet: run `tools/mirror build` or `tools/mirror download` first")
    wanted = services(address, port, registry_port, tree, state)
    content = json.dumps(registry_config(address, registry_port, tree / "registry"), indent=1)
    settings = state / "registry.json"
    old = settings.read_text() if settings.exists() else None
    changed = False
    for service in wanted:
        record = running(state, service.name)
        if record is not None:
            # The interpreter's name is not compared: who starts the tool decides whether it reads python or python3.
            same = record["argv"][1:] == [*service.argv[1:]] and (service.name != "registry" or old == content)
            if same and _answers(service):
                continue
            _end(state, service.name, record)
        changed = True
        _free(service)
        if service.name == "registry":
            (tree / "registry").mkdir(parents=True, exist_ok=True)
            with oci.write(settings) as stream:
                stream.write(content.encode())
        _launch(state, service)
    return changed


def stop(state: pathlib.Path) -> bool:
    """End the servers that this state folder knows; returns whether there were any."""
    changed = False
    for name in ("files", "registry"):
        record = running(state, name)
        if record is not None:
            changed = True
            _end(state, name, record)
        _record(state, name).unlink(missing_ok=True)
    return changed


def running(state: pathlib.Path, name: str) -> dict[str, t.Any] | None:
    """Return what is recorded of a server, if the process is still that server and not a later one with its number."""
    try:
        record = json.loads(_record(state, name).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return record if _started(record["pid"]) == record["started"] else None


def _record(state: pathlib.Path, name: str) -> pathlib.Path:
    return state / f"{name}.pid"


def _started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None when there is none or it is dead."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _free(service: Service) -> None:
    family = socket.AF_INET6 if ":" in service.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((service.address, service.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                option = "--port" if service.name == "files" else "--registry-port"
                raise KosError(
                    f"port {service.port} of {service.address} is in use by a program that this mirror did not start: end it, or choose another with {option}"
                ) from None
            if error.errno == errno.EADDRNOTAVAIL:
                raise KosError(f"{service.address} is not an address of this machine: choose another with --address") from None
            raise KosError(f"port {service.port} of {service.address} cannot be used: {error.strerror}") from None


def _launch(state: pathlib.Path, service: Service) -> None:
    state.mkdir(parents=True, exist_ok=True)
    log = state / f"{service.name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(service.argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True, cwd="/")
    record = {"pid": process.pid, "started": _started(process.pid), "argv": [*service.argv]}
    with oci.write(_record(state, service.name)) as pid:
        pid.write(json.dumps(record).encode())
    deadline = time.monotonic() + _PATIENCE
    while not _answers(service):
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace").strip().splitlines()
            if process.poll() is None:
                _end(state, service.name, record)
            raise KosError(
                f"the mirror's {service.name} server does not answer on {service.address}:{service.port} ({words[-1] if words else 'it said nothing'}): read {log}"
            )
        time.sleep(0.05)


def _answers(service: Service) -> bool:
    connection = http.client.HTTPConnection(service.address, service.port, timeout=3)
    try:
        connection.request("HEAD" if service.name == "files" else "GET", service.probe)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(state: pathlib.Path, name: str, record: t.Mapping[str, t.Any]) -> None:
    pid, started = record["pid"], record["started"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _started(pid) != started:
            break
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + 5
        while _started(pid) == started and time.monotonic() < deadline:
            time.sleep(0.02)
    _record(state, name).unlink(missing_ok=True)
