"""The script that runs on devices: what it writes, how it goes on after a kill, what it says of a wrong plan."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from energysplit.measure import device_run
from energysplit.measure.attribution import units_of
from energysplit.measure.kit import script_path
from energysplit.measure.meters import ReplayMeter
from energysplit.measure.samples import read_results


def rows_of(folder: Path) -> list[dict[str, str]]:
    lines = (folder / "results.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def header_of(folder: Path) -> dict[str, str]:
    lines = (folder / "results.csv").read_text().splitlines()
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("#"))


def test_every_network_gets_all_its_rows(make_folder):
    folder = make_folder(count=3)
    assert device_run.run(str(folder)) == (3, 3)
    rows = rows_of(folder)
    for name in ("n0", "n1", "n2"):
        mine = [row for row in rows if row["model"] == name]
        assert [row["round"] for row in mine if row["kind"] == "network"] == ["0", "1"]
        assert [row["kind"] for row in mine][-2:] == ["first", "session"]
        for turn in ("0", "1"):
            nodes = [row for row in mine if row["kind"] == "node" and row["round"] == turn]
            assert [row["order"] for row in nodes] == [str(number) for number in range(len(nodes))]
            # Three convs with their ReLUs fused, pooling, flatten, linear; layout changes in between.
            assert set(units_of([row["node"] for row in nodes])) == {0, 1, 2, 3, 4}
            assert sum(row["op_type"] == "Conv" for row in nodes) == 3
            assert all(row["unit"] == "s" and int(row["runs"]) >= 3 and float(row["value"]) > 0 for row in nodes)
    assert read_results(folder / "results.csv").models["n1"].network.ratio.count == 2


def test_the_header_says_what_was_measured_on(make_folder):
    folder = make_folder(count=1, made_by="energysplit 9", attachment="abc=")
    device_run.run(str(folder))
    header = header_of(folder)
    assert header["onnxruntime"] == ort.__version__
    assert header["execution_provider"] == "CPUExecutionProvider"
    assert header["threads"] == "1"
    assert header["made_by"] == "energysplit 9"
    assert header["attachment"] == "abc="
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", header["date"])
    assert header["affinity"].startswith(("cores ", "not set: "))
    assert header["memory"].endswith("held") or header["memory"].startswith("not held: ")
    assert re.fullmatch(r"[0-9a-f]{64}", header["reference"])


class Profile:
    """Stands for a profiling session: writes a profile of runs, each a list of (node, microseconds)."""

    def __init__(self, folder, runs):
        self.path, self.runs = folder / "profile.json", runs

    def end_profiling(self):
        events = [{"cat": "Session", "name": "session_initialization", "dur": 9, "args": {}}]
        for run in self.runs:
            for node, ticks in run:
                events.append({"cat": "Node", "name": f"{node}_fence_before", "dur": 5, "args": {"op_name": "Conv"}})
                events.append({"cat": "Node", "name": f"{node}_kernel_time", "dur": ticks, "args": {"op_name": "Conv"}})
            events.append({"cat": "Session", "name": "SequentialExecutor::Execute", "dur": 90, "args": {}})
            events.append({"cat": "Session", "name": "model_run", "dur": 99, "args": {}})
        self.path.write_text("[\n" + ",\n".join(json.dumps(event) for event in events) + "\n]\n")
        return str(self.path)


def profiled(tmp_path, runs, bursts):
    net = device_run.Net.__new__(device_run.Net)
    net.profiled, net.profiled_runs = Profile(tmp_path, runs), bursts
    return net


def test_nodes_are_trimmed_means_of_each_burst_plus_what_was_cut_off(tmp_path):
    warm_up = [[("u0.0", 500), ("u1.0", 500)]] * 2
    first = [[("u0.0", ticks), ("u1.0", 7)] for ticks in (10, 11, 12, 13, 900)]  # a fifth is cut at each end
    second = [[("u0.0", ticks), ("u1.0", 8)] for ticks in (20, 22, 21)]  # too few to cut any
    bursts = profiled(tmp_path, warm_up + first + second, [2, 5, 3]).nodes()
    assert [[name for name, _, _ in burst] for burst in bursts] == [["u0.0", "u1.0"]] * 2
    means = [[mean for _, _, mean in burst] for burst in bursts]
    assert means == [pytest.approx([12.5e-6, 7.5e-6]), pytest.approx([21.5e-6, 8.5e-6])]
    assert not (tmp_path / "profile.json").exists()


def test_a_profile_that_lacks_runs_or_changes_is_refused(tmp_path):
    runs = [[("u0.0", 1)]] * 5
    with pytest.raises(RuntimeError, match="the profile has 5 of 6 runs: too many events; lower rounds or burst_s"):
        profiled(tmp_path, runs, [1, 5]).nodes()
    with pytest.raises(RuntimeError, match="the nodes can't be told apart"):
        profiled(tmp_path, [*runs, [("u9.0", 1)]], [1, 5]).nodes()


def test_the_process_gets_its_cores_back(make_folder):
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no call for the cores of a process")
    before = os.sched_getaffinity(0)
    device_run.run(str(make_folder(count=1)))
    assert os.sched_getaffinity(0) == before


def test_a_second_run_measures_nothing_again(make_folder):
    folder = make_folder(count=2)
    device_run.run(str(folder))
    before = (folder / "results.csv").read_bytes()
    events = []
    assert device_run.run(str(folder), report=events.append) == (2, 2)
    assert (folder / "results.csv").read_bytes() == before
    assert [event["event"] for event in events] == ["start", "end"]


def test_a_run_stopped_between_groups_goes_on(make_folder):
    folder = make_folder(count=5)
    done = []

    def stop_after_first_group(event):
        if event["event"] == "model":
            done.append(event["model"])
            if len(done) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device_run.run(str(folder), report=stop_after_first_group)
    before = (folder / "results.csv").read_text()
    assert set(read_results(folder / "results.csv").models) == {"n0", "n1"}
    assert device_run.run(str(folder)) == (5, 5)
    assert (folder / "results.csv").read_text().startswith(before)
    assert set(read_results(folder / "results.csv").models) == {f"n{number}" for number in range(5)}


def test_a_torn_end_is_dropped_and_measured_again(make_folder):
    """Cut anywhere: whole networks before the cut stay, the others are measured again, none is there twice."""
    folder = make_folder(count=2)
    device_run.run(str(folder))
    path = folder / "results.csv"
    whole = path.read_bytes()
    body = whole.index(b"model,kind") + len(device_run.lines_of([device_run.COLUMNS]))
    first_end = whole.index(b"\n", whole.index(b"n0,session")) + 1
    for cut in (body, body + 10, first_end - 1, first_end, first_end + 37, len(whole) - 1):
        path.write_bytes(whole[:cut])
        header = {**header_of(folder)}
        done = device_run.recover(str(path), header)
        assert done == ({"n0"} if cut >= first_end else set())
        assert path.read_bytes() == whole[: first_end if done else body]
    assert device_run.run(str(folder)) == (2, 2)
    assert path.read_bytes().startswith(whole[:first_end])
    assert set(read_results(path).models) == {"n0", "n1"}


def test_a_killed_process_leaves_a_file_that_goes_on(make_folder):
    folder = make_folder(count=8, rounds=6, burst_s=0.004)
    process = subprocess.Popen([sys.executable, "-I", script_path(), folder], stdout=subprocess.DEVNULL)
    path = folder / "results.csv"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (path.exists() and b",session," in path.read_bytes()):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = path.read_bytes()
    assert b",session," in kept
    assert device_run.run(str(folder)) == (8, 8)
    assert path.read_bytes().startswith(kept[: kept.rindex(b",session,")])
    assert len(read_results(path).models) == 8


def test_a_polite_kill_says_how_to_go_on(make_folder):
    folder = make_folder(count=8, rounds=6, burst_s=0.004)
    process = subprocess.Popen(
        [sys.executable, "-I", script_path(), folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "8 to measure\n"
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said


def test_a_grown_plan_goes_on_in_the_same_file(make_folder):
    folder = make_folder(count=1)
    device_run.run(str(folder))
    make_folder(count=2, attachment="longer")
    assert device_run.run(str(folder)) == (2, 2)
    assert header_of(folder)["attachment"] == "longer"
    assert set(read_results(folder / "results.csv").models) == {"n0", "n1"}


def test_results_of_other_settings_are_refused(make_folder):
    folder = make_folder(count=1)
    device_run.run(str(folder))
    make_folder(count=1, rounds=3)
    with pytest.raises(device_run.PlanError, match=r"was measured with rounds '2', now it is '3'; move it away"):
        device_run.run(str(folder))


def test_a_file_that_is_no_result_is_refused(make_folder):
    folder = make_folder(count=1)
    (folder / "results.csv").write_text("my,own,notes\n")
    with pytest.raises(device_run.PlanError, match="is no results file of this script"):
        device_run.run(str(folder))
    assert (folder / "results.csv").read_text() == "my,own,notes\n"


def test_an_unknown_execution_provider_lists_those_there_are(make_folder):
    folder = make_folder(count=1, execution_provider="CudaExecutionProvider")
    with pytest.raises(
        device_run.PlanError, match=r"'CudaExecutionProvider' is not in this onnxruntime .*CPUExecution"
    ):
        device_run.run(str(folder))
    done = subprocess.run([sys.executable, "-I", script_path(), folder], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "available: " in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roundz": 3}, "unknown key 'roundz'; did you mean 'rounds'"),
        ({"rounds": 0}, "rounds: expected at least 1, given 0"),
        ({"threads": "two"}, "threads: expected int, given 'two'"),
        ({"burst_s": float("nan")}, "burst_s: expected at least 0, given nan"),
        ({"version": 2}, "expected a plan of version 1"),
        ({"models": ["n0"]}, "models: expected"),
        ({"models": [{"name": "a", "file": "n0.onnx"}] * 2}, "two have the same name"),
        ({"reference": "none.onnx"}, "none.onnx: No such file"),
    ],
)
def test_a_wrong_plan_is_one_message(make_folder, change, message):
    with pytest.raises(device_run.PlanError, match=re.escape(message)):
        device_run.run(str(make_folder(count=1, **change)))


def test_a_missing_key_and_a_missing_plan_are_named(make_folder, tmp_path):
    folder = make_folder(count=1)
    plan = json.loads((folder / "plan.json").read_text())
    del plan["rounds"]
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(device_run.PlanError, match="key 'rounds' is missing"):
        device_run.run(str(folder))
    with pytest.raises(device_run.PlanError, match="expected a folder with a plan.json"):
        device_run.run(str(tmp_path / "nowhere"))


def test_a_network_that_fails_is_recorded_and_the_rest_goes_on(make_folder):
    folder = make_folder(count=3)
    (folder / "n1.onnx").write_bytes(b"no model")
    events = []
    assert device_run.run(str(folder), report=events.append) == (3, 3)
    results = read_results(folder / "results.csv")
    assert set(results.models) == {"n0", "n2"}
    assert set(results.failed) == {"n1"}
    assert "n1.onnx" in results.failed["n1"]
    assert [event["model"] for event in events if event.get("error")] == ["n1"]


def test_a_missing_file_and_a_strange_input_are_recorded(make_folder):
    folder = make_folder(count=2)
    (folder / "n0.onnx").unlink()
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "height"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "height"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "n1.onnx").write_bytes(model.SerializeToString())
    device_run.run(str(folder))
    failed = read_results(folder / "results.csv").failed
    assert "no such file: n0.onnx" in failed["n0"]
    assert "expected fixed sizes after the first" in failed["n1"]


def test_half_precision_inputs_are_fed(make_folder):
    folder = make_folder(count=1)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["u0.0"], "u0.0")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", 4])],
        [helper.make_tensor_value_info("u0.0", TensorProto.FLOAT16, ["batch", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "n0.onnx").write_bytes(model.SerializeToString())
    device_run.run(str(folder))
    assert set(read_results(folder / "results.csv").models) == {"n0"}


def test_time_up_stops_before_a_group_and_says_what_is_left(make_folder):
    folder = make_folder(count=6)
    events = []
    assert device_run.run(str(folder), minutes=0.0, report=events.append) == (2, 6)
    assert events[-1] == {"event": "end", "done": 2, "total": 6}
    assert set(read_results(folder / "results.csv").models) == {"n0", "n1"}


def test_energy_is_of_one_run_and_missing_answers_leave_no_row(make_folder, monkeypatch):
    monkeypatch.setattr(device_run, "ENERGY_WINDOW_S", 0.002)
    folder = make_folder(count=2, batch=2)
    meter = ReplayMeter({"n0": [0.5, 0.0, 2.0], "n1": [None, float("nan"), -1.0]})
    device_run.run(str(folder), meter=meter)
    rows = [row for row in rows_of(folder) if row["kind"] == "energy"]
    assert {(row["model"], row["unit"]) for row in rows} == {("n0", "J")}
    assert [float(row["value"]) * int(row["runs"]) for row in rows] == pytest.approx([0.5, 2.0], rel=1e-7)
    assert read_results(folder / "results.csv").models["n1"].energy is None


def test_progress_is_plain_lines_or_json(make_folder):
    folder = make_folder(count=3)
    command = [sys.executable, "-I", script_path(), folder]
    lines = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["start", "model", "model", "model", "end"]
    assert [event["done"] for event in events] == [0, 1, 2, 3, 3]
    (folder / "results.csv").unlink()
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == "3 to measure"
    assert re.fullmatch(r"3/3 networks, 0:00 left: n2", said[3])


def test_the_script_is_python_3_8_with_numpy_and_onnxruntime_only():
    text = script_path().read_text()
    tree = ast.parse(text, feature_version=(3, 8))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}
    newer = [".removesuffix(", ".removeprefix(", "strict=True", "datetime.UTC", "tomllib"]
    assert [word for word in newer if word in text] == []
