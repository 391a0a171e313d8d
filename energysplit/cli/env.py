"""`energysplit env`: versions, machine and abilities, for bug reports and before a long run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

VERSIONS = (
    "energysplit", "torch", "torchvision", "accelerate", "onnx", "onnxruntime", "cvxpy", "highspy", "numpy",
)  # fmt: skip
_REQUIREMENT = re.compile(r"""^([A-Za-z0-9._-]+).*;.*extra\s*==\s*['"]([^'"]+)['"]""")


def env() -> None:
    """Print versions, processor, memory, GPUs, cost providers and optional extras."""
    from energysplit.cli.console import console, facts, show
    from energysplit.costs import names
    from energysplit.hardware.detect import package_version
    from energysplit.output.environment import environment

    here = environment()
    out = console()
    versions = {"python": here["python"], **{name: package_version(name) or "not installed" for name in VERSIONS}}
    show(out, "versions", facts(versions))
    machine = {"system": here["system"], "processor": here["processor"], "memory": _memory(), **_devices()}
    show(out, "machine", facts(machine))
    show(out, "energysplit", facts({"cost providers": ", ".join(names()), **dict(_extras())}))


def _memory() -> str:
    """Memory this process may use: the machine's, or its container's if that is less."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return "unknown: this system does not tell"
    limit_file = Path("/sys/fs/cgroup/memory.max")
    limit = limit_file.read_text().strip() if limit_file.is_file() else "max"
    if limit.isdecimal() and int(limit) < total:
        return f"{int(limit) / 2**30:.1f} GiB (of the machine's {total / 2**30:.1f} GiB)"
    return f"{total / 2**30:.1f} GiB"


def _devices() -> dict[str, str]:
    """CUDA devices by name, as torch sees them."""
    import torch

    if torch.version.cuda is None:
        return {"cuda": "none: this torch is built without CUDA"}
    if not torch.cuda.is_available():
        return {"cuda": f"none found (torch is built for CUDA {torch.version.cuda})"}
    devices = {}
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        devices[f"cuda:{number}"] = f"{found.name}, {found.total_memory / 2**30:.1f} GiB"
    return devices


def _extras() -> Iterator[tuple[str, str]]:
    """Extras of the installed package: there, or what is missing and how to get it."""
    try:
        requirements = metadata.requires("energysplit") or []
    except metadata.PackageNotFoundError:
        yield "extras", "unknown: energysplit is not installed (pip install -e . in its folder)"
        return
    from energysplit.hardware.detect import package_version

    packages: dict[str, list[str]] = {}
    for requirement in requirements:
        if (match := _REQUIREMENT.match(requirement)) is not None:
            packages.setdefault(match[2], []).append(match[1])
    for extra, needed in sorted(packages.items()):
        missing = [name for name in needed if package_version(name) is None]
        advice = f"not installed: {', '.join(missing)} (pip install 'energysplit[{extra}]')"
        yield f"extra {extra}", advice if missing else "installed"
