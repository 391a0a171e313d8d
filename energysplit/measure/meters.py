"""Energy meters: a window is begun and ended, and the answer is joules or None.

A meter that is not there is an object that says so. A window without a sensible answer (0, negative, not a number: a
counter that did not move, or wrapped around) is None, never 0. The package zeus reads the counters of GPUs (NVML, AMD
SMI), CPUs (RAPL), Apple silicon and Jetson boards; it is found without being imported.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from energysplit.errors import InputError, MissingExtra
from energysplit.hardware.detect import package_version

Device = Literal["cpu", "gpu"]
_GPU_PROVIDERS = ("CUDA", "Tensorrt", "NvTensorRtRtx", "ROCM", "MIGraphX")
OLDEST_ZEUS = "0.15.1"
"""The first whose windows can be begun anew (`begin_window(restart=)`); systems on a chip came with 0.12."""
_ADVICE = "install it with: pip install 'energysplit[energy]'"


@runtime_checkable
class EnergyMeter(Protocol):
    """Measures the energy of what runs between `begin` and `end`.

    name: what is measured, for provenance. Abilities, left out where the default is meant: window_s, the shortest
    sensible window in seconds (default 0.5); about(model), told before a window whose energy comes next.
    """

    name: str

    def begin(self) -> None:
        """The window begins."""
        ...

    def end(self) -> float | None:
        """Joules since `begin`; None where there is no sensible answer."""
        ...


def sensible(joules: float | None) -> float | None:
    """The joules, or None where they are 0, negative or not finite.

    Example:
        >>> sensible(0.25), sensible(0.0), sensible(float("nan"))
        (0.25, None, None)
    """
    return joules if joules is not None and math.isfinite(joules) and joules > 0 else None


class NoMeter:
    """A meter that is not there: every window's energy is None. `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.name = "none"
        self.reason = reason

    def begin(self) -> None:
        """Nothing happens."""

    def end(self) -> float | None:
        """None: nothing was measured."""
        return None


class ReplayMeter:
    """Answers with joules recorded earlier, one a window, in order; None when they are used up.

    Args:
        joules: of each window; or, by name of the network, of each of its windows.
    """

    window_s = 0.0

    def __init__(self, joules: Iterable[float | None] | Mapping[str, Iterable[float | None]]) -> None:
        self.name = "replay"
        keyed = joules if isinstance(joules, Mapping) else {"": joules}
        self._left = {key: iter(list(values)) for key, values in keyed.items()}
        self._any = not isinstance(joules, Mapping)
        self._model = ""
        self._open = False

    def about(self, model: str) -> None:
        """The next windows are of this network."""
        self._model = model

    def begin(self) -> None:
        """The window begins."""
        self._open = True

    def end(self) -> float | None:
        """The next recorded joules; None where there are none.

        Raises:
            InputError: no window was begun.
        """
        if not self._open:
            raise InputError("an energy window was ended that was not begun; call begin() first")
        self._open = False
        left = self._left.get("" if self._any else self._model)
        return sensible(next(left, None)) if left is not None else None


class ZeusMeter:
    """The counters that zeus reads here, added up: CPU packages and DRAM, or GPUs, or the parts of a system on a chip.

    Whole devices are measured, idle power and other programs included; the machine should do nothing else.

    Args:
        device: "cpu" (packages and memory) or "gpu" (all that are visible).
        monitor: a `zeus.monitor.ZeusMonitor`; None makes one.

    Raises:
        MissingExtra: zeus is not installed.
        InputError: zeus finds no counter of that device here.
    """

    window_s = 0.5  # RAPL's counters move each millisecond, NVML's each 20 to 100 ms: at most a fifth is uncertain

    def __init__(self, device: Device = "cpu", monitor: Any = None) -> None:
        if monitor is None:
            if not zeus_is_installed():
                raise MissingExtra(f"measuring energy needs the package zeus (extra 'energy'); {_ADVICE}")
            from zeus.monitor import ZeusMonitor  # type: ignore[import-not-found,unused-ignore]

            monitor = ZeusMonitor()
        self._monitor = monitor
        self._device = device
        parts = _parts(monitor, device)
        if not parts:
            raise InputError(f"zeus finds no energy counter of the {device} here{_why(device)}")
        self.name = f"zeus: {' + '.join(parts)}"

    def begin(self) -> None:
        """The window begins; one that an error left open is forgotten."""
        # What is timed has returned its result, so there is nothing to wait for: no framework is synchronised.
        self._monitor.begin_window("energysplit", sync_execution=False, restart=True)

    def end(self) -> float | None:
        """Joules since `begin`, all parts together; None where one of them gave no sensible answer."""
        return sensible(joules_of(self._monitor.end_window("energysplit", sync_execution=False), self._device))

    def cancel(self) -> None:
        """The window is forgotten."""
        self._monitor.end_window("energysplit", sync_execution=False, cancel=True)


