"""What a recipe may say: a frozen tree of sections, each key with its bounds, its default and what it means.

Unknown keys are refused and types are not converted (a quoted "12" is no epoch count), because a misspelt or misread
key would otherwise cost a night of training. The descriptions here are the reference: error messages quote them.
Lists are tuples, so that a recipe can't change while it runs.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from energysplit.amounts import check_limit, factor
from energysplit.errors import BudgetError
from energysplit.kinds import FRESH, MOST_MASS
from energysplit.plain_data import NAME
from energysplit.recipe.baseline import BaselineRecipe
from energysplit.recipe.section import Positive, Section
from energysplit.types import BLIND, Scope

Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

# strict=False lets a TOML or JSON list fill a tuple; the items stay strict.
_LIST = Field(strict=False, min_length=1)
Counts = Annotated[tuple[Count, ...], _LIST]
Rates = Annotated[tuple[Positive, ...], _LIST]
Names = Annotated[tuple[str, ...], _LIST]
Fractions = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False)]

_LIMIT = "a number > 0, an amount with its unit such as '8 ms' or '100 MMAC', or a multiple above 1x such as '1.5x'"


class ModelRecipe(Section):
    """The seed network."""

    name: str = Field(
        description="a registered model, 'torchvision:NAME', 'timm:NAME', or 'module:callable' that returns an "
        "nn.Module",
        min_length=1,
    )
    args: dict[str, Any] = Field(default_factory=dict, description="arguments of the model, passed by name")


class DataRecipe(Section):
    """Images and how they are divided."""

    name: str = Field(description="digits, cifar10, cifar100, fashion_mnist or image_folder", min_length=1)
    root: str | None = Field(default=None, description="folder of the data set, relative to the working directory")
    image_size: Count | None = Field(default=None, description="height and width of the images, in pixels")
    validation: float = Field(default=0.1, gt=0, lt=1, description="part of the training images kept for validation")
    download: bool = Field(default=False, description="whether a missing data set may be downloaded")
    limit: Count | None = Field(default=None, description="use this many training images only")
    augment: bool | Literal["randaugment"] = Field(
        default=True,
        description="whether training images are shifted and mirrored at random; 'randaugment': and changed by two of "
        "RandAugment's operations",
    )


class TeacherRecipe(Section):
    """A network whose outputs are learnt from too (docs/training.md)."""

    model_config = ConfigDict(json_schema_extra={"expected": "a table, { run = 'runs/NAME' }"})

    run: str = Field(
        description="a run folder, whose last finished stage is the teacher, or a checkpoint folder; relative to the "
        "working directory",
        min_length=1,
    )
    weight: float = Field(default=0.5, gt=0, le=1, description="part of the loss that the teacher gives")
    temperature: Positive = Field(default=4.0, description="what both networks' outputs are divided by for its part")


class TrainRecipe(Section):
    """Training of each stage. A list gives one value a stage; its last value is used for all later stages."""

    epochs: Count | Counts = Field(description="epochs of each training")
    batch_size: Count = Field(default=128, description="images in a step, all devices together")
    accumulate: Count = Field(
        default=1, description="steps whose gradients make one update of the weights: an update sees that many batches"
    )
    optimizer: Literal["sgd"] = Field(default="sgd", description="the optimiser")
    learning_rate: Positive | Rates = Field(
        default=0.1, description="learning rate at the start of each training, after the warm-up"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    nesterov: bool = Field(default=False, description="whether the momentum is Nesterov's")
    weight_decay: float = Field(default=1e-4, ge=0, description="weight decay")
    schedule: Literal["cosine", "step", "constant"] = Field(default="cosine", description="how the rate falls")
    milestones: Fractions = Field(
        default=(0.5, 0.75), description="when schedule 'step' multiplies the rate, as fractions of a training"
    )
    decay: float = Field(default=0.1, gt=0, le=1, description="what schedule 'step' multiplies the rate by")
    warmup_epochs: float = Field(default=0.0, ge=0, description="epochs in which the rate rises from 1 %")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="label smoothing of the training loss")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="decay of a moving average of the weights, such as 0.999; the average is what is evaluated, "
        "indexed and grown",
    )
    patience: Count | None = Field(
        default=None,
        description="a training ends after this many epochs without a lower loss on the validation images; "
        "`epochs` if not given",
    )
    min_improvement: float = Field(
        default=0.0, ge=0, lt=1, description="patience: part of the lowest loss so far that an improvement is at least"
    )
    teacher: TeacherRecipe | None = Field(default=None, description="a network whose outputs are learnt from too")

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("expected fractions that rise, such as [0.5, 0.75]")
        return value

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> TrainRecipe:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov = true needs momentum > 0")
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> TrainRecipe:
        shortest = min(self.epochs) if isinstance(self.epochs, tuple) else self.epochs
        if self.warmup_epochs >= shortest:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs:g} is not below the shortest training, {shortest} epochs"
            )
        return self

    def epochs_at(self, stage: int) -> int:
        """Epochs of the training of `stage`, counted from 0."""
        return _at(self.epochs, stage)

    def learning_rate_at(self, stage: int) -> float:
        """Learning rate of the training of `stage`, counted from 0."""
        return _at(self.learning_rate, stage)


class IndexRecipe(Section):
    """How splitting indices are found."""

    method: Literal["lobpcg", "rmsprop", "exact", "random", "fresh"] = Field(
        default="lobpcg",
        description="the eigen-solver; random: directions by chance, to compare with; fresh: no neuron is split, new "
        "ones with outgoing weights of zero are put beside old ones, chosen by the gradient of these weights",
    )
    curvature: Literal["exact", "producer"] = Field(
        default="exact", description="through all followers (exact), or at the next nonlinearity only, as in the paper"
    )
    linear: Literal["skip", "unit", "outgoing"] = Field(
        default="skip",
        description="groups without a nonlinearity: left alone (skip), or the paper's sigma'' = 1 (unit); outgoing: "
        "the offspring of every group may differ in their outgoing weights too, so that linear groups grow as well",
    )
    images: Count = Field(default=2048, description="images the directions are found on")
    held_out_images: Count = Field(default=2048, description="other images the indices are reported on")
    batch_size: Count = Field(default=256, description="images in a batch; rmsprop, as the paper's, always takes 64")
    sweeps: Count | None = Field(default=None, description="passes over the images; the solver's own if not given")
    kink_beta: Positive = Field(default=3.0, description="sharpness of the softplus that smooths a ReLU's kink")
    statistics: Literal["running", "batch"] = Field(
        default="batch",
        description="what batch norms do when neurons move: keep their running statistics, as in inference, or follow "
        "each batch, as in training; predicted and realised loss changes are of that mode",
    )
    precision: Literal["no", "bf16"] = Field(
        default="no",
        description="mixed precision of the passes over a batch, sums staying float32; for hardware made for bfloat16",
    )
    shrinkage: Literal["none", "group"] = Field(
        default="group",
        description="what neurons are chosen by: the held-out values themselves (none), or each drawn towards its "
        "group's mean as far as its standard error asks for (group)",
    )
    growing: bool = Field(default=False, description="whether lobpcg's first sweeps see a quarter of the images")

    @model_validator(mode="after")
    def _outgoing_needs_exact(self) -> IndexRecipe:
        if self.linear == "outgoing" and self.curvature != "exact":
            raise ValueError("linear = 'outgoing' needs curvature = 'exact', which follows neurons to their consumers")
        return self

    @model_validator(mode="after")
    def _fresh_neurons_are_no_splits(self) -> IndexRecipe:
        if self.method == FRESH and self.linear == "outgoing":
            raise ValueError("linear = 'outgoing' is for splits; method = 'fresh' splits no neuron, so leave it out")
        return self


class StepRecipe(Section):
    """How far the two copies of a neuron move apart."""

    policy: Literal["fixed", "relative", "tolerance", "monotone"] = Field(
        default="relative",
        description="fixed: in weight units; relative: to the norm of a group's weights; tolerance, monotone: the "
        "largest that keeps the held-out loss within a factor, or below its value before",
    )
    size: Positive = Field(default=0.6, description="step of policies fixed (weight units) and relative (ratio)")
    tolerance: float = Field(default=1.1, ge=1, description="policy tolerance: allowed factor of the held-out loss")
    largest: Positive = Field(default=1.0, description="policies tolerance and monotone: largest ratio tried")


class BoundRecipe(Section):
    """How far the groups of one name pattern may grow."""

    model_config = ConfigDict(json_schema_extra={"expected": "a table, { max_channels = N } or { frozen = true }"})

    max_channels: Count | None = Field(default=None, description="channels a group may have at most")
    frozen: bool = Field(default=False, description="whether a group does not grow at all")

    @model_validator(mode="after")
    def _one_of_two(self) -> BoundRecipe:
        if (self.max_channels is not None) == self.frozen:
            given = "both" if self.frozen else "neither"
            raise ValueError(f"expected one of max_channels = N and frozen = true, given {given}")
        return self


class GrowthRecipe(Section):
    """How often the network grows, and how neurons are chosen."""

    stages: Annotated[int, Field(ge=0)] = Field(description="number of growths; there is one training more")
    method: Literal["milp", "lp", "greedy", "top_k", "random", "cheapest"] = Field(
        default="milp",
        description="how neurons are chosen; to compare with, whatever their index: random, by chance, and cheapest, "
        "as many as the budgets hold",
    )
    sizes_of: str | None = Field(
        default=None,
        description="run folder of a finished growth: as many neurons of each group are split as it split there, and "
        "method only says which: random ones, or (any other) those with the smallest indices; relative to the working "
        "directory",
        min_length=1,
    )
    multiple_of: Count | Literal["auto"] | dict[str, Count] = Field(
        default=1,
        description="widths that grow become multiples of this; 'auto': what the budgets' tables say, 1 if none "
        "says anything; a table gives a number for each group, 1 for those left out",
        json_schema_extra={"expected": "a whole number >= 1, 'auto', or a table of group = number"},
    )
    function_tolerance: Positive = Field(
        default=1e-4, description="largest relative change of the outputs that a split at step 0 may cause (float32)"
    )
    risk: float = Field(
        default=0.0,
        ge=0,
        description="standard errors added to an index before it is judged: a neuron is split only if the value it is "
        "chosen by (index.shrinkage) stays below zero with them",
    )
    signed: bool = Field(
        default=False,
        description="whether copies may have negative shares of the outgoing weights: 2, 3 or 4 copies of a neuron, "
        "whichever brings most for its price",
    )
    mass: float = Field(
        default=2.0, ge=1, le=MOST_MASS, description="signed: sizes of a neuron's shares together, above 1"
    )
    last_weights: Literal["inherited", "random"] = Field(
        default="inherited",
        description="what the last training starts from: the weights that splitting left, or random ones; the growth "
        "before it is then a search for widths, for which short trainings are enough",
    )
    bounds: dict[str, BoundRecipe] = Field(
        default_factory=dict,
        description="how far groups may grow: a quoted name or pattern (*, ?, [...]) = { max_channels = 64 } or "
        "{ frozen = true }; of several that match a group the tightest counts",
        json_schema_extra={"expected": "a table of group or pattern = { max_channels = N } or { frozen = true }"},
    )

    @field_validator("bounds")
    @classmethod
    def _patterns(cls, value: dict[str, BoundRecipe]) -> dict[str, BoundRecipe]:
        if any(not pattern.strip() for pattern in value):
            raise ValueError("expected the name of a group, or a pattern such as 'blocks.*', given an empty one")
        return value

    @model_validator(mode="after")
    def _signed_needs_mass(self) -> GrowthRecipe:
        if self.signed and self.mass <= 1:
            raise ValueError(f"signed = true needs mass > 1, given {self.mass:g}; without it no share is negative")
        return self

    @model_validator(mode="after")
    def _sizes_are_given_or_found(self) -> GrowthRecipe:
        if self.method == "cheapest" and self.sizes_of is not None:
            raise ValueError("method = 'cheapest' chooses sizes, which sizes_of gives; use 'random' or 'milp' with it")
        return self

    @model_validator(mode="after")
    def _kinds_are_chosen_by_gain(self) -> GrowthRecipe:
        blind = self.method in BLIND
        if self.signed and (blind or self.sizes_of is not None):
            other = f"method = {self.method!r}" if blind else "sizes_of"
            raise ValueError(f"signed = true does not go with {other}, which chooses neurons and no kinds of splits")
        return self


class HardwareRecipe(Section):
    """The device: for every cost provider that takes these arguments."""

    profile: str | None = Field(
        default=None, description="a hardware profile: a built-in name, or a file relative to the working directory"
    )
    tables: str | None = Field(
        default=None,
        description="folder of the device's cost table; cost_tables/ and the profile's name if not given",
    )
    strict: bool = Field(
        default=False, description="whether a table of another machine or runtime is an error, not a warning"
    )


class BudgetRecipe(Section):
    """A limit on one price of the network."""

    provider: str = Field(description="a registered cost provider, or 'module:Class'", min_length=1)
    limit: Limit | str = Field(
        description="in the provider's unit, or with one, or a multiple of the seed's price (scope stage: of the "
        "present one)",
        json_schema_extra={"expected": _LIMIT},
    )
    scope: Scope = Field(default="network", description="limit of the whole growth, or of each stage")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of the provider, passed by name; they go before [hardware], and a profile here leaves "
        "[hardware]'s tables out",
    )

    @field_validator("limit")
    @classmethod
    def _readable(cls, value: float | str) -> float | str:
        """Whether a unit fits the provider is checked where the provider is made, still before anything runs."""
        if isinstance(value, str):
            try:
                number, multiple = check_limit(value), factor(value)
            except BudgetError as error:
                raise ValueError(str(error)) from None
            if number <= (0 if multiple is None else 1):
                raise ValueError(f"expected {_LIMIT}")
        return value


class PriceRecipe(Section):
    """A further price with a name of its own, such as another device's."""

    name: str = Field(
        description="what it is called in the journal, the report and comparisons: letters, digits, - and _",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        json_schema_extra={"expected": "a name of letters, digits, - and _, such as 'pixel'"},
    )
    provider: str = Field(description="a registered cost provider, or 'module:Class'", min_length=1)
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of the provider, passed by name; they go before [hardware], and a profile here leaves "
        "[hardware]'s tables out",
    )


