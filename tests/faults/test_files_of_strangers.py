"""Files from strangers: thousands of damaged and made-up ones, each of which loads or is refused by name.

No traceback, no code of the file's, nothing written elsewhere, bounded memory. Every input follows from the surface's
name and a number, which a failure states.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import onnx
import pytest
import tomli_w
import torch
from compared_runs import cost, made_up
from faults.guard import bounded_memory, guarded
from faults.mutations import WORDS
from faults.surfaces import SURFACES, Surface, sealed_description
from hypothesis import given, settings
from hypothesis import strategies as st
from small_onnx import conv_net
from torch import nn
from typer.testing import CliRunner

from energysplit import data, hardware, plain_data
from energysplit.cli.app import app
from energysplit.cli.endings import LONGEST
from energysplit.costs.table import CostTable
from energysplit.errors import DataError, EnergysplitError, InputError, RunError
from energysplit.growth.folder import check_folder
from energysplit.measure.device_run import PlanError, read_plan
from energysplit.measure.kit import read_attachment
from energysplit.models import pretrained
from energysplit.output import checkpoint
from energysplit.output.onnx_export import read_parity
from energysplit.recipe import from_dict, load

BY_NAME = {surface.name: surface for surface in SURFACES}
PROMISED = ("recipes", "profiles", "tables", "results", "plans", "checkpoints", "indices", "tensors", "weights", "runs")
PROMISED += ("onnx", "fashion")
ENOUGH = 1 << 30
"""Bytes that a reader may map beyond what the process has; the files here have some thousand."""


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Figures take most of a report's time; one test draws them."""
    if request.function is test_names_can_not_break_or_change_a_page:
        return
    monkeypatch.setattr("energysplit.output.figure_style._save_svg", lambda *_: "<svg></svg>")
    monkeypatch.setattr("energysplit.output.figure_style.to_png", lambda *_, **__: b"")


def judged(surface: Surface, folder: Path, label: str) -> bool:
    """Whether the folder loads; where it does not, an error of ours names a file in it."""
    with guarded(folder.parent) as done, bounded_memory(ENOUGH):
        refusal = ""
        try:
            surface.read(folder)
        except surface.error as error:
            refusal = str(error)
        except Exception as error:
            raise AssertionError(f"{label}: {type(error).__name__} instead of an error of ours") from error
    named = str(folder) in refusal or refusal.startswith(("/dev/zero: ", "/etc/passwd: "))  # as a base recipe
    assert named or not refusal, f"{label}: the message names no file: {refusal}"
    assert not done, f"{label}: {done}"
    return not refusal


@pytest.mark.parametrize("name", BY_NAME)
def test_changed_files_load_or_are_refused_by_name(
    name: str, tmp_path: Path, in_full: bool, tell: Callable[[str], None]
) -> None:
    surface = BY_NAME[name]
    folder = tmp_path / "folder"
    folder.mkdir()
    surface.make(folder)
    files = sorted({path for pattern in surface.files for path in folder.glob(pattern) if path.is_file()})
    valid = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    others = [valid[path] for path in files]
    surface.read(folder)
    loaded = 0
    count = surface.full if in_full else surface.sample
    for number in range(count):
        random = Random(f"{name}/{number}")
        path = random.choice(files)
        path.write_bytes(random.choice(surface.changes)(valid[path], random, others))
        loaded += judged(surface, folder, f"{name}/{number} ({path.name})")
        for other, content in valid.items():  # a reader may have written some
            if other == path or other.read_bytes() != content:
                other.write_bytes(content)
    tell(f"{count:,} inputs, {loaded:,} of them loaded, {count - loaded:,} refused by name")
    assert 0 < loaded < count  # some changes do no harm, most do


@pytest.mark.parametrize("name", PROMISED)
def test_what_is_promised_10_000_inputs_gets_them(name: str) -> None:
    assert BY_NAME[name].full == 10_000


# Made-up values in the places of valid ones

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [above, *(place for key, value in items for place in places(value, (*above, key)))]


