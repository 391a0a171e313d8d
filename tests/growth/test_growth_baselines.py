"""Baselines through the whole loop: sizes, prices, epochs, resume, refusals, plan and report."""

from __future__ import annotations

import json
import shutil

import growth_runs
import pytest
import torch
from typer.testing import CliRunner

import energysplit as es
from energysplit import growth
from energysplit.cli import app
from energysplit.costs import NetworkPricer
from energysplit.errors import RecipeError, RunError
from energysplit.growth import journal
from energysplit.growth.baselines.importance import l1_norms
from energysplit.growth.reference import read_reference
from energysplit.growth.saved import load_saved
from energysplit.output import checkpoint
from energysplit.output.atomic import write_text
from energysplit.output.tensors import load_tensors
from energysplit.recipe import changes, completed
from energysplit.recipe.saved import saved_recipe
from energysplit.surgery import narrow, narrow_state

FRESH = ("width_multiplier", "from_scratch")
PRUNING = ("prune_l1", "prune_batch_norm", "morphnet")
EPOCHS = {"epochs": [1, 2, 1], "learning_rate": [0.1, 0.05, 0.02]}
MODEL = {"args": {"widths": [4, 5], "in_channels": 1, "activation": "silu"}}


def recipe(reference=None, **keys):
    """The tiny recipe with lists for stages, as a growth or as a baseline of one."""
    sections = {"train": EPOCHS, "model": MODEL, **keys}
    if reference is not None:
        sections["baseline"] = {"sizes_of": str(reference), **keys.get("baseline", {})}
    return growth_runs.tiny(**sections)


@pytest.fixture(scope="module")
def plain(module_patch):
    """Without figures, which take longest."""
    module_patch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def reference(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "grown"
    growth.grow(recipe(), run_dir=folder)
    return folder


@pytest.fixture(scope="module")
def runs(reference, tmp_path_factory):
    """Kind -> run folder and records."""
    folder = tmp_path_factory.mktemp("baselines")
    return {
        kind: (folder / kind, growth.grow(recipe(reference, baseline={"kind": kind}), run_dir=folder / kind).records)
        for kind in (*FRESH, *PRUNING)
    }


@pytest.mark.parametrize("kind", [*FRESH, *PRUNING])
def test_no_stage_costs_more_than_the_reference_had(runs, reference, kind):
    _, records = runs[kind]
    grown = journal.read(reference / "journal.jsonl")
    assert [record.stage for record in records] == [0, 1, 2]
    assert all(record.growth is None and not record.stopped and not record.index_sha256 for record in records)
    assert [record.replacement is not None for record in records] == [True, True, False]
    for stage in (1, 2):
        done, after = records[stage - 1].replacement, records[stage]
        theirs = grown[stage if kind in FRESH else 3 - stage]
        assert done.widths == after.widths
        assert done.price["macs"].value == after.prices["macs"].value <= done.limit["macs"]
        assert done.limit["macs"] == theirs.prices["macs"].value
        assert (done.kind, done.fresh) == (kind, kind in FRESH)
        assert bool(done.kept) is (kind in PRUNING and after.widths != records[stage - 1].widths)
        if kind == "from_scratch":
            assert after.widths == theirs.widths
    if kind in PRUNING:
        start, last = records[0].prices["macs"].value, grown[2].prices["macs"].value
        assert last < start <= 2 * last
        assert records[0].widths["classifier"] == records[2].widths["classifier"] == 10


def test_the_width_multiplier_is_the_widest(runs, reference):
    """Any larger factor up to 8 is too dear, at every stage; as is the wide network that pruning begins with."""
    seed = growth.setup.prepare(recipe())
    seed.session.close()
    pricer = NetworkPricer(seed.seed, "macs")
    grown = journal.read(reference / "journal.jsonl")
    chosen = [(runs["width_multiplier"][1][stage].widths, grown[stage].prices["macs"].value) for stage in (1, 2)]
    chosen.append((runs["prune_l1"][1][0].widths, 2 * grown[2].prices["macs"].value))
    for widths, limit in chosen:
        all_widths = []
        for step in range(1, 8000):
            at = {name: max(1, int(seed.seed.widths[name] * step / 1000 + 0.5)) for name in list(widths)[:2]}
            all_widths.append(seed.seed.widths | at)
        fitting = [at for at in all_widths if pricer.value(at) <= limit]
        assert widths == fitting[-1]


def test_epochs_and_rates(runs, reference):
    """Fresh weights: as many epochs as the grown network had had by then, from the first rate. Pruning: the list."""
    for kind, (_, records) in runs.items():
        assert [record.train.epochs for record in records] == ([1, 3, 4] if kind in FRESH else [1, 2, 1])
    for kind, rates in (("from_scratch", [0.1, 0.1, 0.1]), ("prune_l1", [0.1, 0.05, 0.02])):
        planned = growth.plan(recipe(reference, baseline={"kind": kind})).baseline
        assert [stage.learning_rate for stage in planned.stages] == rates


def test_fresh_kinds_begin_with_the_reference_runs_stage_0(runs, reference):
    """The same seed network, trained alike: the same bits."""
    grown = journal.read(reference / "journal.jsonl")
    for kind in FRESH:
        assert runs[kind][1][0].weights_sha256 == grown[0].weights_sha256
        assert runs[kind][1][1].weights_sha256 != grown[1].weights_sha256


def test_pruning_carries_weights_and_momentum(runs, reference, monkeypatch):
    """What stage 1 starts from is stage 0 without the channels that went."""
    folder, records = runs["prune_l1"]
    setup = growth.setup.prepare(recipe(reference, baseline={"kind": "prune_l1"}))
    setup.session.close()
    net = checkpoint.load(folder / "stages" / "0", setup.seed.module)
    optimiser, _ = load_tensors(folder / "stages" / "0" / "optimiser.safetensors")
    done = records[0].replacement
    assert done.kept
    for name, channels in done.kept.items():
        norms = l1_norms(net, name)
        gone = set(range(net.widths[name])) - set(channels)
        assert max(norms[list(gone)]) <= min(norms[channels])
    before = growth.folder.TrainingState(0, 0, net, optimiser)
    after = growth.following.again(setup, records[0], before, None)
    assert after.stage == 1
    assert after.net.widths == records[1].widths
    expected = narrow(net, done.kept).module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in after.net.module.state_dict().items())
    state = narrow_state(net, done.kept, optimiser)
    assert any("momentum" in name for name in state)
    assert all(torch.equal(after.optimiser[name], tensor) for name, tensor in state.items())


