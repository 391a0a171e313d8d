"""Measures ONNX networks on this device, with the command: python device_run.py FOLDER.

One file that needs only Python 3.8, numpy and onnxruntime. It reads FOLDER/plan.json and appends to FOLDER/results.csv.
Stopped at any moment (Ctrl-C, a kill, a power cut), the same command goes on with the networks that are left.

Clocks drift and other programs disturb, so every sample stands beside a reference network's, timed just before and just
after it, and the networks of a group take turns. A network is timed twice: as it is, and with the runtime's profiler,
which tells the time of each node. The profiler counts whole microseconds, cut off, so half a microsecond is added to
its means; and its own bookkeeping is inside each node's time (some microseconds), which whoever reads the results has
to take off again (`energysplit.measure.profiler`). For execution providers that return before the work is done (GPUs),
the nodes' times are the host's, not the device's; the networks' times are right.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import difflib
import gc
import hashlib
import io
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, List  # noqa: UP035 (the file runs on 3.8)

import numpy as np
import onnxruntime as ort

Plan = Dict[str, Any]  # noqa: UP006
Row = List[Any]  # noqa: UP006
Event = Dict[str, Any]  # noqa: UP006

FORMAT = "1"
COLUMNS = ["model", "kind", "round", "node", "op_type", "order", "value", "unit", "reference_s", "runs"]
PLAN_KEYS = {
    "version": int,
    "execution_provider": str,
    "threads": int,
    "rounds": int,
    "burst_s": float,
    "warmup_s": float,
    "batch": int,
    "seed": int,
    "reference": str,
    "models": list,
}
OPTIONAL_KEYS = {"attachment": str, "made_by": str}
# What must be the same for rows to stand in one file.
SAME = ["format", "machine", "cpu", "onnxruntime", "execution_provider", "threads", "rounds", "burst_s", "reference"]
LEAST: Plan = {"threads": 1, "rounds": 1, "batch": 1, "burst_s": 0, "warmup_s": 0, "seed": 0}
LEAST_RUNS = 3
TRIM = 0.2  # of the runs of a burst, at each end, before a node's mean is taken
TRUNCATED_S = 0.5e-6  # what the profiler cuts off a node's time, on average
ENERGY_WINDOW_S = 0.5
ENERGY_WINDOWS = 6  # the fewest whose smallest to largest hold the median with 95 %
HELD_MIB = 256  # memory for the profiler's events, touched beforehand


class PlanError(ValueError):
    """The plan or the results can't be used; the message says why and what to do."""


class Net:
    """One network, ready to run: a plain session, one that profiles (if `profile`), and the same input for both.

    session_s: time to make the plain session; first_s: its first run.
    """

    def __init__(self, path: str, plan: Plan, scratch: str, profile: bool) -> None:
        if not os.path.isfile(path):
            raise FileNotFoundError("no such file: " + os.path.basename(path))
        start = time.perf_counter()
        self.plain = ort.InferenceSession(path, options(plan), providers=[plan["execution_provider"]])
        self.session_s = time.perf_counter() - start
        used = self.plain.get_providers()[0]
        if used != plan["execution_provider"]:
            raise RuntimeError("the runtime fell back to " + used + "; see its messages above")
        self.feed = feed(self.plain, plan["seed"])
        self.first_s = self.once(self.plain)
        self.profiled: Any = None
        self.profiled_runs: list[int] = []  # runs of each burst with the profiler, warm-up first
        if profile:
            chosen = options(plan)
            chosen.enable_profiling = True
            chosen.profile_file_prefix = os.path.join(scratch, "profile")
            self.profiled = ort.InferenceSession(path, chosen, providers=[plan["execution_provider"]])

    def once(self, session: Any) -> float:
        """Seconds of one run."""
        start = time.perf_counter()
        session.run(None, self.feed)
        return time.perf_counter() - start

    def burst(self, seconds: float, profiled: bool = False) -> tuple[float, int]:
        """Median seconds of the runs of a burst, and their number: as many as fit, but at least three."""
        session = self.profiled if profiled else self.plain
        run, given = session.run, self.feed
        times: list[float] = []
        start = now = time.perf_counter()
        while now - start < seconds or len(times) < LEAST_RUNS:
            begin = now
            run(None, given)
            now = time.perf_counter()
            times.append(now - begin)
        if profiled:
            self.profiled_runs.append(len(times))
        return float(np.median(times)), len(times)

    def nodes(self) -> list[list[tuple[str, str, float]]]:
        """The profile, closed: for each burst but the warm-up, (name, operator, mean seconds) of each node in order."""
        path = self.profiled.end_profiling()
        try:
            runs = runs_of(path)
        finally:
            os.remove(path)
        if len(runs) != sum(self.profiled_runs):
            counts = f"{len(runs)} of {sum(self.profiled_runs)} runs"
            raise RuntimeError(f"the profile has {counts}: too many events; lower rounds or burst_s in plan.json")
        names = [node[:2] for node in runs[-1]]
        if not names or any([node[:2] for node in run] != names for run in runs):
            raise RuntimeError("the profile has no nodes, or others in other runs; the nodes can't be told apart")
        bursts, at = [], self.profiled_runs[0]
        for count in self.profiled_runs[1:]:
            ticks = np.sort(np.array([[node[2] for node in run] for run in runs[at : at + count]], float), axis=0)
            cut = int(TRIM * count)
            means = ticks[cut : count - cut].mean(axis=0) * 1e-6 + TRUNCATED_S
            bursts.append([(name, kind, float(mean)) for (name, kind), mean in zip(names, means)])  # noqa: B905 (3.8)
            at += count
        return bursts


