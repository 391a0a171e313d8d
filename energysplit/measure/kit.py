"""A kit for another device: one zip that needs only Python, numpy and onnxruntime there, and one command.

The same plan gives the same bytes: no dates, fixed order, so that two kits can be compared.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from energysplit.errors import InputError
from energysplit.measure.plan import PLAN_FILE, REFERENCE_FILE, PlanOptions, checked_name, plan_text, unpack
from energysplit.output.atomic import write_bytes
from energysplit.plain_data import read_file

SCRIPT = "device_run.py"
_DATE = (1980, 1, 1, 0, 0, 0)  # the oldest a zip can hold


def write_kit(
    path: Path | str,
    models: Iterable[tuple[str, bytes]],
    reference: bytes,
    options: PlanOptions,
    attachment: str = "",
) -> Path:
    """The zip file, written whole or not at all; it unpacks into one folder named after it.

    Args:
        path: the zip file.
        models: name and ONNX bytes of each network.
        reference: ONNX bytes of the network that all others are timed against.
        options: how to measure.
        attachment: text that comes back with the results; see `read_attachment`.

    Raises:
        InputError: no network, or names that can't be; the path is no .zip.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise InputError(f"{path}: expected a file name that ends in .zip")
    names: list[str] = []
    checked: set[str] = set()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:

        def add(name: str, data: bytes | str) -> None:
            entry = zipfile.ZipInfo(f"{path.stem}/{name}", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # permissions are Unix's, on whatever system the kit was made
            archive.writestr(entry, data)

        add("README.txt", _readme(options))
        add(SCRIPT, script_path().read_bytes())
        add(REFERENCE_FILE, reference)
        for name, data in models:
            names.append(checked_name(name, checked))
            add(f"{name}.onnx", data)
        add(PLAN_FILE, plan_text(names, options, attachment))
    return write_bytes(path, buffer.getvalue())


def read_attachment(results: Path | str) -> str:
    """The text that was attached to the plan these results come from, whole or not; "" if none was.

    Raises:
        InputError: the file can't be read, has no line for the attachment, or the line was cut or changed.
    """
    try:
        for line in read_file(Path(results)).decode().split("\n"):
            if not line.startswith("#"):
                break
            key, _, value = line[1:].strip().partition("=")
            if key == "attachment":
                return unpack(value)
    except InputError as error:
        raise InputError(f"{results}: {error}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{results}: can't be read ({error}); expected the results.csv of a device") from None
    raise InputError(f"{results}: no line '# attachment=...' before the columns; expected the results.csv of a device")


def script_path() -> Path:
    """Where the script is that runs on devices."""
    return Path(__file__).with_name(SCRIPT)


def _readme(options: PlanOptions) -> str:
    return f"""Measures networks on this device with ONNX Runtime.

Needs Python 3.8 or newer, numpy and onnxruntime (pip install numpy onnxruntime). In this folder:

    python {SCRIPT} .

It writes results.csv here, and may be stopped and started again at any time; it goes on where it was.
Meanwhile close other programs, plug in the power, and leave the device alone.
Then bring results.csv back:

    energysplit profile --import results.csv

Execution provider: {options.execution_provider}. Threads: {options.threads}.
"""