def test_the_penalty_makes_scales_small(reference, tmp_path, plain):
    """A strong one, on the stages that a pruning follows; morphnet presses most where neurons are dear."""
    found = {}
    for kind, penalty in (("prune_l1", None), ("prune_batch_norm", 0.01), ("morphnet", 0.01)):
        run = recipe(reference, baseline={"kind": kind, "penalty": penalty}, growth={"stages": 1}, train={"epochs": 6})
        growth.grow(run, run_dir=tmp_path / kind)
        setup = growth.setup.prepare(run)
        setup.session.close()
        assert (setup.baseline.penalty(setup.seed, 0) is None) is (kind == "prune_l1")
        assert setup.baseline.penalty(setup.seed, 1) is None
        net = checkpoint.load(tmp_path / kind / "stages" / "0", setup.seed.module)
        found[kind] = [float(net.module.blocks[place].norm.weight.detach().abs().mean()) for place in (0, 1)]
    dear, cheap = es.marginal_price(net, "macs")["blocks.0.conv"], es.marginal_price(net, "macs")["blocks.1.conv"]
    assert dear > cheap
    assert sum(found["prune_batch_norm"]) < 0.8 * sum(found["prune_l1"])
    assert found["morphnet"][0] < found["prune_batch_norm"][0]
    assert found["morphnet"][1] > found["prune_batch_norm"][1]


class Killed(BaseException):
    """What no handler of the program catches."""


@pytest.mark.parametrize("kind", ["from_scratch", "prune_batch_norm"])
def test_killed_between_and_inside_trainings(runs, reference, kind, tmp_path, monkeypatch):
    """After each epoch and each journal line in turn, resumed each time: the files of an undisturbed run."""
    folder, given = tmp_path / kind, recipe(reference, baseline={"kind": kind})
    append, save = journal.append, growth.folder.RunFolder.save_progress
    done = []

    def dying(function):
        def wrapped(*args):
            function(*args)
            place = (
                function.__name__,
                str(args[-1])[:20],
                getattr(args[-1], "stage", 0),
                getattr(args[-1], "epoch", 0),
            )
            if place not in done:
                done.append(place)
                raise Killed

        return wrapped

    monkeypatch.setattr(journal, "append", dying(append))
    monkeypatch.setattr(growth.folder.RunFolder, "save_progress", dying(save))
    for _ in range(20):
        try:
            growth.grow(given, run_dir=folder, resume=True)
            break
        except Killed:
            continue
    assert len(done) == (8 if kind in FRESH else 4) + 3
    undisturbed, _ = runs[kind]
    assert growth_runs.journal(folder) == growth_runs.journal(undisturbed)
    assert growth_runs.files(folder) == growth_runs.files(undisturbed)


