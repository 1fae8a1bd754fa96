"""Steps that fail for good: alone, beside others, and in groups that go on without them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.bench import Bench, events, history
from support.mortal import deaths
from support.trees import PAIR, STEP, group_of, wide
from tapfs.bus.begin import Dropped
from tapfs.bus.claims import HeldClaim
from tapfs.bus.decide import Recovery
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Group
from tapfs.bus.reconcile import WORKER_LOST
from tapfs.bus.records import Failure, Run
from tapfs.bus.runs import read_run
from tapfs.bus.states import State
from tapfs.bus.steps import commit_step, interrupt_step, retry_step


def claims_of(bench: Bench, operation: Operation, *numbers: int) -> list[HeldClaim]:
    """Claims of members of the first group, each as another worker's."""
    return [bench.claim_at(bench.other(operation), f"0001/{number:04d}") for number in numbers]


def drive(bench: Bench, operation: Operation) -> None:
    """Run all that is left, whatever it is."""
    for _ in range(60):
        if operation.ready():
            return
        bench.now += 60
        operation.reconcile()
        out = bench.out(operation)
        if out:
            bench.do(operation, out[0])


# ---- a member fails, and so does the operation


def test_when_a_member_fails_those_that_run_may_end_and_count_and_nothing_new_starts(bench: Bench) -> None:
    operation = bench.start_tree(wide(5, concurrency=3), STEP)
    first, second = claims_of(bench, operation, 1, 2)
    settled = bench.fail_held(operation, first)
    assert (settled.state, settled.run.outcome, settled.run.is_failing) == (State.RUNNING, None, True)
    assert bench.out(operation) == ["0001/0002"], "the one that was out and not begun is taken in"
    assert "no more paper; it has failed when what still runs has ended" in (operation.view().message or "")
    assert bench.commit(operation, second, "counts").state is State.FAILED
    assert operation.result_of(second.step) == "counts"
    failure = operation.failure()
    assert failure is not None
    assert (failure.step, failure.message) == ("0001/0001-one", "no more paper")
    assert (bench.out(operation), {one.step.path for one in bench.published}) == (
        [],
        {"0001/0001", "0001/0002", "0001/0003"},
    )


def test_a_message_that_comes_while_the_others_end_has_no_effect(bench: Bench) -> None:
    operation = bench.start_tree(wide(3))
    first, _ = claims_of(bench, operation, 1, 2)
    bench.fail_held(operation, first)
    assert [one.step.path for one in bench.published] == ["0001/0001", "0001/0002", "0001/0003"]
    assert bench.drop(operation) == "another step of the operation has failed"


def test_an_operation_whose_only_running_step_fails_has_failed_at_once(bench: Bench) -> None:
    operation = bench.start_tree(wide(3), STEP)
    assert bench.fail_at(operation, "0001/0002").state is State.FAILED
    assert bench.out(operation) == []


def test_of_several_that_fail_the_first_is_told_and_the_others_are_in_the_journal(bench: Bench) -> None:
    operation = bench.start_tree(wide(3))
    held = claims_of(bench, operation, 1, 2, 3)
    for number, one in enumerate(held, 1):
        bench.fail_held(operation, one, f"reason {number}")
    failure = operation.failure()
    assert failure is not None
    assert (operation.state, failure.message) == (State.FAILED, "reason 1")
    assert [entry["reason"] for entry in events(operation, "failed")] == [
        "ValueError: reason 2",
        "ValueError: reason 3",
    ]


@pytest.mark.parametrize("way", ["retry", "interruption", "death"])
def test_a_step_that_would_be_put_out_again_beside_one_that_failed_is_not(bench: Bench, way: str) -> None:
    operation = bench.start_tree(wide(2), STEP)
    first, second = claims_of(bench, operation, 1, 2)
    bench.fail_held(operation, first)
    if way == "retry":
        retry_step(operation, second, None, 1)
    elif way == "interruption":
        interrupt_step(operation, second, "the worker shuts down")
    else:
        second.release()
        operation.reconcile()
    assert (operation.state, len(bench.published)) == (State.FAILED, 2)
    assert bench.out(operation) == []


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_failing_operation_may_be_asked_to_stop_and_has_an_end(bench: Bench, verb: str) -> None:
    """Laws 7 and 10."""
    operation = bench.start_tree(wide(2))
    first, second = claims_of(bench, operation, 1, 2)
    bench.fail_held(operation, first)
    assert getattr(operation, verb)().success
    bench.commit(operation, second)
    assert operation.ready()
    operation.resume()
    drive(bench, operation)
    assert operation.state is State.SUCCEEDED


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_what_failed_beside_others_is_done_again_and_only_that(bench: Bench, verb: str) -> None:
    """B79: `retry` runs only what failed and what was not begun."""
    operation = bench.start_tree(wide(4, concurrency=2), STEP)
    first, second = claims_of(bench, operation, 1, 2)
    bench.fail_held(operation, first)
    bench.commit(operation, second, "kept")
    count = len(bench.published)
    assert getattr(operation, verb)().changed
    assert (operation.state, operation.epoch()) == (State.RUNNING, 2)
    assert operation.failure() is None
    drive(bench, operation)
    assert operation.state is State.SUCCEEDED
    assert {one.step.path for one in bench.published[count:]} == {"0001/0001", "0001/0003", "0001/0004", "0002"}
    assert operation.result_of(second.step) == "kept"


