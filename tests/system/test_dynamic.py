"""Workflows that grow while they run, under real workers: as Celery has them, and with processes killed at random."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord

from support import Processes, RedisServer, wait_for
from support.dynamic_app import CASES, PLACES, PUT_IN, dynamic_app
from tapfs import Bus, Operation, tappable
from tapfs.bus import claims
from tapfs.bus.findings import Severity
from tapfs.bus.plan import leaves, parts_of
from tapfs.bus.planfile import decode_plan
from tapfs.bus.verify import verify_operation

TESTS = Path(__file__).parents[1]
LONG_S = 120.0
KILLS = 20


class Works:
    """Workers of the two apps of `support.dynamic_app`, each on a Redis database of its own."""

    def __init__(self, folder: Path, url: str, processes: Processes) -> None:
        self.notes = folder / "notes"
        self._processes = processes
        self._environment = {
            "DYNAMIC_URL": url,
            "DYNAMIC_NOTES": str(self.notes),
            "PYTHONPATH": str(TESTS),
            "TAPFS_CONTROL": str(folder / "control"),
            "TAPFS_MAX_CRASHES": "1000",
        }
        self.plain = dynamic_app("plain", url)
        self.app = dynamic_app("tappable", url, "tapfs.flow:TappableTask")
        self.bus = Bus(folder / "control", app=self.app)
        self._count = 0

    def start(self, app: str, concurrency: int = 2) -> None:
        self._count += 1
        name = f"{app}{self._count}"
        words = ("-m", "celery", "-A", f"support.dynamic_app:{app}", "worker", "--loglevel=INFO")
        options = (f"--concurrency={concurrency}", f"--hostname={name}@here")
        process = self._processes.python(*words, *options, name=name, env=self._environment)
        process.wait_for_output("ready.", 60)

    def close(self) -> None:
        self.plain.backend._pending_results.concrete.clear()  # results unsubscribe when they go
        gc.collect()
        self.plain.close()
        self.app.close()

    def began(self, task: str) -> Counter[str]:
        """How often each task began, by its first argument."""
        lines = self.notes.read_text(encoding="utf-8").splitlines()
        return Counter(line.partition(" ")[2] for line in lines if line.startswith(f"{task} "))

    def kill(self, operation: Operation, times: int, chance: random.Random, until: Callable[[], bool]) -> int:
        """Kill processes that hold a step, at any instant of it, so many times; the operation must not end before.

        Each time, `workflow.json` is a plan. Returns how many were killed before it was `until`.
        """
        killed = 0
        while killed < times and not until():
            assert not operation.ready(), f"it ended after {killed} kills"
            decode_plan(operation.layout.plan.read_bytes())
            outs = [out.claim for out in claims.all_out(operation.layout) if out.is_held]
            pids = {claim.held_by.pid for claim in outs if claim is not None and claim.held_by is not None}
            if pids:
                try:
                    os.kill(chance.choice(sorted(pids)), signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    pass
            time.sleep(chance.uniform(0.0, 0.1))  # so that it falls anywhere in a step
        return killed


@pytest.fixture
def works(tmp_path: Path, redis_url: str, processes: Processes) -> Iterator[Works]:
    made = Works(tmp_path, redis_url, processes)
    yield made
    made.close()


def check(operation: Operation) -> None:
    """Everything in the plan is done, each part put in by a step that is done, and nothing is wrong with the files."""
    plan = operation.plan()
    assert all(operation.is_committed(step) for step in plan.steps)
    assert len({step.path for step in plan.steps}) == len(plan.steps)
    assert [one for one in verify_operation(operation) if one.severity is Severity.FAULT] == []
    assert operation.view().steps_done == operation.view().steps_total == len(plan.steps)


def put_in(operation: Operation) -> Counter[str]:
    """How many parts each step has put in, by its path."""
    homes = operation.plan().homes
    return Counter(part.by for home in homes for part in parts_of(home) if part.by is not None)


@pytest.fixture
def words(tmp_path: Path, chance: random.Random) -> Path:
    """A file with a word in each line, of which some hold what JSON and UTF-8 have to see to."""
    path = tmp_path / "words.txt"
    known = [f"word {number}" for number in range(36)] + ['"quoted"', "Söhne", "美咲商店", "back\\slash"]
    path.write_text("".join(f"{chance.choice(known)}\n" for _ in range(400)), encoding="utf-8")
    return path


def test_twenty_kills_in_a_loop_that_builds_its_next_stage_change_nothing(
    works: Works, words: Path, chance: random.Random
) -> None:
    """The original demo's loop: read some, go on until the end of the file, then a group over what was read."""
    expected = Counter(words.read_text(encoding="utf-8").splitlines())
    for _ in range(2):
        works.start("tappable", 2)
    read = works.app.tasks["dynamic.read"]
    operation = tappable(read.s(str(words), 5) | works.app.tasks["canvas.collect"].s("end"), bus=works.bus).delay()

    def has_read() -> bool:
        return any(step.name == "weigh" for step in operation.plan().steps)

    killed = works.kill(operation, KILLS * 2 // 3, chance, has_read)
    assert killed > 0
    wait_for(has_read, LONG_S, every_s=0.002)
    killed += works.kill(operation, KILLS - killed, chance, operation.ready)
    assert killed == KILLS
    weights = [[word, count] for word, count in sorted(expected.items())]
    assert operation.get(LONG_S) == [{"words": weights, "sum": 400}, "end"]
    check(operation)
    steps = operation.plan().steps
    reads = [step for step in steps if step.name == "read"]
    assert len(reads) == 400 // 5 + 1, "the last one finds that there is nothing left"
    offsets = [step.args[2] for step in reads[1:]]
    assert offsets == sorted(set(offsets))
    assert [step.path for step in reads[1:]] == [f"0001.{number:04d}" for number in range(1, len(reads))]
    assert [step.args[0] for step in steps if step.name == "weigh"] == sorted(expected)
    assert put_in(operation) == {step.path: 1 for step in reads[:-1]} | {reads[-1].path: 2}
    repeated = sum(times - 1 for task in ("read", "weigh", "total") for times in works.began(task).values())
    print(f"{killed} kills, {repeated} steps done again, {len(steps)} steps")
    assert repeated <= killed


def test_kills_in_a_chord_whose_members_add_members_change_nothing(works: Works, chance: random.Random) -> None:
    """`self.add_to_chord` again and again; each number is in the list once."""
    for _ in range(2):
        works.start("tappable", 2)
    last = 63
    grow, collect = works.app.tasks["dynamic.grow"], works.app.tasks["canvas.collect"]
    workflow = chord([grow.s(1, last), collect.s("other")], collect.s("body"))
    operation = tappable(workflow, bus=works.bus, concurrency=6).delay()
    killed = works.kill(operation, KILLS, chance, operation.ready)
    [members, body] = operation.get(LONG_S)
    check(operation)
    assert (members[:2], body) == ([1, ["other"]], "body")
    assert sorted(members[2:]) == list(range(2, last + 1))
    group = operation.plan().part("0001")
    grown = {step.args[0]: step for member in parts_of(group) for step in leaves(member) if step.name == "grow"}
    assert {number: step.by for number, step in grown.items()} == {1: None} | {
        number: grown[number // 2].path for number in range(2, last + 1)
    }
    repeated = sum(times - 1 for times in works.began("grow").values())
    print(f"{killed} kills, {repeated} steps done again")
    assert killed == KILLS
    assert repeated <= killed


# As Celery has it


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, next_redis_db: Callable[[], int]
) -> Iterator[tuple[Celery, Bus]]:
    """The plain app, and the bus of the other one, each with a worker that runs until the last test of this module."""
    folder = tmp_path_factory.mktemp("dynamic")
    processes = Processes(folder)
    made = []
    for app in ("plain", "tappable"):
        db = next_redis_db()
        with redis_server.client(db) as client:
            client.flushdb()
        (folder / app).mkdir()
        works = Works(folder / app, redis_server.url(db), processes)
        works.start(app)
        made.append(works)
    yield made[0].plain, made[1].bus
    for works in made:
        works.close()
    processes.close()


#: What Celery 5.7 gives something else for, or waits for ever: it sends the tasks of `.chunks` and gives what tells of
#: them, and such a chord's result is that of a group which it does not know.
BEYOND_CELERY = {("chunks", place) for place in PLACES} | {
    ("chord with a group for its body", place) for place in ("alone", "member")
}


def canvas_of(app: Celery, kind: str, place: str) -> Any:
    c = app.tasks["canvas.collect"].s
    return PLACES[place][0](c, app.tasks["dynamic.becomes"].s(PUT_IN[kind][0](c)))


@pytest.mark.parametrize(("kind", "place"), CASES)
def test_what_takes_a_steps_place_gives_what_celerys_own_replace_gives(
    kind: str, place: str, both: tuple[Celery, Bus]
) -> None:
    plain, bus = both
    expected = PLACES[place][1](PUT_IN[kind][1])
    given = tappable(canvas_of(bus.app, kind, place), bus=bus).delay().get(LONG_S)
    assert given == expected
    if (kind, place) not in BEYOND_CELERY:
        assert json.loads(json.dumps(canvas_of(plain, kind, place).apply_async().get(timeout=15))) == expected


def test_added_members_give_what_celerys_own_add_to_chord_gives(both: tuple[Celery, Bus]) -> None:
    plain, bus = both

    def build(app: Celery) -> Any:
        c, adds = app.tasks["canvas.collect"].s, app.tasks["dynamic.adds"].s
        return c(0) | chord([c(1), adds(2, [c(3)]), c(4) | adds(5, [c(6)])], c(7))

    expected = json.loads(json.dumps(build(plain).apply_async().get(timeout=15)))
    given = tappable(build(bus.app), bus=bus).delay().get(LONG_S)
    # Celery gives them the index of the member that adds them, so that their places depend on who is first.
    assert sorted(map(json.dumps, given[0])) == sorted(map(json.dumps, expected[0]))
    assert given[0][:3] == [[[0], 1], [[0], 2], [[[0], 4], 5]]
    assert sorted(given[0][3:]) == [[3], [6]]
    assert given[1] == expected[1] == 7
