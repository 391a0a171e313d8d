"""A session that puts torch's process-wide settings back after each test."""

from __future__ import annotations

import pytest

from energysplit.train import Session


@pytest.fixture
def session():
    """A CPU session on one thread."""
    with Session("cpu", threads=1) as session:
        yield session
