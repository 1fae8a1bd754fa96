"""Fixtures for the operation directory."""

import os
from pathlib import Path

import pytest

from support.bench import Bench


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out waiting for the disk, in this process and its forks: only a power cut could show it, and it is slow."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")
