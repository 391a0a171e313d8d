"""The growth loop: budgets, journal, resume, stops, and one clear message for wrong input."""

from __future__ import annotations

import errno
import shutil

import growth_runs
import pytest
import torch

import energysplit as es
from energysplit import growth
from energysplit.growth import journal
from energysplit.output.indices import load_index
from energysplit.output.tensors import load_tensors


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    result = growth.grow(growth_runs.tiny(export={"onnx": True}), run_dir=folder)
    return folder, result


def test_stages_that_no_longer_fit_the_users_model_are_kept(finished, tmp_path):
    """A module renamed in one's own code is no damage: what was trained must not be thrown away for it."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    renamed = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(es.EnergysplitError, match=r"stages/0 is as it was written, but .* Nothing was changed"):
        growth.folder.RunFolder(folder, renamed).recover()
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "stages" / "1" / "network.json").write_text("{")  # a damaged stage before that is one all the same
    whole, problems = growth.folder.RunFolder(folder, es.load(folder / "stages" / "0").module).recover()
    assert [record.stage for record in whole] == [0]
    assert "network.json is damaged" in problems[0]


def test_every_stage_is_within_its_budget_and_grows(finished):
    _, result = finished
    assert [record.stage for record in result.records] == [0, 1, 2]
    for before, after in zip(result.records, result.records[1:], strict=False):
        allocation = before.growth.allocation
        price = after.prices["macs"].value
        assert allocation.price["macs:stage" if "macs:stage" in allocation.price else "macs"].value == price
        assert before.prices["macs"].value < price <= 1.6 * before.prices["macs"].value
        grown = {name: after.widths[name] - before.widths[name] for name in after.widths}
        assert {name: len(channels) for name, channels in allocation.split.items()} == {
            k: v for k, v in grown.items() if v
        }


def test_the_journal_says_what_was_predicted_and_realised(finished):
    folder, result = finished
    assert journal.read(folder / "journal.jsonl") == list(result.records)
    for record in result.records[:-1]:
        step = record.growth.step
        index = load_index(folder / "stages" / str(record.stage) / "index.safetensors")
        predicted = sum(
            step.size[name] ** 2 / 2 * float(index[name].value[channels].sum())
            for name, channels in record.growth.allocation.split.items()
        )
        assert step.predicted_change == pytest.approx(predicted)
        assert step.predicted_change < 0
        assert step.predicted_stderr > 0
        assert step.function_error <= step.function_tolerance == 1e-4
        assert all(found.held_out and found.images == 128 for found in index.values())
        assert record.growth.index.sum_same_images < record.growth.index.sum_held_out
    assert result.records[-1].growth is None


def test_the_last_stage_loads_exports_and_classifies_as_recorded(finished):
    from energysplit import data

    folder, result = finished
    net = es.load(folder / "stages" / "2")
    assert net.widths == result.records[-1].widths
    assert result.onnx.exists()
    splits = data.load("digits", validation=0.1, seed=0)
    right = total = 0
    with torch.no_grad():
        for x, y in splits.validation.batches(100):
            right += int((net.module(x).argmax(1) == y).sum())
            total += len(y)
    assert right / total == pytest.approx(result.records[-1].validation.accuracy)


def test_small_steps_realise_what_was_predicted(tmp_path):
    """The whole loop's prediction against its own surgery, at a step where second order holds."""
    recipe = growth_runs.tiny(
        step={"policy": "fixed", "size": 0.02}, growth={"stages": 1}, index={"held_out_images": 512}
    )
    result = growth.grow(recipe, run_dir=tmp_path / "run")
    step = result.records[0].growth.step
    assert step.realised_change == pytest.approx(step.predicted_change, rel=0.05)


@pytest.mark.parametrize("options", [{"method": "rmsprop"}, {"method": "exact"}, {"curvature": "producer"}])
def test_other_solvers_and_curvature_grow_too(tmp_path, options):
    result = growth.grow(
        growth_runs.tiny(index=options, growth={"stages": 1}, train={"epochs": 1}), run_dir=tmp_path / "run"
    )
    record = result.records[0].growth.index
    assert {"method": record.solver, "curvature": record.curvature}[next(iter(options))] == next(iter(options.values()))
    assert len(result.records) == 2


