"""Fixtures for the model of the protocol."""

import os

import pytest

from model.machine import CLOCK, NEVER_S


@pytest.fixture
def machine_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, and a clock of the machine's by which no edit gets old before it is told to."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    monkeypatch.setattr("tapfs.bus.statefile.time", CLOCK)
    for name in ("SETTLE_S", "OPEN_SETTLE_S", "BLIND_KEEP_S"):
        monkeypatch.setattr(f"tapfs.bus.statefile.{name}", NEVER_S)
