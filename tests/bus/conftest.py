"""Fixtures for the operation directory."""

from pathlib import Path

import pytest

from support.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")
