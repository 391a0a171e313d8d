"""What an error becomes on the command line: one message, not too long, and an exit code."""

from __future__ import annotations

from dataclasses import dataclass

from energysplit.errors import CheckFailed, EnergysplitError, InputError, SolverFailed, from_disk, refusal

CHECK_FAILED, WRONG_INPUT, INTERRUPTED, NO_READER = 1, 2, 130, 141

LONGEST = 4000
"""Characters of a message: what a damaged file holds is quoted in some, and may be long."""


@dataclass(frozen=True)
class Ending:
    """The exit code of a command that failed, and what it says; "" if nobody is to be told."""

    code: int
    message: str


def ending(error: BaseException) -> Ending | None:
    """How a command ends with an error; None of a bug, which keeps its traceback.

    Example:
        >>> ending(InputError("no such thing"))
        Ending(code=2, message='error: no such thing')
    """
    if isinstance(error, KeyboardInterrupt):
        return Ending(INTERRUPTED, "interrupted")
    if isinstance(error, BrokenPipeError):
        return Ending(NO_READER, "")
    if isinstance(error, EnergysplitError):
        words = "check failed" if isinstance(error, CheckFailed | SolverFailed) else "error"
        code = WRONG_INPUT if isinstance(error, InputError) else CHECK_FAILED
        return Ending(code, f"{words}: {_short(str(error))}")
    # Which file is missing is said where it is looked for; elsewhere that is a bug, or the user's own code's.
    if isinstance(error, OSError) and from_disk(error) and not isinstance(error, FileNotFoundError):
        return Ending(WRONG_INPUT, f"error: {refusal(error)}")
    return None


def _short(message: str) -> str:
    left_out = len(message) - LONGEST
    return message if left_out <= 0 else f"{message[:LONGEST]} ... ({left_out:,} characters more)"
