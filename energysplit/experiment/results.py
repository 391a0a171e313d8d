"""The results of an experiment as files: `results.md` to read, `results.csv` to compute with, a page to look at.

Both hold what is needed to judge them later: every run and stage with its seed, machine and versions, the command, and
what did not finish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from energysplit.errors import RunError
from energysplit.experiment.claims import Answer, answer, claims_section
from energysplit.experiment.load import expected
from energysplit.experiment.plan import Plan, Run
from energysplit.experiment.run_rows import COMPUTE, results_csv, run_table
from energysplit.experiment.runner import Outcome
from energysplit.growth.compared import read_run
from energysplit.output.atomic import write_text
from energysplit.output.comparison import ComparedRun, Comparison, Published
from energysplit.output.comparison_content import published_points, stage_table, summary
from energysplit.output.comparison_doubts import compared
from energysplit.output.comparison_equal import at_equal_cost
from energysplit.output.comparison_files import check_folder, write_comparison
from energysplit.output.comparison_last import last_networks_section
from energysplit.output.document import Document, Facts, KeyNumber, Paragraph, Section
from energysplit.output.environment import read_environment
from energysplit.output.numbers import duration
from energysplit.output.report_markdown import to_markdown

PAGE, MARKDOWN_FILE, CSV_FILE = "comparison", "results.md", "results.csv"


@dataclass(frozen=True)
class Results:
    """What was found. comparison: of the finished runs. answers: to the claims of methods that take part."""

    plan: Plan
    comparison: Comparison
    answers: list[Answer]
    outcome: Outcome
    command: str


def check_out(out: Path) -> None:
    """Nothing, if results may be written to a folder.

    Raises:
        RunError: the place of its page holds something else.
    """
    check_folder(out / PAGE)


def collect(plan: Plan, outcome: Outcome, command: str) -> Results:
    """The results of the finished runs, at least one.

    Raises:
        RunError: no run is finished, or the runs share no cost.
        InputError: a cost of the comparison is not reported by all runs.
        CheckpointError: a journal is damaged.
    """
    finished = [run for run in plan.runs if run.name in outcome.finished]
    if not finished:
        raise RunError(f"no run in {plan.folder} is finished, so there is nothing to compare")
    found = compared([_read(run) for run in finished], plan.experiment.providers)
    published = tuple(
        Published(
            each.name,
            each.source,
            tuple(
                ({key: value for key, value in point.items() if key != "accuracy"}, point["accuracy"])
                for point in each.points
            ),
        )
        for each in plan.experiment.reference
        if plan.size in each.sizes
    )
    comparison = Comparison(found.methods, found.costs, found.warnings, published)
    taking_part = {run.method for run in plan.runs}
    claims = [claim for claim in plan.experiment.claim if {claim.better, claim.than} <= taking_part]
    return Results(plan, comparison, [answer(comparison, claim) for claim in claims], outcome, command)


def write_results(out: Path, results: Results) -> list[Path]:
    """The files written: page, Markdown, CSV; each replaced atomically.

    Raises:
        RunError: the folder holds something else in their places, or can't be written.
    """
    check_out(out)
    experiment = results.plan.experiment
    try:
        out.mkdir(parents=True, exist_ok=True)
        first = (Section("What was asked", (Paragraph(experiment.question),)), *claims_section(results.answers))
        page = write_comparison(out / PAGE, results.comparison, experiment.title, first)
        return [
            page,
            write_text(out / MARKDOWN_FILE, to_markdown(results_document(results))),
            write_text(out / CSV_FILE, results_csv(results.comparison)),
        ]
    except OSError as error:
        raise RunError(f"{out} can't be written: {error.strerror}; name another folder with --out") from error


def results_document(results: Results) -> Document:
    """What `results.md` says."""
    plan, comparison = results.plan, results.comparison
    doubts = tuple(Paragraph(text) for text in comparison.warnings)
    claimed = {answer.claim.provider for answer in results.answers}
    costs = [name for name in comparison.costs if not claimed or name.provider in claimed]
    return Document(
        title=plan.experiment.title,
        summary=f"{plan.experiment.question} {summary(comparison)}",
        key_numbers=(KeyNumber("Runs", str(len(comparison.runs)), f"of {len(plan.runs)}"),),
        sections=(
            *([Section("To doubt", doubts)] if doubts else []),
            *claims_section(results.answers),
            Section("Stage by stage", (stage_table(comparison),)),
            *last_networks_section(comparison),
            *(at_equal_cost(comparison, name) for name in costs),
            *published_points(comparison),
            *_not_finished(results),
            Section("Every run", (run_table(comparison), Paragraph(COMPUTE))),
            Section("How it was run", (Facts(tuple(_facts(results))),)),
        ),
    )


def _not_finished(results: Results) -> list[Section]:
    """What failed or was left out; no section where nothing was."""
    outcome, run = results.outcome, results.plan.run
    texts = [f"{run(name).title} failed ({lines[0]})" for name, lines in outcome.failed.items()]
    texts += [f"{run(name).title} was skipped: {reason}" for name, reason in outcome.skipped.items()]
    return [Section("Not finished", tuple(Paragraph(f"{text}.") for text in texts))] if texts else []


def _facts(results: Results) -> list[tuple[str, str]]:
    """Command, seeds, and where the runs ran."""
    plan = results.plan
    finished = [run for run in plan.runs if run.name in results.outcome.finished]
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.seed for run in finished))
    return [
        ("command", results.command),
        ("size", f"{plan.size}: {expected(plan.experiment, plan.size)}"),
        ("seeds", seeds),
        ("time of all runs", duration(sum(_seconds(run) for run in results.comparison.runs))),
        *_environments(finished),
    ]


def _read(run: Run) -> ComparedRun:
    """A run, by the name of its method here, which another experiment may call otherwise."""
    found = read_run(run.folder)
    return replace(found, recipe={**found.recipe, "name": run.method})


def _seconds(run: ComparedRun) -> float:
    return sum(value for record in run.records for value in record.seconds.values())


def _environments(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Versions and machine of the runs; all of them where they differ."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        facts: Mapping[str, str] = read_environment(run.folder) or {}
        for key, value in facts.items():
            found.setdefault(key, {})[value] = None
    return [(key, "; ".join(values)) for key, values in found.items()]
