"""Ctrl-C and the signals that end a process, noted instead of obeyed, so that no step is left half done.

An exception out of a handler can come between the start of a process and the note that it was started, and the process
would then outlive us. Here a handler only counts; the loop asks between its steps.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """The process was told to end; number: by which signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class Signals:
    """Notes ending signals while its context is open; those that are ignored or handled by others stay so."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for each in ENDING:
                if (before := signal.getsignal(each)) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[each] = before
                    signal.signal(each, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)

    def check(self) -> None:
        """Nothing, if none came.

        Raises:
            Ended: one did.
        """
        if self.seen:
            raise Ended(self.seen[0])

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen.append(number)
