"""`energysplit profile`: measure a device into a cost table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energysplit.cli.arguments import AllowCode
from energysplit.errors import InputError, refusals

if TYPE_CHECKING:
    from energysplit.costs.table import CostTable
    from energysplit.hardware import HardwareProfile
    from energysplit.measure.family import Family
    from energysplit.measure.precision import Precision

DEFAULT_MODEL = "mobilenet_v1"
TABLES = Path("cost_tables")
ANOTHER = "choose another folder with --out"


def profile(
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME|FILE", help="Hardware profile; default: this machine.")
    ] = None,
    for_: Annotated[
        list[Path] | None,
        typer.Option("--for", metavar="RECIPE", help="Measure every width the recipe can reach. Repeat."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help=f"Measure this model's family. Repeat. Default: {DEFAULT_MODEL}."),
    ] = None,
    image: Annotated[str | None, typer.Option("--image", metavar="C,H,W", help="Image shape of --model.")] = None,
    widths: Annotated[
        str, typer.Option("--widths", metavar="LOW,HIGH", help="Widths of --model, relative to its own.")
    ] = "0.2,1",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the table; default: cost_tables/PROFILE.")
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.0, help="Measure networks no longer than this.")] = 8.0,
    target: Annotated[
        float, typer.Option("--target", min=0.0, help="Stop when networks are predicted to this, in percent.")
    ] = 2.0,
    energy: Annotated[bool, typer.Option("--energy", help="Measure energy too; needs the extra 'energy'.")] = False,
    kit: Annotated[
        Path | None, typer.Option("--kit", metavar="ZIP", help="Write a kit that measures another device instead.")
    ] = None,
    networks: Annotated[int, typer.Option("--networks", min=12, help="Networks of each family in a kit.")] = 60,
    import_: Annotated[
        Path | None, typer.Option("--import", metavar="CSV", help="Make a table of a kit's results.csv instead.")
    ] = None,
    allow_code: AllowCode = False,
    detect: Annotated[bool, typer.Option("--detect", help="Print a draft of this machine's profile instead.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the result only.")] = False,
) -> None:
    """Measure a device with ONNX Runtime into a cost table, for the providers latency and energy.

    An interrupted measurement goes on when the same command is given again.
    """
    chosen = {"--kit": kit is not None, "--import": import_ is not None, "--detect": detect}
    if sum(chosen.values()) > 1:
        raise InputError(f"{' and '.join(key for key, on in chosen.items() if on)}: give one of them")
    if energy and any(chosen.values()):
        raise InputError("--energy: a meter measures this machine, now; give it without --kit, --import and --detect")
    if detect:
        from energysplit.hardware import draft

        typer.echo(draft(), nl=False)
        return
    from energysplit import hardware
    from energysplit.cli.arguments import file_to_write
    from energysplit.output.place import check_writable, held

    command = shlex.join(["energysplit", *sys.argv[1:]])
    if import_ is not None:
        _import(import_, out, None if profile is None else hardware.load(profile).name, command)
        return
    device = hardware.load(profile) if profile is not None else hardware.this_machine()
    folder = out or TABLES / device.name
    # Before the models are made, which takes longer.
    if kit is None:
        _check_here(device, energy)
        check_writable(folder, ANOTHER)
    else:
        kit = file_to_write("--kit", kit)
    wanted = _families(for_ or [], model or [], image, widths, allow_code)
    if kit is not None:
        _write_kit(kit, wanted, device, networks)
        return
    try:
        with refusals(f"go on: {command}; what was measured is in {folder}"), held(folder, ANOTHER):
            _measure(folder, wanted, device, minutes, target / 100, energy, quiet, command)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: what was measured is in {folder}; to continue: {command}", err=True)
        raise typer.Exit(130) from None


def _check_here(device: HardwareProfile, energy: bool) -> None:
    """Refuses what can't be measured on this machine."""
    from energysplit.hardware import check_execution_provider
    from energysplit.measure.meters import find_meter

    provider = check_execution_provider(device.execution_provider, f"profile {device.name!r}")
    _precision(device)
    if energy:
        find_meter(provider, required=True)


def _families(recipes: list[Path], names: list[str], image: str | None, widths: str, allow_code: bool) -> list[Family]:
    """What to measure; templates are made here, which takes some seconds each."""
    from energysplit.cli.arguments import image_shape
    from energysplit.measure.wanted import family_of_model, family_of_recipe
    from energysplit.recipe import load

    if image is not None and recipes and not names:
        raise InputError("--image is for --model; a recipe has its own image shape: leave it out")
    loaded = [load(path, allow_code=allow_code) for path in recipes]
    low, high = _range(widths)
    shape = None if image is None else image_shape(image)
    found = [family_of_recipe(recipe) for recipe in loaded]
    for name in names or ([] if recipes else [DEFAULT_MODEL]):
        found.append(family_of_model(name, shape, low, high))
    labels = [family.label for family in found]
    if len(set(labels)) < len(labels):
        raise InputError(f"{', '.join(labels)}: the same family twice; give each once")
    return found


