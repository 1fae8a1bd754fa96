"""Groups under real workers: limits, pauses in the middle, members that fail, and processes killed again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature

from support import Process, Processes, wait_for
from tapfs.bus import claims
from tapfs.bus.operation import Operation
from tapfs.flow.bus import Bus
from tapfs.flow.fan_out import fan_out
from tapfs.flow.tappable import tappable

LONG_S = 60.0
KILLS = 50


class Fans:
    """Workers of `support.fan_out_app`, and a bus that starts its tasks by name."""

    def __init__(self, folder: Path, broker: str | None, processes: Processes) -> None:
        self.notes = folder / "notes"
        self.app = Celery("fan_out", broker=broker, task_cls="tapfs.flow:TappableTask", set_as_current=False)
        self.bus = Bus(folder / "control", app=self.app)
        self.workers: list[Process] = []
        self._processes = processes
        self._environment = {
            "TAPFS_CONTROL": str(folder / "control"),
            "FAN_OUT_BROKER": broker,
            "FAN_OUT_NOTES": str(self.notes),
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "TAPFS_MAX_CRASHES": "1000",
        }

    def worker(self, concurrency: int) -> Process:
        name = f"fan{len(self.workers)}"
        words = ("-m", "celery", "-A", "support.fan_out_app", "worker", "--loglevel=WARNING", f"--hostname={name}@here")
        process = self._processes.python(*words, f"--concurrency={concurrency}", name=name, env=self._environment)
        self.workers.append(process)
        wait_for(lambda: (self.bus.control.layout.workers / f"{name}@here" / "worker.json").exists(), LONG_S)
        return process

    def sig(self, task: str, *args: Any) -> Signature:
        return self.app.signature(f"fan.{task}", args=args, app=self.app)

    def began(self, task: str) -> Counter[int]:
        """How often each number's task began."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return Counter(int(line.split()[1]) for line in lines if line.startswith(f"{task} "))

    def held(self, operation: Operation) -> list[claims.Out]:
        return [out for out in claims.all_out(operation.layout) if out.is_held]


@pytest.fixture
def fans(tmp_path: Path, redis_url: str, processes: Processes) -> Iterator[Fans]:
    made = Fans(tmp_path, redis_url, processes)
    yield made
    made.app.close()


def test_a_chord_needs_no_result_backend_on_any_broker(any_site: Any, tmp_path: Path, processes: Processes) -> None:
    """The barrier is files: Celery itself refuses a chord without a backend."""
    broker = any_site.bus.app.conf.broker_url
    fans = Fans(tmp_path / "fans", broker, processes)
    assert fans.app.backend.__class__.__name__ == "DisabledBackend"
    fans.worker(2)
    workflow = chord([fans.sig("tiny", number) for number in range(12)], fans.sig("total"))
    assert tappable(workflow, bus=fans.bus).delay().get(LONG_S) == sum(range(12))


def test_a_pause_in_the_middle_of_a_group_starts_no_member_and_a_resume_repeats_none(fans: Fans) -> None:
    """B13: members not started stay so, with no message in the broker; B14: running ones end by themselves."""
    fans.worker(4)
    workflow = group(fans.sig("nap", number, 0.05) for number in range(120))
    operation = tappable(workflow, bus=fans.bus, concurrency=6).delay()
    wait_for(lambda: operation.view().steps_done >= 20, LONG_S)
    answer = operation.pause("lunch")
    assert answer.changed
    operation.wait("paused", LONG_S)
    began = sum(fans.began("nap").values())
    committed = len(list((operation.layout.steps / "0001").glob("*.json")))
    assert committed == began < 120
    assert claims.all_out(operation.layout) == []
    operation.resume()
    assert operation.get(LONG_S) == list(range(120))
    assert set(fans.began("nap").values()) == {1}


def test_no_more_members_are_out_than_the_group_and_the_operation_may_have(fans: Fans) -> None:
    fans.worker(4)
    wide = tappable(group(fans.sig("nap", n, 0.02) for n in range(40)), bus=fans.bus, concurrency=3).delay()
    own = tappable(fan_out((fans.sig("nap", n, 0.02) for n in range(40, 80)), concurrency=2), bus=fans.bus).delay()
    most = {wide: 0, own: 0}

    def has_ended() -> bool:
        for operation in most:
            most[operation] = max(most[operation], len(claims.all_out(operation.layout)))
        return all(operation.ready() for operation in most)

    wait_for(has_ended, LONG_S, every_s=0.002)
    assert most[wide] <= 3, most
    assert most[own] <= 2, most
    assert (wide.result, own.result) == (list(range(40)), list(range(40, 80)))


