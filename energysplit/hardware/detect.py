"""A first hardware profile of the machine this runs on: what the operating system tells, and nothing else.

Speed and energy are not in it: `benchmarks/device_peaks.py` or the user measures them. What the system does not tell is
left out, with a comment that says so. Needs no root and reads Linux's /sys and /proc, or asks macOS's sysctl.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from energysplit.cores import usable_cores
from energysplit.errors import InputError, nearest

SOURCE = "read from the operating system"

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_MAC_CACHES = (("L1", ("hw.perflevel0.l1dcachesize", "hw.l1dcachesize")), ("L2", ("hw.perflevel0.l2cachesize",
    "hw.l2cachesize")), ("L3", ("hw.l3cachesize",)))  # fmt: skip


class Machine(NamedTuple):
    """What the operating system tells of a machine; None, or no entry in `caches`, where it does not tell.

    processor: its name with single spaces, or its kind ("x86_64") where it has none. Tables of this machine are known
        by it: `measure.device_run.cpu_name`, which is copied to other devices, follows the same rule.
    caches: (name, bytes) of data and unified caches, the nearest first.
    """

    processor: str | None
    cores: int | None
    caches: tuple[tuple[str, int], ...]
    memory_bytes: int | None


def execution_providers() -> tuple[str, ...]:
    """Names of ONNX Runtime's execution providers on this machine, the preferred first."""
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())


def check_execution_provider(name: str | None, profile: str = "hardware profile") -> str:
    """The name of the execution provider, if ONNX Runtime has it here.

    Raises:
        InputError: the profile names none, or one that is not here; the message lists those that are.
    """
    here = execution_providers()
    if name is None:
        raise InputError(
            f"{profile}: no execution_provider, so ONNX Runtime can't measure there; available here: {', '.join(here)}"
        )
    if name not in here:
        close = nearest(name, here)
        hint = f"{close} " if close.startswith("did you mean") else ""
        raise InputError(
            f"{profile}: execution_provider {name!r} is not available in this ONNX Runtime; {hint}"
            f"available here: {', '.join(here)}"
        )
    return name


def package_version(name: str) -> str | None:
    """The version of an installed package, found without importing it; None if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def machine(sys_root: Path = Path("/sys"), proc_root: Path = Path("/proc")) -> Machine:
    """What the operating system tells of this machine."""
    if platform.system() == "Darwin":
        return _mac(_sysctl)
    processor = _named(_linux_processor(proc_root))
    return Machine(processor, usable_cores(), _linux_caches(sys_root), _linux_memory(proc_root))


def draft(found: Machine | None = None, providers: tuple[str, ...] | None = None, name: str = "this_machine") -> str:
    """The text of a hardware profile (TOML) of this machine, which `load` reads.

    Args:
        found: what is known of the machine; the operating system is asked if not given.
        providers: execution providers; ONNX Runtime is asked if not given.
        name: name of the profile.
    """
    found = machine() if found is None else found
    providers = execution_providers() if providers is None else providers
    chosen = "CPUExecutionProvider" if "CPUExecutionProvider" in providers or not providers else providers[0]
    processor = found.processor or "unknown processor"
    lines = [
        "# Draft of a hardware profile, from what the operating system tells. Check it, then measure this machine with",
        "# it: `energysplit profile --profile THIS_FILE`. Numbers that could not be read are left out.",
        f"name = {json.dumps(name)}",
        f"description = {json.dumps(f'{processor}, {platform.system()} {platform.machine()}')}",
        'kind = "cpu"',
        f"processor = {json.dumps(processor)}" if found.processor else "# processor: not told by the system",
        f"cores = {found.cores}" if found.cores else "# cores: not told by the system",
        f"# ONNX Runtime has here: {', '.join(providers) or 'no execution provider'}",
        f"execution_provider = {json.dumps(chosen)}",
        "threads = 1 # one thread is the most reproducible; raise it to `cores` if that is how networks will run",
        'precision = "fp32" # or "int8", "fp16"',
        "",
        "# For the roofline: compute.fp32.peak (MAC/s), and the bandwidth (B/s) of each level of memory.",
        "# For energy: compute.fp32.energy (J/MAC), and the energy (J/B) of each level of memory.",
    ]
    levels = [*found.caches, *([("main memory", found.memory_bytes)] if found.memory_bytes else [])]
    if not found.caches:
        lines += ["# Caches: not told by the system."]
    for level, size in levels:
        lines += ["", "[[memory]]", f"name = {json.dumps(level)}", f"capacity = {_number(size)}"]
    if not found.memory_bytes:
        lines += ["", "# Size of main memory: not told by the system, so this level has no bound.", "[[memory]]",
                  'name = "main memory"']  # fmt: skip
    return "\n".join(lines) + "\n"


def _number(size_bytes: int) -> str:
    size = f"value = {size_bytes}, low = {size_bytes}, high = {size_bytes}"
    return f'{{ {size}, unit = "B", source = {json.dumps(SOURCE)} }}'


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _size(text: str) -> int | None:
    """Bytes of "48K"; None if it is no size."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(match[1]) * _UNITS[match[2]] or None if match else None


def _named(told: str | None) -> str | None:
    """A processor's name: what the system tells, else its kind; single spaces, so that names can be compared."""
    return " ".join((told or platform.processor() or platform.machine()).split()) or None


def _linux_processor(proc_root: Path) -> str | None:
    for line in _text(proc_root / "cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware") and value.strip():  # as `measure.device_run` looks for it
            return value
    return None


def _linux_caches(sys_root: Path) -> tuple[tuple[str, int], ...]:
    levels: dict[str, int] = {}
    for folder in sorted((sys_root / "devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = _text(folder / "level"), _text(folder / "type"), _size(_text(folder / "size"))
        if level.isdecimal() and kind in ("Data", "Unified") and size is not None:
            levels[f"L{level}"] = size
    return _growing(sorted(levels.items()))


def _growing(levels: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Levels that are larger than all nearer ones; a virtual machine may tell nonsense of the others."""
    kept: list[tuple[str, int]] = []
    for name, size in levels:
        if not kept or size > kept[-1][1]:
            kept.append((name, size))
    return tuple(kept)


def _linux_memory(proc_root: Path) -> int | None:
    match = re.search(r"^MemTotal:\s*(\d+) kB", _text(proc_root / "meminfo"), re.M)
    return int(match[1]) * 1024 or None if match else None


def _mac(ask: Callable[[str], str]) -> Machine:
    caches = []
    for name, keys in _MAC_CACHES:
        size = next((size for key in keys if (size := _size(ask(key)))), None)
        if size is not None:
            caches.append((name, size))
    processor = _named(ask("machdep.cpu.brand_string"))
    return Machine(processor, usable_cores(), _growing(caches), _size(ask("hw.memsize")))


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