class ReportRecipe(Section):
    """What the journal and the report show besides the budgets."""

    providers: Names = Field(default=("macs", "params"), description="cost providers priced at every stage")
    price: Annotated[tuple[PriceRecipe, ...], Field(strict=False)] = Field(
        default=(),
        description="further prices of every stage, one [[report.price]] table each: other devices' or other options'",
    )

    @field_validator("price")
    @classmethod
    def _one_price_each(cls, value: tuple[PriceRecipe, ...]) -> tuple[PriceRecipe, ...]:
        names = [price.name for price in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"expected names that differ, given {name!r} several times")
        return value


class RunRecipe(Section):
    """Where and how it runs."""

    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto takes the first CUDA device there is",
        json_schema_extra={"expected": "'auto', 'cpu', 'cuda' or 'cuda:N'"},
    )
    precision: Literal["no", "bf16", "fp16"] = Field(default="no", description="mixed precision of the training")
    threads: Count | None = Field(default=None, description="CPU threads; torch's own number if not given")
    channels_last: bool = Field(default=False, description="whether images are stored channels last")
    deterministic: bool = Field(default=True, description="whether only reproducible kernels may be used")
    tensorboard: bool = Field(
        default=False, description="whether curves for TensorBoard are written (pip install 'energysplit[track]')"
    )


