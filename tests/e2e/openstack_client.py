# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the openstack client again and again, and loads it once: that takes two seconds of a processor each time, which tests that wait do not have.

One request per line, `{"arguments": [...], "seconds": 300}`; for each, one answer, `{"code": 0, "out": "...", "err": "..."}`. Every call has a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import signal
import sys
import tempfile
import typing as t

from openstackclient import shell

_GROUPS = ("common", "compute.v2", "image.v2", "load_balancer.v2", "network.v2", "volume.v3")


def load() -> None:
    """Load the commands, which the client itself does one by one."""
    for group in _GROUPS:
        for command in importlib.metadata.entry_points(group=f"openstack.{group}"):
            # Whoever calls one that cannot be loaded hears of it then.
            with contextlib.suppress(Exception):
                command.load()


def run(arguments: list[str], seconds: int) -> dict[str, t.Any]:
    """Run one command in a process that is all its own."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        child = os.fork()
        if child == 0:
            signal.alarm(seconds)
            for number, file in ((1, out), (2, err)):
                os.dup2(file.fileno(), number)
            code: t.Any = 1
            try:
                code = shell.main(arguments)
            except SystemExit as end:
                code = end.code
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code if isinstance(code, int) else int(code is not None))
        _, status = os.waitpid(child, 0)
        for file in (out, err):
            file.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "out": out.read(), "err": err.read()}


def main() -> None:
    """Answer requests until there are no more."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers, open(os.devnull, encoding="utf-8") as nothing:
        os.dup2(2, 1)
        requests = os.fdopen(os.dup(0), encoding="utf-8")
        os.dup2(nothing.fileno(), 0)
        # What it calls itself.
        sys.argv[:] = ["openstack"]
        load()
        for line in requests:
            answers.write(json.dumps(run(**json.loads(line))) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
