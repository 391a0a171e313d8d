"""Run folders with made-up journals, to be compared; nothing here was trained or measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from energysplit.growth import journal
from energysplit.output.measured import Compared, MeasuredRun, Sample, write_measured
from energysplit.records import (
    AllocationRecord,
    CostRecord,
    Evaluation,
    GrowthRecord,
    IndexRecord,
    ReplacementRecord,
    SplitRecord,
    StepRecord,
    TrainRecord,
)

RECIPE: dict[str, Any] = {
    "model": {"name": "cnn", "args": {"widths": [3, 4]}},
    "data": {"name": "digits", "image_size": None, "validation": 0.1, "limit": None},
    "growth": {"stages": 2, "method": "milp"},
    "budget": [{"provider": "macs", "limit": "1.6x", "scope": "stage"}],
    "hardware": {"profile": None, "tables": None},
}
GROWTH = SplitRecord(
    index=IndexRecord(
        solver="lobpcg",
        curvature="exact",
        linear="skip",
        kink_beta=3.0,
        sweeps=6,
        images=64,
        held_out_images=64,
        sum_same_images=-2.0,
        sum_held_out=-1.0,
        stderr=0.1,
        negative=3,
        neurons=4,
    ),
    allocation=AllocationRecord(
        method="milp", split={"0": [1]}, predicted_gain=1, gap=0, shadow_price={}, price={}, limit={}, status="made up"
    ),
    step=StepRecord(
        policy="relative: 0.3 of the weights' norm",
        size={"0": 0.3},
        loss_before=1.0,
        predicted_change=-0.1,
        predicted_stderr=0.01,
        realised_change=-0.1,
        small_predicted_change=-0.001,
        small_realised_change=-0.001,
        function_error=0.0,
        function_tolerance=1e-4,
    ),
)


def cost(value: float, unit: str = "MAC", source: str = "counted") -> CostRecord:
    """A price without an interval."""
    return CostRecord(value=value, unit=unit, low=value, high=value, source=source)


def _replacement(kind: str) -> ReplacementRecord:
    return ReplacementRecord(kind=kind, fresh=kind == "fresh", widths={}, kept={}, price={}, limit={}, status="made up")


def made_up(
    folder: Path,
    points: Sequence[tuple[float, float | None]],
    *,
    name: str = "grown",
    seed: int = 0,
    finished: bool = True,
    epochs: int = 4,
    prices: Sequence[dict[str, CostRecord]] | None = None,
    measured: float | None = None,
    images: int = 0,
    replaced: str = "",
    split: SplitRecord = GROWTH,
    **changed: Any,
) -> Path:
    """The folder, holding a recipe and a journal.

    Args:
        folder: to make.
        points: MACs and test accuracy of each stage; validation accuracy is half a point above, or 0.5.
        name: of the recipe.
        seed: of the recipe; weights differ by it.
        finished: whether the last stage ended the growth.
        epochs: of each stage.
        prices: of each stage besides MACs.
        measured: latency of the exported model, in seconds, if it was measured.
        images: of an epoch; 0 where the journal does not say.
        replaced: "fresh" or "pruned": a baseline's stages, in place of growths.
        split: out of every stage but the last.
        changed: keys of sections that differ from `RECIPE`.
    """
    folder.mkdir(parents=True)
    recipe = {key: {**part, **changed.get(key, {})} if isinstance(part, dict) else part for key, part in RECIPE.items()}
    (folder / "recipe.json").write_text(json.dumps({"name": name, "seed": seed, **recipe}))
    records = []
    for stage, (macs, accuracy) in enumerate(points):
        words = f"{sorted(changed.items())} {seed} {stage} {points[: stage + 1]}"
        last = finished and stage == len(points) - 1
        records.append(
            GrowthRecord(
                stage=stage,
                widths={"0": 3 + stage, "1": 10},
                prices={"macs": cost(macs), **(prices[stage] if prices else {})},
                train=TrainRecord(epochs=epochs, loss=1.0, accuracy=0.9, images=images),
                validation=Evaluation(loss=1.0, accuracy=0.5 if accuracy is None else accuracy + 0.005, images=100),
                test=None if accuracy is None else Evaluation(loss=1.0, accuracy=accuracy, images=200),
                growth=None if last or replaced else split,
                replacement=_replacement(replaced) if replaced and not last else None,
                weights_sha256=hashlib.sha256(words.encode()).hexdigest(),
                seconds={"train": 1.0},
            )
        )
        journal.append(folder / "journal.jsonl", records[-1])
    if measured is not None:
        compared = Compared(
            predicted=cost(measured, "s", "interpolated"),
            measured=Sample(median=measured, low=measured, high=measured, samples=9),
            ratio=1.0,
            plain=None,
            reference_s=None,
            machine="board",
            runtime="onnxruntime 1",
            execution_provider="CPU",
            threads=1,
            precision="float32",
        )
        write_measured(folder, MeasuredRun(weights_sha256=records[-1].weights_sha256, prices={"latency": compared}))
    return folder
