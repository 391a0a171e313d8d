"""The section [baseline] of a recipe: the methods that a growth is compared with, and the keys that each takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from energysplit.amounts import factor
from energysplit.errors import BudgetError
from energysplit.recipe.section import Positive, Section

PRUNING = ("prune_l1", "prune_batch_norm", "morphnet")
"""The baselines that begin wide and remove neurons."""
PENALISED = ("prune_batch_norm", "morphnet")
"""Those that press on batch norms' scales while training."""


LARGEST_START = 1000
"""Times a grown network's price that pruning may begin with; more is a slip of the pen, and takes all memory."""


class BaselineRecipe(Section):
    """A method that the growth of another run is compared with (docs/baselines.md)."""

    kind: Literal["width_multiplier", "from_scratch", "prune_l1", "prune_batch_norm", "morphnet"] = Field(
        description="what makes the next stage's network: all groups wider by one factor (width_multiplier), or the "
        "reference run's widths (from_scratch), each trained from random weights; or the network without its least "
        "important neurons, by the norm of their weights (prune_l1) or by their batch norms' scales (prune_batch_norm, "
        "morphnet)"
    )
    sizes_of: str = Field(
        description="run folder of the finished growth whose prices (from_scratch: widths) its stages have, relative "
        "to the working directory",
        min_length=1,
    )
    start: str | None = Field(
        default=None,
        description="price of the network that pruning begins with, as a multiple of the reference run's last; '2x' if "
        "not given",
        json_schema_extra={"expected": "a multiple above 1x such as '2x'"},
    )
    penalty: Positive | None = Field(
        default=None,
        description="weight of the sparsity term of prune_batch_norm and morphnet, per batch-norm scale; 1e-4 if not "
        "given",
    )

    @field_validator("start")
    @classmethod
    def _multiple(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                times = factor(value)
            except BudgetError as error:
                raise ValueError(str(error)) from None
            if times is None or not 1 < times <= LARGEST_START:
                raise ValueError(f"expected a multiple above 1x and up to {LARGEST_START}x, such as '2x'")
        return value

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> BaselineRecipe:
        for key, kinds in (("start", PRUNING), ("penalty", PENALISED)):
            if getattr(self, key) is not None and self.kind not in kinds:
                raise ValueError(f"{key} is for kind {', '.join(kinds)}; kind = {self.kind!r} has none, leave it out")
        return self

    @property
    def prunes(self) -> bool:
        """Whether it begins wide and removes neurons; otherwise each stage is trained from random weights."""
        return self.kind in PRUNING

    @property
    def start_factor(self) -> float:
        """`start` as a number."""
        return factor(self.start or "2x") or 1.0

    @property
    def penalty_weight(self) -> float:
        """Weight of the sparsity term; 0 for the kinds that have none."""
        return (1e-4 if self.penalty is None else self.penalty) if self.kind in PENALISED else 0.0
