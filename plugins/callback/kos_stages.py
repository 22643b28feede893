# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show the stage that runs and the time that each took."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kos_stages
type: notification
short_description: Shows the stage that runs and the time that each took
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - A stage is a playbook that another one imports, such as C(openstack) or C(workers); its plays are its steps.
  - Prints a line when a play begins and when it ends, and a table of all when the run ends.
  - Writes the same as JSON, with the counts of each host, for other programs to read.
options:
  timings:
    description: The file to write, below a folder that exists; without a folder nothing is written.
    type: path
    default: .state/timings.json
    env:
      - name: KOS_TIMINGS
    ini:
      - section: callback_kos_stages
        key: timings
"""

import datetime
import json
import os
import time
import typing as t

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Measures plays; knows nothing of what they do."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "kos.labs.kos_stages"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun = time.monotonic()
        self._started = datetime.datetime.now(datetime.timezone.utc)
        self._playbook = ""
        self._steps: list[dict[str, t.Any]] = []
        self._step: dict[str, t.Any] | None = None

    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        """Remember what runs."""
        self._playbook = os.path.basename(playbook._file_name)

    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        """End the step before and begin the next."""
        self._end()
        self._step = {
            "stage": stage_of(play.get_path()),
            "play": play.get_name(),
            "tasks": 0,
            "changed": 0,
            "failed": 0,
            "begun": time.monotonic(),
        }
        self._say(f"==> {self._step['stage']}: {self._step['play']} (after {self._clock()})", "bright cyan")

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        """Count a task."""
        if self._step:
            self._step["tasks"] += 1

    def v2_playbook_on_handler_task_start(self, task: t.Any) -> None:
        """Count a handler."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result: t.Any) -> None:
        """Count a change."""
        if self._step and result._result.get("changed", False):
            self._step["changed"] += 1

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        """Count a failure."""
        if self._step and not ignore_errors:
            self._step["failed"] += 1

    v2_runner_on_unreachable = v2_runner_on_failed

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        """Print the table and write the file."""
        self._end()
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        report = {
            "version": 1,
            "playbook": self._playbook,
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._begun, 1),
            "stages": self._steps,
            "hosts": hosts,
        }
        self._say(render(report), None)
        path = self.get_option("timings")
        if path and os.path.isdir(os.path.dirname(path)):
            with open(path + ".new", "w", encoding="utf-8") as file:
                json.dump(report, file, indent=1)
            os.replace(path + ".new", path)

    def _end(self) -> None:
        step, self._step = self._step, None
        if step is None or step["tasks"] == 0:
            return
        step["seconds"] = round(time.monotonic() - step.pop("begun"), 1)
        self._steps.append(step)
        end = "failed" if step["failed"] else "done"
        self._say(f"<== {step['stage']}: {step['play']}: {end} in {step['seconds']:.1f} s, {step['changed']} changed", "cyan")

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        return f"{minutes}:{seconds:02d}"

    def _say(self, text: str, color: str | None) -> None:
        self._display.display(text, color=color)


def stage_of(path: str) -> str:
    """Return the stage that a play belongs to: the name of its playbook, without folder, ending and line."""
    return os.path.splitext(os.path.basename(path.rpartition(":")[0] or path))[0]


def render(report: dict[str, t.Any]) -> str:
    """Lay a report out as a table."""
    head = ("stage", "play", "tasks", "changed", "seconds")
    rows = [tuple(str(step[name]) for name in head) for step in report["stages"]]
    total = [sum(step[name] for step in report["stages"]) for name in ("tasks", "changed")]
    rows.append(("total", "", str(total[0]), str(total[1]), f"{report['seconds']:.1f}"))
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n" + "\n".join(lines)