def _measure(
    folder: Path,
    wanted: list[Family],
    device: HardwareProfile,
    minutes: float,
    target: float,
    energy: bool,
    quiet: bool,
    command: str,
) -> None:
    from energysplit.cli.progress import progress
    from energysplit.hardware import check_execution_provider
    from energysplit.measure.alignment import measure_widths
    from energysplit.measure.meters import find_meter
    from energysplit.measure.plan import PlanOptions
    from energysplit.measure.profiling import write_tables
    from energysplit.measure.sweep import Sweep, SweepOptions

    provider = check_execution_provider(device.execution_provider, f"profile {device.name!r}")
    plan = PlanOptions(execution_provider=provider, threads=device.threads)
    precision = _precision(device)
    meter = find_meter(provider, required=True) if energy else None
    shown = progress(quiet)
    sweep = Sweep(wanted, folder, SweepOptions(minutes, target, precision, plan=plan), meter, shown)
    shown.line(f"measuring {', '.join(sweep.families)} on {provider}, {plan.threads} thread(s), {precision}")
    times = measure_widths(folder / "measurement", plan, precision, shown)
    sweep.run()
    tables = write_tables(
        folder,
        sweep.results,
        sweep.networks,
        command=command,
        precision=precision,
        widths=times,
        meter=None if meter is None else meter.name,
    )
    _show(tables, folder)


def _write_kit(path: Path, wanted: list[Family], device: HardwareProfile, count: int) -> None:
    """One plan for everything: a device alone can't ask where to look."""
    import random

    from energysplit.measure import networks
    from energysplit.measure.alignment import models_of_widths
    from energysplit.measure.kit import write_kit
    from energysplit.measure.networks import MeasuredNetwork
    from energysplit.measure.plan import PlanOptions
    from energysplit.measure.reference import reference_model
    from energysplit.measure.sweep import model_bytes

    if device.execution_provider is None:
        raise InputError(
            f"profile {device.name!r}: no execution_provider, so ONNX Runtime can't measure there; add one to a copy"
        )
    precision = _precision(device)
    models, notes = [], []
    for place, family in enumerate(wanted):
        generator = random.Random(f"kit/{place}")
        drawn = [*family.corners(), *(family.draw(generator) for _ in range(count - 2))]
        for number, widths in enumerate(drawn):
            name = f"f{place}_{number:03d}"
            models.append((name, model_bytes(family, widths, precision)))
            notes.append(MeasuredNetwork.of(name, family.label, family.image, family.cases(widths)))
    of_width = models_of_widths(precision)
    names = {f"w{width}": width for width in of_width}
    text = networks.written(notes, precision=precision, device=device.name, widths=names)
    models += [(f"w{width}", data) for width, data in of_width.items()]
    plan = PlanOptions(execution_provider=device.execution_provider, threads=device.threads)
    write_kit(path, models, reference_model(), plan, text)
    typer.echo(
        f"{path}: {len(models)} networks. On the device: unzip it, then 'python device_run.py .' in its folder "
        "(Python, numpy and onnxruntime); bring results.csv back for 'energysplit profile --import results.csv "
        f"--out cost_tables/{device.name}'"
    )


def _import(path: Path, out: Path | None, device: str | None, command: str) -> None:
    """Makes the table of a kit's results, of the device the kit was made for unless another is named."""
    from energysplit.measure.profiling import imported, write_tables
    from energysplit.output.place import held

    results, known, widths, said = imported(path)
    folder = out or TABLES / (device or said.get("device", path.stem))
    precision = said.get("precision", "fp32")
    with held(folder, ANOTHER):
        tables = write_tables(folder, [results], known, command=command, precision=precision, widths=widths)
    _show(tables, folder)


def _show(tables: dict[str, CostTable], folder: Path) -> None:
    """What was measured, how well it predicts, and what is to be doubted."""
    from energysplit.cli.console import console, facts, show

    out = console()
    for cost, table in tables.items():
        said = table.provenance
        lines = {
            "machine": f"{said.machine}, {said.runtime} {said.runtime_version}, {said.execution_provider}",
            "rows": f"{len(table.rows):,} layer cases of {said.networks} networks",
            "noise": f"{said.noise:.1%} (p25 to p75 of a network's samples)" if said.noise is not None else "not known",
            "widths": f"multiples of {said.multiple_of} (alignment.csv)",
        }
        for family in said.families:
            lines[family.model] = (
                f"held-out networks predicted to {family.mean_error:.1%} on average, {family.within_10:.0%} within 10 %"
            )
        show(out, f"{cost}: {folder}", facts(lines))
        for text in said.warnings:
            out.print(f"warning: {text}", markup=False)


def _precision(device: HardwareProfile) -> Precision:
    if device.precision == "int16":
        raise InputError(f"profile {device.name!r}: ONNX Runtime runs no int16 networks; expected fp32, fp16 or int8")
    return device.precision


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--widths {text}: expected two numbers, such as 0.2,1") from None
    return low, high
