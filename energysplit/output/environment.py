"""What ran: versions and machine, by name and without anything that identifies a person (no host or user name)."""

from __future__ import annotations

import platform
from pathlib import Path

from energysplit.hardware.detect import machine, package_version
from energysplit.output.atomic import write_text
from energysplit.plain_data import read_json, sealed, unsealed

ENVIRONMENT_FILE = "environment.json"
_PACKAGES = ("energysplit", "torch", "torchvision", "onnxruntime", "cvxpy", "highspy")


def environment() -> dict[str, str]:
    """Name -> version or description of this process's surroundings; packages that are not installed are left out."""
    versions = {name: package_version(name) for name in _PACKAGES}
    facts = {name: version for name, version in versions.items() if version is not None}
    facts["python"] = platform.python_version()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    found = machine()
    facts["processor"] = f"{found.processor}, {found.cores or 1} cores usable"
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


def _accelerator() -> str | None:
    """The first CUDA device's name, if torch is installed and sees one."""
    if package_version("torch") is None:
        return None
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