def runs_of(path: str) -> list[list[tuple[str, str, int]]]:
    """Nodes of each run in a profile, in the order they ran: name, operator, whole microseconds."""
    runs: list[list[tuple[str, str, int]]] = []
    current: list[tuple[str, str, int]] = []
    with open(path, encoding="utf-8") as file:
        for line in file:  # an event a line, in brackets: far less memory than all of them at once
            text = line.strip().strip("[],")
            event = json.loads(text) if text else {}
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                current.append((event["name"][: -len("_kernel_time")], event["args"]["op_name"], event["dur"]))
            elif event.get("cat") == "Session" and event["name"] == "model_run":
                runs.append(current)
                current = []
    return runs


def options(plan: Plan) -> Any:
    """Session options that hold for all: pinned number of threads, one node after the other, everything fused."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = plan["threads"]
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Whether its threads wait actively is left to the runtime, as it is where the network is used: with two threads on
    # two cores, forbidding it made a MobileNetV1 2.2 times slower, and forbidding it between runs only, 1.2 times.
    return chosen


def feed(session: Any, seed: int) -> dict[str, np.ndarray]:
    """Seeded standard normal input of the session's one input; a symbolic first size is 1."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ValueError("expected one input, given " + ", ".join(one.name for one in inputs))
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    if inputs[0].type not in types:
        raise ValueError(f"input {inputs[0].name}: expected float or float16, given {inputs[0].type}")
    shape = list(inputs[0].shape)
    if shape and not isinstance(shape[0], int):
        shape[0] = 1
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"input {inputs[0].name}: expected fixed sizes after the first, given {shape}")
    values = np.random.RandomState(seed).standard_normal(shape)
    return {inputs[0].name: values.astype(types[inputs[0].type])}


def run(
    folder: str,
    meter: Any = None,
    minutes: float | None = None,
    report: Callable[[Event], None] | None = None,
) -> tuple[int, int]:
    """Measure what the plan lists and the results lack; how many networks are done and how many there are.

    Args:
        folder: holds plan.json and the ONNX files; results.csv is written there.
        meter: an object with begin() and end() -> joules or None; may have `window_s`, its shortest sensible window in
            seconds, and `about(model)`, which is told whose energy comes next.
        minutes: no group of networks is begun that would probably not be done in time.
        report: called with a dictionary for each thing that happened; see `say`.

    Raises:
        PlanError: the plan is wrong, its execution provider is not here, its reference does not run, or results.csv
            belongs to other settings or another machine.
    """
    report = report or (lambda event: None)
    plan = read_plan(folder)
    path = os.path.join(folder, "results.csv")
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    scratch = tempfile.mkdtemp(prefix="device_run_")
    collecting = gc.isenabled()
    try:
        header = describe(folder, plan, pin(plan["threads"]), hold_memory())
        finished = recover(path, header)
        left = [model for model in plan["models"] if model["name"] not in finished]
        total = len(plan["models"])
        report({"event": "start", "done": total - len(left), "total": total})
        if left:
            try:
                reference = Net(os.path.join(folder, plan["reference"]), plan, scratch, profile=False)
            except Exception as error:
                raise PlanError("reference {}: {}".format(plan["reference"], sentence(error))) from None
        start = time.monotonic()
        begun = len(left)
        while left:
            spent = time.monotonic() - start
            done_here = begun - len(left)
            group, rest = left[: plan["batch"]], left[plan["batch"] :]
            each = spent / done_here if done_here else 0.0
            if minutes is not None and done_here and spent + each * len(group) > minutes * 60:
                break
            gc.disable()
            rows, errors = measure(folder, plan, group, reference, scratch, meter)
            if collecting:
                gc.enable()
            append(path, rows)
            left = rest
            each = (time.monotonic() - start) / (begun - len(left))
            for model in group:
                done = total - len(left) - len(group) + group.index(model) + 1
                event = {"event": "model", "model": model["name"], "done": done, "total": total}
                report(dict(event, left_s=round(each * len(left), 1), error=errors.get(model["name"])))
        report({"event": "end", "done": total - len(left), "total": total})
        return total - len(left), total
    finally:
        if collecting:
            gc.enable()
        if allowed is not None:
            os.sched_setaffinity(0, allowed)
        shutil.rmtree(scratch, ignore_errors=True)


