"""A stage of a run as it lies on disk, read without data and without training: network, indices, recipe, journal line.

What is read is enough to choose neurons again under other budgets. The run may be finished or not; it is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from energysplit import models
from energysplit.costs import NetworkPricer
from energysplit.errors import CheckpointError, RunError
from energysplit.graph import Network
from energysplit.growth import journal
from energysplit.kinds import FRESH, every_kind
from energysplit.output import checkpoint
from energysplit.output.atomic import sha256_of
from energysplit.output.indices import INDEX_FILE, check_index, load_index
from energysplit.recipe import Recipe, from_dict
from energysplit.recipe.changed import recipe_of_stage
from energysplit.recipe.saved import RECIPE_FILE, saved_changes
from energysplit.records import JOURNAL_FILE, AllocationRecord, GrowthRecord
from energysplit.types import Allocation, Cost, CostProvider, SplitIndex


@dataclass(frozen=True)
class SavedStage:
    """A stage with its splitting indices.

    net: trained, before its split. seed_widths: group -> width at the beginning of the run. record: its journal line;
    None where the run ended before it was written.
    """

    run: Path
    number: int
    recipe: Recipe
    net: Network
    index: dict[str, SplitIndex]
    seed_widths: dict[str, int]
    record: GrowthRecord | None

    @property
    def bought(self) -> AllocationRecord | None:
        """What the run itself bought at this stage; None if nothing."""
        return self.record.growth.allocation if self.record and self.record.growth else None

    def seed_price(self, provider: CostProvider | str) -> Cost:
        """The price of the run's seed: the same layers at the widths it began with."""
        return NetworkPricer(self.net, provider).price(self.seed_widths)

    def loss_change(self, gain: float) -> float | None:
        """What a predicted gain is as a loss change at the recipe's step; None where that can't be said.

        A step e changes the loss by -e^2/2 times the gain, whose weights hold what groups' steps differ by. Where the
        step is searched for it is not known, and fresh neurons change no loss before they are trained.
        """
        step = self.recipe.step
        if self.recipe.index.method == FRESH:
            return None
        return -(step.size**2) / 2 * gain if step.policy in ("fixed", "relative") else None


def load_saved(run: Path, recipe: Recipe, number: int | None = None) -> SavedStage:
    """The stage of that number, or the last one that has splitting indices.

    Args:
        run: a run folder.
        recipe: its resolved recipe; what was changed in it on the way, after this stage, is undone.
        number: of the stage; None: the last that has indices.

    Raises:
        RunError: no such stage, or it has no indices; the message lists those there are.
        CheckpointError: a file is missing or damaged, or belongs to another network.
    """
    if recipe.baseline is not None:
        raise RunError(
            f"{run}: this run is a baseline (kind {recipe.baseline.kind!r}), in which nothing is split, so no stage "
            "has splitting indices to choose neurons by; give the run of a growth"
        )
    file = run / JOURNAL_FILE
    records, damage = journal.recover(file) if file.exists() else ([], "")
    _check_missing(run, number, records)
    number = _number(run, number)
    if changes := saved_changes(run):
        recipe = from_dict(recipe_of_stage(recipe.resolved(), changes, number), str(run / RECIPE_FILE))
    folder = run / "stages" / str(number)
    net = checkpoint.load(folder, models.build_seed(recipe.model.name, recipe.model.args))
    index_file = folder / INDEX_FILE
    index = load_index(index_file)
    check_index(index, net, str(index_file))
    if number and not file.exists():
        raise CheckpointError(f"{file} is missing; a run's journal is expected there")
    if len(records) <= number and (damage or len(records) < number):
        # An unfinished run may have no line of its last stage yet.
        raise CheckpointError(damage or f"{file}: ends before stage {number - 1}, which {run / 'stages'} holds")
    record = records[number] if number < len(records) else None
    if record is not None:
        _check(folder / checkpoint.WEIGHTS_FILE, record.weights_sha256, number)
        _check(index_file, record.index_sha256, number)
    seed_widths = dict(records[0].widths) if number else dict(net.widths)
    if seed_widths.keys() != net.widths.keys():
        raise CheckpointError(f"{file}, line 1: holds other groups than {folder}; is it this run's?")
    return SavedStage(run, number, recipe, net, index, seed_widths, record)


def check_weights(run: Path, number: int) -> None:
    """Refuse a stage whose weights are whole but not those that the run's journal speaks of.

    A journal that is missing or ends before that stage says nothing of it.

    Raises:
        CheckpointError: the SHA-256 differs.
    """
    file = run / JOURNAL_FILE
    records = journal.recover(file)[0] if file.exists() else []
    if number < len(records):
        _check(run / "stages" / str(number) / checkpoint.WEIGHTS_FILE, records[number].weights_sha256, number)


def grown_widths(widths: Mapping[str, int], bought: Allocation | AllocationRecord) -> dict[str, int]:
    """Widths after a purchase: each neuron adds one channel, or those of its kind of split."""
    return {name: width + added(bought, name) for name, width in widths.items()}


def added(bought: Allocation | AllocationRecord, group: str) -> int:
    """Channels that a purchase adds to a group."""
    if not bought.kinds:
        return len(bought.split.get(group, ()))
    known = every_kind(bought.mass)
    return sum(known[kind].added for kind in bought.kinds.get(group, {}).values())


def _check_missing(run: Path, number: int | None, records: list[GrowthRecord]) -> None:
    """Refuse a run of which the journal has indices that are not on disk, where they are those that are asked for."""
    indexed = [record.stage for record in records if record.index_sha256]
    wanted = max(indexed, default=None) if number is None else number
    if wanted in indexed and not (path := run / "stages" / str(wanted) / INDEX_FILE).exists():
        raise CheckpointError(
            f"{path} is missing, though the journal has it; restore the folder from a copy, or give another stage"
        )


def _number(run: Path, number: int | None) -> int:
    """The number of a stage that has indices."""
    stages = sorted(int(path.parent.name) for path in run.glob("stages/*/network.json") if path.parent.name.isdecimal())
    indexed = [found for found in stages if (run / "stages" / str(found) / INDEX_FILE).exists()]
    have = f"those with indices: {', '.join(map(str, indexed))}" if indexed else "no stage of this run has indices yet"
    if not stages:
        raise RunError(f"{run}: no finished stage in {run / 'stages'}; expected a folder that `energysplit grow` wrote")
    if number is None:
        if not indexed:
            raise RunError(
                f"{run}: none of its stages ({', '.join(map(str, stages))}) has splitting indices; a stage "
                "has them when the network grew, or could have grown, out of it"
            )
        return indexed[-1]
    if number not in stages:
        raise RunError(f"{run}: no stage {number}; its stages: {', '.join(map(str, stages))} ({have})")
    if number not in indexed:
        raise RunError(
            f"{run}: stage {number} has no splitting indices, because no growth followed it; give another ({have})"
        )
    return number


def _check(file: Path, digest: str, number: int) -> None:
    """Refuse a file that is whole but not the one the journal speaks of."""
    if digest and sha256_of(file) != digest:
        raise CheckpointError(
            f"{file} is not what stage {number} left: its SHA-256 differs from the journal's; "
            "restore it from a copy, or give another stage"
        )
