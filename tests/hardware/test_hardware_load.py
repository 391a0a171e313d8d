"""Built-in profiles load whole, every number with its source; and what is said of files that don't."""

from __future__ import annotations

from pathlib import Path

import pytest

from energysplit import hardware
from energysplit.errors import InputError
from energysplit.hardware.load import FOLDER
from energysplit.hardware.schema import SOURCES

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ("stm32l4r5", "stm32u575", "stm32h7a3", "efr32xg24", "gap9", "ndp9120")
MACS = {"AD": 264_192, "KWS": 2_656_768, "VWW": 7_489_664, "IC": 12_501_632}
NUMBER = "{ value = 1, low = 1, high = 1, unit = 'B', source = 'counted' }"
HEAD = "description = 'd'\nkind = 'cpu'\n"


def test_the_profiles_that_come_with_the_package() -> None:
    assert {*BOARDS, "x86_avx512_2core", "generic_45nm", "eyeriss_65nm"} <= set(hardware.built_in())


@pytest.mark.parametrize("name", hardware.built_in())
def test_every_number_of_a_built_in_profile_has_a_source(name: str) -> None:
    profile = hardware.load(name)
    assert profile.name == name
    numbers = profile.numbers()
    assert numbers
    for key, number in numbers.items():
        assert number.source.replace(":", " ").split()[0] in SOURCES, key
        assert len(number.source.split()) > 3, f"{key}: a source says more than its kind"
        assert number.low <= number.value <= number.high, key


@pytest.mark.parametrize("name", hardware.built_in())
def test_a_profile_s_first_comment_says_what_it_is(name: str) -> None:
    first = (FOLDER / f"{name}.toml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 40


def test_the_folder_at_the_root_shows_them() -> None:
    assert (ROOT / "hardware_profiles").resolve() == FOLDER.resolve()


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_s_measurements_are_those_of_the_four_networks(name: str) -> None:
    measured = hardware.load(name).measured
    for one in measured:
        assert one.macs == MACS[one.network.split()[0]]
        assert 1e-6 < one.energy.value < 0.1, "joules, not microjoules"
        assert one.energy.source.startswith("measured: MLPerf Tiny")
        assert one.round is not None
        assert one.submitter is not None
    assert {one.network.split()[0] for one in measured} == set(MACS) - ({"AD"} if name == "ndp9120" else set())


def test_horowitz_and_eyeriss() -> None:
    horowitz = hardware.load("generic_45nm")
    pj = [round(horowitz.arithmetic(p).energy.value * 1e12, 2) for p in ("int8", "fp16", "fp32")]  # type: ignore[union-attr]
    assert pj == [0.3, 1.5, 4.6]
    assert [level.energy.value * 8e12 for level in horowitz.memory if level.energy] == pytest.approx([10, 1300])
    for key, number in horowitz.numbers().items():
        assert "secondary" in number.source or key.endswith("accesses_per_mac")
    eyeriss = hardware.load("eyeriss_65nm")
    assert eyeriss.energy_unit == "MAC-energy"
    assert [level.energy.value * 2 for level in eyeriss.memory if level.energy] == [1, 2, 6, 200]


def test_a_path_a_string_with_a_slash_and_a_profile_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(HEAD)
    profile = hardware.load(file)
    assert profile.name == "mine", "the file's stem"
    assert hardware.load(str(file)) == profile
    assert hardware.load(profile) is profile


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no hardware profile 'generic_45'; did you mean 'generic_45nm'\?.*stm32l4r5"):
        hardware.load("generic_45")
    with pytest.raises(InputError, match=r"no hardware profile 'zzz'; There are: efr32xg24.*--detect"):
        hardware.load("zzz")
    with pytest.raises(InputError, match="hardware profile 3: expected the name"):
        hardware.load(3)  # type: ignore[arg-type]


def test_files_that_are_no_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(HEAD)
    with pytest.raises(InputError, match=r"min.toml: no such hardware profile; did you mean 'mine.toml'\?"):
        hardware.load(tmp_path / "min.toml")
    with pytest.raises(InputError, match=r"no such hardware profile; expected a TOML file, or one of the built-in"):
        hardware.load(tmp_path / "no" / "such.toml")
    with pytest.raises(InputError, match="is a folder; expected a hardware profile"):
        hardware.load(tmp_path)
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(InputError, match=r"broken.toml: not valid TOML: Invalid value"):
        hardware.load(tmp_path / "broken.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(InputError, match=r"latin.toml: not UTF-8 text \(byte 8\)"):
        hardware.load(tmp_path / "latin.toml")


def test_a_wrong_key_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"{HEAD}[[memory]]\nname = 'a'\ncapacity = {NUMBER}\nbandwith = 3\n")
    with pytest.raises(InputError, match=r"mine.toml: memory.0.bandwith: unknown key; did you mean 'bandwidth'\?"):
        hardware.load(file)
