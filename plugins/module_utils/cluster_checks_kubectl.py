# SPDX-License-Identifier: GPL-3.0-or-later
"""What checks of a cluster share: kubectl, what a check says, and what pods and events tell."""

from __future__ import annotations

import dataclasses
import json
import re
import selectors
import subprocess
import typing as t

__all__ = [
    "FAIL",
    "HOSTNAME",
    "PASS",
    "SKIP",
    "WORKERS",
    "Check",
    "ClusterCheckError",
    "Kubectl",
    "Object",
    "Result",
    "Settings",
    "documents",
    "is_ready",
    "last_event",
    "last_line",
    "why_not_ready",
]

Object = t.Mapping[str, t.Any]

PASS, FAIL, SKIP = "pass", "fail", "skip"
# How many questions are asked at a time.
WORKERS = 6
HOSTNAME = "kubernetes.io/hostname"


class ClusterCheckError(Exception):
    """A check could not be made; the message says what stood in the way."""


@dataclasses.dataclass(frozen=True)
class Check:
    """A question, the verdict, and what was seen."""

    name: str
    verdict: str
    seen: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the cluster is meant to be, by names of masters and nodes; without nodes the control plane alone is checked."""

    version: str
    masters: t.Mapping[str, str]
    node_ips: t.Mapping[str, str]
    floating_ips: t.Mapping[str, str]
    api_port: int
    domain: str
    image: str
    namespace: str
    outside_name: str | None
    timeout: int
    # Seconds that a cluster which has just started gets until its own parts are well.
    settle: int = 0
    # The project's servers as the compute API has them; None without a cloud controller manager.
    servers: t.Sequence[Object] | None = None
    region: str | None = None
    # Seconds that the cloud gets to make a load balancer; 0 where it makes none.
    load_balancer: int = 0
    # Seconds that a claim gets to become a volume in a pod, and again to follow it; 0 in a cluster without a default class of volumes.
    volume: int = 0
    # Addresses of pods; without them nobody asks which way packets take.
    pod_range: str | None = None
    # The routes of the cluster's router; None where nobody can write any there.
    routes: t.Sequence[Object] | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """How a program ended."""

    code: int
    out: str
    err: str


class Kubectl:
    """The adapter: kubectl with a kubeconfig, as a person has it."""

    def __init__(self, *, program: str, kubeconfig: str, timeout: int) -> None:
        self.base = [program, f"--kubeconfig={kubeconfig}"]
        self.timeout = timeout

    def run(self, *arguments: str, text: str | None = None, seconds: int | None = None) -> Result:
        """Run one command to its end, which may take a number of seconds."""
        limit = seconds or self.timeout
        try:
            done = subprocess.run(
                [*self.base, f"--request-timeout={limit}s", *arguments],
                input=text or "",
                capture_output=True,
                text=True,
                errors="replace",
                # What kubectl says when it waited in vain is better than what we can say.
                timeout=limit + 5,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Result(124, "", f"no answer within {limit} s")
        except OSError as error:
            raise ClusterCheckError(f"{self.base[0]} cannot be run: {error}") from error
        return Result(done.returncode, done.stdout, done.stderr.strip())

    def read(self, *arguments: str, text: str | None = None) -> t.Any:
        """Run one command and parse the JSON that it prints."""
        result = self.run(*arguments, "--output=json", text=text)
        if result.code != 0:
            raise ClusterCheckError(last_line(result.err))
        return json.loads(result.out)

    def forwarded(self, *arguments: str) -> t.Iterator[int]:
        """Run a port-forward and hand out its local port, once, for as long as the caller looks."""
        argv = [*self.base, *arguments]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout is not None
                with selectors.DefaultSelector() as ready:
                    ready.register(process.stdout, selectors.EVENT_READ)
                    line = process.stdout.readline() if ready.select(self.timeout) else ""
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if not found:
                    raise ClusterCheckError(line.strip() or "port-forward printed no port")
                yield int(found.group(1))
            finally:
                process.terminate()


def documents(text: str) -> list[t.Any]:
    """Parse the JSON documents that kubectl prints one after the other when it makes several objects."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        document, position = decoder.raw_decode(text, position)
        found.append(document)
    return found


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def is_ready(pod: Object) -> bool:
    """Tell whether a pod is ready and staying."""
    conditions = pod["status"].get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def why_not_ready(pod: Object) -> str:
    """Return the reason that the kubelet, or else the scheduler, gives."""
    for container in pod["status"].get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return f"{waiting.get('reason')} {waiting.get('message', '')}".strip()
    for condition in pod["status"].get("conditions", []):
        if condition["status"] == "False" and condition.get("message"):
            return str(condition["message"])
    return str(pod["status"].get("phase", "unknown"))


def last_event(kubectl: Kubectl, settings: Settings, name: str) -> str:
    """Return what was said last about an object that something is wrong with."""
    chosen = f"--field-selector=type=Warning,involvedObject.name={name}"
    events = kubectl.read(f"--namespace={settings.namespace}", "get", "events", chosen, "--sort-by=.lastTimestamp")["items"]
    return str(events[-1].get("message", "")) if events else ""
