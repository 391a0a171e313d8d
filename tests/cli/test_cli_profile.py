"""`energysplit profile`: measures, goes on, drafts, packs a kit; and says what is wrong in one line."""

from __future__ import annotations

import errno
import functools
import importlib.util
import re
import zipfile

import pytest
from typer.testing import CliRunner

from energysplit.cli import app
from energysplit.costs.table import CostTable
from energysplit.hardware import load, this_machine
from energysplit.measure import alignment, plan, wanted

WIDTHS = (40, 44, 47, 48)


# Exporting takes seconds: each once.
family_of_model = functools.cache(wanted.family_of_model)
models_of_widths = functools.cache(alignment.models_of_widths)


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    """Few rounds of short bursts, few widths, and an empty folder to work in."""
    monkeypatch.setattr(wanted, "family_of_model", family_of_model)
    monkeypatch.setattr(alignment, "models_of_widths", models_of_widths)
    options = functools.partial(plan.PlanOptions, rounds=2, burst_s=0.001, warmup_s=0.001)
    monkeypatch.setattr(plan, "PlanOptions", options)
    monkeypatch.setattr(alignment, "WIDTHS", WIDTHS)
    monkeypatch.chdir(tmp_path)


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, ["profile", *arguments])
    assert result.exit_code == code, result.output
    return result


def words(text):
    return " ".join(text.split())


def test_a_draft_is_a_profile(tmp_path):
    text = invoke("--detect").stdout
    (tmp_path / "mine.toml").write_text(text)
    assert load("./mine.toml") == this_machine()
    assert load("./mine.toml").execution_provider == "CPUExecutionProvider"


def test_a_measurement_is_a_table_and_goes_on(tmp_path):
    first = invoke("--model", "mlp", "--minutes", "0.0")
    folder = tmp_path / "cost_tables" / "this_machine"
    table = CostTable.read(folder)
    said = table.provenance
    assert said.machine == this_machine().processor
    assert (said.execution_provider, said.threads, said.precision) == ("CPUExecutionProvider", 1, "fp32")
    assert (said.networks, said.families, said.meter) == (4, (), None)
    assert "energysplit" in said.command
    assert {row.case.op for row in table.rows} == {"linear"}
    lines = (folder / "alignment.csv").read_text().splitlines()
    assert lines[0] == "width,median,low,high,samples,unit"
    assert [line.split(",")[0] for line in lines[1:]] == [str(width) for width in WIDTHS]
    assert all(line.endswith(",2,s") for line in lines[1:])
    shown = words(first.stdout)
    assert "latency: cost_tables/this_machine" in shown
    assert f"{len(table.rows)} layer cases of 4 networks" in shown
    assert re.search(r"widths multiples of \d+ \(alignment\.csv\)", shown)
    assert "measuring mlp on CPUExecutionProvider, 1 thread(s), fp32" in words(first.stderr + first.stdout)

    kept = (folder / "measurement" / "000" / "results.csv").read_bytes()
    second = invoke("--model", "mlp", "--minutes", "0.03")
    assert "going on: 4 networks were measured already" in words(second.stderr + second.stdout)
    assert CostTable.read(folder).provenance.networks > 4
    assert (folder / "measurement" / "000" / "results.csv").read_bytes() == kept


def test_twelve_networks_are_enough_for_an_error(tmp_path):
    result = invoke("--model", "mlp", "--widths", "0.5,2", "--minutes", "0.2", "--target", "1000", "--out", "table")
    said = CostTable.read(tmp_path / "table").provenance
    assert said.networks >= 12
    (family,) = said.families
    assert (family.model, family.image) == ("mlp", (1, 8, 8))
    assert said.network_error > 0
    assert "held-out networks predicted to" in words(result.stdout)


def test_quiet_prints_the_result_only():
    result = invoke("--model", "mlp", "--minutes", "0", "--quiet")
    assert result.stderr == ""
    assert "measuring" not in result.stdout
    assert "4 networks" in words(result.stdout)


def test_an_interruption_says_how_to_go_on(monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("energysplit.measure.sweep.Sweep.run", interrupted)
    result = invoke("--model", "mlp", "--out", "table", code=130)
    assert "interrupted: what was measured is in table; to continue: energysplit" in words(result.stderr)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (OSError(errno.ENOSPC, "No space left", "table/x"), 2, "free some space there, then go on: energysplit"),
    ],
    ids=["no reader", "full disk"],
)
def test_what_the_system_refuses_says_how_to_go_on(monkeypatch, error, code, said):
    def refused(self):
        raise error

    monkeypatch.setattr("energysplit.measure.sweep.Sweep.run", refused)
    result = invoke("--model", "mlp", "--quiet", "--out", "table", code=code)
    assert said in words(result.stderr)
    assert ("error" in result.stderr) == (code == 2)