def test_a_finished_run_resumes_to_nothing(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    before = growth_runs.files(folder)
    result = growth.grow(growth_runs.tiny(export={"onnx": True}), run_dir=folder, resume=True)
    assert growth_runs.files(folder) == before
    assert result.records == finished[1].records


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: flip(run / "stages" / "1" / "weights.safetensors"), "1/weights.safetensors.*from stage 0"),
        (lambda run: flip(run / "stages" / "1" / "index.safetensors"), "1/index.safetensors.*from stage 0"),
        (lambda run: (run / "stages" / "0" / "network.json").unlink(), "0/network.json.*from the beginning"),
        (
            lambda run: (run / "stages" / "1" / "index.safetensors").unlink(),
            "1/index.safetensors: No such file.*stage 0",
        ),
        (lambda run: cut(run / "journal.jsonl"), "journal.jsonl, line 3: cut off.*from stage 1"),
        (lambda run: reword(run / "journal.jsonl"), "journal.jsonl, line 1: damaged .its checksum differs.*beginning"),
        (
            lambda run: shutil.copy(*(run / "stages" / n / "optimiser.safetensors" for n in "10")),
            "0/optimiser.safetensors is not what stage 0 left.*beginning",
        ),
        (lambda run: flip(run / "journal.jsonl", 5), "journal.jsonl, line 1: damaged.*from the beginning"),
        (
            lambda run: lose_lines(run, 2),
            "journal.jsonl ends before stage 1, which .*stages holds; going on from stage 0",
        ),
        (lambda run: lose_lines(run, 1), "progress is of stage 2, to which .*journal.jsonl does not come; training"),
    ],
    ids=["weights", "index", "missing", "no_index", "cut", "digit", "swapped", "line", "two_lines", "last_line"],
)
def test_damage_is_named_and_the_run_goes_on_from_the_stage_before(finished, tmp_path, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    damage(folder)
    result = growth.grow(growth_runs.tiny(export={"onnx": True}), run_dir=folder, resume=True)
    assert len(result.warnings) == 1
    assert __import__("re").search(message, result.warnings[0]), result.warnings
    assert growth_runs.journal(folder) == growth_runs.journal(finished[0])
    assert growth_runs.files(folder) == growth_runs.files(finished[0])


def reword(path):
    text = path.read_text()
    assert '"policy":"relative: 0.3' in text
    path.write_text(text.replace('"policy":"relative: 0.3', '"policy":"relative: 0.4', 1))


def lose_lines(run, count):
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(lines[:-count]))
    if count == 1:  # the last but one, in the training of the last
        shutil.rmtree(run / "stages/2")
        (run / "journal.jsonl").write_text("".join(lines[:-2]))


