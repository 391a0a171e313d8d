"""Every error energysplit raises; each says what was given, what was expected and what to do next.

Errors that come from wrong input are also `ValueError`s, so callers need not know this package to catch them.
The command line turns `InputError` into exit code 2 and `CheckFailed` into exit code 1.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class EnergysplitError(Exception):
    """Base of every error energysplit raises."""


class InputError(EnergysplitError, ValueError):
    """What was given can't be used; the message says what was expected."""


class UnsupportedModel(InputError):
    """The model holds an operation whose channels energysplit can't follow; the message names it."""


class RecipeError(InputError):
    """A recipe can't be read: file, key, what was expected, nearest valid key."""


class BudgetError(InputError):
    """A budget can't be met or does not fit its provider."""


class DataError(InputError):
    """A data folder is absent or empty, or its images don't fit the model."""


class CheckpointError(InputError):
    """A checkpoint, index file or journal is missing or damaged; the message names the file."""


class RunError(InputError):
    """A run folder can't be used as asked: it holds another run, or the recipe changed."""


class MissingExtra(InputError):
    """An optional package is needed for what was asked; the message names the extra."""


class NotMeasured(InputError):
    """A table has no price for a case, and tables don't extrapolate; the message says what measures it."""


class OutOfMemory(InputError):
    """Memory ran out; the message says while what was done, and which keys need less."""


class SolverFailed(EnergysplitError):
    """The optimiser behind an allocation ended without an optimal solution; nothing was chosen in its place."""


class CheckFailed(EnergysplitError):
    """A check of energysplit's own work failed (function kept, parity, budget); nothing after it was kept."""


class ProcessLost(EnergysplitError):
    """Another process of the run ended or did not answer; the message says how to go on."""


class MeasuredElsewhere(UserWarning):
    """A cost table was measured on another machine or runtime than it is used for; the text has both names."""


class SmallerBatches(UserWarning):
    """Memory ran out, and the work began anew with smaller batches; the text says how large they are."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The sentence that proposes the nearest known word, or lists the known ones.

    Example:
        >>> nearest("latancy", ["latency", "macs"])
        "did you mean 'latency'?"
        >>> nearest("zzz", ["latency", "macs"])
        'known: latency, macs'
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def refusal(error: OSError) -> str:
    """What the operating system refused, of which file, and what can be done about it.

    Example:
        >>> refusal(OSError(errno.ENOSPC, "No space left on device", "runs/a/journal.jsonl"))
        'runs/a/journal.jsonl: No space left on device; free some space there'
    """
    said = f"{error.filename or 'a file, or the output'}: {error.strerror or error}"
    return f"{said}; {_REMEDIES.get(error.errno or 0, 'mend that')}"


def from_disk(error: BaseException | None) -> bool:
    """Whether the operating system refused a file; a connection that breaks, a reader that leaves, a bug are not that.

    Example:
        >>> from_disk(OSError(errno.ENOSPC, "No space left on device")), from_disk(ConnectionResetError())
        (True, False)
    """
    return isinstance(error, OSError) and error.errno in _REMEDIES


@contextmanager
def refusals(advice: str) -> Iterator[None]:
    """Turns what the disk refuses during some work into an error that says how to go on; other errors stay.

    Args:
        advice: how to go on when the disk is mended; follows on "then".

    Raises:
        RunError: the disk refused something.
    """
    try:
        yield
    except OSError as error:
        if not from_disk(error):
            raise
        raise RunError(f"{refusal(error)}, then {advice}") from error


_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it readable and writable"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), "put back the folder that was removed or moved"),
    errno.EISDIR: "move that folder away",
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP), "choose another place, of a shorter name"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n)"),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EIO: "check the disk",
}


def first_complaint(error: Exception) -> str:
    """Key and reason of what pydantic found first, on one line; of any other error what it says.

    Example:
        >>> from pydantic import TypeAdapter
        >>> try:
        ...     TypeAdapter(dict[str, int]).validate_python({"widths": "x"})
        ... except ValueError as error:
        ...     first_complaint(error)
        'widths: Input should be a valid integer, unable to parse string as an integer'
    """
    complaints = getattr(error, "errors", None)
    if not callable(complaints):
        return str(error)
    first = complaints()[0]
    return ": ".join((*filter(None, [".".join(map(str, first["loc"]))]), first["msg"]))
