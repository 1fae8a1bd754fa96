"""Members of a group: pausing and cancelling them together, one alone, and ending their processes."""

import os
import signal
from collections.abc import Iterator

import pytest

from support.bench import Bench, events, history, snapshot
from support.forest import Worker, chain, group, start, task, without
from support.mortal import deaths
from tapfs.bus import claims
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.fit import misfits
from tapfs.bus.members import CANCELLED
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, FAIL
from tapfs.bus.records import Checkpoint, Failure
from tapfs.bus.saved import write_checkpoint
from tapfs.bus.states import State
from tapfs.bus.steps import commit_step, release_step
from tapfs.errors import Refused


def fan_out(bench: Bench, members: int = 6, **options: object) -> tuple[Operation, Worker]:
    inside = group(*[task("a") for _ in range(members)], **({"concurrency": 2} | options))
    operation = start(bench, inside, task("join"))
    return operation, Worker(bench, operation)


def two_held(bench: Bench, operation: Operation) -> list[HeldClaim]:
    return [bench.claim_at(operation, path) for path in ("0001/0001", "0001/0002")]


# ---- all of them


def test_a_paused_group_starts_no_member_and_lets_those_that_run_end(bench: Bench) -> None:
    """B13, B14."""
    operation, worker = fan_out(bench)
    held = two_held(bench, operation)
    published = len(bench.published)
    assert operation.pause().state == "pausing"
    for one in held:
        worker.end(one)
    assert (operation.state, len(bench.published)) == (State.PAUSED, published)
    assert (operation.view().steps_done, claims.all_out(operation.layout)) == (2, [])
    operation.resume()
    worker.finish()
    assert sorted(worker.ran) == ["0001/0003", "0001/0004", "0001/0005", "0001/0006", "0002"]


def test_members_that_are_added_while_it_pauses_wait_too(bench: Bench) -> None:
    """B13."""
    operation, worker = fan_out(bench, 2)
    held = two_held(bench, operation)
    worker.members = {"0001/0001": (task("x"), task("y"))}
    operation.pause()
    for one in held:
        worker.end(one)
    assert (operation.state, operation.view().steps_total) == (State.PAUSED, 5)
    assert worker.run() == []
    operation.resume()
    worker.finish()
    assert worker.ran == ["0001/0003", "0001/0004", "0002"]


def test_taking_the_hold_of_all_away_keeps_a_group_held_that_was_paused_on_its_own(bench: Bench) -> None:
    """B15."""
    operation, worker = fan_out(bench)
    other, other_worker = fan_out(bench)
    (bench.path / "PAUSE").touch()
    for one in (operation, other):
        one.reconcile()
    operation.pause("mine")
    (bench.path / "PAUSE").unlink()
    assert [one.reconcile().state for one in (operation, other)] == [State.PAUSED, State.RUNNING]
    assert worker.run() == []
    assert len(other_worker.run()) == 7


@pytest.mark.parametrize("ending", ["it ends", "it taps"])
def test_a_cancel_reaches_every_member_and_leaves_those_alone_that_are_done(bench: Bench, ending: str) -> None:
    """B52."""
    inner = group(task("a"), task("b"), task("c"), concurrency=1)
    operation = start(bench, group(task("x"), inner, concurrency=3), task("join"))
    worker = Worker(bench, operation)
    worker.run(until={"0001/0002/0002"})
    held = bench.claim_at(operation, "0001/0002/0002")
    done = {path: path.read_bytes() for path in operation.layout.steps.rglob("*.json")}
    assert len(done) == 2
    assert operation.cancel("wrong list").state == "cancelling"
    if ending == "it ends":
        worker.end(held)
    else:
        release_step(operation, held)
    assert operation.state is State.CANCELLED
    assert worker.run() == []
    assert all(path.read_bytes() == content for path, content in done.items())
    assert claims.all_out(operation.layout) == []