def flip(path, position=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 0x41
    path.write_bytes(bytes(data))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_a_changed_recipe_is_named(finished):
    with pytest.raises(
        es.InputError, match=r"recipe: export.onnx \(was true, is false\), train.learning_rate .* differ;"
    ):
        growth.grow(growth_runs.tiny(train={"learning_rate": 0.2}), run_dir=finished[0], resume=True)


def test_a_used_folder_is_refused(finished, tmp_path):
    with pytest.raises(es.InputError, match="continue it with --resume"):
        growth.grow(growth_runs.tiny(export={"onnx": True}), run_dir=finished[0])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(es.InputError, match="holds other files and no run"):
        growth.grow(growth_runs.tiny(), run_dir=tmp_path)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"budget": [{"provider": "macs", "limit": 100.0}]}, "below the price of the network"),
        ({"budget": [{"provider": "mcas", "limit": 1e9}]}, "did you mean 'macs'"),
        ({"data": {"name": "cifar10", "root": "/nowhere"}}, "/nowhere"),
        ({"index": {"images": 5000}}, r"index.images \+ index.held_out_images"),
        ({"model": {"name": "cnm"}}, "did you mean 'cnn'"),
        ({"model": {"name": "mobilenet_v1", "args": {"in_channels": 1, "classes": 10}}}, "digits|8x8|image"),
        ({"model": {"args": {"widths": [3, 4], "in_channels": 1, "classes": 7}}}, "classes"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(tmp_path, sections, message):
    with pytest.raises(es.InputError, match=message):
        growth.grow(growth_runs.tiny(**sections), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "no_such_table.csv"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_users_own_model_raises_is_no_refusal_of_the_disk(tmp_path, monkeypatch, error):
    """While it is built, nothing of a run is there to go on with; a connection is no matter of the disk at all."""

    def fails(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(growth.setup, "_seed", fails)
        with pytest.raises(type(error)) as raised:
            growth.grow(growth_runs.tiny(), run_dir=tmp_path / "run")
    assert raised.value is error
    assert not (tmp_path / "run").exists()
    if isinstance(error, ConnectionError):
        monkeypatch.setattr(growth.stage, "train_epoch", fails)
        with pytest.raises(ConnectionResetError):
            growth.grow(growth_runs.tiny(), run_dir=tmp_path / "run")


def test_growth_stops_when_the_budget_holds_no_more(tmp_path):
    net = growth.setup.prepare(growth_runs.tiny()).seed
    limit = es.price(net, "macs").value + 1
    result = growth.grow(growth_runs.tiny(budget=[{"provider": "macs", "limit": limit}]), run_dir=tmp_path / "run")
    assert len(result.records) == 1
    assert "Nothing fits" in result.records[0].stopped
    again = growth.grow(
        growth_runs.tiny(budget=[{"provider": "macs", "limit": limit}]), run_dir=tmp_path / "run", resume=True
    )
    assert again.records == result.records


def test_a_failed_function_check_keeps_the_trained_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(growth.step, "function_error", lambda *_: 0.5)
    with pytest.raises(es.CheckFailed, match=r"differ by 0.5 .*at step 0"):
        growth.grow(growth_runs.tiny(), run_dir=tmp_path / "run")
    monkeypatch.undo()
    _, progress = load_tensors(tmp_path / "run" / "progress" / "optimiser.safetensors")
    assert (progress["stage"], progress["epoch"]) == (0, 2)
    result = growth.grow(growth_runs.tiny(), run_dir=tmp_path / "run", resume=True)
    assert len(result.records) == 3


def test_a_journal_that_is_gone_is_not_taken_for_a_new_run(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    before = growth_runs.files(folder)
    for lost in ("empty", "missing"):
        (folder / "journal.jsonl").write_text("")
        if lost == "missing":
            (folder / "journal.jsonl").unlink()
        with pytest.raises(es.InputError, match=f"journal.jsonl is {lost}, but stages were finished"):
            growth.grow(growth_runs.tiny(export={"onnx": True}), run_dir=folder, resume=True)
        assert growth_runs.files(folder) == before


def test_torch_settings_are_put_back(tmp_path):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    growth.plan(growth_runs.tiny())
    with pytest.raises(es.InputError):
        growth.grow(growth_runs.tiny(budget=[{"provider": "macs", "limit": 1.0}]), run_dir=tmp_path / "run")
    growth.grow(growth_runs.tiny(growth={"stages": 0}, train={"epochs": 1}), run_dir=tmp_path / "run")
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_overrides_change_a_recipe_object(tmp_path):
    result = growth.grow(growth_runs.tiny(), run_dir=tmp_path / "run", overrides=["growth.stages=0", "train.epochs=1"])
    assert len(result.records) == 1
    assert result.records[0].train.epochs == 1


def test_nothing_to_resume_is_said(tmp_path):
    recipe = growth_runs.tiny(growth={"stages": 0}, train={"epochs": 1})
    result = growth.grow(recipe, run_dir=tmp_path / "run", resume=True)
    assert "nothing to resume" in result.warnings[0]


def test_plan_prices_the_seed_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = growth.plan(growth_runs.tiny())
    assert found.prices["macs"].value == found.stages[0]["limits"][found.budgets[0]["name"]]
    assert found.stages[2]["limits"][found.budgets[0]["name"]] == pytest.approx(1.6**2 * found.prices["macs"].value)
    assert found.index_sweeps == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "warned"), [(0.6, True), (0.2, False)])
def test_outgoing_directions_and_large_steps_do_not_go_together(size: float, warned: bool) -> None:
    recipe = growth_runs.tiny(index={"linear": "outgoing"}, step={"size": size})
    assert any("third of the step" in warning for warning in growth.plan(recipe).warnings) is warned
