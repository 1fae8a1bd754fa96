"""How soon a request takes hold: `touch PAUSE` to `paused`, and `rm PAUSE` to a step at work again.

    .venv/bin/python benchmarks/latency.py [--times 100]

Measured with a real worker (prefork, two processes) on each broker, over a tally that is held to a pace at which a
chunk takes about 2 ms. `paused` and `running` are what `state.json` says; `at work` is when a
worker process holds the claim.
A chunk's own time is part of the figures. They hold for this machine and this minute only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import RedisServer  # noqa: E402
from tapfs.bus.operation import Operation  # noqa: E402
from tapfs.flow.builtin import built_in_bus  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        people = place / "people.csv"
        subprocess.run([sys.executable, str(ROOT / "data" / "make_people.py"), str(people)], check=True)
        print(f"{times} times each, milliseconds: median, 99th percentile, worst")
        measure("embedded", place / "embedded", None, people, times)
        server = RedisServer(place / "redis").start()
        try:
            measure("redis", place / "over-redis", server.url(0), people, times)
        finally:
            server.stop()


def measure(name: str, folder: Path, broker: str | None, people: Path, times: int) -> None:
    """Measure on one broker and print a line for each kind of request."""
    folder.mkdir()
    bus = built_in_bus(folder / "control", broker)
    environment = dict(os.environ, TAPFS_CONTROL=str(folder / "control"), TAPFS_DATA=str(folder / "data"))
    environment |= {"TAPFS_BROKER": broker} if broker else {}
    command = [sys.executable, "-m", "celery", "-A", "tapfs.flow.app", "worker", "--concurrency=2"]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        figures: dict[str, list[float]] = {"touch PAUSE to paused": [], "rm PAUSE to running": [], "  to at work": []}
        operation = None
        for turn in range(times):
            if operation is None or operation.ready():
                operation = bus.start("tally", path=people, by="company", of="gender", pace=200_000)
            hold_and_release(operation, turn, figures)
        for what, seconds in figures.items():
            ordered = sorted(1000 * one for one in seconds)
            ninety_ninth = ordered[math.ceil(0.99 * len(ordered)) - 1]
            print(f"{name:10} {what:24} {statistics.median(ordered):7.1f} {ninety_ninth:7.1f} {ordered[-1]:7.1f}")
    finally:
        worker.terminate()
        worker.wait()


def hold_and_release(operation: Operation, turn: int, figures: dict[str, list[float]]) -> None:
    """Pause and resume a tally at work, once, at an instant that differs from turn to turn."""
    wait(lambda: is_at_work(operation))
    time.sleep(0.01 + (turn % 7) * 0.011)
    marker = operation.path / "PAUSE"
    began = time.perf_counter()
    marker.touch()
    wait(lambda: operation.state in ("paused", "succeeded"))
    figures["touch PAUSE to paused"].append(time.perf_counter() - began)
    time.sleep(0.03)
    began = time.perf_counter()
    marker.unlink()
    wait(lambda: operation.state in ("running", "succeeded"))
    figures["rm PAUSE to running"].append(time.perf_counter() - began)
    wait(lambda: is_at_work(operation) or operation.ready())
    figures["  to at work"].append(time.perf_counter() - began)


def is_at_work(operation: Operation) -> bool:
    """Whether a worker process holds the claim of the counting step."""
    try:
        return json.loads(operation.layout.claim("0002").read_text())["holder"] is not None
    except (FileNotFoundError, ValueError):
        return False


def wait(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for at most half a minute."""
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("a request did not take hold within 30 s")
        time.sleep(0.0005)


if __name__ == "__main__":
    main()
