"""When a training has reached its plateau: epochs without a lower validation loss, counted.

"Until no further improvement" is where the theory of splits holds (Wang et al. 2019, arXiv 1910.03103, phase 1): near a
local optimum the first-order terms are gone. What is counted is plain numbers, so that a stopped run can go on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plateau:
    """What the validation losses so far amount to.

    best: the lowest loss, None before the first. waited: epochs since the last improvement. loss: of the last epoch.
    """

    best: float | None = None
    waited: int = 0
    loss: float | None = None

    def after(self, loss: float, min_improvement: float = 0.0) -> Plateau:
        """The count after one more epoch; a loss that is not a number is no improvement.

        Args:
            loss: mean loss on the validation images, not negative.
            min_improvement: part of the lowest loss that an improvement is at least. The lowest loss moves with
                improvements only, so that many small ones add up to one.

        Example:
            >>> count = Plateau().after(1.0).after(0.8).after(0.79, min_improvement=0.05)
            >>> count.best, count.waited
            (0.8, 1)
        """
        improved = loss == loss if self.best is None else loss < self.best * (1 - min_improvement)
        return Plateau(loss, 0, loss) if improved else Plateau(self.best, self.waited + 1, loss)

    def reached(self, patience: int | None) -> bool:
        """Whether `patience` epochs have passed without an improvement; never without a patience."""
        return patience is not None and self.waited >= patience
