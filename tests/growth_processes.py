"""A tiny growth as one process of several, and what may go wrong: `python -m growth_processes WHAT grow RECIPE ...`."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from typing import Any

from energysplit import growth
from energysplit.errors import DataError
from energysplit.growth import stage, step
from energysplit.output.atomic import write_text

RANK = os.environ.get("RANK", "0")
FATAL_EPOCH = 4
"""The epoch that process 1 does not survive, counted over the run: the second of stage 1."""


def _break(what: str) -> None:
    """Make this process fail as `what` says."""
    train, count = stage.train_epoch, 0

    def mortal(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if RANK == "1" and count == FATAL_EPOCH:
            if what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise DataError("image 7 can't be read")
        return train(*args, **kwargs)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if what in ("killed", "unreadable"):
        stage.train_epoch = mortal
    elif what == "full" and RANK == "0":
        growth.folder.RunFolder.save_progress = full
    elif what == "changed":
        step.function_error = lambda *_: 0.5


def _report_networks() -> None:
    """Print a digest of each stage's network as another follows, with its buffers, on every process."""
    following = growth.loop.following

    def told(setup: Any, state: Any, *others: Any) -> Any:
        digest = hashlib.sha256()
        for name, tensor in sorted(state.net.module.state_dict().items()):
            digest.update(name.encode() + tensor.detach().contiguous().cpu().numpy().tobytes())
        print(f"network {state.stage} {digest.hexdigest()}", flush=True)
        return following(setup, state, *others)

    growth.loop.following = told


if __name__ == "__main__":
    what, *sys.argv[1:] = sys.argv[1:]
    growth.loop.write_report = lambda path, *_: write_text(path / "report.html", "figures left out")
    _break(what)
    _report_networks()
    from energysplit.cli import main

    main()
