"""Commands that are not alone: one voice where a launcher runs several processes, and an end where the starter ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import typer

from energysplit.cli.endings import CHECK_FAILED, NO_READER, ending


def speaks() -> bool:
    """Whether this process shows progress and results: the only one, or the main one of several."""
    return not _several() or os.environ.get("RANK", "0") == "0"


@contextmanager
def one_voice() -> Iterator[None]:
    """What one of several processes does in a command; of one process alone this changes nothing.

    An error that all meet is said by one; one that is lost, or ended by the launcher, says how to go on. The process
    ends here, with the command line's exit code and without Python's own end: torch's threads of communication would
    wait there for processes that are gone, and now and then abort a run that is finished.
    """
    if not _several():
        yield
        return
    from energysplit.train import processes

    if speaks():
        signal.signal(signal.SIGTERM, _ended)
    code = CHECK_FAILED
    try:
        yield
        code = 0
    except typer.Exit as stop:
        code = stop.exit_code
    except (Exception, KeyboardInterrupt) as error:
        end = ending(error)
        code = CHECK_FAILED if end is None else end.code
        if end is None:  # a bug of ours
            traceback.print_exc()
        elif end.message and not processes.relayed(error) and processes.first_to_say(end.message):
            with suppress(OSError):  # on a full disk the code alone says it
                typer.echo(end.message, err=True)
    if speaks():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what there is to say was said
    processes.linger()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = NO_READER
    os._exit(code)


def follow_input() -> None:
    """End this process, as by SIGTERM, when its standard input ends: whoever started it is gone, by kill -9 perhaps."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        with suppress(OSError):
            print(
                "ended: the process that started this run is gone; it goes on with --resume",
                file=sys.stderr,
                flush=True,
            )
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _several() -> bool:
    # As energysplit.train.processes.launched, without importing torch.
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def _ended(number: int, frame: FrameType | None) -> None:
    """Say who ended the run, then end as if nothing had been said."""
    os.write(
        2,
        b"error: ended by the launcher (SIGTERM), which ends all processes when one has failed; "
        b"start all again with --resume to continue\n",
    )
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
