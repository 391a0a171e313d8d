"""A run folder: the recipe, the journal, a folder for each finished stage, and the training in progress.

    recipe.json       the resolved recipe, which a resumed run must have too, and what changed in it on the way
    environment.json  versions and machine at the start
    journal.jsonl     one line a finished stage
    stages/N/         trained network, optimiser state, splitting indices of stage N
    measured.json     what model.onnx was measured to cost, beside what was predicted
    progress/         network, optimiser state and what else goes on, after the last epoch of the stage being trained
    data.json         which images it is trained on, where the recipe names a folder of them
    teacher.json      the network it learns from too, where the recipe names one
    reference.json    the sizes of another run that it takes, where the recipe names one
    tensorboard/      curves, where the recipe asks for them

What stage N + 1 starts from is not stored: it follows, bit for bit, from `stages/N/` and line N of the journal.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor, nn

from energysplit.errors import CheckpointError, RunError
from energysplit.graph import Network
from energysplit.growth import journal
from energysplit.growth.notes import EVALUATION_BATCH
from energysplit.output import checkpoint
from energysplit.output.atomic import atomic_folder, recover_folder, sha256_of, write_text
from energysplit.output.environment import ENVIRONMENT_FILE, write_environment
from energysplit.output.indices import INDEX_FILE, load_index, save_index
from energysplit.output.place import Held, held
from energysplit.output.tensors import load_tensors, save_tensors
from energysplit.recipe import Recipe, before_and_now, changes, completed
from energysplit.recipe.changed import RecipeChange, changeable, changed_at, of_training, some, was_and_is
from energysplit.recipe.keys import value_at
from energysplit.recipe.saved import RECIPE_FILE, read_recipe, recipe_text, saved_changes, saved_recipe
from energysplit.records import JOURNAL_FILE, GrowthRecord, TrainRecord
from energysplit.train.plateau import Plateau
from energysplit.types import SplitIndex

AVERAGE_FILE = "average.safetensors"
OPTIMISER_FILE = "optimiser.safetensors"


@dataclass(frozen=True)
class TrainingState:
    """A network in training after `epoch` epochs of its stage; train: of the last of them; seconds spent so far.

    average: of the weights by name, empty if none is kept. plateau: the validation losses, if training ends by them.
    notes, evaluation_batch: of the stage's `Notes`. fresh: whether it is the last training, from random weights.
    """

    stage: int
    epoch: int
    net: Network
    optimiser: dict[str, Tensor]
    train: TrainRecord | None = None
    seconds: float = 0.0
    average: dict[str, Tensor] = field(default_factory=dict)
    plateau: Plateau = field(default_factory=Plateau)
    notes: tuple[str, ...] = ()
    evaluation_batch: int = EVALUATION_BATCH
    fresh: bool = False


class RunFolder:
    """Reads and writes one run; `seed_module` is a freshly built seed, which every checkpoint is grown from."""

    def __init__(self, path: Path, seed_module: nn.Module) -> None:
        self.path = path
        self.seed_module = seed_module
        self.journal = path / JOURNAL_FILE
        self._held: Held | None = None
        self._damaged = False
        self._changes: tuple[RecipeChange, ...] | None = None

    def stage(self, number: int) -> Path:
        """Folder of a finished stage."""
        return self.path / "stages" / str(number)

    @contextmanager
    def opened(self, recipe: Recipe, resume: bool, change: bool = False) -> Iterator[None]:
        """The folder made or checked, and locked against a second run; to it alone is written until the end.

        A recipe that differs, where it may (`change`), is put in place by `adopt`.

        Raises:
            RunError: it holds another run or other files, is in use, or can't be written.
        """
        with held(self.path, "choose another run folder with --run") as self._held:
            # Checked once more, now that no other run can change it.
            check_folder(self.path, recipe, resume, change)
            # The recipe first: it is what makes the folder a run.
            if not (self.path / RECIPE_FILE).exists():
                write_text(self.path / RECIPE_FILE, recipe_text(recipe.resolved()))
            if not (self.path / ENVIRONMENT_FILE).exists():
                write_environment(self.path)
            yield

    @property
    def changes(self) -> tuple[RecipeChange, ...]:
        """What was changed in the recipe while the run went on."""
        if self._changes is None:
            self._changes = saved_changes(self.path)
        return self._changes

    def differs(self, recipe: Recipe) -> bool:
        """Whether the folder's recipe is another one."""
        return bool(changes(recipe, saved_recipe(self.path)))

    def adopt(self, recipe: Recipe, finished: int) -> list[str]:
        """Put a changed recipe in place of the one before, in one moment; returns what to say about it.

        Args:
            recipe: that the run goes on with.
            finished: stages of the run; what is changed holds from the next one on.

        What was changed for a stage that is to be run again, since its files were damaged, holds from that stage on.
        """
        old, new = completed(saved_recipe(self.path)), recipe.resolved()
        keys, _ = changeable(changes(recipe, old))
        values = {key: (value_at(old, key), value_at(new, key)) for key in keys}
        after = changed_at(finished, values, self.changes)
        if not keys and after == self.changes:
            return []
        said = [f"the recipe is changed: {text}" for text in RecipeChange(finished, values).texts]
        said += [
            f"stage {change.stage} is run again; what was changed there in the recipe holds from stage {finished} on"
            for change in self.changes
            if change.stage > finished
        ]
        write_text(self.path / RECIPE_FILE, recipe_text(new, after))
        self._changes = after
        return said

    def check_place(self) -> None:
        """Nothing, if the folder is still the one that was opened; to be asked before it is written to.

        Raises:
            RunError: it was removed, moved or replaced.
        """
        assert self._held is not None
        self._held.check()

    def recover(self) -> tuple[list[GrowthRecord], list[str]]:
        """The finished stages whose journal line and files are whole, and what was found damaged.

        From the first damaged stage on, lines are removed from the journal; those stages are run again. A file that is
        there but can't be read is no damage.

        Raises:
            RunError: there are stages but no journal, or an empty one.
            CheckpointError: the journal is no file that a journal can be.
            OSError: the disk refused a file.
        """
        lost = "" if self.journal.exists() else "missing"
        if self.journal.is_file() and not self.journal.stat().st_size:
            lost = "empty"
        if lost and self.stage(1).exists():
            raise RunError(f"{self.journal} is {lost}, but stages were finished; restore it or choose another folder")
        try:
            records, damage = journal.recover(self.journal) if self.journal.exists() else ([], "")
        except CheckpointError as error:
            _check_read(error)
            raise
        problems = [damage] if damage else []
        whole: list[GrowthRecord] = []
        for record in records:
            recover_folder(self.stage(record.stage))
            problem = self._damage(record)
            if problem:
                problems.append(problem)
                break
            whole.append(record)
        if not problems and self.stage(len(whole) + 1).exists():
            # A kill leaves one stage without its line at most.
            problems.append(f"{self.journal} ends before stage {len(whole)}, which {self.path / 'stages'} holds")
        # A stage whose journal line was never written, or is gone, has not happened. The last ones go first and lines
        # after folders, so that a kill in between leaves the same damage to be found.
        numbers = (int(path.name) for path in (self.path / "stages").glob("*") if path.name.isdigit())
        for number in sorted(numbers, reverse=True):
            if number >= len(whole):
                shutil.rmtree(self.stage(number))
        if problems:
            journal.rewrite(self.journal, whole)
        self._damaged = bool(problems)
        return whole, problems

    def _damage(self, record: GrowthRecord) -> str:
        """What is wrong with the files of a finished stage, "" if nothing.

        Raises:
            RunError: nothing is, but the recipe's model is not what they were written from any more.
        """
        stated = {
            checkpoint.WEIGHTS_FILE: record.weights_sha256,
            OPTIMISER_FILE: record.optimiser_sha256,
            INDEX_FILE: record.index_sha256,
        }
        try:
            for name, digest in stated.items():
                file = self.stage(record.stage) / name
                if digest and sha256_of(file) != digest:
                    return f"{file} is not what stage {record.stage} left: its SHA-256 differs from the journal's"
            checkpoint.check_whole(self.stage(record.stage))
        except FileNotFoundError as error:
            return f"{error.filename}: {error.strerror}"
        except CheckpointError as error:
            _check_read(error)
            return str(error)
        try:
            net, _, _ = self.load_stage(record.stage)
        except CheckpointError as error:
            _check_read(error)
            if not record.weights_sha256:
                return str(error)
            raise RunError(
                f"{self.stage(record.stage)} is as it was written, but the recipe's model does not fit it any more: "
                f"{error}. Nothing was changed; run with the model's code and packages as they were, or name another "
                "folder with --run"
            ) from error
        if net.widths != record.widths:
            return f"{self.stage(record.stage)} has other widths than the journal says"
        return ""

    def save_stage(
        self, number: int, net: Network, optimiser: Mapping[str, Tensor], index: Mapping[str, SplitIndex] | None
    ) -> dict[str, str]:
        """Write a trained stage, whole or not at all; returns the SHA-256 of its files as the journal names them."""
        self.stage(number).parent.mkdir(exist_ok=True)
        with atomic_folder(self.stage(number)) as folder:
            digests = {"weights_sha256": checkpoint.write(net, folder)}
            digests["optimiser_sha256"] = save_tensors(folder / OPTIMISER_FILE, optimiser)
            if index is not None:
                digests["index_sha256"] = save_index(folder / INDEX_FILE, index)
        return digests

    def load_stage(self, number: int) -> tuple[Network, dict[str, Tensor], dict[str, SplitIndex] | None]:
        """Network, optimiser state and indices (None for the last stage) of a finished stage.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        folder = self.stage(number)
        net = checkpoint.load(folder, self.seed_module)
        optimiser, _ = load_tensors(folder / OPTIMISER_FILE)
        index = load_index(folder / INDEX_FILE) if (folder / INDEX_FILE).exists() else None
        return net, optimiser, index

    def save_progress(self, state: TrainingState) -> None:
        """Write the training in progress, in place of the one before."""
        with atomic_folder(self.path / "progress") as folder:
            facts = {
                "stage": state.stage,
                "epoch": state.epoch,
                "train": state.train.model_dump() if state.train else None,
                "seconds": state.seconds,
                "weights_sha256": checkpoint.write(state.net, folder),
                "plateau": asdict(state.plateau),
                "notes": state.notes,
                "evaluation_batch": state.evaluation_batch,
                "fresh": state.fresh,
                "changed": of_training(self.changes, state.stage),
                "average_sha256": save_tensors(folder / AVERAGE_FILE, state.average) if state.average else "",
            }
            # In the file's metadata, under its digest: a flipped number is noticed.
            save_tensors(folder / OPTIMISER_FILE, state.optimiser, facts)

    def load_progress(self, stage: int) -> tuple[TrainingState | None, str]:
        """The training in progress of `stage`, or None, and what was found damaged ("" if nothing).

        Raises:
            OSError: the disk refused a file; that is no damage.
        """
        folder = self.path / "progress"
        recover_folder(folder)
        if not folder.exists():
            return None, ""
        try:
            optimiser, facts = load_tensors(folder / OPTIMISER_FILE)
            if facts["stage"] > stage and not self._damaged:  # what is damaged has been said
                return None, f"{folder} is of stage {facts['stage']}, to which {self.journal} does not come"
            if facts["stage"] != stage:
                return None, ""
            if facts.get("changed", {}) != of_training(self.changes, stage):
                return None, f"{folder}: the training in progress was of another recipe than the present one"
            weights = folder / checkpoint.WEIGHTS_FILE
            if sha256_of(weights) != facts["weights_sha256"]:
                raise CheckpointError(f"{weights} belongs to another moment")
            net = checkpoint.load(folder, self.seed_module)
            train = TrainRecord(**facts["train"]) if facts["train"] else None
            digest = facts.get("average_sha256", "")  # runs from before had none
            average = load_tensors(folder / AVERAGE_FILE, digest)[0] if digest else {}
            plateau = Plateau(**facts.get("plateau", {}))
            return TrainingState(
                stage,
                facts["epoch"],
                net,
                optimiser,
                train,
                facts["seconds"],
                average,
                plateau,
                tuple(facts.get("notes", ())),
                facts.get("evaluation_batch", EVALUATION_BATCH),
                facts.get("fresh", False),
            ), ""
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:  # CheckpointError is a ValueError
            _check_read(error)
            return None, f"{folder}: the training in progress can't be read ({error})"


def _check_read(error: Exception) -> None:
    """Nothing, if what can't be read is missing or damaged.

    Raises:
        OSError: it is there, but the disk refused it: to make it again would throw away what may be whole.
    """
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        raise cause


def check_folder(path: Path, recipe: Recipe, resume: bool, change: bool = False) -> None:
    """Refuse a folder that this run may not write to, before anything is written.

    Args:
        path: the run folder.
        recipe: of the run.
        resume: whether a run that is there may go on.
        change: whether it may go on with another recipe, as far as finished stages don't depend on it.

    Raises:
        RunError: it holds other files, or a run and `resume` is False, or a run of another recipe.
    """
    try:
        there = path.exists()
    except OSError as error:  # a name too long, a folder above that may not be read
        raise RunError(f"run folder {path} can't be used: {error.strerror}; choose another with --run") from error
    if there and not path.is_dir():
        raise RunError(f"run folder {path} is a file; choose another with --run")
    holds = path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir())
    if not holds:
        return
    if not (path / RECIPE_FILE).exists():
        raise RunError(
            f"folder {path} holds other files and no run ({RECIPE_FILE} is missing); choose another with --run"
        )
    if not resume:
        raise RunError(f"run folder {path} holds a run already; continue it with --resume or choose another with --run")
    try:
        old, _ = read_recipe(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path / RECIPE_FILE} can't be read ({error}); choose another folder with --run") from error
    changed = changes(recipe, old) if isinstance(old, dict) else ["everything"]
    values = before_and_now(recipe, old, changed) if isinstance(old, dict) else {"everything": (None, None)}
    may, fixed = changeable(values)
    if recipe.baseline is not None and "train.epochs" in may:
        fixed.append("train.epochs")  # of the stages before it a fresh network is given the epochs too
    if not changed or (change and not fixed):
        return
    differ = f"{was_and_is(values)} differ{'s' if len(values) == 1 else ''}"
    if change:
        stay = f"{some(fixed)} can't change in a run that has begun, whose stages depend on it"
        raise RunError(
            f"run folder {path} was started with another recipe: {differ}; {stay}: put the old value back, or choose "
            "another folder with --run"
        )
    way = "" if fixed else ", or give --resume --change to go on with the new values from the next stage on,"
    only = "--resume --change goes on with other values of most keys of train, index, step and run"
    where = f" ({only}, not of {some(fixed)})" if fixed else ""
    raise RunError(
        f"run folder {path} was started with another recipe: {differ}; resume with the same recipe{way} or choose "
        f"another folder with --run{where}"
    )
