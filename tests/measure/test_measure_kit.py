"""Kits: what is in the zip, that it runs alone, and that its results come back; and the same plan run here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager

import pytest
from small_onnx import conv_net

from energysplit.errors import EnergysplitError, InputError
from energysplit.measure import device_run, runner
from energysplit.measure.kit import read_attachment, write_kit
from energysplit.measure.meters import ReplayMeter
from energysplit.measure.plan import PlanOptions, pack, unpack, write_plan
from energysplit.measure.runner import measure
from energysplit.measure.samples import read_results
from energysplit.progress import SilentProgress

SHORT = PlanOptions(rounds=2, burst_s=0.001, warmup_s=0.001, batch=2)
ATTACHMENT = json.dumps({"units": [{"op": "conv2d", "out": [8, 16]}], "note": "µ = 1\n# not a header"})


def nets(count=3):
    return [(f"n{number}", conv_net([8, 8 * (number + 1)])) for number in range(count)]


def test_a_kit_runs_where_neither_energysplit_nor_torch_is(tmp_path):
    kit = write_kit(tmp_path / "kit.zip", nets(), conv_net([8]), SHORT, ATTACHMENT)
    zipfile.ZipFile(kit).extractall(tmp_path)
    folder = tmp_path / "kit"
    assert {path.name for path in folder.iterdir()} == {
        "plan.json", "device_run.py", "reference.onnx", "README.txt", "n0.onnx", "n1.onnx", "n2.onnx",
    }  # fmt: skip
    # The command of the README, with both packages blocked.
    assert "python device_run.py ." in (folder / "README.txt").read_text()
    blocked = (
        "import sys, runpy\n"
        "sys.modules.update(energysplit=None, torch=None, onnx=None)\n"
        "sys.argv = ['device_run.py', '.']\n"
        "runpy.run_path('device_run.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", blocked], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "3/3 networks are done" in done.stdout
    assert read_attachment(folder / "results.csv") == ATTACHMENT
    results = read_results(folder / "results.csv")
    assert set(results.models) == {"n0", "n1", "n2"}
    assert results.header["made_by"].startswith("energysplit ")


def test_the_same_plan_gives_the_same_kit(tmp_path):
    first = write_kit(tmp_path / "kit.zip", nets(), conv_net([8]), SHORT, ATTACHMENT).read_bytes()
    time.sleep(0.01)
    assert write_kit(tmp_path / "kit.zip", iter(nets()), conv_net([8]), SHORT, ATTACHMENT).read_bytes() == first
    assert write_kit(tmp_path / "kit.zip", nets(), conv_net([8]), SHORT, "other").read_bytes() != first


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "at least one network"),
        ([("a", b""), ("a", b"")], "networks of the same name: a"),
        ([("../a", b"")], "network name '../a': expected letters"),
        ([("reference", b"")], "and not 'reference'"),
    ],
)
def test_names_that_can_not_be_are_refused(tmp_path, models, message):
    with pytest.raises(InputError, match=message):
        write_kit(tmp_path / "kit.zip", models, b"", SHORT)
    assert not (tmp_path / "kit.zip").exists()
    with pytest.raises(InputError, match=message):
        write_plan(tmp_path / "folder", models, b"", SHORT)
    assert not (tmp_path / "folder" / "plan.json").exists()


def test_a_kit_is_a_zip(tmp_path):
    with pytest.raises(InputError, match=r"expected a file name that ends in \.zip"):
        write_kit(tmp_path / "kit", nets(1), conv_net([8]), SHORT)


def test_attachments_survive_and_damage_is_said(tmp_path):
    for text in ("", "plain", ATTACHMENT, "x" * 100_000):
        assert unpack(pack(text)) == text
        assert " " not in pack(text)
        assert "\n" not in pack(text)
    path = tmp_path / "results.csv"
    path.write_text(f"# format=1\n# attachment={pack(ATTACHMENT)[:-8]}\nmodel\n")
    with pytest.raises(InputError, match=r"results\.csv: the attachment was cut or changed"):
        read_attachment(path)
    path.write_text(f"# machine=a\u2028b\n# attachment={pack(ATTACHMENT)}\nmodel\n")
    assert read_attachment(path) == ATTACHMENT  # a line ends where read_results says
    path.write_text("# format=1\nmodel\n# attachment=\n")
    with pytest.raises(InputError, match="no line '# attachment"):
        read_attachment(path)
    with pytest.raises(InputError, match="can't be read"):
        read_attachment(tmp_path / "none.csv")


class Seen(SilentProgress):
    """A progress that remembers."""

    def __init__(self):
        self.total, self.done, self.closed = None, 0, False

    @contextmanager
    def task(self, name, total):
        self.total = total
        yield self
        self.closed = True

    def advance(self, n=1, **info):
        self.done += n
        assert info.get("seconds_left", 0) >= 0


def test_measuring_here_shows_progress_and_goes_on(tmp_path):
    folder = write_plan(tmp_path / "folder", nets(2), conv_net([8]), SHORT, ATTACHMENT)
    seen = Seen()
    measured = measure(folder, seen)
    assert (measured.done, measured.total, measured.failed) == (2, 2, {})
    assert (seen.total, seen.done, seen.closed) == (2, 2, True)
    assert read_attachment(measured.results) == ATTACHMENT
    # A plan that grew: the first two are there already.
    write_plan(folder, nets(3), conv_net([8]), SHORT, "more")
    before = measured.results.read_text()
    assert measure(folder).done == 3
    assert measured.results.read_text().splitlines()[-1].startswith("n2,session")
    assert before[before.index("model,kind") :] in measured.results.read_text()


def test_failures_and_time_limits_come_back(tmp_path):
    folder = write_plan(tmp_path / "folder", [*nets(2), ("bad", b"x"), ("n9", nets(1)[0][1])], conv_net([8]), SHORT)
    first = measure(folder, minutes=0.0)
    assert (first.done, first.total) == (2, 4)
    assert list(measure(folder).failed) == ["bad"]
    assert set(read_results(first.results).models) == {"n0", "n1", "n9"}


def test_wrong_plans_are_input_errors(tmp_path):
    folder = write_plan(
        tmp_path / "folder", nets(1), conv_net([8]), PlanOptions(execution_provider="XExecutionProvider")
    )
    for meter in (None, ReplayMeter([])):
        with pytest.raises(InputError, match=r"'XExecutionProvider' is not in this onnxruntime"):
            measure(folder, meter=meter)


def test_a_script_that_dies_is_said(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("import sys\nsys.exit('it broke')\n")
    monkeypatch.setattr(runner, "script_path", lambda: script)
    with pytest.raises(EnergysplitError, match="ended with exit code 1; finished groups are kept: it broke"):
        measure(tmp_path)


def test_with_a_meter_energy_is_measured_here(tmp_path, monkeypatch):
    monkeypatch.setattr(device_run, "ENERGY_WINDOW_S", 0.002)
    folder = write_plan(tmp_path / "folder", nets(2), conv_net([8]), SHORT)
    seen = Seen()
    measured = measure(folder, seen, meter=ReplayMeter({"n0": [1.0, 1.0, 1.0]}))
    models = read_results(measured.results).models
    assert models["n0"].energy.count == 3
    assert models["n1"].energy is None
    assert seen.done == 2


def test_an_interruption_stops_the_script_and_keeps_finished_groups(tmp_path):
    if os.name != "posix":
        pytest.skip("sends a signal to a process")
    options = PlanOptions(rounds=4, burst_s=0.005, warmup_s=0.001, batch=1)
    folder = write_plan(tmp_path / "folder", nets(30), conv_net([8]), options)
    seen = Seen()

    def interrupt():
        deadline = time.monotonic() + 60
        while seen.done < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        measure(folder, seen)
    thread.join()
    # The script has stopped: nothing is written any more, and what is there is whole.
    kept = (folder / "results.csv").read_bytes()
    time.sleep(0.3)
    assert (folder / "results.csv").read_bytes() == kept
    assert 2 <= len(read_results(folder / "results.csv").models) < 30