def test_a_run_holds_to_the_sizes_it_began_with(runs, reference, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs["from_scratch"][0], folder)
    note = json.loads((folder / "reference.json").read_text())
    (folder / "reference.json").write_text(json.dumps({**note, "sizes_sha256": "other"}))
    with pytest.raises(RunError, match="started with other sizes"):
        growth.grow(recipe(reference, baseline={"kind": "from_scratch"}), run_dir=folder, resume=True)
    (folder / "reference.json").write_text("{")
    with pytest.raises(RunError, match="reference.json can't be read"):
        growth.grow(recipe(reference, baseline={"kind": "from_scratch"}), run_dir=folder, resume=True)


def cut(reference, folder, lines, **recipe_keys):
    """A copy of the reference run's recipe and of some lines of its journal."""
    folder.mkdir()
    tree = saved_recipe(reference)
    (folder / "recipe.json").write_text(json.dumps({**tree, **recipe_keys}))
    text = (reference / "journal.jsonl").read_text().splitlines(keepends=True)
    (folder / "journal.jsonl").write_text("".join(text[:lines]))
    return folder


def test_reference_runs_that_are_refused(reference, tmp_path):
    def read(folder, stages=2):
        return read_reference(folder, "baseline.sizes_of", stages)

    assert read(reference).stages == 3
    assert read(str(reference), 0).widths(0) == journal.read(reference / "journal.jsonl")[0].widths
    with pytest.raises(RunError, match="baseline.sizes_of = .*no run is there.*Grow it first"):
        read(tmp_path / "nothing")
    with pytest.raises(RunError, match="2 of 3 stages are; grow it to its end first: energysplit grow RECIPE .*resume"):
        read(cut(reference, tmp_path / "unfinished", 2))
    with pytest.raises(RunError, match="not finished, 0 of 3 stages"):
        read(cut(reference, tmp_path / "none", 0))
    with pytest.raises(RecipeError, match="growth.stages = 3 given, but the run of .* grew 2 times; at most 2"):
        read(reference, 3)
    with pytest.raises(RecipeError, match="is a baseline itself"):
        read(cut(reference, tmp_path / "baseline", 3, baseline={"kind": "prune_l1"}))
    damaged = cut(reference, tmp_path / "damaged", 3)
    (damaged / "journal.jsonl").write_bytes((damaged / "journal.jsonl").read_bytes()[:-9])
    with pytest.raises(RunError, match="cut off; repair it first"):
        read(damaged)
    (damaged / "journal.jsonl").unlink()
    with pytest.raises(RunError, match="no finished stage yet; grow it first"):
        read(damaged)
    (damaged / "recipe.json").write_text("{")
    with pytest.raises(RunError, match="it is no JSON"):
        read(damaged)


