"""How soon what was lost goes on: the step of a killed child elsewhere, and what waited in a broker that forgot.

    .venv/bin/python benchmarks/recovery.py [--times 20]

Measured with real workers (prefork, three processes each) on each broker, over a tally held to a pace. `running again`
is when another process holds the claim. The figures hold for this machine and this minute only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from support import Processes, RedisServer, wait_for  # noqa: E402
from tapfs.bus.operation import Operation  # noqa: E402
from tests.system.conftest import Site  # noqa: E402

ROWS = 2_000_000
WAITING = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        people = place / "people.csv"
        people.write_text("company,gender\n" + "A,f\nB,m\n" * (ROWS // 2))
        server = RedisServer(place / "redis").start()
        try:
            for number, (name, url) in enumerate({"embedded": None, "redis": server.url(0)}.items()):
                killed_children(name, place / str(number), url, people, times)
            forgotten(place / "forgotten", server)
        finally:
            server.stop()


def killed_children(name: str, folder: Path, url: str | None, people: Path, times: int) -> None:
    """Kill the child that holds the step, again and again, while other workers are idle."""
    folder.mkdir()
    processes = Processes(folder)
    try:
        site = Site(folder, processes, url)
        for worker in ("one", "two", "three"):
            site.worker("--concurrency", "3", name=worker)
        operation = site.start("tally", path=people, by="company", of="gender", pace=20_000)
        took = sorted(kill_holder(operation, attempt) for attempt in range(1, times + 1))
    finally:
        processes.close()
    ms = [1000 * seconds for seconds in took]
    print(
        f"{name}: kill -9 of a child to its step running again, {times} times: "
        f"median {statistics.median(ms):.0f} ms, 90th percentile {ms[int(0.9 * times)]:.0f}, worst {ms[-1]:.0f}"
    )


def kill_holder(operation: Operation, attempt: int) -> float:
    """Kill who holds that attempt, once it has saved something; returns the seconds until the next one is held."""
    saved = operation.layout.steps / "0002-count.checkpoint.json"
    wait_for(lambda: holder_of(operation, attempt), 60)
    wait_for(lambda: saved.exists() and json.loads(saved.read_text())["attempt"] == attempt, 60)
    start = time.monotonic()
    os.kill(holder_of(operation, attempt)["pid"], signal.SIGKILL)
    wait_for(lambda: holder_of(operation, attempt + 1), 60, every_s=0.002)
    return time.monotonic() - start


def holder_of(operation: Operation, attempt: int) -> dict[str, Any]:
    """Who holds that attempt at the second step; empty for nobody."""
    try:
        claim = json.loads(operation.layout.claim("0002").read_text())
    except FileNotFoundError:
        return {}
    return (claim["holder"] or {}) if claim["attempt"] == attempt else {}


def forgotten(folder: Path, server: RedisServer) -> None:
    """Empty Redis while operations wait behind a busy worker; then another is started, which is part of the time."""
    folder.mkdir()
    processes = Processes(folder)
    try:
        site = Site(folder, processes, server.url(1))
        site.worker("--concurrency", "1", name="busy")
        busy = site.start("countdown", steps=1, seconds=60)
        wait_for(lambda: busy.state == "running", 60)
        waiting = [site.start("countdown", steps=2, seconds=0) for _ in range(WAITING)]
        with server.client(1) as client:
            client.flushall()
        start = time.monotonic()
        site.worker("--concurrency", "2", name="idle")
        wait_for(lambda: all(operation.ready() for operation in waiting), 90)
        print(f"FLUSHALL with {WAITING} operations waiting: all of them done after {time.monotonic() - start:.1f} s")
    finally:
        processes.close()


if __name__ == "__main__":
    main()