def put(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value in a place."""
    if not place:
        return value
    if isinstance(tree, dict):
        return {**tree, place[0]: put(tree[place[0]], place[1:], value)}
    return [put(item, place[1:], value) if at == place[0] else item for at, item in enumerate(tree)]


def with_values(tree: dict[str, Any]) -> st.SearchStrategy[Any]:
    """The tree with one or two values made up."""
    one = st.tuples(st.sampled_from(places(tree)[1:]), TREES)

    def changed(first: Any, second: Any) -> Any:
        found = put(tree, *first)
        try:
            return put(found, *second)
        except (KeyError, TypeError):
            return found

    return st.builds(changed, one, one)


RECIPE = from_dict(
    {
        "name": "tiny",
        "model": {"name": "cnn", "args": {"widths": [3, 4]}},
        "data": {"name": "digits"},
        "train": {"epochs": 2, "teacher": {"run": "runs/x"}, "ema": 0.9},
        "growth": {"stages": 2, "bounds": {"a.*": {"frozen": True}}},
        "hardware": {"profile": "gap9"},
        "budget": [
            {"provider": "macs", "limit": "1.5x"},
            {"provider": "weighted", "limit": 3, "options": {"parts": {"macs": 1}}},
        ],
        "report": {"price": [{"name": "a", "provider": "energy", "options": {"profile": "gap9"}}]},
    }
).resolved()


@pytest.mark.parametrize("kind", ["recipe", "profile", "recipe.json", "network.json"])
def test_made_up_values_load_or_are_refused_by_name(
    kind: str, tmp_path: Path, in_full: bool, tell: Callable[[str], None]
) -> None:
    path = tmp_path / "folder" / "made_up"
    path.parent.mkdir()
    trees = {"recipe": RECIPE, "recipe.json": RECIPE}
    if kind == "profile":
        trees[kind] = hardware.load("x86_avx512_2core").model_dump(mode="json", exclude_none=True)
    if kind == "network.json":
        BY_NAME["checkpoints"].make(path.parent)
        trees[kind] = json.loads((path.parent / kind).read_text())
    readers: dict[str, Callable[[Path], Any]] = {
        "recipe": lambda folder: load(path),
        "profile": lambda folder: hardware.load(path),
        "recipe.json": lambda folder: from_dict(json.loads(path.read_text()), str(path)),
        "network.json": checkpoint.load,
    }
    surface = Surface(kind, lambda folder: None, (), readers[kind])

    judged_so_far: list[bool] = []

    @settings(max_examples=10_000 if in_full else 30)
    @given(tree=with_values(trees[kind]))
    def check(tree: Any) -> None:
        try:
            write(tree)
        except (UnicodeEncodeError, ValueError):  # no TOML says it
            return
        judged_so_far.append(judged(surface, path.parent, kind))

    def write(tree: Any) -> None:
        if kind == "network.json":
            (path.parent / kind).write_bytes(sealed_description(tree))
        elif kind == "recipe.json":
            path.write_text(json.dumps(tree))
        else:
            path.write_text(tomli_w.dumps(_without_none(tree)))

    write(trees[kind])
    surface.read(path.parent)  # what is imported late is imported now, and is not the doing of a changed file
    check()
    tell(f"{len(judged_so_far):,} made-up files, {sum(judged_so_far):,} of them loaded")


def _without_none(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    return [_without_none(item) for item in tree if item is not None] if isinstance(tree, list) else tree


def test_any_value_of_set_is_read_or_refused(tmp_path: Path, in_full: bool, tell: Callable[[str], None]) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(_without_none(RECIPE)))
    words = st.text(max_size=20) | st.sampled_from(
        [*WORDS, "0x" + "f" * 5000, "[" * 5000, "9" * 5000, "a." * 5000 + "b = 1"]
    )
    keys = (
        st.sampled_from([".".join(map(str, place)) for place in places(RECIPE)[1:]])
        | words
        | st.just("a." * 5000 + "a")
    )

    refused: list[bool] = []

    @settings(max_examples=10_000 if in_full else 50)
    @given(key=keys, value=words)
    def check(key: str, value: str) -> None:
        refusal = ""
        with guarded(tmp_path) as done, bounded_memory(ENOUGH):
            try:
                load(path, [f"{key}={value}"])
            except EnergysplitError as error:
                refusal = str(error)
        assert not refusal or "--set" in refusal or str(path) in refusal
        assert not done
        refused.append(bool(refusal))

    check()
    tell(f"{len(refused):,} values, {sum(refused):,} of them refused")


# What is small and would become large


def _zeros(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def _bomb_of_widths(folder: Path) -> None:
    BY_NAME["checkpoints"].make(folder)
    tree = json.loads((folder / "network.json").read_text())
    widths = {name: 10**12 for name in tree["widths"]}
    (folder / "network.json").write_bytes(sealed_description({**tree, "widths": widths}))
    checkpoint.load(folder)


def _bomb_of_the_builder(folder: Path) -> None:
    BY_NAME["checkpoints"].make(folder)
    tree = json.loads((folder / "network.json").read_text())
    builder = {"name": "mobilenet_v1", "args": {"width_multiplier": 1e9}}
    (folder / "network.json").write_bytes(sealed_description({**tree, "builder": builder}))
    checkpoint.load(folder)


def _declared_tensor(folder: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 58], "data_offsets": [0, 1 << 60]}}).encode()
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    pretrained.load_weights(nn.Linear(2, 2), folder / "w.safetensors")


def _declared_header(folder: Path) -> None:
    (folder / "index.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    BY_NAME["tensors"].read(folder)


def _attachment(folder: Path) -> None:
    packing = zlib.compressobj(1)
    begin, block = (packing.compress(bytes(1 << 24)) + packing.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    word = begin + block * 80  # what follows a full flush does not depend on what was before
    (folder / "results.csv").write_text(f"# attachment={b64encode(word).decode()}\n")
    read_attachment(folder / "results.csv")


def _columns(folder: Path) -> None:
    BY_NAME["tables"].make(folder)
    (folder / "latency-conv2d.csv").write_text("," * 2_000_000 + "\n")
    CostTable.read(folder)


def _toml(text: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> None:
        (folder / "theirs.toml").write_text(text)
        load(folder / "theirs.toml")

    return read


def _pixels(folder: Path) -> None:
    BY_NAME["images"].make(folder)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = chunk(b"IHDR", struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (folder / "val" / "a" / "0.png").write_bytes(content)
    BY_NAME["images"].read(folder)


BOMBS: dict[str, Callable[[Path], Any]] = {
    "widths of a checkpoint": _bomb_of_widths,
    "a float that is a width": _bomb_of_the_builder,
    "a tensor of 2^60 bytes": _declared_tensor,
    "a header of 2^60 bytes": _declared_header,
    "a note of zeros": _attachment,
    "two million columns": _columns,
    "a key of 20,000 parts": _toml("a." * 20_000 + "a = 1"),
    "a table of 20,000 parts": _toml("[" + "a." * 20_000 + "a]"),
    "quoted parts": _toml('"a b" . ' * 20_000 + "a = 1"),
    "nested lists": _toml("a = " + "[" * 100_000),
    "a number of 30,000 digits": _toml("seed = 0x" + "f" * 30_000),
    "pixels": _pixels,
    "a device as a recipe": lambda folder: load(_zeros(folder / "r.toml")),
    "a device as a profile": lambda folder: hardware.load(_zeros(folder / "p.toml")),
    "a device as weights": lambda folder: pretrained.load_weights(nn.Linear(2, 2), _zeros(folder / "w.safetensors")),
    "a device as weights of old": lambda folder: pretrained.load_weights(nn.Linear(2, 2), _zeros(folder / "w.pt")),
    "a device as a model": lambda folder: read_parity(_zeros(folder / "model.onnx")),
    "a device as results": lambda folder: read_attachment(_zeros(folder / "results.csv")),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_small_does_not_become_large(name: str, tmp_path: Path) -> None:
    with bounded_memory(ENOUGH), pytest.raises(EnergysplitError, match=str(tmp_path)):
        BOMBS[name](tmp_path)


@pytest.mark.parametrize("file", ["recipe.json", "journal.jsonl", "environment.json", "measured.json"])
def test_a_run_may_hold_devices_and_pipes(file: str, tmp_path: Path) -> None:
    for number, make in enumerate((_zeros, os.mkfifo)):
        run = made_up(tmp_path / str(number), [(1000.0, 0.5)], measured=0.1)
        (run / file).unlink(missing_ok=True)
        make(run / file)
        with bounded_memory(ENOUGH):
            for arguments in (["report", str(run)], ["compare", str(run), "--out", str(tmp_path / "comparison")]):
                shown = CliRunner().invoke(app, arguments)
                assert shown.exit_code in (0, 2), shown.output
                assert shown.exit_code == 0 or str(run / file) in shown.stderr


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_nobody_waits_for_weights_in_a_pipe(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / name)
    monkeypatch.setattr(pretrained, "load_file", lambda _: {})
    with pytest.raises(InputError, match=f"{name} can't be read: it is no ordinary file"):
        pretrained.load_weights(nn.Linear(2, 2), tmp_path / name)


def test_what_is_read_is_counted_and_nothing_stays_open(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 10 bytes"):
        plain_data.read_file(Path("/proc/cpuinfo"), 10)  # has no bytes, if you ask how many
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(IsADirectoryError, match=str(tmp_path)):
            plain_data.read_file(tmp_path)
        with pytest.raises(ValueError, match="no ordinary file"):
            plain_data.read_file(tmp_path / "pipe")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def compressed(path: Path) -> None:
    """Weights as torch writes them, packed again with compression, as torch never does."""
    torch.save({"weight": torch.zeros(99, 99)}, buffer := io.BytesIO())
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


@pytest.mark.parametrize(
    "make",
    [
        compressed,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(b"\x80\x02c" + b"a" * 300_000 + b"\nb\n."),
        lambda path: torch.save({"a" * 300_000: torch.zeros(2)}, path),
        lambda path: torch.save({"a" * 300_000: 1}, path, _use_new_zipfile_serialization=False),
    ],
    ids=["compressed", "device", "name", "key", "old key"],
)
def test_weights_that_would_keep_torch_busy_are_not_given_to_it(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "w.pt")
    called: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda *given, **_: called.append(given))
    with pytest.raises(InputError, match=r"w\.pt can't be read"):
        pretrained.load_weights(nn.Linear(99, 99), tmp_path / "w.pt")
    assert called == []


def test_names_can_not_break_or_change_a_page(tmp_path: Path) -> None:
    odd = ("$\\frac{", "a$b$c^{_", "<script>alert(1)</script>", "\x1b[2J", "x\ny", "../../x", "[a](javascript:b)")
    prices = [{name: cost(stage + 1.0, name, f"counted: {name}") for name in odd} for stage in range(2)]
    run = made_up(tmp_path / "run", [(1000.0, 0.5), (2000.0, 0.6)], name="".join(odd), prices=prices)
    for arguments in (["report", str(run)], ["compare", str(run), "--out", str(tmp_path / "comparison")]):
        shown = CliRunner().invoke(app, arguments)
        assert shown.exit_code == 0, shown.output
    pages = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".md", ".svg")]
    assert {path.parent for path in pages} >= {run, run / "figures", tmp_path / "comparison"}
    assert all("<script>alert" not in path.read_text() for path in pages)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "comparison"}


# What would read, write or start something elsewhere


def test_results_can_not_name_a_folder_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from energysplit.measure.plan import pack, unpack

    monkeypatch.chdir(tmp_path)
    BY_NAME["results"].make(tmp_path)
    path = tmp_path / "results.csv"
    word = next(line for line in path.read_text().splitlines() if line.startswith("# attachment=")).partition("=")[2]
    for device in ("../../elsewhere", "/elsewhere", "..", "a\0b", "x" * 5000):
        note = pack(json.dumps({**json.loads(unpack(word)), "device": device}))
        changed = tmp_path / "changed.csv"
        changed.write_text(path.read_text().replace(word, note))
        refused = CliRunner().invoke(app, ["profile", "--import", str(changed)])
        assert refused.exit_code == 2, refused.output
        assert str(changed) in refused.stderr
    assert not (tmp_path / "cost_tables").exists()


def test_a_plan_names_files_in_its_own_folder(tmp_path: Path) -> None:
    BY_NAME["plans"].make(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    for name in ("../n0.onnx", "/n0.onnx", "a/n0.onnx", "plan.json"):
        for changed in ({**plan, "reference": name}, {**plan, "models": [{"name": "n0", "file": name}]}):
            (tmp_path / "plan.json").write_text(json.dumps(changed))
            with pytest.raises(PlanError, match=r"names of \.onnx files in its own folder"):
                read_plan(str(tmp_path))


def test_a_model_does_not_make_other_files_be_read(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(conv_net([4]))
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    for weight in model.graph.initializer:
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="secret")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    opened: list[str] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and str(args[0]).endswith("secret"):
            opened.append(str(args[0]))

    sys.addaudithook(hook)
    assert read_parity(tmp_path / "model.onnx") is None
    assert opened == []


def test_an_image_does_not_start_a_program(tmp_path: Path) -> None:
    BY_NAME["images"].make(tmp_path)
    (tmp_path / "val" / "a" / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with guarded(tmp_path) as done, pytest.raises(DataError, match=r"0\.png can't be read"):
        BY_NAME["images"].read(tmp_path)
    assert not done


def test_a_name_too_long_for_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="File name too long; choose another with --run"):
        check_folder(tmp_path / ("n" * 300), from_dict(RECIPE), resume=False)


def test_numbers_no_layer_has_and_results_of_another_kit_are_refused(tmp_path: Path) -> None:
    BY_NAME["tables"].make(tmp_path)
    file = tmp_path / "latency-conv2d.csv"
    columns, first, *_ = file.read_text().splitlines()
    cells = dict(zip(columns.split(","), first.split(","), strict=True))
    for name in ("groups", "stride_h"):
        file.write_text("\n".join([columns, ",".join({**cells, name: "0"}.values())]) + "\n")
        with pytest.raises(InputError, match=r"conv2d\.csv, line 2: .* is 0, which no layer has"):
            CostTable.read(tmp_path)
    BY_NAME["results"].make(tmp_path)
    results = tmp_path / "results.csv"
    results.write_text(results.read_text().replace("u1.0", "u9.0"))
    with pytest.raises(InputError, match=r"results\.csv: network 'n0': unit 9 was measured, but it has 2"):
        BY_NAME["results"].read(tmp_path)


def test_labels_no_class_has_are_refused(tmp_path: Path) -> None:
    BY_NAME["fashion"].make(tmp_path)
    labels = tmp_path / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DataError, match="one label from 0 to 9"):
        data.load("fashion_mnist", root=tmp_path)


def test_pickles_are_not_unpickled(tmp_path: Path) -> None:
    """CIFAR comes as pickles, which torchvision reads only with the digests it knows; weights may be pickles too."""
    code = b"cbuiltins\nexec\n(Vopen('" + str(tmp_path / "was_run").encode() + b"', 'w')\ntR."
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(code)
    with pytest.raises(DataError, match="has no complete copy"):
        data.load("cifar10", root=tmp_path)
    for name in ("w.pt", "w.bin", "w.ckpt"):
        (tmp_path / name).write_bytes(code)
        with pytest.raises(InputError, match="its code is not run"):
            pretrained.load_weights(nn.Linear(2, 2), tmp_path / name)
    legacy = tmp_path / "FashionMNIST" / "processed"
    legacy.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        (legacy / name).write_bytes(code)
    with pytest.raises(DataError, match="fashion_mnist"):
        data.load("fashion_mnist", root=tmp_path)
    assert not (tmp_path / "was_run").exists()


# The command line


def commands(folder: Path) -> dict[str, list[list[str]]]:
    """Surface -> commands that read its files."""
    run, out = str(folder / "run"), str(folder / "out")
    return {
        "recipes": [["price", "FILE"], ["grow", "FILE", "--dry-run"]],
        "experiments": [["experiment", "FILE", "--dry-run"]],
        "profiles": [["price", "mlp", "--provider", "roofline", "--profile", "FILE"]],
        "tables": [["price", "mlp", "--provider", "latency", "--tables", str(folder)]],
        "results": [["profile", "--import", "FILE", "--out", out]],
        "reports": [["report", run]],
        "comparisons": [["compare", run, "--out", out], ["export", run], ["allocate", run]],
    }


@pytest.mark.parametrize("name", commands(Path()))
def test_the_command_line_says_it_in_a_line(
    name: str, tmp_path: Path, in_full: bool, tell: Callable[[str], None]
) -> None:
    surface = BY_NAME[name]
    folder = tmp_path / "folder"
    folder.mkdir()
    surface.make(folder)
    files = sorted({path for pattern in surface.files for path in folder.glob(pattern) if path.is_file()})
    valid = {path: path.read_bytes() for path in files}
    count = 500 if in_full else 3
    for number in range(count):
        random = Random(f"command line/{name}/{number}")
        path = random.choice(files)
        path.write_bytes(random.choice(surface.changes)(valid[path], random, list(valid.values())))
        words = random.choice(commands(folder)[name])
        result = CliRunner().invoke(app, [str(path) if word == "FILE" else word for word in words])
        path.write_bytes(valid[path])
        label = f"{name}/{number} ({path.name}): {words}"
        assert result.exit_code in (0, 1, 2), f"{label}: {result.exception!r}"
        assert result.exit_code == 0 or result.stderr.startswith(("error: ", "check failed: ")), label
        assert len(result.stderr) < LONGEST + 1000, label
    tell(f"{count} commands on changed files")


def test_a_process_of_its_own_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "theirs.toml").write_text("a." * 30_000 + "a = 0x" + "f" * 9000)
    done = subprocess.run(
        [sys.executable, "-m", "energysplit", "grow", str(tmp_path / "theirs.toml")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'theirs.toml'}: ")
    assert done.stderr.count("\n") == 1
