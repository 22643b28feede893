# SPDX-License-Identifier: GPL-3.0-or-later
"""How long something does not answer while parts of it are lost."""

from __future__ import annotations

import threading
import time
import typing as t


class Watch(threading.Thread):
    """Ask twice a second, as clients do that know nothing of each other, and remember the longest silence in seconds."""

    PAUSE = 0.5

    def __init__(self, answers: t.Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.answers, self.over = answers, threading.Event()
        self.asked, self.silence, self.answered = 0, 0.0, time.monotonic()

    def run(self) -> None:
        while not self.over.is_set():
            begun = time.monotonic()
            self.asked += 1
            if self.answers():
                now = time.monotonic()
                self.silence = max(self.silence, now - self.answered)
                self.answered = now
            self.over.wait(max(0.0, self.PAUSE - (time.monotonic() - begun)))

    def end(self) -> float:
        """Stop asking; return the longest silence, which may be the one that lasts."""
        self.over.set()
        self.join(10)
        return max(self.silence, time.monotonic() - self.answered)
