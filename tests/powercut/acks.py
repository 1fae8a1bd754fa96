"""What was acknowledged: a log outside the file system that is cut. The machine survives, so it needs no sync.

Each call is two lines: `begun` before it, `done` after it returned. A line is one write of a file opened to append, so
the lines of several processes never mix.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class AckLog:
    """The log, for one process to write."""

    def __init__(self, path: Path, who: str, cut: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._always = {"who": who, "cut": cut}

    def write(self, kind: str, phase: str, operation: str | None = None, **facts: Any) -> None:
        """Add a line."""
        line = {"at": time.monotonic(), "kind": kind, "phase": phase, "operation": operation} | self._always | facts
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def read_acks(path: Path) -> list[Line]:
    """Return all lines, in the order in which they were written.

    A call that returned while the power went has acknowledged nothing, and is `open`: a real cut would have ended its
    process too, and xfs lets the fsync of a folder succeed when the file system is gone. One that began after that had
    all its calls fail.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    times = {(line["cut"], line["phase"]): line["at"] for line in reversed(lines) if line["kind"] == "cut"}
    begun_at: dict[str, float] = {}
    for line in lines:
        begun, over = times.get((line["cut"], "begun")), times.get((line["cut"], "over"))
        if line["phase"] == "begun":
            begun_at[line["who"]] = line["at"]
        is_before = begun is None or line["at"] < begun
        is_after = over is not None and begun_at.get(line["who"], 0.0) > over
        if line["phase"] == "done" and not is_before and not is_after:
            line["phase"] = "open"
    return lines
