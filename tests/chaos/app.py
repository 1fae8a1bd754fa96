"""The app that workers and supervisors load by `-A chaos.app`, configured from the environment."""

from __future__ import annotations

import os

from chaos.workflows import make_bus
from tapfs import settings

bus = make_bus(
    settings.control_path(),
    settings.broker(),
    first_delay_s=float(os.environ.get("CHAOS_FIRST_DELAY_S", "10")),
    seed=int(os.environ.get("CHAOS_SEED", "0")),
)
app = bus.app
