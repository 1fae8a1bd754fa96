"""What a member of a large group costs, against a step of a chain; and how soon a pause in its middle holds.

    .venv/bin/python benchmarks/fan_out.py [--members 10000] [--chain 1000] [--processes 2]

On Redis, one prefork worker, at most 8 members out at a time, tasks that only note that they began. In turn: a chain,
the group, a chain again; the ratio is that of the group's cost to the mean of both. The group is paused in its middle
and resumed; the pause is not in its cost. Memory is the resident set of each process of the worker, after a tenth of
the group and at its end. The exit status is 1 when a result is wrong or a member was run twice.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from celery import chain, group  # noqa: E402

from support import Process, Processes, RedisServer, wait_for  # noqa: E402
from tapfs.bus.operation import Operation  # noqa: E402
from tapfs.flow.tappable import tappable  # noqa: E402
from tests.system.test_fan_out import Fans  # noqa: E402

CONCURRENCY = 8
HOURS_S = 7200.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--chain", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        processes, server = Processes(place), RedisServer(place / "redis").start()
        try:
            fans = Fans(place, server.url(0), processes)
            worker = fans.worker(chosen.processes)
            before = cost_of_chain(fans, chosen.chain)
            is_right, cost = measure_group(fans, worker, chosen.members)
            after = cost_of_chain(fans, chosen.chain)
        finally:
            processes.close()
            server.stop()
    step = (before + after) / 2
    print(f"chain of {chosen.chain:,}: {before:.2f} and {after:.2f} ms a step")
    print(f"group of {chosen.members:,}: {cost:.2f} ms a member; ratio {cost / step:.2f}")
    return 0 if is_right else 1


def cost_of_chain(fans: Fans, steps: int) -> float:
    """Milliseconds a step."""
    start = time.monotonic()
    operation = tappable(chain(*(fans.sig("tiny", 0).set(immutable=True) for _ in range(steps))), bus=fans.bus).delay()
    operation.get(HOURS_S)
    return 1000 * (time.monotonic() - start) / steps


def measure_group(fans: Fans, worker: Process, members: int) -> tuple[bool, float]:
    """Run a group with a pause in its middle; says whether all was exact, and the milliseconds a member."""
    fans.notes.unlink(missing_ok=True)
    operation = tappable(
        group(fans.sig("tiny", number) for number in range(members)), bus=fans.bus, concurrency=CONCURRENCY
    ).delay()
    start = time.monotonic()
    wait_for(lambda: done(operation) >= members // 10, HOURS_S, every_s=0.05)
    early = memory_of(worker)
    wait_for(lambda: done(operation) >= members // 2, HOURS_S, every_s=0.05)
    pausing = time.monotonic()
    operation.pause("lunch")
    wait_for(lambda: operation.state == "paused", HOURS_S, every_s=0.005)
    paused = time.monotonic()
    at_pause = sum(fans.began("tiny").values())
    operation.resume()
    result = operation.get(HOURS_S)
    cost = 1000 * (time.monotonic() - start - (paused - pausing)) / members
    late = memory_of(worker)
    began = fans.began("tiny")
    is_right = result == list(range(members)) and set(began.values()) == {1} and len(began) == members
    print(f"asked to pause after {at_pause:,} members: paused after {paused - pausing:.3f} s")
    print(f"memory of the worker's processes, MiB: {told(early)} after a tenth, {told(late)} at the end")
    print(f"members run twice: {sum(times > 1 for times in began.values())}; result {'right' if is_right else 'WRONG'}")
    return is_right, cost


def done(operation: Operation) -> int:
    return operation.view().steps_done


def memory_of(worker: Process) -> list[float]:
    """The resident sets of a worker and its children, in MiB."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    page = os.sysconf("SC_PAGE_SIZE")
    pids = [str(worker.pid), *children]
    return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page / 2**20 for pid in pids]


def told(sizes: list[float]) -> str:
    return ", ".join(f"{size:.0f}" for size in sizes)


if __name__ == "__main__":
    sys.exit(main())
