"""Work that makes many objects that stay, at full speed.

Python looks for reference cycles whenever many objects were made, and then goes through all there are. Importing torch
and what comes with it makes a million, so looking for garbage among them takes a third of the time to start; reading a
journal of thousands of stages takes three times as long with it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Cycles are not looked for until the end."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