def test_a_failure_leads_over_running_to_failed_in_the_journal(bench: Bench) -> None:
    operation = bench.start_tree(wide(2))
    first, second = claims_of(bench, operation, 1, 2)
    bench.fail_held(operation, first)
    bench.commit(operation, second)
    assert history(operation)[-2:] == ["running", "failed"]


# ---- a group that goes on


def test_a_group_may_go_on_without_a_member_that_failed(bench: Bench) -> None:
    operation = bench.start_tree(wide(3, concurrency=1, on_error=CONTINUE), STEP)
    settled = bench.fail_at(operation, "0001/0001")
    assert (settled.state, bench.out(operation)) == (State.RUNNING, ["0001/0002"])
    assert operation.failure() is None
    bench.now += 2
    operation.reconcile()
    assert "given up: 1 (0001/0001)" in (operation.view().message or "")
    drive(bench, operation)
    assert operation.state is State.SUCCEEDED
    assert operation.view().steps_done == 3
    assert [entry["member"] for entry in events(operation, "given_up")] == ["0001/0001"]


def test_a_group_whose_every_member_failed_goes_on_with_a_list_of_errors(bench: Bench) -> None:
    operation = bench.start_tree(wide(2, on_error=CONTINUE))
    for path in ("0001/0001", "0001/0002"):
        bench.fail_at(operation, path)
    assert operation.state is State.SUCCEEDED
    assert isinstance(operation.result, list)
    assert [one["error"]["step"] for one in operation.result] == ["0001/0001-one", "0001/0002-one"]


def test_what_a_failed_chain_had_done_stays_and_what_is_left_of_it_is_not_done(bench: Bench) -> None:
    operation = bench.start_tree(group_of(PAIR, STEP, on_error=CONTINUE))
    bench.do(operation, "0001/0001/0001")
    bench.fail_at(operation, "0001/0001/0002")
    bench.do(operation, "0001/0002")
    assert operation.state is State.SUCCEEDED
    assert operation.is_committed(operation.plan().step("0001/0001/0001"))
    assert operation.view().steps_done == 2


def test_a_member_of_a_group_in_a_member_is_given_up_as_far_as_the_innermost_group_that_goes_on(bench: Bench) -> None:
    inner = wide(2)
    operation = bench.start_tree(group_of(inner, STEP, on_error=CONTINUE))
    held = bench.claim_at(bench.other(operation), "0001/0001/0002")
    bench.fail_at(operation, "0001/0001/0001")
    assert (operation.layout.steps / "0001" / "0001.error.json").exists(), "the inner group as a whole"
    assert isinstance(commit_step(operation, held, "late", "now"), Dropped), "and with it what still runs of it"
    bench.do(operation, "0001/0002")
    assert operation.state is State.SUCCEEDED
    assert operation.result[1] == "0001/0002"  # type: ignore[index,call-overload]


def test_a_group_that_fails_inside_one_that_goes_on_is_given_up_and_not_the_operation(bench: Bench) -> None:
    operation = bench.start_tree(group_of(wide(2, on_error=CONTINUE), STEP))
    bench.fail_at(operation, "0001/0001/0001")
    assert (operation.layout.steps / "0001" / "0001" / "0001.error.json").exists(), "only the inner member"
    bench.fail_at(operation, "0001/0002")
    assert operation.state is State.FAILED


def test_a_step_behind_a_group_that_goes_on_still_fails_the_operation(bench: Bench) -> None:
    operation = bench.start_tree(wide(1, on_error=CONTINUE), STEP)
    bench.fail_at(operation, "0001/0001")
    assert bench.fail_at(operation, "0002").state is State.FAILED


