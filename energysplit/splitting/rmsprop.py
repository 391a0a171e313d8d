"""The paper's solver: minibatch descent on the Rayleigh quotient with RMSprop, renormalised after every step.

Wang et al. 2019, section 3.2; settings of the published code: batch 64, learning rate 1e-3 (times 0.2 every second
sweep), alpha 0.9, momentum 0.9.
"""

from __future__ import annotations

import torch

from energysplit.splitting.operator import SplittingOperator, dots, normalise
from energysplit.splitting.solution import Eigenpairs, measured

BATCH = 64
LEARNING_RATE = 1e-3
SWEEPS = 10


def solve(operator: SplittingOperator, *, seed: int = 0, sweeps: int | None = None) -> Eigenpairs:
    """Approximate smallest eigenpairs after `sweeps` passes over the operator's batches (each one descent step).

    Error: of first order in the learning rate and the minibatch noise; the residual says how far it got.
    """
    vectors = {name: v.requires_grad_() for name, v in operator.random_vectors(seed).items()}
    sweeps = SWEEPS if sweeps is None else sweeps
    if vectors:
        optimiser = torch.optim.RMSprop(vectors.values(), lr=LEARNING_RATE, alpha=0.9, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=2, gamma=0.2)
        for _ in range(sweeps):
            for held in operator.captures():
                for name, applied in operator.apply_batch(held, vectors).items():
                    v = vectors[name]
                    # Gradient of v^T S v / v^T v at a unit vector.
                    v.grad = 2 * (applied - dots(v.detach(), applied)[:, None] * v.detach())
                optimiser.step()
                with torch.no_grad():
                    for v in vectors.values():
                        v.copy_(normalise(v))
            schedule.step()
    return measured(operator, {name: v.detach() for name, v in vectors.items()}, sweeps * operator.images)
