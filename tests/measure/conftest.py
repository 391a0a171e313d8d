"""Folders to measure and results files, for the measuring tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_onnx import conv_net


@pytest.fixture
def make_folder(tmp_path):
    """A maker of measuring folders: short bursts, two rounds, networks n0, n1, ..."""

    def make(count: int = 3, **changes) -> Path:
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        (folder / "reference.onnx").write_bytes(conv_net([8]))
        for number in range(count):
            (folder / f"n{number}.onnx").write_bytes(conv_net([8, 8 * (number + 1)]))
        plan = {
            "version": 1,
            "execution_provider": "CPUExecutionProvider",
            "threads": 1,
            "rounds": 2,
            "burst_s": 0.001,
            "warmup_s": 0.001,
            "batch": 2,
            "seed": 0,
            "reference": "reference.onnx",
            "models": [{"name": f"n{number}", "file": f"n{number}.onnx"} for number in range(count)],
            "attachment": "word",
            **changes,
        }
        (folder / "plan.json").write_text(json.dumps(plan))
        return folder

    return make


HEADER = {
    "format": "1",
    "machine": "x86_64",
    "cpu": "A CPU",
    "onnxruntime": "1.31.1",
    "execution_provider": "CPUExecutionProvider",
    "threads": "1",
    "rounds": "12",
    "affinity": "cores 0",
    "date": "2026-01-01T00:00:00Z",
    "attachment": "",
}
COLUMNS = "model,kind,round,node,op_type,order,value,unit,reference_s,runs"


@pytest.fixture
def write_results(tmp_path):
    """A writer of results files from plain numbers.

    models: name -> seconds of each round. references: seconds, for all, or by name. nodes: name -> list of (node,
    seconds of each round). first_s: of all, or by name.
    """

    def write(models, references=0.001, nodes=None, first_s=0.002, energy=None, **header) -> Path:
        lines = [f"# {key}={value}" for key, value in {**HEADER, **header}.items()] + [COLUMNS]
        for name, seconds in models.items():
            beside = references[name] if isinstance(references, dict) else references
            beside = np.broadcast_to(beside, len(seconds))
            for turn, (value, reference) in enumerate(zip(seconds, beside, strict=True)):
                lines.append(f"{name},network,{turn},,,,{value!r},s,{float(reference)!r},20")
                for order, (node, times) in enumerate((nodes or {}).get(name, ())):
                    time = float(times[turn])
                    lines.append(f"{name},node,{turn},{node},Conv,{order},{time!r},s,{float(reference)!r},20")
            for turn, joules in enumerate((energy or {}).get(name, ())):
                lines.append(f"{name},energy,{turn},,,,{joules!r},J,,100")
            first = first_s[name] if isinstance(first_s, dict) else first_s
            lines.append(f"{name},first,,,,,{first!r},s,,1")
            lines.append(f"{name},session,,,,,0.01,s,,1")
        path = tmp_path / "results.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
