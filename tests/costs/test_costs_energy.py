"""Energies against sums by hand, the reuse of small memories, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from energysplit import hardware
from energysplit.costs import cost_provider
from energysplit.costs.energy import moved_bytes
from energysplit.costs.table import TableRow, cells, columns
from energysplit.costs.traffic import Traffic, traffic
from energysplit.errors import InputError
from energysplit.hardware import HardwareProfile, MemoryLevel
from energysplit.types import Cost, LayerCase

LINEAR = LayerCase("linear", 64, 10, bias=True)  # 640 MACs, 650 weights, 64 in, 10 out
PJ = 1e-12


def number(value: float, unit: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    low, high = value if low is None else low, value if high is None else high
    return {"value": value, "low": low, "high": high, "unit": unit, "source": "estimated: by a test"}


def level(name: str, capacity: float | None = None, energy: float = 1.0, accesses: float | None = None) -> dict:
    made: dict[str, Any] = {"name": name, "energy": number(energy * PJ, "J/B")}
    if capacity is not None:
        made["capacity"] = number(capacity, "B")
    if accesses is not None:
        made["accesses_per_mac"] = number(accesses, "access/MAC")
    return made


def profile(*memory: dict, mac: dict | None = None, **more: Any) -> HardwareProfile:
    return hardware.from_dict(
        {
            "name": "toy",
            "description": "a toy",
            "kind": "cpu",
            "precision": "int8",
            "compute": {"int8": {"energy": mac or number(2 * PJ, "J/MAC")}},
            "memory": list(memory),
            **more,
        }
    )


def levels(*memory: dict) -> tuple[MemoryLevel, ...]:
    return profile(*memory).memory


def test_one_memory_gets_each_operand_once() -> None:
    cost = cost_provider("energy", profile=profile(level("DRAM", energy=100))).price(LINEAR)
    assert cost.value == pytest.approx((640 * 2 + (650 + 64 + 10) * 100) * PJ)
    assert cost.unit == "J"
    assert cost.source == "estimated: MACs and bytes times the energies of profile toy, int8"


def test_a_store_of_operands_serves_every_mac() -> None:
    toy = profile(level("registers", 10_000, 1, accesses=3), level("DRAM", energy=100))
    cost = cost_provider("energy", profile=toy).price(LINEAR)
    # Maps don't stay in a store, though they would fit.
    assert cost.value == pytest.approx((640 * 2 + 640 * 3 * 1 + 724 * 100) * PJ)


def test_maps_that_fit_a_buffer_stay_there_and_weights_do_not() -> None:
    toy = profile(level("buffer", 64, 6), level("DRAM", energy=200))
    cost = cost_provider("energy", profile=toy).price(LINEAR)
    assert cost.value == pytest.approx((640 * 2 + 724 * 6 + 650 * 200) * PJ)
    smaller = profile(level("buffer", 63, 6), level("DRAM", energy=200))  # now the input, 64 bytes, is too large
    moved = moved_bytes(traffic(LINEAR), smaller.memory, 1)
    # 64 inputs in 2 pieces would read 64 + 2 x 650; 650 weights in 11 pieces read 650 + 11 x 64, which is less.
    assert moved == [724, 650 + 11 * 64]


def test_twice_the_bytes_move_at_16_bits() -> None:
    moved = traffic(LINEAR)
    assert moved_bytes(moved, levels(level("DRAM")), 2) == [2 * 724]


@pytest.mark.parametrize(
    ("weights", "inputs", "holds"), list(itertools.product((1, 40, 100), (1, 40, 100), (7, 50, 100)))
)
def test_reading_again_is_what_a_tiled_loop_reads(weights: int, inputs: int, holds: int) -> None:
    """Against loops that load pieces: every piece of one operand meets all of the other."""

    def loop(held: int, streamed: int) -> int:
        read, at = 0, 0
        while at < held:
            piece = min(holds, held - at)
            read += piece + streamed
            at += piece
        return read

    moved = moved_bytes(Traffic(0, weights, inputs, 0), levels(level("store", holds, accesses=0), level("DRAM")), 1)
    assert moved[1] == min(loop(weights, inputs), loop(inputs, weights))


def test_a_grouped_convolution_is_tiled_group_by_group() -> None:
    memory = levels(level("store", 50, accesses=0), level("DRAM"))
    whole, grouped = (moved_bytes(Traffic(0, 100, 400, 0), memory, 1, groups)[1] for groups in (1, 4))
    assert whole == 400 + 100 * 8 or whole == 100 + 400 * 2
    assert grouped == 500, "each group's 25 weights fit"


@pytest.mark.parametrize("case", [LINEAR, LayerCase("conv2d", 32, 64, (3, 3), in_size=(8, 8), out_size=(6, 6))])
def test_a_larger_buffer_never_moves_more(case: LayerCase) -> None:
    at_dram = [moved_bytes(traffic(case), levels(level("buffer", 2**k), level("DRAM")), 1)[1] for k in range(4, 18)]
    assert at_dram == sorted(at_dram, reverse=True)
    assert at_dram[-1] == traffic(case).weights


def test_intervals_come_from_the_profile_s_numbers() -> None:
    toy = profile(
        {**level("registers", 100), "accesses_per_mac": number(2, "access/MAC", 1, 4)},
        {"name": "DRAM", "energy": number(100 * PJ, "J/B", 90 * PJ, 130 * PJ)},
        mac=number(2 * PJ, "J/MAC", 1 * PJ, 3 * PJ),
    )
    moved = 64 + 650 + 10
    cost = cost_provider("energy", profile=toy).price(LINEAR)
    assert cost.low == pytest.approx((640 * 1 + 640 * 1 + moved * 90) * PJ)
    assert cost.high == pytest.approx((640 * 3 + 640 * 4 + moved * 130) * PJ)


def test_operations_without_weights_cost_energy_too() -> None:
    add = LayerCase("add", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4))
    provider = cost_provider("energy", profile=profile(level("DRAM", energy=100)))
    assert provider.every_operation  # type: ignore[attr-defined]
    assert provider.price(add).value == pytest.approx((256 * 2 + 384 * 100) * PJ)


def test_a_fit_to_whole_networks_includes_the_memory() -> None:
    for name in ("stm32l4r5", "gap9"):
        board = hardware.load(name)
        energy = board.arithmetic("int8").energy
        assert energy is not None
        cost = cost_provider("energy", profile=name).price(LINEAR)
        assert (cost.value, cost.low, cost.high) == tuple(
            640 * part for part in (energy.value, energy.low, energy.high)
        )


def test_a_normalised_profile_has_its_own_unit() -> None:
    provider = cost_provider("energy", profile="eyeriss_65nm")
    assert provider.unit == "MAC-energy"
    conv = LayerCase("conv2d", 64, 64, (3, 3), (1, 1), (1, 1), in_size=(16, 16), out_size=(16, 16))
    cost = provider.price(conv)
    macs, maps, weights = 64 * 64 * 9 * 256, 64 * 256, 64 * 64 * 9
    # MAC 1, register file 4 x 1, array 0.333 x 2, buffer 6, DRAM 200; the maps stay in the buffer.
    assert cost.value == pytest.approx(macs * (1 + 4 + 0.333 * 2) + (weights + 2 * maps) * 6 + weights * 200)
    assert cost.low < cost.value <= cost.high


def test_precision_is_an_option() -> None:
    int8, fp32 = (cost_provider("energy", profile="generic_45nm", precision=p).price(LINEAR) for p in ("int8", "fp32"))
    # SRAM 1.25 pJ/B twice a MAC, DRAM 162.5 pJ/B
    assert int8.value == pytest.approx((640 * 0.3 + 640 * 2 * 1.25 + 724 * 162.5) * PJ)
    assert fp32.value == pytest.approx((640 * 4.6 + 640 * 8 * 1.25 + 4 * 724 * 162.5) * PJ)
    with pytest.raises(InputError, match=r"precision 'int4': expected one of fp32, .*did you mean 'int"):
        cost_provider("energy", profile="generic_45nm", precision="int4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {},
            r"give profile=NAME, .* or tables=FOLDER, .* \(in a recipe under \[hardware\]; on the command line -",
        ),
        (
            {"profile": "x86_avx512_2core"},
            r"'x86_avx512_2core' can't give energy: missing compute.fp32.energy, memory.0.energy \(L2\), memory.1",
        ),
        ({"profile": "generic_45nm", "precision": "int16"}, r"can't give energy: missing compute.int16.energy; add"),
        ({"profile": "nowhere"}, r"no hardware profile 'nowhere'"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cost_provider("energy", **arguments)


def test_a_profile_without_memory_must_say_that_it_is_included() -> None:
    with pytest.raises(InputError, match=r"missing memory.0.energy \(or compute's memory_included = true\)"):
        cost_provider("energy", profile=profile())


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A table of linear layers of 8 to 64 channels: 2 nJ and 1 pJ a MAC."""
    rows = [
        TableRow(LayerCase("linear", i, o, bias=True), joules, joules * 0.99, joules * 1.01, 9, "J")
        for i, o in itertools.product((8, 16, 32, 64), repeat=2)
        for joules in [2e-9 + i * o * PJ]
    ]
    lines = [",".join(columns())] + [",".join(cells(row)[name] for name in columns()) for row in rows]
    (tmp_path / "energy-linear.csv").write_text("\n".join(lines) + "\n")
    words = {
        "cost": "energy", "unit": "J", "machine": "toy", "system": "toy", "runtime": "toy", "runtime_version": "1",
        "execution_provider": "toy", "precision": "fp32", "date": "2026-01-01", "command": "none",
    }  # fmt: skip
    said = "\n".join(f'{key} = "{word}"' for key, word in words.items())
    numbers = "threads = 1\nnetwork_error = 0.05\noverhead = 1e-9\noverhead_low = 0.0\noverhead_high = 3e-9\n"
    (tmp_path / "provenance.toml").write_text(f"[energy]\n{said}\n{numbers}")
    return tmp_path