def test_one_wide_operation_does_not_starve_another(fans: Fans) -> None:
    """A later small one is done long before the wide one: most of that is not in the queue yet."""
    fans.worker(2)
    wide = tappable(group(fans.sig("nap", n, 0.02) for n in range(300)), bus=fans.bus, concurrency=4).delay()
    wait_for(lambda: wide.view().steps_done >= 5, LONG_S)
    small = tappable(chain(fans.sig("add", 1, 1), fans.sig("add", 1)), bus=fans.bus).delay()
    assert small.get(LONG_S) == 3
    done = wide.view().steps_done
    assert done < 200, "it waited behind the wide one"
    wide.cancel()
    wide.wait("cancelled", LONG_S)


def test_a_member_that_fails_stops_the_start_of_others_and_fails_the_operation_when_the_running_ones_have_ended(
    fans: Fans,
) -> None:
    fans.worker(4)
    members = [fans.sig("nap", n, 0.5) for n in (1, 2)] + [fans.sig("odd", 3)]
    members += [fans.sig("nap", n, 0.5) for n in range(4, 60)]
    operation = tappable(group(members) | fans.sig("total"), bus=fans.bus, concurrency=3).delay()
    operation._wait(lambda state: operation.ready(), "its end", LONG_S)
    assert operation.state == "failed"
    failure = operation.failure()
    assert failure is not None
    assert failure.step == "0001/0003-odd"
    began = fans.began("nap")
    assert set(began) >= {1, 2}
    assert len(began) <= 3
    done = {path.name[:4] for path in (operation.layout.steps / "0001").glob("*-nap.json")}
    assert len(done) == len(began), "what ran has ended, and counts"


def test_a_group_may_go_on_without_those_that_fail_and_a_retry_does_only_those_again(fans: Fans) -> None:
    """B79: only what was given up, and what waits for it."""
    fans.worker(4)
    workflow = fan_out((fans.sig("odd", n) for n in range(1, 31)), on_error="continue")
    operation = tappable(workflow, bus=fans.bus).delay()
    result = operation.get(LONG_S)
    failed = [place for place, value in enumerate(result, 1) if isinstance(value, dict)]
    assert failed == list(range(3, 31, 3))
    assert result[2]["error"] == {"type": "ValueError", "message": "3 is not to be had", "step": "0001/0003-odd"}
    operation.retry("0001")
    operation.wait("succeeded", LONG_S)
    began = fans.began("odd")
    assert {number for number, times in began.items() if times == 2} == set(failed)
    assert {number for number, times in began.items() if times == 1} == set(range(1, 31)) - set(failed)


def test_fifty_kills_in_a_chain_of_groups_of_chains_change_nothing(fans: Fans, chance: random.Random) -> None:
    """Whoever holds a step is killed, at any instant of it; the result is exact and each step was committed once."""
    for _ in range(2):
        fans.worker(2)
    width, length = 8, 6

    def fan(first: Signature | None) -> group:
        added = range(1, length + 1)
        head = [] if first is None else [first]
        return group(chain(*head, *(fans.sig("add", number + n) for n in added)) for number in range(width))

    layers = [fan(fans.sig("add", 0, 0)), fans.sig("total"), fan(None), fans.sig("total"), fan(None), fans.sig("total")]
    operation = tappable(chain(*layers), bus=fans.bus, concurrency=8).delay()
    killed = 0
    while killed < KILLS:
        assert not operation.ready(), f"it ended after {killed} kills"
        holders = [out.claim.held_by for out in fans.held(operation) if out.claim is not None]
        pids = sorted({holder.pid for holder in holders if holder is not None})
        if pids:
            try:
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        time.sleep(chance.uniform(0.0, 0.06))  # so that it falls anywhere in a step
    expected = 0
    for _ in range(3):
        expected = sum(expected + sum(number + n for n in range(1, length + 1)) for number in range(width))
    assert operation.get(180) == expected
    steps = operation.plan().steps
    assert all(operation.is_committed(step) for step in steps)
    journal = [json.loads(line) for line in operation.layout.journal.read_text().splitlines()]
    print(killed, "kills;", sum(one["event"] == "lost" for one in journal), "losses noted")
