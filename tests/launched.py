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
    sys.stderr.flush()
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
    # Modules of tests are not found there.
    ours = ["energysplit.cli.app", "energysplit.growth", "energysplit.experiment.runner"]
    context.set_forkserver_preload([*ours, "sklearn.datasets", "cvxpy", "highspy", *late])
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
            variables = environment(**(many if processes > 1 else {}))
            said = [Path(folder) / f"{rank}.{which}" for which in ("out", "err")]
            for file in said:
                file.touch()
            child = context.Process(target=_python, args=(arguments, variables, said))
            child.start()
            children.append((child, said))
        try:
            for child, _ in children:
                child.join(LONGEST_S)
                assert child.exitcode is not None, f"did not end in {LONGEST_S} s"
        finally:
            for child, _ in children:
                child.kill()
                child.join()
        return [Ended(child.exitcode, *(file.read_text() for file in said)) for child, said in children]


def _python(arguments: Sequence[str], variables: dict[str, str], said: Sequence[Path]) -> None:
    """This process becomes Python with these arguments, its output in files."""
    assert "energysplit.growth" in sys.modules, "what was to be imported in advance was not"
    for descriptor, file in zip((1, 2), said, strict=True):
        os.dup2(os.open(file, os.O_WRONLY), descriptor)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.update(variables)
    how, what, *sys.argv[1:] = arguments
    try:
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(what, {"__name__": "__main__"})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
