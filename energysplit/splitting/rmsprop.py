"""The paper's solver: minibatch descent on the Rayleigh quotient with RMSprop, renormalised after every step.

Wang et al. 2019, section 3.2; settings of the published code: batch 64, learning rate 1e-3 (times 0.2 every second
sweep), alpha 0.9, momentum 0.9.

Several processes share each minibatch and add up S v after every step: the same descent, at two messages a step: that
nobody ran out of memory, and the sum.
"""

from __future__ import annotations

import torch

from energysplit.splitting.operator import SplittingOperator, dots, normalise
from energysplit.splitting.solution import Eigenpairs, measured, starts

BATCH = 64
LEARNING_RATE = 1e-3
SWEEPS = 10


def solve(operator: SplittingOperator, *, seed: int = 0, sweeps: int | None = None, signed: bool = False) -> Eigenpairs:
    """Approximate smallest eigenpairs after `sweeps` passes over the operator's batches (each one descent step).

    Signed: a second descent, on -S, finds the largest; a pass serves both.

    Error: of first order in the learning rate and the minibatch noise; the residual says how far it got.
    """
    ends = [{name: v.requires_grad_() for name, v in end.items()} for end in starts(operator, seed, signed)]
    sweeps = SWEEPS if sweeps is None else sweeps
    if operator.shapes:
        vectors = [v for end in ends for v in end.values()]
        # In float16 torch's own 1e-8 is 0, and a gradient of 0 would be divided by it.
        eps = max(1e-8, torch.finfo(vectors[0].dtype).tiny)
        optimiser = torch.optim.RMSprop(vectors, lr=LEARNING_RATE, alpha=0.9, eps=eps, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=2, gamma=0.2)
        for _ in range(sweeps):
            for part in operator.sample.parts():
                made = operator.apply_part(part, ends)
                for sign, end, of_batch in zip((1, -1), ends, made, strict=False):
                    for name, applied in of_batch.items():
                        v = end[name]
                        # Gradient of v^T S v / v^T v, or of its negative, at a unit vector.
                        v.grad = sign * 2 * (applied - dots(v.detach(), applied)[:, None] * v.detach())
                optimiser.step()
                with torch.no_grad():
                    for end in ends:
                        for v in end.values():
                            v.copy_(normalise(v))
            schedule.step()
    found = [{name: v.detach() for name, v in end.items()} for end in ends]
    return measured(operator, found, sweeps * operator.images)