def test_a_member_that_wears_out_its_workers_is_given_up_like_one_that_raised(tmp_path: Path) -> None:
    """B66."""
    bench = Bench(tmp_path / "control", recovery=Recovery(max_crashes=2))
    operation = bench.start_tree(wide(2, on_error=CONTINUE))
    for _ in range(2):
        bench.claim_at(operation, "0001/0001").release()
        operation.reconcile()
    failure = Failure.read(operation.layout.steps / "0001" / "0001.error.json")
    assert (failure.type, failure.step) == (WORKER_LOST, "0001/0001-one")
    bench.do(operation, "0001/0002")
    assert operation.state is State.SUCCEEDED


def test_a_member_that_wears_out_its_workers_fails_the_operation_once_the_others_have_ended(tmp_path: Path) -> None:
    """B66."""
    bench = Bench(tmp_path / "control", recovery=Recovery(max_crashes=1))
    operation = bench.start_tree(wide(3), STEP)
    first, second = claims_of(bench, operation, 1, 2)
    first.release()
    assert (operation.reconcile().state, read_run(operation).is_failing) == (State.RUNNING, True)
    bench.commit(operation, second)
    failure = operation.failure()
    assert failure is not None
    assert (operation.state, failure.type, failure.step) == (State.FAILED, WORKER_LOST, "0001/0001-one")


def test_several_members_that_wear_out_their_workers_at_once_are_all_given_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "control", recovery=Recovery(max_crashes=1))
    operation = bench.start_tree(wide(3, on_error=CONTINUE))
    for held in claims_of(bench, operation, 1, 2, 3):
        held.release()
    assert operation.reconcile().state is State.SUCCEEDED
    assert len(events(operation, "given_up")) == 3


def test_a_given_up_member_is_retried_by_its_path_and_nothing_else_is_done_again_but_what_waits_for_it(
    bench: Bench,
) -> None:
    """B79."""
    operation = bench.start_tree(wide(3, on_error=CONTINUE), STEP)
    bench.fail_at(operation, "0001/0002")
    drive(bench, operation)
    count = len(bench.published)
    assert operation.retry("0001/0002").changed
    drive(bench, operation)
    assert operation.state is State.SUCCEEDED
    assert {one.step.path for one in bench.published[count:]} == {"0001/0002", "0002"}
    assert (operation.layout.attic / "epoch-1" / "steps" / "0001" / "0002.error.json").exists()


# ---- death between any two writes


def _fail(number: int) -> Callable[[tuple[Bench, Operation]], object]:
    def act(made: tuple[Bench, Operation]) -> object:
        bench, operation = made
        return bench.fail_at(operation, f"0001/{number:04d}")

    return act


@pytest.mark.parametrize("on_error", ["fail", CONTINUE])
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside one that runs"])
def test_a_failure_killed_at_any_write_is_a_failure_or_is_done_again_and_never_half(
    tmp_path: Path, on_error: str, others: int
) -> None:
    """Either the step is run again by somebody else, or its failure stands; the other one's end counts in any case."""
    count = iter(range(1000))
    held: list[HeldClaim] = []

    def scene() -> tuple[Bench, Operation]:
        bench = Bench(tmp_path / str(next(count)))
        operation = bench.start_tree(Group((STEP,) * 3, on_error=on_error), STEP)
        held[:] = claims_of(bench, operation, *[2][:others])
        return bench, operation

    tried, failed = 0, 0
    for bench, operation in deaths(scene, _fail(1)):
        tried += 1
        fresh = bench.other(operation)
        fresh.reconcile()
        for one in held:
            bench.commit(fresh, one, "counts")
            one.release()
        given_up = fresh.layout.steps / "0001" / "0001.error.json"
        if fresh.state is State.FAILED:
            failed += 1
            assert on_error == "fail"
            failure = fresh.failure()
            assert failure is not None
            assert failure.step == "0001/0001-one"
            assert bench.out(fresh) == []
            fresh.retry()
        elif given_up.exists():
            failed += 1
        bench.now += 60
        drive(bench, fresh)
        assert fresh.state is State.SUCCEEDED, fresh.view()
        assert not Run.read(fresh.layout.run).is_failing
        if given_up.exists():
            assert on_error == CONTINUE
        else:
            assert fresh.is_committed(fresh.plan().step("0001/0001"))
        assert bench.out(fresh) == []
    print(tried, "points of death,", failed, "with the failure")
    assert tried > failed > 1
