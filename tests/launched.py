"""Processes of one run, started as a launcher starts them, for tests of several processes on the CPU (gloo)."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

TESTS = Path(__file__).parent
LONGEST_S = 120


@dataclass(frozen=True)
class Ended:
    """A process that ended: its exit code and what it printed."""

    code: int | None
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


def warm() -> ForkServerContext:
    """Makes processes that have imported already what takes most of a short one's time."""
    context = multiprocessing.get_context("forkserver")
    # What a growth imports late: a child that starts with it takes a quarter of the time. Missing ones are passed over.
    late = ["torch.export", "torch._dynamo", "torch._inductor.config", "torch.onnx._internal.exporter._core"]
    late += ["torch.distributed.tensor", "onnxscript", "onnxruntime"]
    context.set_forkserver_preload(["faulty_runs", "growth_runs", "sklearn.datasets", "cvxpy", "highspy", *late])
    return context


def launched(arguments: Sequence[str], processes: int) -> list[Ended]:
    """`-m MODULE ...` or `-c CODE ...`, as Python takes them, as that many processes of one run; how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    context, children = warm(), []
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(processes):
            many = {"WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            many |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            said = Path(folder) / str(rank)
            child = context.Process(target=_python, args=(arguments, many if processes > 1 else {}, said))
            child.start()
            children.append((child, said))
        try:
            for child, _ in children:
                child.join(LONGEST_S)
                assert child.exitcode is not None, f"did not end in {LONGEST_S} s"
        finally:
            for child, _ in children:
                child.kill()
        return [
            Ended(child.exitcode, *(said.with_suffix(which).read_text() for which in (".out", ".err")))
            for child, said in children
        ]


def _python(arguments: Sequence[str], environment: dict[str, str], said: Path) -> None:
    """This process becomes Python with these arguments, its output in files."""
    for descriptor, which in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(said.with_suffix(which), os.O_WRONLY | os.O_CREAT), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.environ.update(environment)
    how, what, *sys.argv[1:] = arguments
    try:
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(what, {"__name__": "__main__"})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