def test_a_profile_says_how_to_measure(tmp_path):
    (tmp_path / "device.toml").write_text(
        'description = "a device"\nkind = "cpu"\nexecution_provider = "CPUExecutionProvider"\nprecision = "int8"\n'
    )
    invoke("--profile", "device.toml", "--model", "mlp", "--minutes", "0")
    said = CostTable.read(tmp_path / "cost_tables" / "device").provenance
    assert said.precision == "int8"
    text = words(invoke("--profile", "device.toml", "--model", "mlp", "--kit", "kit.zip", "--networks", "12").stdout)
    assert f"kit.zip: {12 + len(WIDTHS)} networks. On the device: unzip it, then 'python device_run.py .'" in text
    assert text.endswith(
        "bring results.csv back for 'energysplit profile --import results.csv --out cost_tables/device'"
    )
    names = zipfile.ZipFile("kit.zip").namelist()
    assert {"kit/device_run.py", "kit/plan.json", "kit/README.txt", "kit/f0_000.onnx", "kit/w48.onnx"} <= set(names)


DEVICE = 'description = "a device"\nkind = "cpu"\n'
RECIPE = "no/such/recipe.toml"

WRONG = [
    (["--detect", "--kit", "kit.zip"], "--kit and --detect: give one of them"),
    (["--import", "results.csv", "--kit", "kit.zip"], "--kit and --import: give one of them"),
    (["--kit", "kit.zip", "--energy"], "--energy: a meter measures this machine, now; give it without --kit"),
    (["--model", "mlp", "--widths", "1"], "--widths 1: expected two numbers, such as 0.2,1"),
    (["--model", "mlp", "--widths", "a,b"], "--widths a,b: expected two numbers"),
    (["--model", "mlp", "--widths", "0,1"], "widths 0,1 given; expected two numbers, 0 < LOW <= HIGH"),
    (["--model", "mlp", "--widths", "2,1"], "widths 2,1 given; expected two numbers, 0 < LOW <= HIGH"),
    (["--model", "mlp", "--widths", "nan,1"], "widths nan,1 given; expected two numbers, 0 < LOW <= HIGH"),
    (["--model", "mlp", "--widths", "1,inf"], "widths 1,inf given; expected two numbers, 0 < LOW <= HIGH"),
    (["--model", "mlp", "--image", "1,8"], "--image 1,8: expected channels, height and width, such as 3,224,224"),
    (["--model", "mlp", "--image", "1,0,8"], "--image 1,0,8: expected channels, height and width"),
    (["--model", "mobilnet_v1"], "unknown model 'mobilnet_v1'; did you mean 'mobilenet_v1'"),
    (["--model", "mlp", "--model", "mlp"], "mlp, mlp: the same family twice; give each once"),
    (["--for", RECIPE], "no/such/recipe.toml: no such recipe file"),
    (["--for", RECIPE, "--image", "1,8,8"], "--image is for --model; a recipe has its own image shape: leave it out"),
    (["--import", "no.csv"], "no.csv: can't be read"),
    (["--profile", "gap8"], "no hardware profile 'gap8'; did you mean 'gap9'?"),
    (
        ["--profile", "gap9", "--model", "mlp"],
        "profile 'gap9': no execution_provider, so ONNX Runtime can't measure there",
    ),
    (["--profile", "gap9", "--model", "mlp", "--kit", "kit.zip"], "profile 'gap9': no execution_provider"),
    (["--model", "mlp", "--kit", "kit"], "kit: expected a file name that ends in .zip"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_arguments_are_exit_2_with_one_line(arguments, message, tmp_path):
    result = invoke(*arguments, code=2)
    assert message in words(result.stderr)
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_an_unknown_execution_provider_lists_those_there_are(tmp_path):
    (tmp_path / "device.toml").write_text(f'{DEVICE}execution_provider = "CPUExecutionProvidr"\n')
    said = words(invoke("--profile", "device.toml", code=2).stderr)
    assert "profile 'device': execution_provider 'CPUExecutionProvidr' is not available in this ONNX Runtime" in said
    assert "did you mean 'CPUExecutionProvider'? available here: " in said
    assert not (tmp_path / "cost_tables").exists()


def test_a_precision_onnx_runtime_does_not_run_is_refused(tmp_path):
    (tmp_path / "device.toml").write_text(f'{DEVICE}execution_provider = "CPUExecutionProvider"\nprecision = "int16"\n')
    said = words(invoke("--profile", "device.toml", code=2).stderr)
    assert "profile 'device': ONNX Runtime runs no int16 networks; expected fp32, fp16 or int8" in said


@pytest.mark.skipif(importlib.util.find_spec("zeus") is not None, reason="zeus is installed here")
def test_energy_without_its_package_names_the_extra(tmp_path):
    said = words(invoke("--energy", "--model", "mlp", code=2).stderr)
    assert "energysplit[energy]" in said
    assert not (tmp_path / "cost_tables").exists()


@pytest.mark.parametrize("option", ["--minutes", "--target", "--networks"])
def test_numbers_below_what_makes_sense_are_wrong_usage(option):
    assert "Usage" in invoke(option, "-1", code=2).stderr


def test_help_names_every_option():
    text = invoke("--help").stdout
    assert "Usage" in text
    assert "Raises" not in text
    for option in ("--profile", "--for", "--model", "--image", "--widths", "--out", "--minutes", "--target", "--energy",
                   "--kit", "--networks", "--import", "--detect", "--quiet"):  # fmt: skip
        assert option in text