def joules_of(measurement: Any, device: Device) -> float | None:
    """Joules in a zeus `Measurement`: of the device, from whichever of its parts were read; None if none was.

    GPUs, CPU packages and DRAM come in joules there, parts of systems on a chip in millijoules.
    """
    soc = measurement.soc_energy
    if soc is not None:
        names = {
            "cpu": ("cpu_total_mj", "dram_mj", "cpu_energy_mj"),
            "gpu": ("gpu_mj", "gpu_sram_mj", "gpu_energy_mj"),
        }[device]
        millijoules = [value for name in names if (value := getattr(soc, name, None)) is not None]
        return sum(millijoules) / 1000 if millijoules else None
    if device == "gpu":
        return _sum(measurement.gpu_energy)
    packages = _sum(measurement.cpu_energy)
    return None if packages is None else packages + (_sum(measurement.dram_energy) or 0.0)


def find_meter(execution_provider: str = "CPUExecutionProvider", required: bool = False) -> EnergyMeter:
    """The meter of what computes for an execution provider here; a `NoMeter` that says why if there is none.

    Args:
        execution_provider: ONNX Runtime's name; those of GPUs are metered at the GPU, all others at the CPU.
        required: whether somebody asked for energy, so that none is an error.

    Raises:
        MissingExtra: required, and zeus is not installed.
        InputError: required, and zeus is too old, or finds no counter here.
    """
    device: Device = "gpu" if execution_provider.startswith(_GPU_PROVIDERS) else "cpu"
    try:
        return _tried(device)
    except InputError as error:
        if required:
            raise
        return NoMeter(str(error))


def _tried(device: Device) -> ZeusMeter:
    """Zeus's meter, after a window that is thrown away: what zeus lacks shows before anything is measured.

    Raises:
        MissingExtra: zeus is not installed.
        InputError: zeus has no counter of the device here, or not the calls that are needed.
    """
    try:
        meter = ZeusMeter(device)
        meter.begin()
        meter.cancel()
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"zeus {package_version('zeus') or 'of unknown version'} can't be used ({error}); zeus {OLDEST_ZEUS} or "
            f"later is needed: pip install --upgrade 'energysplit[energy]'"
        ) from error
    return meter


def zeus_is_installed() -> bool:
    """Whether the package zeus is there, the one with a monitor; it is not imported."""
    spec = find_spec("zeus")
    places = spec.submodule_search_locations if spec is not None else None
    return any((Path(place) / "monitor").is_dir() for place in places or ())


def _parts(monitor: Any, device: Device) -> list[str]:
    if monitor.soc_is_present:
        return [f"{type(monitor.soc).__name__} {device}"]
    if device == "gpu":
        return [f"{len(monitor.gpu_indices)} GPUs"] if monitor.gpu_indices else []
    return [f"{len(monitor.cpu_indices)} CPU packages, DRAM where readable"] if monitor.cpu_indices else []


def _why(device: Device) -> str:
    counter = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
    if device == "gpu":
        return ": no NVIDIA or AMD driver answers"
    if counter.exists() and not os.access(counter, os.R_OK):
        return f": {counter} is readable by the administrator only"
    return ": this system shows no RAPL counters (virtual machines hide them), and is no Apple or Jetson board"


def _sum(joules: Mapping[int, float] | None) -> float | None:
    return sum(joules.values()) if joules else None
