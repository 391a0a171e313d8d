"""What holds for every test: one thread a process, checked shapes, the same random examples every time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

# Before torch is imported: pytest-xdist runs several processes, and threads of one would starve the others.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import pytest
import shape_checks
from hypothesis import HealthCheck, settings

# Before any test, because modules are imported by whichever needs them first.
shape_checks.install(["energysplit.splitting", "energysplit.surgery"])

# A shell starts what runs in the background deaf to Ctrl-C, and so would be the processes that tests interrupt.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "energysplit", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("energysplit")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="as many faults as were promised: `make faults`")


@pytest.fixture(scope="session")
def in_full(pytestconfig: pytest.Config) -> bool:
    """Whether tests/faults tries everything (about an hour) or a sample of it (with all other tests)."""
    return bool(pytestconfig.getoption("--faults"))


def pytest_runtest_teardown() -> None:
    """A session that a test leaves open must not make torch refuse operators in the tests after it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real image sets beside the repository; skips where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real image sets in ../shared/data, which are not in the repository")
    return SHARED_DATA
