"""What the best of the field promise of groups, gates and members, and no other file shows here: each by its id."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support import wait_for
from support.bench import Bench, events, history
from support.forest import Worker, chain, group, start, task
from support.trees import STEP, wide
from tapfs.bus.begin import claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Part, Step
from tapfs.bus.requests import in_force
from tapfs.bus.states import State, Want
from tapfs.bus.steps import release_step

#: A step, a group of a step, a chain and a group, and a step behind it.
TREE: tuple[Part, ...] = (task("read"), group(task("a"), chain("b", "c"), group(task("d"), task("e"))), task("join"))


def has_left_index(bench: Bench, *operations: Operation) -> bool:
    """Whether none of them is in the index any more: they leave it once no edit of `state.json` can be under way."""
    for operation in operations:
        operation.reconcile()
    return not {operation.id for operation in operations} & set(bench.control.active_ids())


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_resumed_in_the_middle_of_a_group_only_what_was_not_done_is_done(bench: Bench, end: str) -> None:
    """B29, B30."""
    operation = start(bench, *TREE)
    worker = Worker(bench, operation)
    if end == "failed":
        worker.failing = {"0002/0002/0002"}
        worker.run()
    else:
        worker.run(until={"0002/0003/0001"})
        operation.cancel("enough")
    assert operation.state == end
    done = {path for path in worker.ran if operation.is_committed(operation.plan().step(path))}
    worker.failing = set()
    again = Worker(bench, operation)
    operation.resume()
    ran = again.finish()
    assert operation.state is State.SUCCEEDED
    assert not set(ran) & done
    assert set(ran) | done == {step.path for step in operation.plan().steps}
    attic = operation.layout.attic / "epoch-1" / "error.json"
    assert attic.exists() == (end == "failed")


def test_operations_that_wait_and_are_cancelled_in_bulk_leave_nothing_out(bench: Bench) -> None:
    """B55: no claim, no entry in the index, and their messages have no effect."""
    operations = [bench.start_tree(wide(4), STEP) for _ in range(5)]
    for operation in operations:
        assert operation.state is State.QUEUED
        assert operation.cancel("not today").state == "cancelled"
    assert [bench.out(operation) for operation in operations] == [[]] * 5
    wait_for(lambda: has_left_index(bench, *operations))
    for operation in operations:
        for number in range(4):
            assert bench.drop(operation, number) == "the operation is cancelled"
    other = bench.start_tree(wide(4))
    assert sorted(Worker(bench, other).finish()) == ["0001/0001", "0001/0002", "0001/0003", "0001/0004"]


def test_each_thing_that_happens_to_a_tree_is_told_once(bench: Bench) -> None:
    """B91: start, pause, resume, failure and end are each one line of the journal, however many look."""
    operation = start(bench, *TREE)
    worker = Worker(bench, operation)
    worker.run(until={"0002/0002/0002"})
    for _ in range(3):
        operation.pause("lunch")
        bench.other(operation).reconcile()
    for _ in range(3):
        operation.resume()
    worker.failing = {"0003"}
    worker.finish()
    for _ in range(3):
        bench.other(operation).reconcile()
    assert operation.state is State.FAILED
    worker.failing = set()
    operation.retry()
    worker.finish()
    assert history(operation) == [
        "queued",
        "running",
        "pausing",
        "paused",
        "running",
        "failed",
        "running",
        "succeeded",
    ]
    assert [entry["want"] for entry in events(operation, "asked")] == ["pause", "run", "run"]


def test_a_member_with_a_countdown_is_not_run_before_its_time_and_can_be_taken_back(bench: Bench) -> None:
    """B100."""
    late = Step("", "late", "test.late", options={"countdown": 3600.0})
    operation = start(bench, group(task("a"), late), task("join"))
    times = {one.step.path: one.not_before for one in bench.published}
    assert times["0001/0001"] is None
    assert str(times["0001/0002"]).startswith("2027-01-15T09:00:00")
    bench.do(operation, "0001/0001")
    bench.now += 600
    operation.reconcile()
    assert len([one for one in bench.published if one.step.path == "0001/0002"]) == 1, "it waits, and is not lost"
    assert operation.cancel("not today").state == "cancelled"
    assert bench.drop(operation) == "the operation is cancelled"


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Processes that a test has made; ended with it."""
    found: list[int] = []
    yield found
    for child in found:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def run_in_child(bench: Bench, operation: Operation, path: str, *, taps: bool) -> int:
    """Have a process of its own run a member, which tidies up at its end; returns when it has begun."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            other = bench.other(operation)
            held = claim_step(other, path, 1, 1, "child@test")
            assert isinstance(held, HeldClaim)
            try:
                os.write(write, b".")
                while not taps or in_force(other.control, other.layout).want is Want.RUN:
                    time.sleep(0.01)
            finally:
                (bench.path / f"tidied-{path.replace('/', '-')}").touch()
            release_step(other, held)
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"."
    os.close(read)
    return child


def test_to_stop_and_to_terminate_differ_and_both_end_the_operation(bench: Bench, children: list[int]) -> None:
    """B57: who comes to a tap runs its clean-up, whose process is ended does not."""
    operation = bench.start_tree(wide(2), STEP)
    children.append(run_in_child(bench, operation, "0001/0001", taps=True))
    children.append(run_in_child(bench, operation, "0001/0002", taps=False))
    operation.cancel()
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert operation.reconcile().state is State.CANCELLING
    assert operation.force(grace_s=0.0).state == "cancelled"
    assert os.waitstatus_to_exitcode(os.waitpid(children[1], 0)[1]) == -signal.SIGKILL
    assert [path.name for path in Path(bench.path).glob("tidied-*")] == ["tidied-0001-0001"]
    assert operation.state is State.CANCELLED
    assert bench.out(operation) == []
