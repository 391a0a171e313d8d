"""What follows on a trained stage: the next network, grown by splitting, or made in another way by a baseline.

What was decided goes into the stage's journal line. The start of the next training follows from that line and the
stage's files, bit for bit, so a resumed run makes it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from energysplit.growth import baselines, stage
from energysplit.growth.folder import TrainingState
from energysplit.growth.setup import Setup
from energysplit.kinds import FRESH
from energysplit.progress import Progress
from energysplit.records import GrowthRecord, ReplacementRecord, SplitRecord, StepRecord
from energysplit.types import SplitIndex


@dataclass(frozen=True)
class Following:
    """What comes after a stage.

    after: the start of the next training; None where the growth ends. growth, replacement: for the journal, one of
    them. index: what was computed for it. stopped: why it ends before its last stage. said: in a few words, what was
    done; "" if nothing. fresh: whether the next training starts from random weights, at the widths found.
    """

    after: TrainingState | None = None
    growth: SplitRecord | None = None
    replacement: ReplacementRecord | None = None
    index: Mapping[str, SplitIndex] | None = None
    stopped: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    said: str = ""
    fresh: bool = False


def beginning(setup: Setup) -> TrainingState:
    """What stage 0 starts from: the seed, or the wide network that a pruning baseline begins with."""
    baseline = setup.baseline
    if baseline is None or not baseline.settings.prunes:
        return TrainingState(0, 0, setup.seed, {})
    return TrainingState(0, 0, baseline.start(setup.seed_of("init", 0)), {})


def following(setup: Setup, trained: TrainingState, progress: Progress, note: Callable[[str], None]) -> Following:
    """What follows on a trained stage, which is not the last; `note` is called where something went wrong.

    Raises:
        CheckFailed: a check of what was made failed; nothing is kept of it.
    """
    if setup.baseline is not None:
        return _replaced(setup, setup.baseline, trained, progress)
    grown = stage.grow(setup, trained, progress, note)
    searched = setup.untrained is not None
    if grown.record is None:
        return Following(
            after=_afresh(setup, trained, trained.stage + 1) if searched else None,
            index=grown.index,
            stopped=grown.allocation.status,
            seconds=grown.seconds,
            fresh=searched,
        )
    split = Following(
        after=grown.after,
        growth=grown.record,
        index=grown.index,
        seconds=grown.seconds,
        said=_said(grown.record.step),
    )
    if not searched or trained.stage + 1 < setup.recipe.growth.stages:
        return split
    assert grown.after is not None
    return replace(split, after=_afresh(setup, grown.after, trained.stage + 1), fresh=True)


def _said(step: StepRecord) -> str:
    """What a step did, in words."""
    if step.rule == FRESH:
        realised = f"{step.realised_change:+.4g}"
        return f"fresh neurons added, which nothing reads yet; loss change on held-out images {realised}"
    return (
        f"split; loss change on held-out images predicted {step.predicted_change:+.4g}, realised "
        f"{step.realised_change:+.4g} at this step ({step.policy}); at a small step "
        f"{step.small_predicted_change:+.4g} and {step.small_realised_change:+.4g}"
    )


def again(
    setup: Setup, last: GrowthRecord, before: TrainingState, index: Mapping[str, SplitIndex] | None
) -> TrainingState | None:
    """The start of the training after a finished stage, as it was; None where the journal has nothing that follows.

    Args:
        setup: the recipe ready to run.
        last: the stage's journal line.
        before: its network and optimiser state.
        index: its splitting indices, if it has some.
    """
    if setup.baseline is not None and last.replacement is not None:
        return baselines.made(setup.baseline, last.replacement, before, setup.seed_of("init", last.stage + 1))
    if last.ends or index is None:
        return None
    after = before
    if last.growth is not None:
        bought = last.growth.allocation
        after = stage.start_of_next(before, index, bought.chosen, last.growth.step.size, bought.mass)
    return _afresh(setup, after, last.stage + 1) if last.then_fresh else after


def _afresh(setup: Setup, found: TrainingState, stage: int) -> TrainingState:
    """The start of the last training, from random weights, at the widths that were found."""
    return TrainingState(stage, 0, setup.afresh(found.net, stage), {}, fresh=True)


def _replaced(setup: Setup, baseline: baselines.Baseline, trained: TrainingState, progress: Progress) -> Following:
    """The network that a baseline puts in place of the trained one."""
    start = time.perf_counter()
    record = setup.session.team.on_main(lambda: baselines.decide(baseline, trained.net, trained.stage + 1))
    decided = time.perf_counter()
    progress.line(f"stage {trained.stage}: {record.status}")
    after = baselines.made(baseline, record, trained, setup.seed_of("init", trained.stage + 1))
    stage.check_widths(setup, after)
    return Following(
        after=after,
        replacement=record,
        seconds={"allocate": decided - start, "surgery": time.perf_counter() - decided},
    )
