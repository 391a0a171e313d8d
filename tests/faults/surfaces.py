"""Every file that energysplit reads, as a surface: how to make valid ones, what to change, and who reads them.

A file that carries a digest of itself is changed in two ways: its bytes, which the digest notices, and its content with
a digest that fits again, as anybody can make it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from compared_runs import made_up
from device_tables import write_table
from faults.mutations import as_json, mutated, mutated_tree
from PIL import Image
from safetensors import torch as safetensors
from small_onnx import conv_net
from torch import nn

import energysplit as es
from energysplit import data, hardware, models, plain_data
from energysplit.costs.table import PROVENANCE
from energysplit.errors import EnergysplitError
from energysplit.experiment.load import load_experiment
from energysplit.experiment.plan import make_plan
from energysplit.experiment.schema import SIZES
from energysplit.experiment.state import check_run, state_of
from energysplit.growth import journal
from energysplit.growth.compared import read_run
from energysplit.growth.folder import check_folder
from energysplit.growth.reference import read_reference
from energysplit.growth.teacher import Teacher
from energysplit.measure import device_run, networks
from energysplit.measure.networks import MeasuredNetwork
from energysplit.measure.plan import pack
from energysplit.measure.profiling import imported, write_tables
from energysplit.models import pretrained
from energysplit.output import checkpoint
from energysplit.output.comparison_doubts import compared
from energysplit.output.comparison_files import write_comparison
from energysplit.output.indices import check_index, load_index, save_index
from energysplit.output.onnx_export import read_parity
from energysplit.output.report import write_report
from energysplit.output.tensors import load_tensors
from energysplit.recipe import from_dict, load
from energysplit.recipe.changed import RecipeChange
from energysplit.recipe.changes import completed
from energysplit.recipe.saved import recipe_at, recipe_text, saved_changes, saved_recipe
from energysplit.types import LayerCase, SplitIndex

ROOT = Path(__file__).resolve().parents[2]
Change = Callable[[bytes, Random, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Surface:
    """A kind of file.

    make: writes a valid one into an empty folder. files: patterns of those that are changed. read: reads the folder.
    changes: how content is changed. error: what a reader may raise. sample: inputs that are tried with all other tests.
    full: with `make faults`; fewer than 10,000 only where issue and docs promise none and an input takes long.
    """

    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], Any]
    changes: tuple[Change, ...] = (mutated,)
    error: type[Exception] = EnergysplitError
    sample: int = 40
    full: int = 10_000


def _copied(pattern: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for path in sorted(ROOT.glob(pattern)):
            shutil.copy(path, folder)

    return make


def _each(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A reader of the one file of its folder that was changed last."""
    return lambda folder: read(max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns))


# Recipes, experiments, hardware profiles


def _experiments(folder: Path) -> None:
    for name in ("experiments", "recipes"):
        (folder / name).mkdir()
        _copied(f"{name}/*.toml")(folder / name)


