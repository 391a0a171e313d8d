"""Learning from a teacher: its softened class probabilities are targets beside the labels.

loss = (1 - w) CE(student, label) + w T^2 KL(softmax(teacher / T) || softmax(student / T)); T^2 keeps the size of the
gradient as T changes (Hinton et al. 2015, arXiv 1503.02531). Only training sees this loss. Splitting indices, steps and
all evaluations keep the plain training loss: an index is a statement about the loss that is reported, and its images
need no second network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Distillation:
    """The loss with a teacher in it.

    Args:
        teacher: on the training's device; it is put into eval mode, and its parameters take no gradients.
        weight: w, above 0 and at most 1.
        temperature: T, above 0.
    """

    def __init__(self, teacher: nn.Module, weight: float, temperature: float) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.weight, self.temperature = weight, temperature

    def __call__(self, loss: Tensor, inputs: Tensor, outputs: Float[Tensor, "images classes"]) -> Tensor:
        """The mean loss over a batch.

        Args:
            loss: mean loss against the labels.
            inputs: the images the outputs are of; the teacher sees the same, augmentation included.
            outputs: the student's class scores.
        """
        with torch.no_grad():
            taught = self.teacher(inputs)
        # float32: under mixed precision differences of log-probabilities would drown.
        target = F.log_softmax(taught.float() / self.temperature, dim=1)
        student = F.log_softmax(outputs.float() / self.temperature, dim=1)
        divergence = F.kl_div(student, target, reduction="batchmean", log_target=True)
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * divergence
