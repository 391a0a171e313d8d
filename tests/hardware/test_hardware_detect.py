"""The draft for this machine holds what the system tells, and leaves out what it does not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from energysplit import hardware
from energysplit.errors import InputError
from energysplit.hardware import detect
from energysplit.hardware.detect import SOURCE, Machine, draft, machine

KNOWN = Machine('Toy CPU "quoted"', 4, (("L1", 48 * 1024), ("L2", 2**20)), 2**34)


def fake_linux(root: Path, caches: dict[str, tuple[str, str, str]], cpuinfo: str = "", meminfo: str = "") -> Machine:
    for folder, (level, kind, size) in caches.items():
        place = root / "sys/devices/system/cpu/cpu0/cache" / folder
        place.mkdir(parents=True)
        (place / "level").write_text(f"{level}\n")
        (place / "type").write_text(f"{kind}\n")
        (place / "size").write_text(f"{size}\n")
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    (root / "proc/meminfo").write_text(meminfo)
    return machine(root / "sys", root / "proc")


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect.platform, "system", lambda: "Linux")


@pytest.mark.usefixtures("linux")
def test_linux_caches_processor_and_memory(tmp_path: Path) -> None:
    caches = {
        "index0": ("1", "Data", "48K"),
        "index1": ("1", "Instruction", "32K"),
        "index2": ("2", "Unified", "1M"),
        "index3": ("3", "Unified", "32768K"),
    }
    found = fake_linux(tmp_path, caches, "processor : 0\nmodel name :  AMD   EPYC\n", "MemTotal:       1024 kB\n")
    assert found.processor == "AMD EPYC"
    assert found.caches == (("L1", 48 * 1024), ("L2", 2**20), ("L3", 2**25))
    assert found.memory_bytes == 2**20


@pytest.mark.usefixtures("linux")
def test_what_linux_does_not_tell_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect.platform, "processor", lambda: "")
    monkeypatch.setattr(detect.platform, "machine", lambda: "")
    caches = {"index0": ("1", "Data", "0K"), "index1": ("2", "Unified", "what?")}
    found = fake_linux(tmp_path, caches, meminfo="MemTotal: 0 kB\n")
    assert found.processor is None
    assert found.caches == ()
    assert found.memory_bytes is None
    text = draft(found, ("CPUExecutionProvider",))
    assert "not told by the system" in text
    profile = hardware.from_dict(tomllib.loads(text))
    assert profile.processor is None
    assert profile.numbers() == {}
    assert [level.name for level in profile.memory] == ["main memory"]


def test_a_mac_is_asked_by_sysctl() -> None:
    answers = {"machdep.cpu.brand_string": "Apple M1", "hw.perflevel0.l1dcachesize": "131072",
               "hw.l1dcachesize": "65536", "hw.l2cachesize": "4194304", "hw.memsize": "8589934592"}  # fmt: skip
    found = detect._mac(lambda key: answers.get(key, ""))
    assert found.processor == "Apple M1"
    assert found.caches == (("L1", 131072), ("L2", 4194304))
    assert found.memory_bytes == 2**33


def test_a_system_without_sysctl_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("sysctl")

    monkeypatch.setattr(detect.subprocess, "run", missing)
    assert detect._sysctl("hw.memsize") == ""
    assert detect._mac(detect._sysctl)[2:] == ((), None)


def test_the_draft_is_a_profile() -> None:
    text = draft(KNOWN, ("CUDAExecutionProvider", "CPUExecutionProvider"), name="toy")
    profile = hardware.from_dict(tomllib.loads(text))
    assert (profile.name, profile.processor, profile.cores) == ("toy", 'Toy CPU "quoted"', 4)
    assert profile.execution_provider == "CPUExecutionProvider"
    assert "CUDAExecutionProvider" in text, "those available are listed in a comment"
    sizes = {level.name: level.capacity.value for level in profile.memory if level.capacity is not None}
    assert sizes == {"L1": 48 * 1024, "L2": 2**20, "main memory": 2**34}
    assert {number.source for number in profile.numbers().values()} == {SOURCE}
    assert profile.arithmetic().peak is None, "speed is measured, not read"


def test_this_machine_s_draft_is_a_profile() -> None:
    profile = hardware.from_dict(tomllib.loads(draft()))
    assert profile.execution_provider in detect.execution_providers()
    assert all(number.value > 0 for number in profile.numbers().values())


def test_execution_providers_are_checked() -> None:
    assert hardware.check_execution_provider("CPUExecutionProvider") == "CPUExecutionProvider"
    with pytest.raises(InputError, match=r"x: execution_provider 'CPUExecutionProvidr' .*did you mean 'CPUExec.*avail"):
        hardware.check_execution_provider("CPUExecutionProvidr", "x")
    with pytest.raises(InputError, match=r"stm: no execution_provider, .*available here: .*CPUExecutionProvider"):
        hardware.check_execution_provider(None, "stm")


CPUINFO = {
    "spaces": "processor : 0\nmodel name\t:  Abacus(R)   9000 \n",
    "empty first": "model name :\nHardware : Beads 7\n",
    "two kinds of cores": "model name : Small\nmodel name : Large\n",
    "no name": "processor : 0\n",
}


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize(
    ("told", "name"),
    [("spaces", "Abacus(R) 9000"), ("empty first", "Beads 7"), ("two kinds of cores", "Small"), ("no name", "risc-v")],
)
def test_a_processor_has_one_name_here_and_in_a_device_s_results(tmp_path, monkeypatch, told, name) -> None:
    """Two implementations, since `device_run` stands alone: a table is of this machine where the names are equal."""
    from energysplit.measure import device_run

    monkeypatch.setattr(detect.platform, "processor", lambda: "")
    monkeypatch.setattr(detect.platform, "machine", lambda: "risc-v")
    assert fake_linux(tmp_path, {}, CPUINFO[told]).processor == name
    monkeypatch.setattr(device_run, "open", lambda *_, **__: (tmp_path / "proc/cpuinfo").open(), raising=False)
    assert device_run.cpu_name() == name


def test_versions_are_found_without_importing() -> None:
    assert detect.package_version("onnxruntime")
    assert detect.package_version("no-such-package-anywhere") is None
