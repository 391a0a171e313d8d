"""Records of the journal: what each stage of a run was, one a line, and what a growth left behind.

Torch is not imported, so that reports of any run load fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from energysplit.types import Cost


class _Record(BaseModel):
    """A journal record: frozen, unknown keys refused, NaN and infinity kept as strings so that JSON stays standard."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class CostRecord(_Record):
    """A `Cost` in the journal."""

    value: float
    unit: str
    low: float
    high: float
    source: str

    @classmethod
    def of(cls, cost: Cost) -> CostRecord:
        """A cost as the journal writes it."""
        return cls(**asdict(cost))


class Evaluation(_Record):
    """Mean loss and top-1 accuracy (0 to 1) over `images` images."""

    loss: float
    accuracy: float
    images: int


class TrainRecord(_Record):
    """One stage's training: epochs trained, and the last one's mean training loss and accuracy.

    A training that ended at a plateau has fewer epochs than the recipe allows. A teacher's part is in the loss, and a
    baseline's penalty. images: training images an epoch; 0 in journals of before, which did not say.
    """

    epochs: int
    loss: float
    accuracy: float
    images: int = 0


class IndexRecord(_Record):
    """How the splitting indices were found, and their sums over all neurons (loss per squared unit step times two).

    `sum_same_images` is on the images the directions were found on: optimistic, and NaN where that were none.
    `sum_held_out` is the honest one. statistics: of batch norms, "running" or the "batch"'s own. precision: mixed
    precision of the passes over a batch. shrinkage: what neurons were chosen by, the held-out values ("none") or those
    drawn towards their "group"'s mean. unknown: neurons whose index is NaN, which no sum holds. batch_size: images in
    the largest batch, fewer than the recipe's where memory ran out; 0 in journals of before, which did not say.
    """

    solver: str
    curvature: str
    statistics: str = "running"
    precision: str = "no"
    shrinkage: str = "none"
    linear: str
    kink_beta: float
    sweeps: float
    images: int
    held_out_images: int
    sum_same_images: float
    sum_held_out: float
    stderr: float
    negative: int
    neurons: int
    unknown: int = 0
    batch_size: int = 0


class AllocationRecord(_Record):
    """What was bought: neurons per group, predicted gain, price against limit by budget name.

    predicted_gain: sum of -value times the group's weight; that is 1 for fixed steps, and the squared norm of the
    group's weights where steps follow it. The value is what neurons were chosen by: see `IndexRecord.shrinkage`.
    kinds, mass: as in `Allocation`.
    """

    method: str
    split: dict[str, list[int]]
    predicted_gain: float
    gap: float
    shadow_price: dict[str, float]
    price: dict[str, CostRecord]
    limit: dict[str, float]
    status: str
    kinds: dict[str, dict[int, str]] = {}
    mass: float = 1.0

    @property
    def chosen(self) -> Mapping[str, Sequence[int] | Mapping[int, str]]:
        """As in `Allocation`."""
        return self.kinds or self.split


class StepRecord(_Record):
    """The step: size by group (absolute, in weight units), and the loss change predicted and realised.

    policy: its name, and what it found, in a few words ("relative: 0.3 of the weights' norm"); `rule` is the name.
    Both changes are on the held-out images, loss after the split minus loss before. `predicted_stderr` is the
    standard error of the prediction. `small_predicted_change` and `small_realised_change` are those of the same
    split with all steps shortened by one factor, so that none is above 1 % of its group's norm: there the prediction,
    of second order, is meant to hold. `function_error` is the largest relative difference of the outputs at
    step 0, on the first held-out batch.
    """

    policy: str
    size: dict[str, float]
    loss_before: float
    predicted_change: float
    predicted_stderr: float
    realised_change: float
    small_predicted_change: float
    small_realised_change: float
    function_error: float
    function_tolerance: float

    @property
    def rule(self) -> str:
        """The policy's name."""
        return self.policy.partition(":")[0]


class SplitRecord(_Record):
    """The growth out of a stage: index, allocation, step."""

    index: IndexRecord
    allocation: AllocationRecord
    step: StepRecord


class ReplacementRecord(_Record):
    """How a baseline made the next stage's network, in place of a growth.

    kind: of the baseline. fresh: whether the next training starts from random weights; a stage then costs its own
    epochs only. widths: of the next network, by group. kept: group -> channels that stayed, for the groups that lost
    some; empty for fresh weights. price: provider name -> price of the next network. limit: provider name -> what it
    was held to. status: what was done, in a sentence.
    """

    kind: str
    fresh: bool
    widths: dict[str, int]
    kept: dict[str, list[int]]
    price: dict[str, CostRecord]
    limit: dict[str, float]
    status: str


JOURNAL_FILE = "journal.jsonl"
"""Of a run folder: a `GrowthRecord` a line."""


class GrowthRecord(_Record):
    """One line of `journal.jsonl`: a stage of train, index, allocate, split.

    prices: provider name -> price at this stage's widths. growth: None for the last stage, and for all of a baseline,
    which has a `replacement` instead; the journal leaves that out where it is None. seconds: wall time by
    part ("train", "evaluate", "index", "allocate", "surgery"); the only field that differs between identical runs.
    weights_sha256, optimiser_sha256, index_sha256: of the stage's files; "" where there is none. notes: what went
    wrong in the stage and what was done about it, in sentences; the journal leaves it out where nothing did.
    then_fresh: whether the next training, the last one, starts from random weights at the widths that growth found
    (growth.last_weights); left out where it does not.
    """

    stage: int
    widths: dict[str, int]
    prices: dict[str, CostRecord]
    train: TrainRecord
    validation: Evaluation
    test: Evaluation | None
    growth: SplitRecord | None
    stopped: str = ""
    weights_sha256: str
    optimiser_sha256: str = ""
    index_sha256: str = ""
    seconds: dict[str, float]
    replacement: ReplacementRecord | None = None
    notes: tuple[str, ...] = ()
    then_fresh: bool = False

    @property
    def ends(self) -> bool:
        """Whether no training follows on this stage."""
        return self.growth is None and self.replacement is None and not self.then_fresh


@dataclass(frozen=True)
class GrowthResult:
    """What a growth left behind: its folder, its journal, and the files in the folder."""

    run_dir: Path
    records: tuple[GrowthRecord, ...]
    onnx: Path | None = None
    report: Path | None = None
    warnings: tuple[str, ...] = field(default=())