def measure(
    folder: str, plan: Plan, group: list[dict[str, str]], reference: Net, scratch: str, meter: Any
) -> tuple[list[Row], dict[str, str]]:
    """Rows of a group of networks that take turns, and messages of those that failed."""
    nets: dict[str, Net] = {}
    errors: dict[str, str] = {}
    order = np.random.RandomState(plan["seed"])
    samples: dict[str, list[tuple[int, float, int, int, float]]] = {model["name"]: [] for model in group}

    def attempt(name: str, action: Callable[..., Any], *given: Any) -> Any:
        try:
            return action(*given)
        except Exception as error:
            errors[name] = sentence(error)
            nets.pop(name, None)
            return None

    def prepare(model: dict[str, str]) -> Net:
        net = Net(os.path.join(folder, model["file"]), plan, scratch, profile=True)
        net.burst(plan["warmup_s"])
        net.burst(plan["warmup_s"], profiled=True)
        return net

    def visit_of(net: Net) -> list[tuple[float, int]]:
        return [net.burst(plan["burst_s"], profiled) for profiled in (False, True)]

    for model in group:
        net = attempt(model["name"], prepare, model)
        if net is not None:
            nets[model["name"]] = net
    reference.burst(plan["warmup_s"])
    for turn in range(plan["rounds"]):
        before = reference.burst(plan["burst_s"])[0]
        for name in order.permutation(sorted(nets)):
            name = str(name)
            visit = attempt(name, visit_of, nets[name])
            after = reference.burst(plan["burst_s"])[0]  # also the next one's "before": they follow at once
            if visit is not None:
                (seconds, runs), (_, profiled_runs) = visit
                samples[name].append((turn, seconds, runs, profiled_runs, (before + after) / 2))
            before = after
    profiles = {name: attempt(name, nets[name].nodes) for name in sorted(nets)}
    energies: dict[str, list[tuple[float, int]]] = {name: [] for name in nets}
    for _ in range(ENERGY_WINDOWS if meter is not None else 0):
        for name in order.permutation(sorted(nets)):
            window = attempt(str(name), energy, nets[str(name)], meter, str(name))
            energies[str(name)] += [window] if window is not None else []
    rows: list[Row] = []
    for model in group:
        name = model["name"]
        if name in errors:
            rows.append([name, "error", "", errors[name], "", "", "", "", "", ""])
            continue
        net = nets[name]
        for (turn, seconds, runs, profiled_runs, beside), nodes in zip(samples[name], profiles[name]):  # noqa: B905
            rows.append([name, "network", turn, "", "", "", number(seconds), "s", number(beside), runs])
            for at, (node, kind, mean) in enumerate(nodes):
                rows.append([name, "node", turn, node, kind, at, number(mean), "s", number(beside), profiled_runs])
        for turn, (joules, runs) in enumerate(energies[name]):
            rows.append([name, "energy", turn, "", "", "", number(joules), "J", "", runs])
        rows.append([name, "first", "", "", "", "", number(net.first_s), "s", "", 1])
        # The last row of a network: without it, the others are those of a run that was killed while writing.
        rows.append([name, "session", "", "", "", "", number(net.session_s), "s", "", 1])
    return rows, errors


def energy(net: Net, meter: Any, name: str) -> tuple[float, int] | None:
    """Joules of one run of the network, from a window of many, and their number; None where the meter has no answer."""
    if hasattr(meter, "about"):
        meter.about(name)
    seconds = max(ENERGY_WINDOW_S, getattr(meter, "window_s", 0.0))
    meter.begin()
    try:
        runs = net.burst(seconds)[1]
    finally:
        joules = meter.end()
    if joules is None or not math.isfinite(joules) or joules <= 0:
        return None
    return joules / runs, runs


