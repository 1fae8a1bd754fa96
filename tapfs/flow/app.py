"""The built-in Celery app, configured from the environment when this module is imported; see `settings`."""

from __future__ import annotations

from tapfs import settings
from tapfs.flow.builtin import built_in_bus

bus = built_in_bus(settings.control_path(), settings.broker())
app = bus.app
