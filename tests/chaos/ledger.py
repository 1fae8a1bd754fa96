"""The ledger: what every attempt at a step writes down when it begins and ends, outside of tapfs.

It stands for the side effects of a step: a mail sent, a row written. One file an operation, one JSON object a line:

    {"at": 1795334107.12, "mark": "start", "step": "0003", "epoch": 1, "attempt": 2, "pid": 4711, "token": "9f2c..."}

`mark` is `start`, then `end` when the step returns, or the name of what it raised; a killed attempt has only `start`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapfs import settings
from tapfs.flow.message import HEADER


@dataclass(frozen=True)
class Line:
    """One line of the ledger; see above."""

    at: float
    mark: str
    step: str
    epoch: int
    attempt: int
    pid: int
    token: str

    @property
    def fence(self) -> tuple[int, int]:
        """Epoch and attempt: who is later has the higher one."""
        return self.epoch, self.attempt


def ledger_path(folder: Path, operation_id: str) -> Path:
    """Where the lines of an operation are."""
    return folder / "ledger" / f"{operation_id}.jsonl"


def read_ledger(folder: Path, operation_id: str) -> list[Line]:
    """All lines of an operation, oldest first."""
    try:
        text = ledger_path(folder, operation_id).read_text()
    except FileNotFoundError:
        return []
    return [Line(**json.loads(line)) for line in text.splitlines()]


@contextmanager
def attempt(task: Any) -> Iterator[str]:
    """Write down that an attempt at a step begins, and how it ends; gives its token."""
    header = task.request.headers[HEADER]
    token = os.urandom(4).hex()
    path = ledger_path(settings.data_path(), header["operation"])
    about = {name: header[name] for name in ("step", "epoch", "attempt")} | {"pid": os.getpid(), "token": token}
    _write(path, "start", about)
    try:
        yield token
    except BaseException as error:
        _write(path, type(error).__name__, about)
        raise
    _write(path, "end", about)


def _write(path: Path, mark: str, about: dict[str, Any]) -> None:
    """Append a line by one `write`, so that a kill leaves all of it or nothing."""
    line = json.dumps({"at": time.time(), "mark": mark, **about}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o660)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