def read_plan(folder: str) -> Plan:
    """The plan, checked.

    Raises:
        PlanError: it is missing, no JSON, has missing, unknown or wrong keys, or its execution provider is not here.
    """
    path = os.path.join(folder, "plan.json")
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError(f"{path}: can't be read ({error}); expected a folder with a plan.json") from None
    if not isinstance(plan, dict) or plan.get("version") != int(FORMAT):
        raise PlanError(f"{path}: expected a plan of version {FORMAT}; take script and plan from one kit")
    known = dict(PLAN_KEYS, **OPTIONAL_KEYS)
    for key, value in plan.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(sorted(known))
            raise PlanError(f"{path}: unknown key {key!r}; {hint}")
        wanted: Any = (int, float) if known[key] is float else known[key]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise PlanError(f"{path}: {key}: expected {known[key].__name__}, given {value!r}")
        least = LEAST.get(key)
        if least is not None and not least <= value < 2**32:
            raise PlanError(f"{path}: {key}: expected at least {least}, given {value!r}")
    for key in PLAN_KEYS:
        if key not in plan:
            raise PlanError(f"{path}: key {key!r} is missing")
    for model in plan["models"]:
        if not isinstance(model, dict) or not all(isinstance(model.get(key), str) for key in ("name", "file")):
            raise PlanError(f"{path}: models: expected {{'name': ..., 'file': ...}}, given {model!r}")
    for name in [plan["reference"], *(model["file"] for model in plan["models"])]:
        if os.path.basename(name) != name or not name.endswith(".onnx"):
            raise PlanError(f"{path}: expected the names of .onnx files in its own folder, given {name!r}")
    names = [model["name"] for model in plan["models"]]
    if len(set(names)) < len(names):
        raise PlanError(f"{path}: models: two have the same name; names tell them apart in results.csv")
    available = ort.get_available_providers()
    if plan["execution_provider"] not in available:
        raise PlanError(
            "{}: execution provider {!r} is not in this onnxruntime {}; available: {}".format(
                path, plan["execution_provider"], ort.__version__, ", ".join(available)
            )
        )
    return plan


