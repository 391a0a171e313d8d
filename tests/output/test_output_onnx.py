"""Exported models compute what torch computes, and one that does not is never written."""

from __future__ import annotations

import copy
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from energysplit.errors import CheckFailed, CheckpointError, InputError, MissingExtra
from energysplit.graph import Network, trace
from energysplit.output import onnx_export
from energysplit.output.onnx_export import compare, export_onnx, export_with_parity, read_parity


def network() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1, bias=False),
        nn.BatchNorm2d(4),
        nn.SiLU(),
        nn.Conv2d(4, 4, 3, 1, 1, groups=4, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, 5),
    )
    with torch.no_grad():
        module[1].running_mean.uniform_(-0.5, 0.5)
        module[1].running_var.uniform_(0.5, 2.0)
    return trace(module, torch.randn(1, 3, 8, 8))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    net = network()
    return net, export_onnx(net, tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_export_is_one_checked_file(exported: tuple[Network, Path]) -> None:
    net, path = exported
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load_model(str(path)))
    assert all(module.training for module in net.module.modules())


@pytest.mark.parametrize(("name", "message"), [("", "is a folder"), ("none/model.onnx", "there is no folder .*none;")])
def test_places_that_are_no_file_are_refused(exported: tuple[Network, Path], name: str, message: str) -> None:
    net, path = exported
    with pytest.raises(InputError, match=message):
        export_onnx(net, path.parent / name)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_size(exported: tuple[Network, Path], batch: int) -> None:
    net, path = exported
    images = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
    absolute, relative = compare(copy.deepcopy(net.module).eval(), path.read_bytes(), images)
    assert 0 <= absolute < 1e-5
    assert relative < 1e-5


def test_parity_is_kept_in_the_file(exported: tuple[Network, Path]) -> None:
    _, path = exported
    parity = read_parity(path)
    assert parity is not None
    assert parity.path == path
    assert parity.relative <= parity.tolerance == 1e-4
    assert parity.images == 4
    assert parity.runtime.startswith("onnxruntime 1.")


def test_the_file_names_no_folder_of_this_machine(exported: tuple[Network, Path]) -> None:
    _, path = exported
    data = path.read_bytes()
    assert b"site-packages" not in data
    assert str(path.parent).encode() not in data


def test_a_wrong_model_is_caught_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    real = onnx_export._export

    def wrong(module: nn.Module, images: Tensor) -> tuple[bytes, int]:
        broken = copy.deepcopy(module)
        with torch.no_grad():
            broken[0].weight[0, 0, 0, 0] += 0.05
        return real(broken, images)

    monkeypatch.setattr(onnx_export, "_export", wrong)
    with pytest.raises(CheckFailed, match=r"was not written: ONNX Runtime's outputs differ from torch's by"):
        export_onnx(net, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_keeps_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    with pytest.raises(CheckFailed, match="allowed"):
        export_onnx(network(), path, tolerance=0.0)
    assert path.read_bytes() == b"older"


def test_outputs_that_are_not_finite_fail(tmp_path: Path) -> None:
    net = network()
    with torch.no_grad():
        net.module[-1].bias[0] = float("nan")
    with pytest.raises(CheckFailed, match="nan"):
        export_onnx(net, tmp_path / "model.onnx")


def test_garbage_does_not_run() -> None:
    with pytest.raises(CheckFailed, match="does not run the exported model"):
        compare(nn.Identity(), b"garbage", torch.zeros(2, 3))


def test_another_shape_is_caught(exported: tuple[Network, Path]) -> None:
    _, path = exported
    with pytest.raises(CheckFailed, match=r"outputs of shape \(2, 5\), torch \(2, 192\)"):
        compare(nn.Flatten(), path.read_bytes(), torch.zeros(2, 3, 8, 8))


def test_the_exporter_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    net = Network(network().module.double(), torch.zeros(1, 3, 8, 8, dtype=torch.float64), {}, (), (), {}, None)
    parity = export_with_parity(net, tmp_path / "model.onnx", batch=1)
    assert parity.relative < 1e-5
    assert capfd.readouterr() == ("", "")


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="batch 0 given, at least 1 expected"):
        export_onnx(network(), tmp_path / "model.onnx", batch=0)
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(CheckpointError, match=r"text\.onnx can't be read as an ONNX model"):
        read_parity(tmp_path / "text.onnx")
    with pytest.raises(CheckpointError, match=r"nowhere\.onnx can't be read"):
        read_parity(tmp_path / "nowhere.onnx")
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(MissingExtra, match="needs onnxscript, not installed here"):
        export_onnx(network(), tmp_path / "model.onnx")


def test_a_file_of_another_program_has_no_parity(exported: tuple[Network, Path], tmp_path: Path) -> None:
    _, path = exported
    model = onnx.load_model(str(path))
    del model.metadata_props[:]
    onnx.save_model(model, str(tmp_path / "other.onnx"))
    assert read_parity(tmp_path / "other.onnx") is None
