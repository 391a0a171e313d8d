"""Processes of one run, started as a launcher starts them, for tests of several processes on the CPU (gloo)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
LONGEST_S = 120


@dataclass(frozen=True)
class Ended:
    """A process that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


def end() -> None:
    """End this process without Python's own end, where torch's threads abort now and then; for children."""
    from energysplit.train.processes import linger

    linger()
    sys.stdout.flush()
    os._exit(0)


def environment(**added: str) -> dict[str, str]:
    """The environment of a child that can import the tests' helpers."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS), **added}


def launched(arguments: Sequence[str], processes: int, **added: str) -> list[Ended]:
    """Python with these arguments as that many processes of one run; how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(processes):
        many = {"WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        many |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        children.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                env=environment(**added, **(many if processes > 1 else {})),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        said = [child.communicate(timeout=LONGEST_S) for child in children]
    finally:
        for child in children:
            child.kill()
    return [Ended(child.returncode, *texts) for child, texts in zip(children, said, strict=True)]
