"""What ran: versions and machine, by name and without anything that identifies a person (no host or user name)."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from energysplit.hardware.detect import package_version
from energysplit.output.atomic import write_text
from energysplit.plain_data import read_json, sealed, unsealed

ENVIRONMENT_FILE = "environment.json"
_PACKAGES = ("energysplit", "torch", "torchvision", "onnxruntime", "cvxpy", "highspy")


def environment() -> dict[str, str]:
    """Name -> version or description of this process's surroundings; packages that are not installed are left out."""
    found = {name: package_version(name) for name in _PACKAGES}
    facts = {name: version for name, version in found.items() if version is not None}
    facts["python"] = platform.python_version()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["processor"] = f"{_processor()}, {_usable_cores()} cores usable"
    if (accelerator := _accelerator()) is not None:
        facts["accelerator"] = accelerator
    return facts


def write_environment(run_dir: Path) -> None:
    """Keep what a run runs on beside its journal, for reports written later or elsewhere."""
    write_text(run_dir / ENVIRONMENT_FILE, sealed(environment()))


def read_environment(run_dir: Path) -> dict[str, str] | None:
    """What `write_environment` kept; None if the run has none that can be read, or it is damaged."""
    try:
        found = unsealed(read_json(run_dir / ENVIRONMENT_FILE))
    except (OSError, ValueError):
        return None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else None


def _processor() -> str:
    """The processor's model name where Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    """Cores this process may use, which a container may have fewer of than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _accelerator() -> str | None:
    """The first CUDA device's name, if torch is installed and sees one."""
    if package_version("torch") is None:
        return None
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
