"""Synthetic journals: plausible numbers, made up for these tests; nothing here was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from energysplit.records import (
    AllocationRecord,
    CostRecord,
    Evaluation,
    GrowthRecord,
    IndexRecord,
    SplitRecord,
    StepRecord,
    TrainRecord,
)

MakeRecords = Callable[..., list[GrowthRecord]]


def make_synthetic_records(stages: int = 5, groups: int = 14, tested: bool = True) -> list[GrowthRecord]:
    """Journal lines of a made-up growth with `stages` trainings and one growth between each two."""
    names = ["features.first.conv", *(f"features.block{number}.pointwise.conv" for number in range(1, groups - 1))]
    names.append("classifier")
    widths = [8 + number for number in range(groups - 1)]
    records = []
    for stage in range(stages):
        last = stage == stages - 1
        macs, params = 1_234_567.0 * 1.7**stage, 9_876.0 * 1.9**stage
        split = {name: list(range(1 + (number * 7 + stage) % 5)) for number, name in enumerate(names[:-1])}
        growth = SplitRecord(
            index=IndexRecord(
                solver="lobpcg",
                curvature="exact",
                linear="skip",
                kink_beta=3.0,
                sweeps=6,
                images=2048,
                held_out_images=1024,
                sum_same_images=-2.91 - stage,
                sum_held_out=-2.31 - stage,
                stderr=0.17,
                negative=sum(widths) - 3,
                neurons=sum(widths),
            ),
            allocation=AllocationRecord(
                method="milp",
                split=split,
                predicted_gain=1.5,
                gap=0.002,
                shadow_price={"macs": 1.2e-6},
                price={
                    "macs": CostRecord(value=macs * 1.7, unit="MAC", low=macs * 1.7, high=macs * 1.7, source="counted")
                },
                limit={"macs": macs * 1.705},
                status="39 neurons of 13 groups to be split; no further neuron fits; 0.20% below the bound.",
            ),
            step=StepRecord(
                policy="relative: 0.3 of the weights' norm",
                size={name: 0.3 for name in names[:-1]},
                loss_before=1.04 - 0.1 * stage,
                predicted_change=-0.0432 / (stage + 1),
                predicted_stderr=0.0043,
                realised_change=(-0.0391, 0.0212, -0.0123, 0.0507)[stage % 4],
                small_predicted_change=-0.000432 / (stage + 1),
                small_realised_change=-0.000429 / (stage + 1),
                function_error=3.1e-7,
                function_tolerance=1e-4,
            ),
        )
        accuracy = 0.61 + 0.2 * (1 - 0.6**stage)
        records.append(
            GrowthRecord(
                stage=stage,
                widths={**dict(zip(names, widths, strict=False)), "classifier": 10},
                prices={
                    "macs": CostRecord(value=macs, unit="MAC", low=macs, high=macs, source="counted"),
                    "params": CostRecord(value=params, unit="param", low=params, high=params, source="counted"),
                },
                train=TrainRecord(epochs=24, loss=0.9, accuracy=accuracy + 0.03),
                validation=Evaluation(loss=1.0, accuracy=accuracy, images=5000),
                test=Evaluation(loss=1.05, accuracy=accuracy - 0.0061, images=10000) if tested else None,
                growth=None if last else growth,
                stopped="",
                weights_sha256=f"{stage:064x}",
                seconds={
                    "train": 312.5 + 90 * stage,
                    "evaluate": 12.0,
                    "index": 48.0 + 9 * stage,
                    "allocate": 0.4,
                    "surgery": 2.2,
                },
            )
        )
        widths = [width + len(split[name]) for width, name in zip(widths, names, strict=False)]
    return records


@pytest.fixture
def synthetic_records() -> MakeRecords:
    """A function that makes up a journal."""
    return make_synthetic_records


@pytest.fixture
def synthetic_recipe() -> dict[str, Any]:
    """A resolved recipe that could have made the synthetic journal."""
    return {
        "name": "mbv1_cifar10_synthetic",
        "seed": 7,
        "model": {"name": "mobilenet_v1_cifar", "args": {"blocks": 6, "channels": 8}},
        "data": {
            "name": "cifar10",
            "root": "data",
            "image_size": None,
            "validation": 0.1,
            "download": False,
            "limit": None,
            "augment": True,
        },
        "train": {
            "epochs": [24, 8],
            "batch_size": 128,
            "optimizer": "sgd",
            "learning_rate": [0.1, 0.05],
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 1e-4,
            "schedule": "cosine",
            "milestones": [0.5, 0.75],
            "decay": 0.1,
            "warmup_epochs": 0.0,
            "label_smoothing": 0.0,
        },
        "index": {
            "method": "lobpcg",
            "curvature": "exact",
            "linear": "skip",
            "images": 2048,
            "held_out_images": 1024,
            "batch_size": 256,
            "sweeps": None,
            "kink_beta": 3.0,
            "growing": True,
        },
        "step": {"policy": "relative", "size": 0.3, "tolerance": 1.1, "largest": 1.0},
        "growth": {"stages": 4, "method": "milp", "multiple_of": 1, "function_tolerance": 1e-4},
        "budget": [
            {"provider": "macs", "limit": "1.7x", "scope": "stage"},
            {"provider": "params", "limit": 200000.0, "scope": "network"},
        ],
        "report": {"providers": ["macs", "params"]},
        "run": {"device": "auto", "precision": "no", "threads": None, "channels_last": False, "deterministic": True},
        "export": {"onnx": True},
    }