def test_a_measured_table_comes_first(tables: Path) -> None:
    inside, outside = LayerCase("linear", 32, 32, bias=True), LayerCase("linear", 512, 32, bias=True)
    only = cost_provider("energy", tables=tables)
    assert only.unit == "J"
    assert only.price(inside).value == pytest.approx(2e-9 + 1024 * PJ, rel=0.1)
    assert only.price(inside).source.split(":")[0] in ("measured", "interpolated")
    with pytest.raises(InputError, match="outside what was measured"):
        only.price(outside)
    both = cost_provider("energy", tables=tables, profile="generic_45nm")
    assert both.price(inside) == only.price(inside)
    assert both.price(outside) == cost_provider("energy", profile="generic_45nm").price(outside)
    assert both.price(outside).source.startswith("estimated: ")


def test_a_table_s_overhead_and_error_are_the_provider_s(tables: Path) -> None:
    only = cost_provider("energy", tables=tables)
    assert only.network_error == 0.05  # type: ignore[attr-defined]
    overhead: Cost = only.overhead  # type: ignore[attr-defined]
    assert (overhead.value, overhead.low, overhead.high, overhead.unit) == (1e-9, 0.0, 3e-9, "J")
    both = cost_provider("energy", tables=tables, profile="generic_45nm")
    assert both.network_error is None, "the estimated part has errors of its own"  # type: ignore[attr-defined]
    assert cost_provider("energy", profile="generic_45nm").overhead is None  # type: ignore[attr-defined]


