"""What a device is asked to measure: a folder with `plan.json` and the ONNX files, which `device_run` understands.

`attachment` is text that travels with the plan into the results' header and back (what the networks' units are), so
that results alone make a table. It is packed as base64 of zlib, one word without spaces.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from energysplit.errors import InputError
from energysplit.output.atomic import write_bytes, write_text
from energysplit.plain_data import LARGEST_JSON

PLAN_FILE = "plan.json"
RESULTS_FILE = "results.csv"
REFERENCE_FILE = "reference.onnx"
VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class PlanOptions:
    """How to measure.

    Args:
        execution_provider: ONNX Runtime's name of what computes.
        threads: threads of one operation, and cores the process is kept on.
        rounds: times that each network is visited; the count of its samples.
        burst_s: seconds of running behind one sample, in seconds (at least three runs).
        warmup_s: seconds of running before the first round.
        batch: networks that take turns with one another.
        seed: of the input's values and of the order of turns.
    """

    execution_provider: str = "CPUExecutionProvider"
    threads: int = 1
    rounds: int = 12
    burst_s: float = 0.02
    warmup_s: float = 0.05
    batch: int = 4
    seed: int = 0


def plan_text(names: Iterable[str], options: PlanOptions, attachment: str = "") -> str:
    """The text of `plan.json` for networks of these names, each in a file NAME.onnx.

    Raises:
        InputError: no name, one given twice, or one that is no plain file name.
    """
    checked: set[str] = set()
    names = [checked_name(name, checked) for name in names]
    if not names:
        raise InputError("a plan needs at least one network to measure; none was given")
    plan = {
        "version": VERSION,
        "made_by": f"energysplit {metadata.version('energysplit')}",
        **asdict(options),
        "reference": REFERENCE_FILE,
        "models": [{"name": name, "file": f"{name}.onnx"} for name in names],
        "attachment": pack(attachment),
    }
    return json.dumps(plan, indent=1) + "\n"


def checked_name(name: str, before: set[str]) -> str:
    """The name, added to those before it.

    Raises:
        InputError: it is no plain file name, one that the plan needs itself, or there already.
    """
    if not _NAME.fullmatch(name) or name in ("reference", "plan", "results"):
        raise InputError(f"network name {name!r}: expected letters, digits, '_', '-' and '.', and not 'reference'")
    if name in before:
        raise InputError(f"networks of the same name: {name}; names tell them apart in the results")
    before.add(name)
    return name


def write_plan(
    folder: Path | str,
    models: Iterable[tuple[str, bytes]],
    reference: bytes,
    options: PlanOptions,
    attachment: str = "",
) -> Path:
    """The folder, holding plan, networks and reference; results that are there already stay.

    A plan may grow: written again with more networks and the same options and reference, measuring goes on with the
    new ones.

    Raises:
        InputError: see `plan_text`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    checked: set[str] = set()
    for name, data in models:
        names.append(checked_name(name, checked))
        write_bytes(folder / f"{name}.onnx", data)
    text = plan_text(names, options, attachment)
    write_bytes(folder / REFERENCE_FILE, reference)
    write_text(folder / PLAN_FILE, text)  # last: a folder with a plan is complete
    return folder


def remove_models(folder: Path) -> None:
    """Remove the networks of a plan once they are measured: its notes say all there is to them."""
    for file in folder.glob("*.onnx"):
        file.unlink()


def pack(text: str) -> str:
    """Text as one printable word; "" stays "".

    Example:
        >>> unpack(pack('{"units": 3}'))
        '{"units": 3}'
    """
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode() if text else ""


def unpack(word: str) -> str:
    """The text that `pack` was given; a little word that unpacks to more than any note needs is refused.

    Raises:
        InputError: the word was cut or changed, or its text is too large.
    """
    if not word:
        return ""
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(base64.b64decode(word, validate=True), LARGEST_JSON)
        if not unpacking.eof:
            raise ValueError(f"it is not whole, or has more than {LARGEST_JSON:,} bytes")
        return text.decode()
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InputError(f"the attachment was cut or changed ({error}); copy the results file again, whole") from None