def test_a_cancel_is_told_once_however_often_it_is_asked(bench: Bench) -> None:
    """B51."""
    operation, worker = fan_out(bench)
    held = two_held(bench, operation)
    assert [operation.cancel().changed for _ in range(3)] == [True, False, False]
    for one in held:
        worker.end(one)
    assert operation.cancel().changed is False
    assert history(operation).count("cancelling") == history(operation).count("cancelled") == 1
    assert [line["want"] for line in events(operation, "asked")] == ["cancel"]


def test_a_cancel_of_a_paused_group_is_never_lost(bench: Bench) -> None:
    """B44: by a verb at once; by a file also while all is held."""
    operation, worker = fan_out(bench)
    other, _ = fan_out(bench)
    for one in (operation, other):
        one.pause()
    assert operation.cancel().state == "cancelled"
    (bench.path / "PAUSE").touch()
    (other.path / "CANCEL").write_text("enough")
    assert other.reconcile().state is State.CANCELLED
    assert worker.run() == []


def test_a_cancel_in_front_of_a_step_stops_what_is_behind_it(bench: Bench) -> None:
    """B54."""
    operation = start(bench, task("read"), group(chain("a", "b"), task("c")), task("join"))
    worker = Worker(bench, operation)
    worker.run(until={"0002/0001/0001"})
    operation.cancel()
    assert (operation.state, worker.run()) == (State.CANCELLED, [])


# ---- one of them


@pytest.mark.parametrize("on_error", [FAIL, CONTINUE])
def test_a_member_that_is_cancelled_stands_as_an_error_among_the_results(bench: Bench, on_error: str) -> None:
    """B52, B54: the rest of its chain is not run, and nothing else is touched."""
    operation = start(bench, group(chain("a", "b"), task("c"), on_error=on_error), task("join"))
    worker = Worker(bench, operation)
    worker.run(until={"0001/0002"})
    answer = operation.cancel_member("0001/0001", "not needed")
    assert (answer.changed, answer.message) == (True, "member 0001/0001 is cancelled; the group goes without it")
    worker.finish()
    assert worker.ran == ["0001/0001/0001", "0001/0002", "0002"]
    error = Failure.read(operation.layout.given_up(operation.plan().part("0001/0001")))
    assert (error.type, error.message, error.step) == (CANCELLED, "not needed", "0001/0001/0002-b")
    assert '"not needed"' in operation.result
    assert operation.state is State.SUCCEEDED


def test_what_runs_of_a_cancelled_member_stops_and_brings_nothing(bench: Bench) -> None:
    operation, worker = fan_out(bench)
    held, other = two_held(bench, operation)
    operation.cancel_member("0001/0001")
    assert not held.is_ours()
    assert not write_checkpoint(operation, held, Checkpoint(done=1.0, epoch=1, attempt=1))
    assert isinstance(commit_step(operation, held, 1, "2027-01-15T08:00:00.000Z"), Dropped)
    assert [message.step.path for message in bench.published][-1] == "0001/0003", "its place is free at once"
    worker.end(other)
    worker.finish()
    assert "0001/0001" not in worker.ran


def test_cancelling_the_last_member_that_is_left_lets_the_group_be_over(bench: Bench) -> None:
    operation = start(bench, group(task("a"), task("b")), task("join"))
    worker = Worker(bench, operation)
    worker.run(until={"0001/0002"})
    operation.cancel_member("0001/0002")
    worker.finish()
    assert worker.ran == ["0001/0001", "0002"]
    assert operation.state is State.SUCCEEDED


def test_a_member_of_a_paused_operation_can_be_cancelled_and_it_stays_paused(bench: Bench) -> None:
    operation, worker = fan_out(bench)
    operation.pause()
    assert operation.cancel_member("0001/0003").state == "paused"
    assert worker.run() == []
    operation.resume()
    worker.finish()
    assert "0001/0003" not in worker.ran