REFUSED = {
    "other widths": (
        {"model": {"args": {"widths": [4, 6], "in_channels": 1}}},
        "prune_l1",
        "began with another network",
    ),
    "no such price": (
        {"budget": [{"provider": "peak_memory", "limit": "2x"}]},
        "prune_l1",
        "no prices by 'peak_memory', which a budget here is in; it has macs, params",
    ),
    "other prices": (
        {"model": {"args": {**MODEL["args"], "strides": [1, 1]}}},
        "width_multiplier",
        "its stage 0 cost .* there, and costs .* here",
    ),
    "all frozen": (
        {"growth": {"stages": 2, "bounds": {"blocks.*": {"frozen": True}}}},
        "width_multiplier",
        "no group may change its width; growth.bounds freeze every group",
    ),
    "no batch norm": (
        {"model": {"args": {**MODEL["args"], "batch_norm": False}}},
        "prune_batch_norm",
        "needs batch norms with learnt scales, and no group of model 'cnn' that may change has one",
    ),
    "too many stages": ({"growth": {"stages": 3}}, "prune_l1", "grew 2 times"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(reference, case, tmp_path):
    keys, kind, said = REFUSED[case]
    keys = {**keys, "baseline": {"kind": kind, **keys.get("baseline", {})}}
    given = recipe(reference, **{**{"model": MODEL}, **keys})
    for run in (growth.plan, lambda each: growth.grow(each, run_dir=tmp_path / "run")):
        with pytest.raises(RecipeError, match=said):
            run(given)
    assert not (tmp_path / "run").exists()


def test_prices_that_no_pruning_reaches(reference, monkeypatch):
    """A reference run whose prices are below those of a network of one neuron in each group."""
    lines = journal.read(reference / "journal.jsonl")
    macs = lines[0].prices["macs"].model_copy(update={"value": 9.0})
    cheap = tuple(line.model_copy(update={"prices": {"macs": macs}}) for line in lines)
    known = growth.reference.Reference(reference, "baseline.sizes_of", cheap)
    monkeypatch.setattr("energysplit.growth.baselines.chain.read_reference", lambda *_: known)
    monkeypatch.setattr(growth.reference.Reference, "check", lambda *_: None)
    with pytest.raises(
        RecipeError, match="no uniformly widened network of this seed is within the price of its stage 1"
    ):
        growth.plan(recipe(reference, baseline={"kind": "width_multiplier"}))
    for kind in PRUNING:
        with pytest.raises(RecipeError, match="one neuron in each group .* costs more than stage 1 may"):
            growth.plan(recipe(reference, baseline={"kind": kind, "start": "1000x"}))
    # As where a table has no price for networks so narrow, so that nobody knows whether they cost too much.
    monkeypatch.setattr("energysplit.growth.baselines.sizes.Limits.passed_by", lambda *_: False)
    with pytest.raises(
        RecipeError, match="prune_l1.* known to cost as little as stage 1 may.* measure narrower networks"
    ):
        growth.plan(recipe(reference, baseline={"kind": "prune_l1", "start": "1000x"}))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kind": "prune_l1", "penalty": 1e-4}, "penalty is for kind prune_batch_norm, morphnet"),
        ({"kind": "from_scratch", "start": "2x"}, "start is for kind prune_l1"),
        ({"kind": "prune_l1", "start": "1x"}, "expected a multiple above 1x and up to 1000x, such as '2x'"),
        ({"kind": "prune_l1", "start": "1e9x"}, "expected a multiple above 1x and up to 1000x, such as '2x'"),
        ({"kind": "prune_l1", "start": "2 MMAC"}, "expected a multiple above 1x and up to 1000x, such as '2x'"),
        ({"kind": "slim"}, "width_multiplier"),
    ],
)
def test_keys_of_the_section(keys, said):
    with pytest.raises(ValueError, match=said):
        recipe("runs/grown", baseline=keys)


def test_recipes_of_before_have_no_baseline():
    """A run that began before there were baselines can be resumed."""
    old = recipe().resolved()
    del old["baseline"]
    assert changes(recipe(), old) == []
    assert completed(old)["baseline"] is None
    assert changes(recipe("runs/x", baseline={"kind": "prune_l1"}), old) != []


def test_journal_lines_of_growths_have_no_word_of_it(reference, runs):
    assert '"replacement"' not in (reference / "journal.jsonl").read_text()
    folder, records = runs["morphnet"]
    lines = (folder / "journal.jsonl").read_text().splitlines()
    assert ['"replacement"' in line for line in lines] == [True, True, False]
    assert journal.read(folder / "journal.jsonl") == list(records)


def test_nothing_to_choose_again_from(runs):
    folder, _ = runs["prune_l1"]
    given = es.Recipe.model_validate(saved_recipe(folder), strict=False)
    with pytest.raises(RunError, match="this run is a baseline .*'prune_l1'.*; give the run of a growth"):
        load_saved(folder, given)
    said = CliRunner().invoke(app, ["allocate", str(folder)])
    assert said.exit_code == 2


def test_the_dry_run_shows_the_chain(reference, tmp_path):
    import tomli_w

    tree = recipe(reference, baseline={"kind": "prune_batch_norm"}).model_dump(mode="json", exclude_none=True)
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(tree))
    shown = CliRunner().invoke(app, ["grow", str(tmp_path / "recipe.toml"), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "baseline prune_batch_norm" in shown.output
    assert shown.output.count("learnt") == 2 * 2
    assert "each growth" not in shown.output
    planned = growth.plan(recipe(reference, baseline={"kind": "from_scratch"}))
    assert [stage.epochs for stage in planned.baseline.stages] == [1, 3, 4]
    assert [stage["epochs"] for stage in planned.stages] == [1, 3, 4]
    assert planned.warnings == []


@pytest.mark.parametrize("kind", ["from_scratch", "prune_l1"])
def test_the_report_says_what_was_done_instead(runs, kind):
    from energysplit.output.report import write_report

    folder, records = runs[kind]
    write_report(folder, saved_recipe(folder), records)
    text = (folder / "report.md").read_text()
    assert "What was done in place of growing" in text
    for empty in ("Splitting indices", "Nothing was split", "Predicted and realised", "Neurons split", "Where it grew"):
        assert empty not in text
    begins = "the wide network that pruning begins with" if kind == "prune_l1" else "stage 0 is the seed"
    assert begins in text
    assert ("kept" if kind == "prune_l1" else "random") in text
    assert records[0].replacement.status.partition(";")[0] in text.replace("\\", "")
