"""Runs side by side: which are one method with several seeds, which costs they share, what makes them incomparable.

Runs whose recipes differ in seed and name only are seeds of one method. Nothing here looks at an accuracy to choose
anything: every run, stage and pair that can be compared is.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from energysplit.errors import InputError, RunError, nearest
from energysplit.output.comparison_compute import TRAINING_COMPUTE, training_computes
from energysplit.output.comparison_compute import UNIT as TRAINING_UNIT
from energysplit.output.comparison_statistics import Curve, curve
from energysplit.output.measured import MeasuredRun
from energysplit.output.numbers import file_name, price_words, provider_name
from energysplit.recipe.changed import RecipeChange
from energysplit.records import GrowthRecord

_SEED_MARK = re.compile(r"[-_. ]+(seed|s)?[-_. ]*\d*$")
_SEED_OF_FOLDER = re.compile(r"[-_. ]+(seed|s)[-_. ]*\d+/?$")
_FOLLOWED = (("growth", "sizes_of"), ("baseline", "sizes_of"), ("train", "teacher", "run"))
"""Keys that name another run: of each seed its own."""


@dataclass(frozen=True)
class CostName:
    """A cost: a provider's price at every stage, or what the exported model was measured to cost after the last.

    The provider `TRAINING_COMPUTE` is what the training up to a stage has cost, unless a run has a price of that name.
    """

    provider: str
    measured: bool = False

    @property
    def title(self) -> str:
        """As the head of a column or axis.

        Example:
            >>> CostName("latency", measured=True).title, CostName("macs").title
            ('Latency of the exported model', 'MACs')
        """
        return provider_name(self.provider) + (" of the exported model" if self.measured else "")

    @property
    def words(self) -> str:
        """Within a sentence."""
        return ("measured " if self.measured else "") + price_words(self.provider)

    @property
    def file(self) -> str:
        """As a part of a file name."""
        return ("measured-" if self.measured else "") + file_name(self.provider)


@dataclass(frozen=True)
class ComparedRun:
    """A run as it lies on the disk.

    folder: as it was given. recipe: resolved, of the last stage. records: journal, at least one stage. measured: of the
    exported model of the last stage; None if there is none. changes: of the recipe, while the run went on. files:
    digest of the names of its images' files, where the recipe names a folder of them.
    """

    folder: str
    recipe: Mapping[str, Any]
    records: tuple[GrowthRecord, ...]
    measured: MeasuredRun | None = None
    changes: tuple[RecipeChange, ...] = ()
    files: str = ""

    def __post_init__(self) -> None:
        if not self.records:
            raise RunError(f"{self.folder}: no finished stage yet, so nothing to compare; run it with --resume first")

    @property
    def name(self) -> str:
        """The recipe's name, or the folder's."""
        return str(self.recipe.get("name") or self.short_folder)

    @property
    def short_folder(self) -> str:
        """The folder's own name."""
        return Path(self.folder).resolve().name

    @property
    def seed(self) -> Any:
        """Seed of all randomness."""
        return self.recipe.get("seed", 0)

    @property
    def finished(self) -> bool:
        """Whether the last stage ended the run."""
        return self.records[-1].ends

    @property
    def epochs(self) -> int:
        """Epochs that the network of the last stage has been trained."""
        return self.epochs_to(self.records[-1].stage)

    def epochs_to(self, stage: int) -> int:
        """Epochs that the network of a stage has been trained, in this stage and those its weights come from."""
        return self._epochs[stage]

    def compute_to(self, stage: int) -> float | None:
        """MACs that the network of a stage has been trained with; None where the journal does not say."""
        return self._computes[stage]

    @cached_property
    def _epochs(self) -> list[int]:
        """`epochs_to` of every stage. A baseline's that starts from random weights begins anew."""
        found, total = [], 0
        for record in self.records:
            total += record.train.epochs
            found.append(total)
            if record.replacement is not None and record.replacement.fresh:
                total = 0
        return found

    @cached_property
    def _computes(self) -> list[float | None]:
        return training_computes(self.records)

    @cached_property
    def method_key(self) -> str:
        """What runs of one method have in common: the recipe without seed and name, and how it was changed.

        The name of a run that it follows counts without the mark of a seed at its end ("-seed2").
        """
        rest = {key: value for key, value in self.recipe.items() if key not in ("seed", "name")}
        rest = json.loads(json.dumps(rest, default=str))
        if self.changes:
            rest["changes"] = [change.plain() for change in self.changes]
        for *sections, key in _FOLLOWED:
            table = rest
            for section in sections:
                table = table.get(section) if isinstance(table, dict) else None
            if isinstance(table, dict) and isinstance(table.get(key), str):
                table[key] = _SEED_OF_FOLDER.sub("", table[key])
        return json.dumps(rest, sort_keys=True)

    def units(self) -> dict[CostName, str]:
        """Every cost that is finite and above zero at every stage, with its unit."""
        found = {}
        for name, price in self.records[-1].prices.items():
            prices = [record.prices.get(name) for record in self.records]
            if all(at is not None and at.unit == price.unit and 0 < at.value < math.inf for at in prices):
                found[CostName(name)] = price.unit
        for name, compared in (self.measured.prices if self.measured else {}).items():
            if compared.measured is not None:
                found[CostName(name, measured=True)] = compared.predicted.unit
        if TRAINING_COMPUTE not in self.records[-1].prices and self.compute_to(self.records[-1].stage) is not None:
            found[CostName(TRAINING_COMPUTE)] = TRAINING_UNIT
        return found

    def cost(self, name: CostName, stage: int) -> float | None:
        """A cost at a stage, in its unit; None where it was not measured there."""
        if not name.measured:
            prices = self.records[stage].prices
            if name.provider == TRAINING_COMPUTE and TRAINING_COMPUTE not in prices:
                return self.compute_to(stage)
            return prices[name.provider].value
        sample = self.measured.prices[name.provider].measured if self.measured else None
        return sample.median if sample is not None and stage == self.records[-1].stage else None

    def curve(self, name: CostName) -> Curve:
        """Test accuracy against a cost, where both are known; may be empty."""
        points = [(self.cost(name, record.stage), record.test) for record in self.records]
        return curve([(cost, test.accuracy) for cost, test in points if cost is not None and test is not None])


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seeds only, under one label."""

    label: str
    runs: tuple[ComparedRun, ...]

    @property
    def stages(self) -> int:
        """Stages of the run that has most."""
        return max(len(run.records) for run in self.runs)

    def at(self, stage: int) -> list[ComparedRun]:
        """The runs that have finished a stage."""
        return [run for run in self.runs if len(run.records) > stage]

    def curves(self, name: CostName) -> list[Curve]:
        """A curve for each seed that has one."""
        return [points for run in self.runs if (points := run.curve(name))]


@dataclass(frozen=True)
class Published:
    """Points that others have published: shown, never compared with.

    source: where they were read. points: costs by provider, in its unit, and accuracy, 0 to 1.
    """

    name: str
    source: str
    points: tuple[tuple[Mapping[str, float], float], ...]

    def curve(self, name: CostName) -> Curve:
        """Accuracy against a cost, where it is known; what was measured elsewhere is no cost here."""
        if name.measured:
            return ()
        return curve([(costs[name.provider], accuracy) for costs, accuracy in self.points if name.provider in costs])


@dataclass(frozen=True)
class Comparison:
    """Methods in the order of their first runs, the costs that all runs report with their units, and what to doubt."""

    methods: tuple[Method, ...]
    costs: Mapping[CostName, str]
    warnings: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()

    @property
    def runs(self) -> list[ComparedRun]:
        """All runs, method by method."""
        return [run for method in self.methods for run in method.runs]


def refuse_twice(runs: Sequence[ComparedRun]) -> None:
    """Nothing, if all runs are different ones.

    A copy of a folder is the same run too: a network trained from the same recipe and seed has the same weights.

    Raises:
        RunError: a run is given twice.
    """
    seen: dict[tuple[object, ...], str] = {}
    for run in runs:
        keys: list[tuple[object, ...]] = [(Path(run.folder).resolve(),)]
        if weights := run.records[0].weights_sha256:
            # Baselines that follow other runs have the same seed network, and are not the same.
            keys.append((json.dumps(run.recipe.get("baseline")), run.method_key, run.seed, weights))
        for key in keys:
            if key in seen:
                other = run.folder if seen[key] == run.folder else f"{seen[key]} and {run.folder}"
                raise RunError(f"{other}: the same run twice; give each run once, for each seed has one sample")
            seen[key] = run.folder


def methods_of(runs: Iterable[ComparedRun]) -> tuple[Method, ...]:
    """The runs grouped into methods, seeds in order, each under a label of its own."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(run.method_key, []).append(run)
    ordered = [sorted(group, key=lambda run: (str(type(run.seed)), run.seed)) for group in groups.values()]
    labels = [_label(group) for group in ordered]
    for alternative in ("short_folder", "folder"):
        count = Counter(labels)
        labels = [
            label if count[label] == 1 else ", ".join(dict.fromkeys(getattr(run, alternative) for run in group))
            for label, group in zip(labels, ordered, strict=True)
        ]
    return tuple(Method(label, tuple(group)) for label, group in zip(labels, ordered, strict=True))


