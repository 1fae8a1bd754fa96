"""A site: a control directory with real workers on a real broker, and a bus to start operations from."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import Process, Processes, wait_for
from tapfs.bus.operation import Operation
from tapfs.flow.builtin import built_in_bus

#: Seconds that anything may take which normally takes milliseconds; only a bug needs more.
LONG_S = 30.0


class Site:
    """A control directory, its broker, and the workers started on it."""

    def __init__(self, folder: Path, processes: Processes, broker: str | None) -> None:
        self.control = folder / "control"
        self.data = folder / "data"
        self.broker = broker
        self._processes = processes
        self.bus = built_in_bus(self.control, broker)
        self.variables: dict[str, str] = {}
        self.workers: dict[str, Process] = {}

    @property
    def environment(self) -> dict[str, str | None]:
        own = {"TAPFS_CONTROL": str(self.control), "TAPFS_DATA": str(self.data), "TAPFS_BROKER": self.broker}
        return own | self.variables

    def worker(self, *options: str, name: str = "worker") -> Process:
        """Start a worker with two pool processes, or with the given options, and wait until it is ready."""
        return self.worker_of("tapfs.flow.app", *(options or ("--concurrency", "2")), name=name)

    def worker_of(self, app: str, *options: str, name: str = "worker", folder: Path | None = None) -> Process:
        """Start a worker of an app, which may be in a module of the test's own in `folder`."""
        paths = {"PYTHONPATH": str(folder)} if folder is not None else {}
        process = self._processes.python(
            "-m",
            "celery",
            "-A",
            app,
            "worker",
            "--loglevel=INFO",
            f"--hostname={name}@%h",
            *options,
            name=name,
            env=self.environment | paths,
        )
        process.wait_for_output("ready.")
        self.workers[name] = process
        return process

    def tapfs(self, *words: str | Path, expect: int | None = 0) -> Process:
        """Run a command to its end; checks its exit status unless `expect` is None."""
        process = self._processes.tapfs(*words, env=self.environment, separate_errors=True)
        status = process.wait(60)
        assert "Traceback" not in process.output + process.errors, process.tail
        if expect is not None:
            assert status == expect, process.tail
        return process

    def start(self, name: str, **arguments: object) -> Operation:
        return self.bus.start(name, **arguments)

    def show(self, operation: Operation) -> str:
        """Everything there is to know of an operation, for a message."""
        lines = [f"{path.name}: {path.read_text(errors='replace')}" for path in sorted(operation.path.glob("*.json*"))]
        out = [f"claims/{path.name}: {path.read_text(errors='replace')}" for path in operation.layout.claims.glob("*")]
        return "\n".join(lines + out)

    def wait(self, operation: Operation, state: str, timeout_s: float = LONG_S) -> None:
        """Wait until `state.json` says so."""
        wait_for(
            lambda: operation.state == state, timeout_s, lambda: f"not {state}: {self.show(operation)}", every_s=0.003
        )

    def journal(self, operation: Operation, event: str) -> list[dict[str, Any]]:
        return [entry for entry in operation.journal.entries() if entry["event"] == event]


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the outputs of operations that a test starts itself out of the project's `data/`."""
    monkeypatch.setenv("TAPFS_DATA", str(tmp_path / "data"))


@pytest.fixture
def site(tmp_path: Path, processes: Processes) -> Site:
    """A site on the embedded broker."""
    return Site(tmp_path, processes, None)


@pytest.fixture(params=["embedded", "redis"])
def any_site(request: pytest.FixtureRequest, tmp_path: Path, processes: Processes) -> Site:
    """A site on the embedded broker, and the same test on Redis."""
    broker = request.getfixturevalue("redis_url") if request.param == "redis" else None
    return Site(tmp_path, processes, broker)


@pytest.fixture
def make_site() -> type[Site]:
    """For a site on a broker of the test's own."""
    return Site


@pytest.fixture
def people(tmp_path: Path) -> Callable[[int], Path]:
    """Write a CSV file with so many rows; quoted commas, quotes and line breaks among them."""

    def write(rows: int) -> Path:
        chance = random.Random(20261122)
        path = tmp_path / "people.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["first_name", "last_name", "gender", "company"])
            companies = [f"Company {number}" for number in range(50)]
            companies += ['The "Blue" Door', "Weber, Klein & Söhne", "Two\nLines", "美咲商店"]
            for _ in range(rows):
                writer.writerow(
                    ["Zoë", chance.choice("ABC"), chance.choice(("female", "male", "")), chance.choice(companies)]
                )
        return path

    return write


def plain_tally(path: Path, by: str = "company", of: str = "gender") -> dict[str, dict[str, int]]:
    """Count with a plain loop: what every tally must give exactly."""
    totals: dict[str, dict[str, int]] = {}
    with open(path, newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        columns = next(rows)
        place, other = columns.index(by), columns.index(of)
        for row in rows:
            group = totals.setdefault(row[place], {})
            group[row[other]] = group.get(row[other], 0) + 1
    return totals


@pytest.fixture
def expected() -> Callable[..., dict[str, dict[str, int]]]:
    """The plain loop's result."""
    return plain_tally


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A random number generator whose seed is printed; `TEST_SEED` gives it again."""
    seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed of {request.node.name}: TEST_SEED={seed}")
    return random.Random(seed)
