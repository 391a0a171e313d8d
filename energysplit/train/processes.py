"""What the processes of a run tell each other besides gradients and sums: decisions, errors, and where they stand.

One process, the main one, decides and writes; the others wait for what it says. An error on one is raised on all, so
that no process waits for one that has given up. What is said here are small Python objects, sent over gloo also where
tensors go over NCCL: a process that waits does not keep its GPU busy, and one that died is noticed at once.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from energysplit.errors import EnergysplitError, InputError, ProcessLost

T = TypeVar("T")

TIMEOUT_VARIABLE = "ENERGYSPLIT_TIMEOUT_S"
TIMEOUT_S = 1800.0
"""Longest wait for another process: it covers what only the main one does, such as allocation and export."""
LINGER_S = 2.0
"""Longest wait of the main process for the others at the end."""
_SIGNS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""Words in the plain RuntimeErrors that torch raises where another process is gone."""


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def timeout() -> timedelta:
    """How long a process waits for another: `ENERGYSPLIT_TIMEOUT_S` seconds, or half an hour.

    Raises:
        InputError: the variable is no number of seconds.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT_S))
    with suppress(ValueError):
        seconds = float(text)
        if math.isfinite(seconds) and seconds > 0:
            return timedelta(seconds=seconds)
    raise InputError(f"environment variable {TIMEOUT_VARIABLE} = {text!r}: a number of seconds above 0 is expected")


class Processes:
    """The processes of a session.

    Args:
        rank: number of this one, from 0; 0 is the main process.
        count: how many there are. With one, everything here is done at once and nothing is sent.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self._group = None if count == 1 or dist.get_backend() == "gloo" else _gloo()

    def broadcast(self, value: T) -> T:
        """The main process's value, on all."""
        if self.count == 1:
            return value
        box = [value if self.rank == 0 else None]
        dist.broadcast_object_list(box, src=0, group=self._group)
        found = box[0]
        return found  # type: ignore[return-value]

    def on_main(self, work: Callable[[], T]) -> T:
        """What `work` returns on the main process, on all; the others wait for it. Its error is raised on all."""
        if self.count == 1:
            return work()
        value, error = None, None
        if self.rank == 0:
            try:
                value = work()
            except Exception as caught:  # raised again below, after the others know
                error = caught
        value, told = self.broadcast((value, self._told(error)))
        self._raise(error, told)
        return value  # type: ignore[return-value]

    def everyone(self, work: Callable[[], T]) -> T:
        """What `work` returns here, once it is done on all. An error on any is raised on all."""
        if self.count == 1:
            return work()
        value, error = None, None
        try:
            value = work()
        except Exception as caught:  # raised again below, after the others know
            error = caught
        told = self._gathered(self._told(error))
        self._raise(error, next((each for each in told if each is not None), None))
        return value  # type: ignore[return-value]

    def in_turn(self, work: Callable[[], T], first: bool) -> T:
        """What `work` returns here, done on the processes that are `first` before it begins on the others."""
        if self.count == 1:
            return work()
        value = self.everyone(work if first else _nothing)
        rest = self.everyone(_nothing if first else work)
        return value if first else rest  # type: ignore[return-value]

    def differing(self, value: Any) -> dict[int, Any]:
        """Process -> its value, of those whose value is not the main process's."""
        if self.count == 1:
            return {}
        found = self._gathered(value)
        return {rank: each for rank, each in enumerate(found) if each != found[0]}

    def _gathered(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self._group)
        return found

    def _told(self, error: Exception | None) -> Exception | None:
        """What the others are told of an error here: one of ours as it is, of any other what it says."""
        if error is None:
            return None
        if isinstance(error, EnergysplitError):
            return type(error)(str(error))
        return ProcessLost(f"process {self.rank} failed: {type(error).__name__}: {error}")

    def _raise(self, own: Exception | None, told: Exception | None) -> None:
        if own is not None:
            raise own
        if told is not None:
            told.relayed = True  # type: ignore[attr-defined]
            raise told


def relayed(error: BaseException) -> bool:
    """Whether the error was raised on another process first, which says it."""
    return getattr(error, "relayed", False)


def first_to_say(text: str) -> bool:
    """Whether this process is the first of the run that asks to say this text.

    Before the processes have met, the first of each machine says it.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return os.environ.get("LOCAL_RANK", "0") == "0"
    key = "energysplit/said/" + hashlib.sha256(text.encode()).hexdigest()
    try:
        store = dist.distributed_c10d._get_default_store()
        return bool(store.add(key, 1) == 1)
    except Exception:  # the store is gone with its process; twice is better than not at all
        return True


def linger() -> None:
    """Wait a moment, on the main process, for the others to end too: the store of what was said may live in it."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    with suppress(Exception):  # the store is gone with its process
        store = dist.distributed_c10d._get_default_store()
        ending = store.add("energysplit/ending", 1)
        until = time.monotonic() + LINGER_S
        while dist.get_rank() == 0 and ending < dist.get_world_size() and time.monotonic() < until:
            time.sleep(0.02)
            ending = store.add("energysplit/ending", 0)


@contextmanager
def watched(run: Path) -> Iterator[None]:
    """Turns torch's error where another process is gone into one that says so, and how to go on with `run`.

    Raises:
        ProcessLost: another process ended or did not answer.
    """
    try:
        yield
    except RuntimeError as error:
        if not launched() or isinstance(error, EnergysplitError) or not _is_loss(error):
            raise
        raise ProcessLost(
            f"another process of this run ended, or did not answer for {timeout().total_seconds():g} s "
            f"({TIMEOUT_VARIABLE}); if it left a message, that says why. Everything up to the last finished epoch is "
            f"in {run}; start all processes again with --resume"
        ) from error


def _is_loss(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in _SIGNS)


def _nothing() -> None:
    return None


_made: dict[int, Any] = {}


def _gloo() -> Any:
    """A gloo group of all processes, made once: sessions follow each other in the same processes."""
    world = id(dist.group.WORLD)
    if world not in _made:
        _made.clear()
        _made[world] = dist.new_group(backend="gloo", timeout=timeout())
    return _made[world]
