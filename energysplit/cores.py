"""How many cores this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int | None:
    """Cores this process may use; a container may leave it fewer than the machine has. None where nobody knows."""
    if hasattr(os, "sched_getaffinity"):  # Linux; macOS has no such thing
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