def test_a_table_and_a_profile_in_another_unit(tables: Path) -> None:
    with pytest.raises(InputError, match=r"the table is in J, profile 'eyeriss_65nm' in MAC-energy; leave one out"):
        cost_provider("energy", tables=tables, profile="eyeriss_65nm")
    with pytest.raises(InputError, match=r"holds no energy table"):
        cost_provider("energy", tables=tables / "nowhere")


def test_a_table_s_multiples_and_provenance_are_handed_on(tables: Path) -> None:
    text = (tables / "provenance.toml").read_text()
    (tables / "provenance.toml").write_text(f"{text}multiple_of = 8\n")
    made: Any = cost_provider("energy", tables=tables)
    assert made.multiple_of == 8
    assert made.provenance.multiple_of == 8
    estimated: Any = cost_provider("energy", profile="generic_45nm")
    assert (estimated.multiple_of, estimated.provenance) == (None, None)


def test_a_precision_without_a_profile_is_the_table_s_or_refused(tables: Path) -> None:
    cost_provider("energy", tables=tables, precision="fp32")
    with pytest.raises(InputError, match=r"precision 'int8' given, but .* was measured in 'fp32'; leave it out"):
        cost_provider("energy", tables=tables, precision="int8")
    with pytest.raises(InputError, match=r"precision 'fp31': expected one of fp32"):
        cost_provider("energy", tables=tables, precision="fp31")
    with_profile = cost_provider("energy", tables=tables, profile="generic_45nm", precision="int8")
    assert "int8" in with_profile.price(LayerCase("linear", 512, 32)).source
