"""Exit codes; the table is in the package's docstring."""

from __future__ import annotations

DONE = 0
FAILED = 1
TIMED_OUT = 3
INTERRUPTED = 130