def _read_experiment(folder: Path) -> None:
    path = max((folder / "experiments").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    experiment = load_experiment(path)
    for size in SIZES:
        if experiment.table(size):
            make_plan(path, size, overrides=[], seeds=[], methods=[], runs=folder / "runs")


# Cost tables, results of devices, plans of kits


@cache
def net() -> es.Network:
    """The network that the files are of; traced once, for no reader changes it."""
    torch.manual_seed(0)
    module = models.build("cnn", widths=[3, 4], in_channels=1, activation="silu")
    return es.trace(module, torch.zeros(1, 1, 8, 8))


def _table(folder: Path) -> None:
    write_table(folder, net(), widths=(3, 6))
    write_table(folder, net(), widths=(3, 6), cost="energy")


def _read_table(folder: Path) -> None:
    for cost in ("latency", "energy"):
        provider = es.cost_provider(cost, tables=str(folder))
        es.price(net(), provider)


def _results(folder: Path, count: int = 3) -> None:
    cases = [
        LayerCase("conv2d", 3, 8, (3, 3), padding=(1, 1), in_size=(8, 8), out_size=(8, 8)),
        LayerCase("linear", 8, 4),
    ]
    notes = [MeasuredNetwork.of(f"n{at}", "family", (3, 8, 8), cases) for at in range(count)]
    said = networks.written(notes, precision="fp32", device="board", widths={"w8": 8})
    header = {
        **{"format": "1", "machine": "x", "cpu": "A CPU", "onnxruntime": "1.31.1", "threads": "1", "rounds": "2"},
        **{"execution_provider": "CPUExecutionProvider", "affinity": "", "date": "2026-01-01", "system": "Linux"},
        **{"clock_mhz": "1000", "attachment": pack(said)},
    }
    lines = [f"# {key}={value}" for key, value in header.items()]
    lines.append("model,kind,round,node,op_type,order,value,unit,reference_s,runs")
    for name in [*(f"n{at}" for at in range(count)), "w8"]:
        for turn in range(2):
            lines.append(f"{name},network,{turn},,,,0.00{turn + 2},s,0.001,20")
            lines += [f"{name},node,{turn},u{unit}.0,Conv,{unit},0.001,s,0.001,20" for unit in range(2)]
        lines += [f"{name},energy,0,,,,0.1,J,,100", f"{name},first,,,,,0.002,s,,1", f"{name},session,,,,,0.01,s,,1"]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")


def _note_changed(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """The networks' note that travels in the header, changed and packed again."""
    begin = content.index(b"# attachment=") + len(b"# attachment=")
    end = content.index(b"\n", begin)
    from energysplit.measure.plan import unpack

    tree = json.loads(unpack(content[begin:end].decode()))
    text = random.choice((lambda: as_json(mutated_tree(tree, random)), lambda: mutated(as_json(tree), random)))()
    return content[:begin] + pack(text.decode(errors="replace")).encode() + content[end:]


def _import(folder: Path) -> None:
    results, known, widths, said = imported(folder / "results.csv")
    write_tables(folder / "table", [results], known, command="", precision=said.get("precision", "fp32"), widths=widths)


def _plan(folder: Path) -> None:
    from energysplit.measure.plan import PlanOptions, write_plan

    write_plan(folder, [("n0", conv_net([4]))], conv_net([4]), PlanOptions(), "word")


def _read_plan(folder: Path) -> None:
    plan = device_run.read_plan(str(folder))
    device_run.describe(str(folder), plan, "", "")


# Checkpoints, indices, weights


def _checkpoint(folder: Path) -> None:
    es.save(net(), folder)


def _index(folder: Path) -> None:
    found = net()
    index = {
        name: SplitIndex(
            kind="fresh" if number else "pair",
            value=torch.linspace(-1, 1, group.channels),
            direction={layer: torch.zeros_like(found.weight(layer)) for layer in group.movers},
            stderr=torch.ones(group.channels),
            residual=torch.zeros(group.channels),
            images=8,
            solver="lobpcg",
            sweeps=2.0,
        )
        for number, (name, group) in enumerate(found.groups.items())
        if group.splittable
    }
    save_index(folder / "index.safetensors", index)


def _read_index(folder: Path) -> None:
    file = folder / "index.safetensors"
    check_index(load_index(file), net(), file)


def sealed_description(tree: dict[str, Any]) -> bytes:
    """`network.json` with the checksum that fits."""
    rest = {key: value for key, value in tree.items() if key != "checksum"}
    try:
        return as_json({**rest, "checksum": plain_data.checksum(rest)})
    except (ValueError, UnicodeEncodeError):
        return as_json(tree)


def _description_changed(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    if content.startswith(b"{"):
        tree = json.loads(content)
        return sealed_description(
            changed if isinstance(changed := mutated_tree(tree, random), dict) else {"a": changed}
        )
    return mutated(content, random)


def sealed_tensors(tensors: dict[str, torch.Tensor], meta: Any) -> bytes:
    """A file of tensors with the digest that fits."""
    from energysplit.output.tensors import _digest

    header = json.dumps({"metadata": meta, "sha256": _digest(tensors, meta)})
    return safetensors.save(tensors, {"energysplit": header})


_TYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64)


def _tensors_changed(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Tensors, or the note beside them, changed under a digest that fits; or the header alone."""
    (length,) = struct.unpack_from("<Q", content)
    if random.random() < 0.3:
        tree = json.loads(content[8 : 8 + length])
        header = as_json(mutated_tree(tree, random))
        return struct.pack("<Q", len(header)) + header + content[8 + length :]
    tensors = safetensors.load(content)
    meta = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["energysplit"])["metadata"]
    if random.random() < 0.5 and meta:
        meta = mutated_tree(meta, random)
    else:
        name = random.choice(sorted(tensors))
        tensor = tensors.pop(name)
        how = random.randrange(6)
        if how == 0:
            tensors[name] = tensor.to(random.choice(_TYPES))
        elif how == 1:
            tensors[name] = torch.cat([tensor.reshape(-1)] * 2)
        elif how == 2:
            tensors[name] = torch.full_like(tensor, random.choice((0, 1))) / random.choice((0.0, 1.0, 1e-30))
        elif how == 3:
            tensors[random.choice(("", "a/value", "../x", "blocks", name + "/x"))] = tensor
        elif how == 4:
            tensors[name] = tensor.reshape(-1)[:0]
    try:
        return sealed_tensors(tensors, meta)
    except (ValueError, RecursionError, UnicodeEncodeError):
        return mutated(content, random)


def _weights_changed(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    return content if content.startswith(b"{") else _tensors_changed(content, random, others)


def _load_checkpoint(folder: Path) -> None:
    """As a stranger would hand it over: the description says the digest that the weights have."""
    file = folder / checkpoint.NETWORK_FILE
    try:
        tree = json.loads(file.read_bytes())
        digest = hashlib.sha256((folder / checkpoint.WEIGHTS_FILE).read_bytes()).hexdigest()
        if plain_data.checksum({key: value for key, value in tree.items() if key != "checksum"}) == tree["checksum"]:
            file.write_bytes(sealed_description({**tree, "weights_sha256": digest}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    checkpoint.load(folder)


def _small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Linear(2, 2))


def _user_weights(folder: Path) -> None:
    state = _small().state_dict()
    torch.save(state, folder / "new.pt")
    torch.save({"state_dict": state}, folder / "old.pth", _use_new_zipfile_serialization=False)
    (folder / "plain.safetensors").write_bytes(safetensors.save(state))


# Run folders


def _run(folder: Path) -> None:
    made_up(folder / "run", [(1000.0, 0.5), (2000.0, 0.6), (3000.0, 0.7)], measured=0.1, images=10)
    resolved = from_dict(_TINY).resolved()
    changed = RecipeChange(1, {"train.epochs": (1, 2), "step.size": (0.3, 0.6)})
    (folder / "run" / "recipe.json").write_text(recipe_text(resolved, [changed]))
    (folder / "run" / "environment.json").write_text(plain_data.sealed({"python": "3.11", "torch": "2.6"}))
    (folder / "run" / "teacher.json").write_text(json.dumps({"folder": "x", "weights_sha256": "a"}))


_TINY = {
    "name": "tiny",
    "model": {"name": "cnn", "args": {"widths": [3, 4]}},
    "data": {"name": "digits"},
    "train": {"epochs": 2},
    "growth": {"stages": 2},
    "budget": [{"provider": "macs", "limit": "1.5x"}],
}


def sealed_line(tree: Any) -> bytes:
    """A journal's line with the checksum that fits."""
    text = json.dumps(tree, separators=(",", ":"))
    return f'{text[:-1]},"checksum":"{hashlib.sha256(text.encode()).hexdigest()}"}}'.encode()


def _line_changed(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """A journal, or a sealed file, with values changed under checksums that fit; other files as any JSON."""
    lines = content.split(b"\n")
    if b'"checksum"' not in lines[0]:
        tree = json.loads(content)
        changed = mutated_tree({key: value for key, value in tree.items() if key != "checksum"}, random)
        try:
            return plain_data.sealed(changed).encode() if "checksum" in tree else as_json(changed)
        except (TypeError, RecursionError):  # no table any more, or too deep
            return as_json(changed)
    place = random.randrange(len(lines) - 1)
    tree = json.loads(lines[place])
    tree.pop("checksum")
    changed = mutated_tree(tree, random)
    lines[place] = sealed_line(changed if isinstance(changed, dict) and changed else {"stage": changed})
    return b"\n".join(lines)


def _inspect(folder: Path) -> None:
    """What resumption, experiments and those who name a run ask of it."""
    run = folder / "run"
    recipe = from_dict(_TINY)
    if not saved_changes(run):  # an experiment refuses a run that went on with another recipe
        check_run("title", run, recipe)
    state_of(run, recipe)
    check_folder(run, recipe, resume=True)
    Teacher(Path("x"), "a", None).hold(run)  # type: ignore[arg-type]
    read_reference(str(run), "growth.sizes_of", 1).hold(run)


def _show(folder: Path) -> None:
    """What report and compare do with it; figures take most of the time and show the same numbers."""
    run = folder / "run"
    recipe = saved_recipe(run)
    records = journal.read(run / "journal.jsonl")
    if not records:
        raise EnergysplitError(str(run))
    write_report(run, recipe, records)


def _compare(folder: Path) -> None:
    found = compared([read_run(folder / "run")], ())
    write_comparison(folder / "comparison", found)


def _solve(folder: Path) -> None:
    for recipe in (saved_recipe(folder / "run"), recipe_at(folder / "run", 0)):
        from_dict(completed(recipe), str(folder / "run"))


# Images and data


def _images(folder: Path) -> None:
    for part in ("train", "val"):
        for label in ("a", "b"):
            where = folder / part / label
            where.mkdir(parents=True)
            for number, kind in enumerate(("png", "jpg", "bmp", "ppm", "tiff", "webp", "png", "png", "png", "png")):
                Image.new("RGB", (9, 9), (number * 20, 40, 200)).save(where / f"{number}.{kind}")


def _read_images(folder: Path) -> None:
    splits = data.load("image_folder", root=folder, image_size=8, validation=0.2, workers=0)
    for split in (splits.train, splits.validation, splits.test):
        for _ in split.batches(8):
            pass


def _fashion(folder: Path) -> None:
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        images = struct.pack(">IIII", 2051, count, 28, 28) + bytes(count * 28 * 28)
        labels = struct.pack(">II", 2049, count) + bytes(number % 10 for number in range(count))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)


SURFACES = [
    Surface("recipes", _copied("recipes/*.toml"), ("*.toml",), _each(load)),
    Surface("experiments", _experiments, ("experiments/*.toml",), _read_experiment, sample=20, full=5_000),
    Surface("profiles", _copied("energysplit/hardware/profiles/*.toml"), ("*.toml",), _each(hardware.load)),
    Surface("tables", _table, ("*.csv", PROVENANCE), _read_table, sample=15),
    Surface("results", _results, ("results.csv",), _import, (mutated, _note_changed)),
    Surface("plans", _plan, ("plan.json",), _read_plan, error=device_run.PlanError),
    Surface(
        "checkpoints",
        _checkpoint,
        ("*",),
        _load_checkpoint,
        (mutated, _description_changed, _weights_changed),
        sample=30,
    ),
    Surface("indices", _index, ("*",), _read_index, (mutated, _tensors_changed)),
    Surface("tensors", _index, ("*",), lambda folder: load_tensors(folder / "index.safetensors")),
    Surface("weights", _user_weights, ("*",), _each(lambda path: pretrained.load_weights(_small(), path))),
    Surface("runs", _run, ("run/*.json*",), _inspect, (mutated, _line_changed)),
    Surface("run recipes", _run, ("run/recipe.json",), _solve, (mutated, _line_changed)),
    Surface("reports", _run, ("run/*.json*",), _show, (mutated, _line_changed), sample=6, full=400),
    Surface("comparisons", _run, ("run/*.json*",), _compare, (mutated, _line_changed), sample=10, full=800),
    Surface(
        "onnx",
        lambda folder: (folder / "model.onnx").write_bytes(conv_net([4])),
        ("*",),
        lambda folder: read_parity(folder / "model.onnx"),
    ),
    Surface("images", _images, ("train/*/*",), _read_images, full=2_500),
    Surface("fashion", _fashion, ("FashionMNIST/raw/*",), lambda folder: data.load("fashion_mnist", root=folder)),
]
