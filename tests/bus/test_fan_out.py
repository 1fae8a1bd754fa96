"""Many steps at once: how many are out, who may run them, and how they stop and go on together."""

import threading

import pytest

from support.bench import Bench, events
from support.trees import PAIR, STEP, group_of, wide
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.clock import timestamp
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE
from tapfs.bus.records import Commit
from tapfs.bus.runs import read_run
from tapfs.bus.states import FINAL, State
from tapfs.bus.steps import commit_step, release_step
from tapfs.bus.values import value_of


def published(bench: Bench) -> list[str]:
    return [one.step.path for one in bench.published]


def test_so_many_members_are_published_as_may_be_out_and_each_commit_makes_room_for_one(bench: Bench) -> None:
    """B14."""
    operation = bench.start_tree(wide(6, concurrency=2), STEP)
    assert published(bench) == ["0001/0001", "0001/0002"]
    bench.do(operation, "0001/0002")
    assert published(bench) == ["0001/0001", "0001/0002", "0001/0003"]
    while not operation.ready():
        assert len(bench.out(operation)) <= 2
        bench.do(operation, bench.out(operation)[0])
    assert sorted(set(published(bench))) == sorted(published(bench)), "each was published once"


def test_the_operation_has_a_limit_over_all_its_groups(bench: Bench) -> None:
    operation = bench.start_tree(group_of(wide(4), wide(4)), concurrency=3)
    while not operation.ready():
        assert 0 < len(bench.out(operation)) <= 3
        bench.do(operation, bench.out(operation)[-1])
    assert operation.state is State.SUCCEEDED


def test_members_are_claimed_by_many_and_each_by_one(bench: Bench) -> None:
    operation = bench.start_tree(wide(3))
    for number in range(3):
        assert bench.claim(bench.other(operation), number)
    for number in range(3):
        assert "claimed by worker@test" in bench.drop(bench.other(operation), number)


def test_a_second_delivery_of_a_committed_member_is_dropped(bench: Bench) -> None:
    """Law 3."""
    operation = bench.start_tree(wide(2), STEP)
    bench.do(operation, "0001/0001")
    assert bench.drop(operation, 0) == "the step is already committed"


def test_a_commit_says_what_was_run(bench: Bench) -> None:
    """B35: so that an edit of what is done is seen."""
    operation = bench.start_tree(wide(2))
    bench.do(operation, "0001/0002")
    step = operation.plan().step("0001/0002")
    assert Commit.read(operation.layout.commit(step)).of == step.checksum


def test_no_message_and_no_end_counts_of_a_member_that_was_cancelled(bench: Bench) -> None:
    """B52."""
    operation = bench.start_tree(group_of(PAIR, STEP), STEP)
    held = bench.claim_at(bench.other(operation), "0001/0001/0001")
    assert operation.cancel_member("0001/0001").changed
    assert isinstance(commit_step(bench.other(operation), held, "late", timestamp(bench.now)), Dropped)
    held.release()
    assert "its member was given up" in bench.drop(operation, 0)
    bench.do(operation, "0001/0002")
    error, other = value_of(operation, operation.plan().part("0001"))
    assert (error["error"]["type"], other) == ("Cancelled", "0001/0002")
    assert not operation.is_committed(held.step)


def test_a_pause_takes_hold_of_all_waits_for_those_that_run_and_says_of_how_many(bench: Bench) -> None:
    """B13, B15: nothing new is begun, and what was done is not done again."""
    operation = bench.start_tree(wide(5, concurrency=3), STEP)
    first, second = (bench.claim_at(bench.other(operation), path) for path in ("0001/0001", "0001/0002"))
    assert operation.pause().state == State.PAUSING
    assert (read_run(operation).stopping, bench.out(operation)) == (2, ["0001/0001", "0001/0002"])
    bench.commit(operation, first, "kept")
    assert (operation.state, read_run(operation).stopping) == (State.PAUSING, 2)
    release_step(bench.other(operation), second)
    assert (operation.state, read_run(operation).stopping, bench.out(operation)) == (State.PAUSED, 0, [])
    count = len(bench.published)
    operation.resume()
    while not operation.ready():
        bench.do(operation, bench.out(operation)[0])
    assert operation.result == "0002"
    assert published(bench)[count:] == ["0001/0002", "0001/0003", "0001/0004", "0001/0005", "0002"]
    assert operation.result_of(first.step) == "kept"


def test_a_pause_that_is_taken_back_lets_those_that_run_go_on_and_publishes_the_others(bench: Bench) -> None:
    operation = bench.start_tree(wide(3), STEP)
    held = bench.claim_at(bench.other(operation), "0001/0001")
    operation.pause()
    assert bench.out(operation) == ["0001/0001"]
    operation.resume()
    assert (operation.state, operation.epoch(), bench.out(operation)) == (
        State.RUNNING,
        1,
        ["0001/0001", "0001/0002", "0001/0003"],
    )
    bench.commit(operation, held)


def test_a_cancel_of_many_is_over_when_the_last_of_them_has_stopped(bench: Bench) -> None:
    """B52."""
    operation = bench.start_tree(wide(4, concurrency=3), STEP)
    held = [bench.claim_at(bench.other(operation), f"0001/000{number}") for number in (1, 2)]
    assert operation.cancel().state == State.CANCELLING
    for one, state in zip(held, (State.CANCELLING, State.CANCELLED), strict=True):
        release_step(bench.other(operation), one)
        assert operation.state is state
    assert bench.out(operation) == []


def test_a_lowered_limit_lets_what_runs_end_and_then_holds(bench: Bench) -> None:
    """An administrator edits `workflow.json` while it is paused, or runs."""
    operation = bench.start_tree(wide(8, concurrency=4), STEP)
    held = [bench.claim_at(bench.other(operation), f"0001/000{number}") for number in (1, 2, 3, 4)]
    plan = operation.layout.plan
    plan.write_text(plan.read_text().replace('"concurrency": 4', '"concurrency": 1'))
    for one in held[::-1]:
        bench.commit(bench.other(operation), one, one.step.path)
    assert bench.out(operation) == ["0001/0005"]
    while not operation.ready():
        assert len(bench.out(operation)) == 1
        bench.do(operation, bench.out(operation)[0])
    assert operation.view().steps_done == 9


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_many_workers_at_once_do_each_member_once(bench: Bench, concurrency: int) -> None:
    """Threads, each with objects of its own; messages doubled."""
    operation = bench.start_tree(STEP, wide(24, concurrency=concurrency, on_error=CONTINUE), STEP)
    ran: list[str] = []
    errors: list[BaseException] = []
    together: list[int] = []
    held_now: set[str] = set()

    def work(own: Operation) -> None:
        try:
            at = 0
            while own.state not in FINAL:
                own.reconcile() if at >= len(bench.published) else None
                for message in bench.published[max(0, at - 2) :]:
                    at += 1
                    held = claim_step(own, message.step.path, message.epoch, message.attempt, "worker@test")
                    if isinstance(held, Dropped):
                        continue
                    held_now.add(message.step.path)
                    together.append(len(held_now))
                    held_now.discard(message.step.path)
                    if not isinstance(commit_step(own, held, message.step.path, timestamp(bench.now)), Dropped):
                        ran.append(message.step.path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(bench.other(operation),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert operation.state is State.SUCCEEDED
    assert sorted(ran) == [step.path for step in operation.plan().steps]
    assert max(together) <= max(concurrency, 1)
    assert len([entry for entry in events(operation, "state") if entry["to"] == "succeeded"]) == 1