def _label(runs: Sequence[ComparedRun]) -> str:
    """The recipe's name; of names that differ, how all begin, without a seed's mark; else the folders' names."""
    names = list(dict.fromkeys(run.name for run in runs))
    if len(names) == 1:
        return names[0]
    ends = min(names), max(names)
    length = next((place for place, (a, b) in enumerate(zip(*ends, strict=False)) if a != b), min(map(len, ends)))
    return _SEED_MARK.sub("", ends[0][:length]) or ", ".join(run.short_folder for run in runs)


def common_costs(runs: Sequence[ComparedRun], providers: Sequence[str] = ()) -> dict[CostName, str]:
    """The costs that all runs report in one unit, and the unit, in the order of the first run.

    Args:
        runs: at least one.
        providers: only costs of these; empty for all.

    Raises:
        RunError: no cost is common to all runs.
        InputError: a provider asked for is not.
    """
    units = [run.units() for run in runs]
    common = {name: unit for name, unit in units[0].items() if all(other.get(name) == unit for other in units)}
    if not common:
        reported = "; ".join(
            f"{run.folder}: {', '.join(name.words for name in found) or 'none'}"
            for run, found in zip(runs, units, strict=True)
        )
        raise RunError(f"no cost is reported by all runs in one unit; add it to report.providers. Reported: {reported}")
    known = {name.provider for name in common}
    for provider in providers:
        if provider not in known:
            lacking = [run.folder for run, found in zip(runs, units, strict=True) if CostName(provider) not in found]
            reason = f"it is not reported by {', '.join(lacking)}" if len(lacking) < len(runs) else "no run reports it"
            raise InputError(f"--provider {provider}: {reason}; {nearest(provider, known)}")
    return {name: unit for name, unit in common.items() if not providers or name.provider in providers}