def test_cancelling_a_member_twice_or_one_that_is_done_changes_nothing_and_says_so(bench: Bench) -> None:
    """B51."""
    operation, worker = fan_out(bench)
    worker.run(until={"0001/0002"})
    assert operation.cancel_member("0001/0001").message == "member 0001/0001 is done already"
    operation.cancel_member("0001/0004", "first")
    before = without(snapshot(operation.path), "lock")
    again = operation.cancel_member("0001/0004", "second")
    assert (again.success, again.changed, again.message) == (True, False, "member 0001/0004 was given up already")
    assert without(snapshot(operation.path), "lock") == before


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "cancelling"])
def test_a_member_of_what_has_ended_is_not_cancelled(bench: Bench, state: str) -> None:
    operation, held = bench.in_state(state)
    before = without(snapshot(operation.path), "lock")
    with pytest.raises(Refused, match="cannot cancel member 0001 of operation"):
        operation.cancel_member("0001")
    assert without(snapshot(operation.path), "lock") == before
    del held


def test_a_part_of_a_member_names_the_member_that_can_be_cancelled(bench: Bench) -> None:
    operation = start(bench, group(chain("a", "b"), task("c")))
    with pytest.raises(Refused, match="it is no member of a group") as caught:
        operation.cancel_member("0001/0001/0002")
    assert caught.value.hint == "it is a part of member 0001/0001"


def test_a_member_that_is_a_group_is_cancelled_with_all_its_members(bench: Bench) -> None:
    """B52."""
    operation = start(bench, group(group(task("a"), task("b"), task("c")), task("d")), task("join"))
    worker = Worker(bench, operation)
    worker.run(until={"0001/0001/0002"})
    operation.cancel_member("0001/0001")
    worker.finish()
    assert worker.ran == ["0001/0001/0001", "0001/0002", "0002"]


def test_a_death_at_any_write_of_a_members_cancel_leaves_it_cancelled_or_not(bench: Bench) -> None:
    def scene() -> Operation:
        operation = start(bench, group(chain("a", "b"), task("c")), task("join"))
        Worker(bench, operation).run(until={"0001/0001/0002", "0001/0002"})
        return operation

    for operation in deaths(scene, lambda operation: bench.other(operation).cancel_member("0001/0001")):
        other = bench.other(operation)
        other.reconcile()
        is_given_up = other.layout.given_up(other.plan().part("0001/0001")).exists()
        assert misfits(other.layout, other.plan()) == []
        worker = Worker(bench, other)
        worker.finish()
        assert other.state is State.SUCCEEDED
        assert ("0001/0001/0002" in worker.ran) is not is_given_up
        assert ("Cancelled" in other.result) is is_given_up


# ---- their processes


@pytest.fixture
def holders(bench: Bench) -> Iterator[list[int]]:
    """The numbers of processes that a test has started; what is left of them is ended."""
    children: list[int] = []
    yield children
    for child in children:
        if os.waitpid(child, os.WNOHANG)[0] != child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def hold(bench: Bench, operation: Operation, number: int) -> int:
    """Have a child claim what was published as that, and never come to a tap."""
    message = bench.published[number]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            held = claim_step(bench.other(operation), message.step.path, message.epoch, message.attempt, "stuck@test")
            assert isinstance(held, HeldClaim)
            os.write(write, b".")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    assert os.read(read, 1) == b"."
    os.close(read)
    return child


@pytest.mark.parametrize("verb", ["pause", "cancel"])
@pytest.mark.parametrize("members", [3, 6])
def test_force_ends_the_process_of_every_member_that_runs(
    bench: Bench, holders: list[int], verb: str, members: int
) -> None:
    """B58: paused also where no more members are queued, for those that were ended are still to be done."""
    operation, _ = fan_out(bench, members, concurrency=3)
    holders += [hold(bench, operation, number) for number in range(3)]
    getattr(operation, verb)()
    bench.now += 60
    answer = operation.force()
    after = "paused" if verb == "pause" else "cancelled"
    assert (answer.changed, answer.state) == (True, after)
    for child in holders:
        assert f"process {child} of step 0001/000" in answer.message
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    holders.clear()
    assert operation.resume().state == "running"
    worker = Worker(bench, operation)
    worker.finish()
    assert len(worker.ran) == members + 1, "each is done, once"