def describe(folder: str, plan: Plan, affinity: str, memory: str) -> dict[str, str]:
    """What the results' first lines say of the machine and the settings: key -> text."""
    try:
        with open(os.path.join(folder, plan["reference"]), "rb") as file:
            reference = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise PlanError(f"{os.path.join(folder, plan['reference'])}: {error.strerror}") from None
    said = {
        "format": FORMAT,
        "made_by": plan.get("made_by", ""),
        "machine": platform.machine(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "clock_mhz": clock_mhz(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": ort.__version__,
        "affinity": affinity,
        "memory": memory,
        "spinning": "the runtime's default",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    for key in ("execution_provider", "threads", "rounds", "burst_s", "warmup_s", "batch", "seed"):
        said[key] = plan[key]
    said["reference"] = reference
    said["attachment"] = plan.get("attachment", "")
    return {key: " ".join(str(value).split()) for key, value in said.items()}


def cpu_name() -> str:
    """The processor's name as the system tells it, else its kind; single spaces. As `hardware.detect` names it."""
    name = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "Model", "Hardware") and value.strip():
                    name = value
                    break
    except OSError:
        pass
    try:
        if sys.platform == "darwin":
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        pass
    return " ".join((name.strip() or platform.processor() or platform.machine()).split())


def clock_mhz() -> int | str:
    """The first core's clock now, in MHz; "" where it can't be read."""
    try:
        with open("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", encoding="ascii") as file:
            return round(int(file.read()) / 1000)
    except (OSError, ValueError):
        pass
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(round(float(line.split(":")[1])) for line in file if line.startswith("cpu MHz"))
    except (OSError, ValueError, StopIteration):
        return ""


def pin(threads: int) -> str:
    """Keep this process on as many cores as it has threads, where the system can; what was done, in words."""
    if not hasattr(os, "sched_setaffinity"):
        return "not set: this system has no call for it"
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < threads:
        return f"not set: {threads} threads on {len(cores)} cores"
    try:
        os.sched_setaffinity(0, cores[:threads])
    except OSError as error:
        return f"not set: {error.strerror}"
    return "cores " + " ".join(str(core) for core in cores[:threads])


def hold_memory() -> str:
    """Touch memory once and keep it, where the C library is glibc; what was done, in words.

    The profiler asks for new memory while nodes run. A page that is touched for the first time costs microseconds, and
    because every run asks for the same amount, it can hit the same node of each run.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 (raises where it is not glibc)
        library.malloc.restype = ctypes.c_void_p
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    except (OSError, AttributeError, TypeError, ValueError):
        return "not held: no glibc"
    held = min(HELD_MIB, available // 8)
    trim_threshold, mmap_threshold = -1, -3  # names of mallopt
    library.mallopt(trim_threshold, 1 << 30)
    library.mallopt(mmap_threshold, 32 << 20)
    size = 16 << 20
    blocks = [ctypes.c_void_p(library.malloc(ctypes.c_size_t(size))) for _ in range(held * (1 << 20) // size)]
    for block in blocks:
        if block.value is not None:
            ctypes.memset(block, 1, size)
    for block in blocks:
        library.free(block)
    return f"{held} MiB held"


def recover(path: str, header: dict[str, str]) -> set[str]:
    """Names of the networks that are done; begins the file, or removes from it what a killed run left half written.

    Raises:
        PlanError: the file belongs to other settings or another machine, or is no results file.
    """
    if not os.path.exists(path):
        replace(path, header, [])
        return set()
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    lines = whole.split("\n")[:-1]
    before = dict(line[2:].split("=", 1) for line in lines if line.startswith("# ") and "=" in line)
    rows = list(csv.reader(line for line in lines if not line.startswith("#")))
    if not rows or rows[0] != COLUMNS:
        raise PlanError(f"{path}: is no results file of this script; move it away, then start again")
    for key in SAME:
        if before.get(key) != header[key]:
            change = f"was measured with {key} {before.get(key)!r}, now it is {header[key]!r}"
            raise PlanError(f"{path}: {change}; move it away, then start again")
    done = {row[0] for row in rows[1:] if len(row) == len(COLUMNS) and row[1] in ("session", "error")}
    kept = [row for row in rows[1:] if row and row[0] in done]
    wanted = dict(before, attachment=header["attachment"])
    if whole != text or len(kept) < len(rows) - 1 or wanted != before:
        replace(path, wanted, kept)
    return done


def replace(path: str, header: dict[str, str], rows: list[Row]) -> None:
    """Write the whole file so that a kill leaves the old one or the new one."""
    partial = path + ".partial"
    with open(partial, "w", encoding="utf-8", newline="") as file:
        file.write("".join(f"# {key}={value}\n" for key, value in header.items()))
        file.write(lines_of([COLUMNS]) + lines_of(rows))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def append(path: str, rows: list[Row]) -> None:
    """Add rows with a single write, flushed to the disk; a disk that refuses them keeps those before."""
    with open(path, "ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        data = lines_of(rows).encode()
        try:
            while data:  # once, but for a disk that gets full: it takes a part, and refuses the rest
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(size)
            error.filename = path
            raise


def lines_of(rows: list[Row]) -> str:
    """Rows as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def number(value: float) -> str:
    """A number as text, to nine digits."""
    return f"{value:.9g}"


def sentence(error: Exception) -> str:
    """An error as one line."""
    return "{}: {}".format(type(error).__name__, " ".join(str(error).split()))[:500]


def say(event: Event) -> None:
    """One plain line for an event of `run`."""
    count = "{done}/{total} networks".format(**event)
    if event["event"] == "model":
        left = "{:d}:{:02d} left".format(*divmod(int(event["left_s"] + 0.5), 60))
        failed = " FAILED: " + event["error"] if event["error"] else ""
        print("{}, {}: {}{}".format(count, left, event["model"], failed), flush=True)
    elif event["event"] == "start":
        print(f"{count} are done" if event["done"] else "{} to measure".format(event["total"]), flush=True)
    elif event["done"] < event["total"]:
        print(f"time is up: {count} are done; the same command goes on with the rest", flush=True)
    else:
        print(f"{count} are done; the results are in results.csv", flush=True)


def stop(signum: int, frame: Any) -> None:
    """A polite kill is treated like Ctrl-C."""
    raise KeyboardInterrupt


def end_with_input() -> None:
    """End, as by a polite kill, when the input does: whoever holds its other end is gone."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code: 0 done or time is up, 2 wrong plan or a full disk, 130 interrupted."""
    parser = argparse.ArgumentParser(description="Measures the ONNX networks of a folder with a plan.json.")
    parser.add_argument("folder")
    parser.add_argument("--minutes", type=float, help="begin no group of networks that would end later")
    parser.add_argument("--json", action="store_true", help="progress as one JSON line for each network")
    parser.add_argument("--end-with-input", action="store_true", help="end when standard input does; for who starts it")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, stop)
    try:
        if given.end_with_input:
            threading.Thread(target=end_with_input, daemon=True).start()
        run(given.folder, minutes=given.minutes, report=as_json if given.json else say)
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or given.folder}: {error.strerror}; the same command goes on", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished groups are in results.csv; the same command goes on", file=sys.stderr)
        return 130
    return 0


def as_json(event: Event) -> None:
    """One JSON line for an event of `run`."""
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main())
