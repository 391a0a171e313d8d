"""Splitting indices of one fixed network, saved by each process of a run: `python -m splitting_processes FILE`."""

from __future__ import annotations

import sys
from typing import Any

import torch
from launched import end
from torch import nn

import energysplit as es
from energysplit import models
from energysplit.splitting import SplittingOperator
from energysplit.splitting.share import Share
from energysplit.splitting.sums import weighted_sums
from energysplit.train import Session

OPTIONS: dict[str, dict[str, Any]] = {
    "exact": {"method": "exact"},
    "lobpcg": {"method": "lobpcg"},
    "signed, growing": {"method": "lobpcg", "signed": True, "growing": True, "sweeps": 7},
    "producer, on the same images": {"method": "lobpcg", "curvature": "producer", "held_out": None},
    "outgoing": {"method": "lobpcg", "linear": "outgoing"},
    "rmsprop": {"method": "rmsprop", "sweeps": 3, "signed": True},
}
SIZES = (70, 33, 16, 9, 1)
"""Images in each batch: uneven shares, one of them empty, and for rmsprop a batch that is cut."""


def indices(share: Share) -> dict[str, torch.Tensor]:
    """What each option finds, and a weighted sum with its standard error, by name."""
    torch.manual_seed(0)
    module = models.build("cnn", widths=[3, 4], in_channels=1, activation="silu").double()
    net = es.trace(module, torch.zeros(2, 1, 8, 8, dtype=torch.float64))
    generator = torch.Generator().manual_seed(1)
    sample, held_out = (
        [(torch.randn(n, 1, 8, 8, generator=generator).double(), torch.arange(n) % 10) for n in SIZES] for _ in range(2)
    )
    loss = nn.CrossEntropyLoss()
    found = {}
    for label, options in OPTIONS.items():
        for group, lower in es.splitting_index(
            net, sample, loss, **{"held_out": held_out, "share": share, **options}
        ).items():
            for side, index in (("low", lower), ("high", lower.upper)):
                if index is not None:
                    for part in ("value", "stderr", "residual", "same_images"):
                        found[f"{label}/{group}/{side}/{part}"] = getattr(index, part)
                    assert index.images == sum(SIZES)
                    found[f"{label}/{group}/{side}/sweeps"] = torch.tensor(index.sweeps)
    operator = SplittingOperator(net, held_out, loss, share=share)
    ones = {name: torch.ones(shape[0], dtype=torch.float64) for name, shape in operator.shapes.items()}
    found["sum"] = torch.tensor(weighted_sums(operator, [operator.random_vectors(3)], [[ones]]), dtype=torch.float64)
    return found


if __name__ == "__main__":
    with Session("cpu", threads=1) as session:
        torch.save(indices(Share(session.rank, session.processes, session.sum)), f"{sys.argv[1]}{session.rank}")
    end()
