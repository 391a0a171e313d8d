"""The runs of an experiment: which there are, in which order, what each waits for, and which share a stage 0.

Seeds go one after another, so that every method has its first result early. Within a seed the order is the file's, but
a run whose sizes or teacher come from another one follows it. A run that another experiment has finished is that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from energysplit.errors import RecipeError, nearest
from energysplit.experiment.elsewhere import Elsewhere
from energysplit.experiment.load import check_size, load_experiment, run_recipe
from energysplit.experiment.schema import Experiment, MethodTable, Size, placeholders, slug
from energysplit.output.comparison_compute import TRAINING_COMPUTE
from energysplit.recipe import Recipe
from energysplit.recipe.first_stage import first_stage, unshared


@dataclass(frozen=True)
class Run:
    """One run: a method with a seed.

    folder: of the run, in another experiment's folder if it was finished there. needs: names of the runs that must be
    finished before. shared: equal for runs whose stage 0 is the same training; "" for a run that shares none.
    """

    method: str
    seed: int
    recipe: Recipe
    folder: Path
    needs: tuple[str, ...]
    shared: str

    @property
    def name(self) -> str:
        """Name of its recipe, of its log and of a folder of its own."""
        return _name(self.method, self.seed)

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.method}, seed {self.seed}"

    @property
    def epochs(self) -> int:
        """Epochs of all stages, if none ends early.

        A baseline whose stages start from random weights trains each as long as a growth has trained by then.
        """
        stages = self.recipe.growth.stages + 1
        baseline = self.recipe.baseline
        times = (lambda stage: stages - stage) if baseline and not baseline.prunes else (lambda stage: 1)
        return sum(self.recipe.train.epochs_at(stage) * times(stage) for stage in range(stages))


@dataclass(frozen=True)
class Plan:
    """An experiment in one size, resolved. runs: in the order they start. folder: of everything."""

    path: Path
    experiment: Experiment
    size: Size
    folder: Path
    runs: tuple[Run, ...]

    def run(self, name: str) -> Run:
        """The run of that name."""
        return next(run for run in self.runs if run.name == name)

    def leader(self, run: Run) -> Run:
        """The first run of those that share a stage 0 with a run; itself where it shares none."""
        return next(each for each in self.runs if each is run or (run.shared and each.shared == run.shared))

    @property
    def saved_epochs(self) -> int:
        """Epochs that need not be trained because stage 0 is shared."""
        return sum(run.recipe.train.epochs_at(0) for run in self.runs if self.leader(run) is not run)


def make_plan(
    path: Path | str,
    size: Size = "small",
    *,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    methods: Sequence[str] = (),
    runs: Path = Path("runs"),
    allow_code: bool = True,
) -> Plan:
    """The runs of the experiment in a file; every recipe is checked.

    Args:
        path: the file.
        size: small or full.
        overrides: "key=value" each, for all methods.
        seeds: in place of the file's.
        methods: only these, and those they follow; empty for all.
        runs: folder of all experiments' runs.
        allow_code: see `energysplit.recipe.load`.

    Raises:
        RecipeError: the file or a recipe is wrong, a method is unknown, methods wait for each other in a circle, or
            two are the same.
    """
    path = Path(path)
    experiment = load_experiment(path)
    check_size(path, experiment, size)
    folder = Path(runs) / slug(path.stem) / size
    table = experiment.table(size)
    assert table is not None
    ordered = _ordered(path, experiment, size, methods)
    elsewhere = Elsewhere(Path(runs))
    found: list[Run] = []
    for seed in dict.fromkeys(seeds or table.seeds or experiment.seeds):
        folders: dict[str, Path] = {}
        for method in ordered:
            recipe = run_recipe(path, experiment, method, size, seed, folders.__getitem__, overrides, allow_code)
            own = folder / _name(method.name, seed)
            there = None if own.exists() else elsewhere.find(recipe)
            folders[method.name], recipe = there or (own, recipe)
            needs = tuple(_name(name, seed) for name in _needs(method, size))
            shared = "" if unshared(recipe) else first_stage(recipe)
            found.append(Run(method.name, seed, recipe, folders[method.name], needs, shared))
    _check_different(path, found)
    _check_reported(path, experiment, found)
    return Plan(path, experiment, size, folder, tuple(found))


def _name(method: str, seed: int) -> str:
    return f"{slug(method)}-seed{seed}"


def _needs(method: MethodTable, size: Size) -> list[str]:
    """Names of the methods whose runs a method follows in a size."""
    own = method.size.small if size == "small" else method.size.full
    # What is set at the size replaces what is set in general, placeholders included.
    return placeholders({**method.set, **(own.set if own else {})})


def _ordered(path: Path, experiment: Experiment, size: Size, wanted: Sequence[str]) -> list[MethodTable]:
    """The methods in the order they run: the file's, each after those it follows.

    Raises:
        RecipeError: an unknown name, a method that does not take part, or a circle.
    """
    known = {method.name: method for method in experiment.methods(size)}
    for name in wanted:
        if name not in known:
            raise RecipeError(f"--method {name}: no such method at size {size}; {nearest(name, known)}")
    done: dict[str, MethodTable] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " -> ".join(repr(each) for each in (*above[above.index(name) :], name))
            raise RecipeError(f"{path}: methods follow each other in a circle: {circle}; remove one {{run:...}}")
        if name in done:
            return
        if name not in known:
            raise RecipeError(
                f"{path}: method {above[-1]!r} follows {name!r}, which does not take part in size {size}; "
                f"add {size!r} to its sizes"
            )
        for other in _needs(known[name], size):
            visit(other, (*above, name))
        done[name] = known[name]

    for name in wanted or known:
        visit(name, ())
    return list(done.values())


def _check_reported(path: Path, experiment: Experiment, runs: Sequence[Run]) -> None:
    """Refuse costs that some run will not report, before all are run.

    Raises:
        RecipeError: a provider of the comparison, or of a claim, is in neither budgets nor reports of a run.
    """
    for run in runs:
        report = run.recipe.report
        reported = {*report.providers, *(price.name for price in report.price)}
        reported |= {budget.provider for budget in run.recipe.budget}
        if "macs" in reported:
            reported.add(TRAINING_COMPUTE)
        for provider in (*experiment.providers, *(claim.provider for claim in experiment.claim)):
            # Several of one name are numbered where they are made.
            if provider.partition("#")[0] not in reported:
                raise RecipeError(
                    f"{path}: providers: method {run.method!r} does not report {provider!r}: "
                    f"{nearest(provider, reported)}; add it to report.providers"
                )


def _check_different(path: Path, runs: Sequence[Run]) -> None:
    """Refuse two methods that are one.

    Raises:
        RecipeError: two recipes of one seed differ in their names only.
    """
    seen: dict[str, Run] = {}
    for run in runs:
        key = str({**run.recipe.resolved(), "name": ""})
        if (other := seen.setdefault(key, run)) is not run:
            raise RecipeError(
                f"{path}: methods {other.method!r} and {run.method!r} have the same recipe with seed {run.seed}; "
                "remove one, or what makes them equal (a --set?)"
            )