class ExportRecipe(Section):
    """What is written at the end."""

    onnx: bool = Field(default=True, description="whether model.onnx is written and compared in ONNX Runtime")
    measure: bool = Field(
        default=True,
        description="whether model.onnx is measured where a price comes from a table of this machine, and compared",
    )


class Recipe(Section):
    """A whole recipe. `name` is the file's stem unless the file says otherwise."""

    name: str = Field(
        description="name of the run and of its folder; in a file, the file's own name if not given",
        pattern=NAME,
        json_schema_extra={"expected": "a name without / and \\"},
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="seed of everything random")
    model: ModelRecipe = Field(description="the seed network")
    data: DataRecipe = Field(description="images and how they are divided")
    train: TrainRecipe = Field(description="training of each stage")
    index: IndexRecipe = Field(default_factory=IndexRecipe, description="how splitting indices are found")
    step: StepRecipe = Field(default_factory=StepRecipe, description="how far copies move apart")
    growth: GrowthRecipe = Field(description="how often and how the network grows")
    baseline: BaselineRecipe | None = Field(
        default=None, description="another method in place of splitting, under the same loop; left out for a growth"
    )
    hardware: HardwareRecipe = Field(
        default_factory=HardwareRecipe, description="the device that prices are of; left out where they are counted"
    )
    budget: Annotated[tuple[BudgetRecipe, ...], _LIST] = Field(description="the limits, one [[budget]] table each")
    report: ReportRecipe = Field(default_factory=ReportRecipe, description="what is shown besides the budgets")
    run: RunRecipe = Field(default_factory=RunRecipe, description="where and how it runs")
    export: ExportRecipe = Field(default_factory=ExportRecipe, description="what is written at the end")

    @model_validator(mode="after")
    def _fresh_neurons_have_no_signs(self) -> Recipe:
        if self.growth.signed and self.index.method == FRESH:
            raise ValueError("growth.signed = true is for splits; index.method = 'fresh' splits no neuron")
        return self

    @field_validator("budget")
    @classmethod
    def _one_limit_each(cls, value: tuple[BudgetRecipe, ...]) -> tuple[BudgetRecipe, ...]:
        seen = [
            (budget.provider, budget.scope, json.dumps(budget.options, sort_keys=True, default=str)) for budget in value
        ]
        for provider, scope, options in seen:
            if seen.count((provider, scope, options)) > 1:
                raise ValueError(f"expected one limit of {provider!r} for scope {scope!r}, given several")
        return value

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, defaults included, as plain JSON types; `from_dict` reads it back equal."""
        return self.model_dump(mode="json")


def _at(values: Any, stage: int) -> Any:
    """The value of `stage`: of a list the last one is used for all later stages."""
    return values[min(stage, len(values) - 1)] if isinstance(values, tuple) else values
