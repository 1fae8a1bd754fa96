"""What a worker does to a step: one claim, one commit, and a defined outcome for every message."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from support.bench import Bench, events, history, plan_of, snapshot
from support.mortal import deaths
from tapfs.bus import claims, files
from tapfs.bus.begin import Dropped, claim_step, give_up_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.control import Control
from tapfs.bus.fields import Json
from tapfs.bus.losses import give_away
from tapfs.bus.operation import Operation
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import Checkpoint, Claim, Failure
from tapfs.bus.runs import read_run
from tapfs.bus.saved import read_checkpoint, write_checkpoint
from tapfs.bus.states import State, Want
from tapfs.bus.steps import (
    commit_step,
    fail_step,
    interrupt_step,
    release_step,
    retry_step,
    return_step,
    take_pause_notice,
)
from tapfs.errors import RecordInvalid, Refused


def commit(bench: Bench, operation: Operation, held: HeldClaim, result: Json = None) -> Settled | Dropped:
    return commit_step(operation, held, result, timestamp(bench.now))


# ---- once and only once


def test_steps_run_in_order_each_from_the_commit_before(bench: Bench) -> None:
    operation = bench.start(3)
    for number in (1, 2, 3):
        assert [one.step.path for one in bench.published] == [f"000{done}" for done in range(1, number + 1)]
        bench.step(operation, number)
    assert operation.result == 3
    assert [one.step.path for one in bench.published] == ["0001", "0002", "0003"]
    assert history(operation) == ["queued", "running", "succeeded"]


def test_a_second_delivery_of_a_committed_step_is_dropped(bench: Bench) -> None:
    operation = bench.start()
    bench.step(operation)
    before = snapshot(operation.layout.steps)
    assert bench.drop(operation, 0) == "the step is already committed"
    assert snapshot(operation.layout.steps) == before
    assert events(operation, "dropped")[-1]["reason"] == "the step is already committed"


def test_a_second_delivery_of_a_claimed_step_is_dropped(bench: Bench) -> None:
    operation = bench.start()
    bench.claim(operation)
    assert bench.drop(operation) == "the step is claimed by worker@test"


def test_a_step_is_committed_once_by_whoever_comes_first(bench: Bench) -> None:
    """A commit is a create-if-absent: also a claim that looks like ours does not overwrite one."""
    operation = bench.start()
    held = bench.claim(operation)
    files.create(operation.layout.commit(held.step), b'{"result": "first", "epoch": 1, "attempt": 1}')
    assert commit(bench, operation, held, "second") == Dropped("the step is already committed")
    assert operation.result_of(held.step) == "first"


@pytest.mark.parametrize(
    ("path", "epoch", "attempt", "reason"),
    [
        ("0009", 1, 1, "the plan has no step 0009"),
        ("../../../etc/passwd", 1, 1, "the plan has no step"),
        ("0001", 2, 1, "the message is of epoch 2, the operation in epoch 1"),
        ("0001", 1, 2, "the message is of attempt 2, the step at attempt 1"),
        ("0002", 1, 1, "a step before it is not committed"),
    ],
)
def test_a_message_that_is_not_the_one_in_force_is_dropped(
    bench: Bench, path: str, epoch: int, attempt: int, reason: str
) -> None:
    operation = bench.start()
    dropped = claim_step(operation, path, epoch, attempt, "worker")
    assert isinstance(dropped, Dropped)
    assert reason in dropped.reason
    bench.finish(operation)


def test_a_message_for_a_step_whose_holder_died_is_dropped_and_the_step_is_published_anew(bench: Bench) -> None:
    operation = bench.start()
    bench.claim(operation).release()
    assert "the holder of attempt 1 is gone" in bench.drop(operation)
    assert bench.published[-1].attempt == 2
    bench.finish(operation)


def test_of_eight_workers_with_the_same_message_one_runs_the_step(bench: Bench) -> None:
    operation = bench.start()
    outcomes: list[HeldClaim | Dropped] = []
    others = [bench.other(operation) for _ in range(8)]
    start = threading.Barrier(8)

    def work(other: Operation) -> None:
        start.wait()
        outcomes.append(claim_step(other, "0001", 1, 1, "w"))

    threads = [threading.Thread(target=work, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(one) for one in outcomes].count(HeldClaim) == 1
    assert len(events(operation, "dropped")) == 7


# ---- pause and cancel beside a step


def test_a_running_step_is_followed_by_nothing_once_a_pause_is_asked(bench: Bench) -> None:
    """B01, B03: it is recorded first, and then the operation pauses."""
    operation, held = bench.in_state("pausing")
    assert held is not None
    assert bench.commit(operation, held, "kept").state is State.PAUSED
    assert operation.result_of(held.step) == "kept"
    assert [one.step.path for one in bench.published] == ["0001"]
    assert history(operation) == ["queued", "running", "pausing", "paused"]


def test_no_step_runs_when_the_pause_was_there_before_the_first(bench: Bench) -> None:
    """B02."""
    operation = bench.start(want=Want.PAUSE)
    assert operation.state is State.PAUSED
    assert bench.published == []


def test_a_step_taken_before_the_pause_was_written_may_finish_and_its_result_is_kept(bench: Bench) -> None:
    """B05."""
    operation = bench.start()
    held = bench.claim(operation)
    (operation.path / "PAUSE").touch()
    bench.commit(operation, held, 1)
    assert (operation.state, len(bench.published)) == (State.PAUSED, 1)
    assert operation.result_of(held.step) == 1


@pytest.mark.parametrize("is_seen", [False, True], ids=["pause not yet reconciled", "paused"])
def test_a_message_that_is_out_when_the_pause_arrives_is_void_and_resume_publishes_a_new_one(
    bench: Bench, is_seen: bool
) -> None:
    """B06."""
    operation = bench.start()
    (operation.path / "PAUSE").write_text("lunch")
    if is_seen:
        operation.reconcile()
    bench.drop(operation)
    assert operation.state is State.PAUSED
    (operation.path / "PAUSE").unlink()
    operation.reconcile()
    assert [(one.step.path, one.epoch) for one in bench.published] == [("0001", 1), ("0001", 2)]
    assert "epoch 1" in bench.drop(operation, 0)
    bench.finish(operation)


def test_a_step_between_two_taps_starts_although_a_pause_is_asked(bench: Bench) -> None:
    operation = bench.start(4, nth=2)
    held = bench.claim(operation)
    operation.pause()
    assert bench.commit(operation, held).state is State.PAUSING
    assert bench.step(operation).state is State.PAUSED
    assert operation.view().steps_done == 2


@pytest.mark.parametrize("way", ["file", "verb"])
def test_a_cancel_before_the_first_step_runs_nothing(bench: Bench, way: str) -> None:
    """B40, B45: cancel wins over a start."""
    operation = bench.start()
    if way == "file":
        (operation.path / "CANCEL").touch()
    else:
        operation.cancel()
    bench.drop(operation)
    assert operation.state is State.CANCELLED
    assert list(operation.layout.steps.iterdir()) == []


def test_a_cancel_while_a_step_runs_stops_after_it(bench: Bench) -> None:
    """B39."""
    operation, held = bench.in_state("cancelling")
    assert held is not None
    bench.now += 5
    assert bench.commit(operation, held, 1).state is State.CANCELLED
    assert operation.is_committed(held.step)
    assert len(bench.published) == 1
    assert operation.reconcile().run.finished_at == timestamp(bench.now)
    assert history(operation) == ["queued", "running", "cancelling", "cancelled"]


def test_no_message_and_no_late_result_brings_a_cancelled_operation_back(bench: Bench) -> None:
    """B50."""
    operation, held = bench.in_state("cancelling")
    assert held is not None
    assert "claimed" in bench.drop(operation)
    held.release()
    assert operation.reconcile().state is State.CANCELLED
    assert bench.drop(operation) == "the operation is cancelled"
    assert isinstance(commit(bench, operation, held), Dropped)
    assert operation.state is State.CANCELLED


def test_the_last_step_that_ends_while_pausing_or_cancelling_ends_the_operation(bench: Bench) -> None:
    for ask in (Operation.pause, Operation.cancel):
        operation = bench.start(1)
        held = bench.claim(operation)
        ask(operation)
        assert bench.commit(operation, held, "all").state is State.SUCCEEDED
        assert operation.result == "all"


# ---- failing, giving back, trying again


def test_a_step_that_raised_for_good_fails_the_operation_and_says_why(bench: Bench) -> None:
    operation = bench.start()
    assert bench.fail(operation, "no more paper").state is State.FAILED
    failure = operation.failure()
    assert failure is not None
    assert (failure.type, failure.message, failure.step) == ("ValueError", "no more paper", "0001-one")
    assert operation.view().message == "0001-one: ValueError: no more paper"
    assert bench.drop(operation) == "the operation is failed"


def test_a_failure_of_a_step_that_was_given_away_does_not_count(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    with operation.locked():
        claims.put_out(operation.layout, "0001", replace(held.claim, attempt=2, holder=None))
    assert isinstance(fail_step(operation, held, Failure(type="ValueError")), Dropped)
    assert operation.failure() is None
    bench.published[-1] = replace(bench.published[-1], attempt=2)
    bench.finish(operation)


def test_a_step_given_back_at_a_tap_is_uncommitted_and_the_operation_paused(bench: Bench) -> None:
    operation, held = bench.in_state("pausing")
    assert held is not None
    settled = release_step(operation, held)
    assert isinstance(settled, Settled)
    assert settled.state is State.PAUSED
    assert not operation.is_committed(held.step)
    operation.resume()
    assert (bench.published[-1].step.path, bench.published[-1].epoch) == ("0001", 2)


def test_a_step_given_back_without_a_pause_is_published_at_once(bench: Bench) -> None:
    operation = bench.start()
    release_step(operation, bench.claim(operation))
    assert [one.step.path for one in bench.published] == ["0001", "0001"]
    bench.finish(operation)


def test_a_clause_pauses_with_its_reason_and_a_person_lifts_it(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    settled = commit_step(operation, held, 1, timestamp(bench.now), pause_because="the disk is nearly full")
    assert isinstance(settled, Settled)
    assert (settled.state, operation.view().reason) == (State.PAUSED, "the disk is nearly full")
    assert [entry["by"] for entry in events(operation, "asked")] == ["clause"]
    operation.resume()
    bench.finish(operation)


def test_a_clause_does_not_speak_over_a_pause_or_cancel_that_is_asked(bench: Bench) -> None:
    operation = bench.start(want=Want.RUN)
    held = bench.claim(operation)
    operation.cancel("enough")
    commit_step(operation, held, 1, timestamp(bench.now), pause_because="the disk is nearly full")
    assert (operation.state, operation.view().reason) == (State.CANCELLED, "enough")


def test_a_retry_is_out_again_with_the_next_attempt_and_its_time(bench: Bench) -> None:
    operation = bench.start()
    due = timestamp(bench.now + 30)
    retry_step(operation, bench.claim(operation), due, 1)
    last = bench.published[-1]
    assert (last.step.path, last.attempt, last.retries, last.not_before) == ("0001", 2, 1, due)
    assert operation.state is State.RUNNING
    bench.now += 35
    operation.reconcile()
    assert len(bench.published) == 2, "the delay counts from when it is due"
    bench.now += 5
    operation.reconcile()
    assert (bench.published[-1].number, bench.published[-1].attempt) == (2, 2)
    bench.finish(operation)


def test_a_retry_while_a_pause_is_asked_is_not_published(bench: Bench) -> None:
    operation, held = bench.in_state("pausing")
    assert held is not None
    retry_step(operation, held, None, 1)
    assert (operation.state, len(bench.published)) == (State.PAUSED, 1)


# ---- interrupted for the worker's sake


def claim_of(operation: Operation, path: str = "0001") -> Claim:
    return Claim.read(operation.layout.claim(path))


def test_an_interrupted_step_is_out_again_at_once_for_another_and_uses_up_no_retry(bench: Bench) -> None:
    """B60: interrupted, which is no failure and no retry."""
    operation = bench.start()
    retry_step(operation, bench.claim(operation), None, 2)
    settled = interrupt_step(operation, bench.claim(operation), "the worker got SIGTERM")
    assert isinstance(settled, Settled)
    assert settled.state is State.INTERRUPTED
    last = bench.published[-1]
    assert (last.step.path, last.attempt, last.number, last.retries, last.not_before) == ("0001", 3, 1, 2, None)
    claim = claim_of(operation)
    assert (claim.cause, claim.holder, claim.crashes, claim.interruptions) == ("interruption", None, 0, 1)
    assert read_run(operation).interruptions == 1
    (entry,) = events(operation, "interrupted")
    assert (entry["step"], entry["attempt"], entry["reason"]) == ("0001", 2, "the worker got SIGTERM")
    assert operation.failure() is None
    bench.claim(operation)
    assert operation.state is State.RUNNING
    assert history(operation) == ["queued", "running", "interrupted", "running"]


def test_a_step_that_is_interrupted_again_and_again_without_progress_fails_and_a_resume_tries_anew(
    bench: Bench,
) -> None:
    """B67."""
    operation = bench.start()
    limit = operation.recovery.max_interruptions
    for count in range(1, limit + 1):
        interrupt_step(operation, bench.claim(operation), "the worker got SIGTERM")
        assert claim_of(operation).interruptions == count
    assert operation.state is State.INTERRUPTED
    interrupt_step(operation, bench.claim(operation), "it ran for its maximum of 5 s")
    assert operation.state is State.FAILED
    failure = operation.failure()
    assert failure is not None
    assert (failure.type, failure.step, failure.worker) == ("InterruptedTooOften", "0001-one", "worker@test")
    assert f"{limit + 1} times in a row without getting further" in failure.message
    assert failure.message.endswith("the last time: it ran for its maximum of 5 s")
    count = len(bench.published)
    bench.now += 3600
    operation.reconcile()
    assert len(bench.published) == count, "it is not tried a second time"
    operation.resume()
    interrupt_step(operation, bench.claim(operation), "again")
    assert claim_of(operation).interruptions == 1
    bench.finish(operation)


def test_a_step_that_gets_further_between_interruptions_is_never_given_up(bench: Bench) -> None:
    """B67: progress starts the count anew."""
    operation = bench.start()
    for turn in range(3 * operation.recovery.max_interruptions):
        held = bench.claim(operation)
        saved = Checkpoint(done=float(turn), epoch=held.claim.epoch, attempt=held.claim.attempt)
        assert write_checkpoint(operation, held, saved)
        assert isinstance(interrupt_step(operation, held, "it ran for its maximum of 5 s"), Settled)
        assert claim_of(operation).interruptions == 0
    assert operation.state is State.INTERRUPTED
    bench.finish(operation)


def test_crashes_and_interruptions_without_progress_do_not_make_each_other_forgotten(bench: Bench) -> None:
    """B66: a step that now takes its worker down and now is interrupted gets to its limit all the same."""
    operation = bench.start()
    for _ in range(2):
        bench.claim(operation).release()
        operation.reconcile()
        interrupt_step(operation, bench.claim(operation), "the worker got SIGTERM")
    claim = claim_of(operation)
    assert (claim.crashes, claim.interruptions) == (2, 2)
    bench.claim(operation).release()
    assert operation.reconcile().state is State.FAILED


@pytest.mark.parametrize(("state", "end"), [("pausing", State.PAUSED), ("cancelling", State.CANCELLED)])
@pytest.mark.parametrize(
    "end_of_run",
    [
        lambda operation, held: interrupt_step(operation, held, "the worker got SIGTERM"),
        lambda operation, held: retry_step(operation, held, None, 1),
        lambda operation, held: return_step(operation, held, "the disk is full"),
        release_step,
    ],
    ids=["interruption", "retry", "return", "release"],
)
def test_a_step_put_out_again_while_the_operation_stops_is_not_published(
    bench: Bench, state: str, end: State, end_of_run: Callable[[Operation, HeldClaim], Settled | Dropped]
) -> None:
    """B16."""
    operation, held = bench.in_state(state)
    assert held is not None
    settled = end_of_run(operation, held)
    assert isinstance(settled, Settled)
    bench.now += 3600
    operation.reconcile()
    assert (settled.state, operation.state, len(bench.published)) == (end, end, 1)
    assert isinstance(bench.take(operation), Dropped)
    operation.resume()
    assert [(one.step.path, one.epoch) for one in bench.published] == [("0001", 1), ("0001", 2)]
    bench.finish(operation)


@pytest.mark.parametrize("marker", ["PAUSE", "CANCEL"])
def test_a_stop_that_nobody_has_seen_yet_keeps_an_interrupted_step_from_being_published(
    bench: Bench, marker: str
) -> None:
    """B16."""
    operation = bench.start()
    held = bench.claim(operation)
    (operation.path / marker).touch()
    interrupt_step(operation, held, "the worker got SIGTERM")
    assert operation.state in (State.PAUSED, State.CANCELLED)
    assert len(bench.published) == 1


def test_between_two_taps_an_interrupted_step_goes_on_although_a_pause_is_asked(bench: Bench) -> None:
    operation = bench.start(4, nth=2)
    bench.step(operation)
    held = bench.claim(operation)
    operation.pause()
    interrupt_step(operation, held, "the worker got SIGTERM")
    assert (operation.state, bench.published[-1].attempt) == (State.PAUSING, 2)
    assert bench.step(operation).state is State.PAUSED


def test_a_step_that_could_not_be_begun_or_ended_is_out_again_after_a_while_and_says_why(bench: Bench) -> None:
    """For no fault of its own, and for as long as it takes."""
    operation = bench.start()
    for turn in range(1, 8):
        held = bench.claim(operation)
        settled = return_step(operation, held, "no space left on device")
        assert isinstance(settled, Settled)
        assert (settled.state, settled.put_out, len(bench.published)) == (State.INTERRUPTED, (), turn)
        assert "no space left on device" in (operation.view().message or "")
        claim = claim_of(operation)
        assert (claim.attempt, claim.crashes, claim.interruptions, claim.retries) == (turn + 1, 0, 0, 0)
        bench.now += 9.9
        operation.reconcile()
        assert len(bench.published) == turn
        bench.now += 0.1
        operation.reconcile()
        assert bench.published[-1].attempt == turn + 1
    bench.finish(operation)
    assert operation.view().message is None


# ---- retries over a pause


def test_a_retry_that_falls_due_while_paused_waits_and_uses_up_no_attempt(bench: Bench) -> None:
    """B09."""
    operation = bench.start()
    due = timestamp(bench.now + 30)
    retry_step(operation, bench.claim(operation), due, 2)
    operation.pause()
    assert operation.state is State.PAUSED
    for _ in range(4):
        bench.now += 60
        operation.reconcile()
        assert len(bench.published) == 2
        assert isinstance(bench.take(operation), Dropped)
    operation.resume()
    last = bench.published[-1]
    assert (last.epoch, last.attempt, last.retries, last.not_before) == (2, 1, 2, due)
    held = bench.claim(operation)
    assert held.claim.retries == 2
    bench.commit(operation, held)
    bench.finish(operation)


@pytest.mark.parametrize("marker", [False, True], ids=["verb", "marker"])
def test_a_retry_asked_for_while_pausing_is_not_published_and_its_count_outlives_pauses(
    bench: Bench, marker: bool
) -> None:
    """B08, B09: the count and the time are there after several pauses, too, with no attempt between them."""
    operation = bench.start()
    held = bench.claim(operation)
    due = timestamp(bench.now + 900)
    pause = operation.path / "PAUSE"
    pause.touch() if marker else operation.pause()
    retry_step(operation, held, due, 3)
    assert (operation.state, len(bench.published)) == (State.PAUSED, 1)
    for epoch in (2, 3, 4):
        pause.unlink() if marker else operation.resume()
        operation.reconcile()
        last = bench.published[-1]
        assert (last.epoch, last.attempt, last.retries, last.not_before) == (epoch, 1, 3, due)
        pause.touch() if marker else operation.pause()
        operation.reconcile()
        assert operation.state is State.PAUSED
    operation.resume()
    bench.finish(operation)


def test_a_retry_that_stops_at_a_tap_for_a_pause_keeps_celerys_count(bench: Bench) -> None:
    """B09: a pause in the middle of the third try is no leave to try three times more."""
    operation = bench.start()
    retry_step(operation, bench.claim(operation), None, 2)
    held = bench.claim(operation)
    operation.pause()
    release_step(operation, held)
    assert (operation.state, len(bench.published)) == (State.PAUSED, 2)
    operation.resume()
    last = bench.published[-1]
    assert (last.epoch, last.attempt, last.retries, last.not_before) == (2, 1, 2, None)
    bench.finish(operation)


def test_a_retry_that_waits_when_the_operation_fails_or_is_cancelled_begins_anew(bench: Bench) -> None:
    operation = bench.start()
    retry_step(operation, bench.claim(operation), timestamp(bench.now + 30), 2)
    operation.cancel()
    operation.resume()
    assert (bench.published[-1].retries, bench.published[-1].not_before) == (0, None)


# ---- a finish and a cancel, a failure and a pause


def test_a_cancel_after_the_last_step_has_ended_is_refused_and_its_end_stands(bench: Bench) -> None:
    """B47, B18: a finish beats a cancel when the last step ended first."""
    operation = bench.start(1)
    bench.step(operation, "all")
    before = snapshot(operation.path)
    for _ in range(2):
        with pytest.raises(Refused, match="it has already succeeded"):
            operation.cancel("too late")
    assert snapshot(operation.path) == before
    assert operation.result == "all"


def test_a_cancel_that_stopped_the_last_step_at_a_tap_beats_its_end(bench: Bench) -> None:
    """B47, the other way round; a resume finishes without repeating what is done."""
    operation = bench.start(2)
    bench.step(operation, "first")
    held = bench.claim(operation)
    operation.cancel()
    release_step(operation, held)
    assert operation.state is State.CANCELLED
    assert isinstance(commit(bench, operation, held, "late"), Dropped)
    assert bench.drop(operation) == "the operation is cancelled"
    assert operation.reconcile().state is State.CANCELLED
    assert not operation.layout.result.exists()
    operation.resume()
    bench.finish(operation)
    assert [one.step.path for one in bench.published] == ["0001", "0002", "0002"]


def test_of_a_finish_and_a_cancel_in_the_same_instant_one_wins_and_all_files_agree(bench: Bench) -> None:
    """B47, B56: whichever, the record of the end is whole."""
    ends = set()
    for _ in range(25):
        operation = bench.start(1)
        held = bench.claim(operation)
        start = threading.Barrier(2)
        refused = []

        def cancel(operation: Operation = operation, refused: list[Refused] = refused, start=start) -> None:
            other = bench.other(operation)
            start.wait()
            try:
                other.cancel("enough")
            except Refused as error:
                refused.append(error)

        thread = threading.Thread(target=cancel)
        thread.start()
        start.wait()
        commit(bench, operation, held, "all")
        thread.join()
        state = operation.reconcile().state
        ends.add((state, bool(refused), "cancelling" in history(operation)))
        assert state is State.SUCCEEDED, "the last step had ended, and is committed once"
        assert operation.result == "all"
        assert operation.failure() is None
        assert history(operation)[-1] == "succeeded"
        assert claims.all_out(operation.layout) == []
    print(ends)


def test_a_failure_that_lands_before_a_cancel_stands_and_the_other_way_round(bench: Bench) -> None:
    """B47."""
    operation = bench.start()
    bench.fail(operation)
    with pytest.raises(Refused, match="it has already failed"):
        operation.cancel()
    operation, held = bench.in_state("cancelling")
    assert held is not None
    fail_step(operation, held, Failure(type="ValueError", message="no", step="0001-one"))
    assert operation.state is State.FAILED, "it had ended before it came to a tap, and says so"
    operation, held = bench.in_state("cancelling")
    assert held is not None
    release_step(operation, held)
    assert isinstance(fail_step(operation, held, Failure(type="ValueError")), Dropped)
    assert (operation.state, operation.failure()) == (State.CANCELLED, None)


# ---- claims of the dead and of the living


def test_a_claim_whose_process_died_blocks_nobody_and_that_of_a_living_one_does(bench: Bench) -> None:
    """B73."""
    operation = bench.start()
    child = os.fork()
    if child == 0:
        try:
            claim_step(bench.other(operation), "0001", 1, 1, "w")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert claim_of(operation).holder is not None, "it started and did not finish, and that can be seen"
    bench.now += 0.001
    operation.reconcile()
    held = bench.claim(operation)
    assert held.claim.attempt == 2
    bench.now += 10 * 3600
    for other in (operation, bench.other(operation)):
        other.reconcile()
        assert "claimed" in bench.drop(other)
    assert len(bench.published) == 2
    bench.commit(operation, held)


def test_a_step_that_began_and_did_not_finish_is_seen_as_such_until_it_is_taken_up(bench: Bench) -> None:
    """B74: in the claim, in the state, and in what `verify` says of a claim whose holder is gone."""
    operation = bench.start()
    held = bench.claim(operation)
    claimed_at = held.claim.held_by
    assert claimed_at is not None
    held.release()
    (out,) = claims.all_out(operation.layout)
    assert out.is_dead
    assert out.claim is not None
    assert out.claim.held_by == claimed_at
    looker = bench.other(operation, publisher=None)
    assert looker.reconcile().state is State.INTERRUPTED
    assert claim_of(operation).held_by == claimed_at, "who cannot publish leaves it as it is"
    operation.reconcile()
    assert (claim_of(operation).held_by, claim_of(operation).cause) == (None, "crash")
    bench.finish(operation)


# ---- checkpoints


def test_a_step_goes_on_from_its_last_checkpoint_in_the_next_claim(bench: Bench) -> None:
    """B22, B25: cursor and value in one file, written after the work; what is committed is not run again."""
    operation = bench.start(2)
    bench.step(operation, "first")
    held = bench.claim(operation)
    assert read_checkpoint(operation, held) is None
    saved = Checkpoint(folds=[{"cursor": 700, "value": {"a": 3}}], done=700.0, unit="bytes", epoch=1, attempt=1)
    assert write_checkpoint(operation, held, saved)
    operation.pause()
    release_step(operation, held)
    operation.resume()
    assert [one.step.path for one in bench.published] == ["0001", "0002", "0002"]
    again = bench.claim(operation)
    assert read_checkpoint(operation, again) == saved
    bench.commit(operation, again)
    assert not operation.layout.checkpoint(held.step).exists()


def test_a_holder_that_lost_its_step_writes_no_checkpoint(bench: Bench) -> None:
    """B65."""
    operation = bench.start()
    held = bench.claim(operation)
    with operation.locked():
        claims.put_out(operation.layout, "0001", replace(held.claim, attempt=2, holder=None))
    assert not write_checkpoint(operation, held, Checkpoint(done=1.0))
    assert not operation.layout.checkpoint(held.step).exists()


def test_a_spoilt_checkpoint_is_refused_with_what_to_do(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    operation.layout.checkpoint(held.step).write_text('{"folds": 5}')
    with pytest.raises(RecordInvalid, match="field 'folds': 5 is a whole number, not a list") as caught:
        read_checkpoint(operation, held)
    assert caught.value.hint == "move the file away to start the step anew"


def test_a_result_that_json_cannot_hold_is_refused_and_the_step_is_not_lost(bench: Bench) -> None:
    """B33: nothing is written in its place; the step is given to the next worker."""
    operation = bench.start()
    held = bench.claim(operation)
    with pytest.raises(TypeError):
        commit(bench, operation, held, {1, 2})
    assert not operation.is_committed(held.step)
    give_up_step(operation, held)
    operation.reconcile()
    bench.finish(operation)


def test_a_result_with_a_name_that_is_not_utf_8_is_kept_as_it_is(bench: Bench) -> None:
    operation = bench.start(1)
    bench.step(operation, ["caf\udce9.csv"])
    assert operation.result == ["caf\udce9.csv"]


# ---- the workflow's callback


def test_of_those_who_see_a_pause_one_tells_the_callback(bench: Bench) -> None:
    operation = bench.start()
    assert not take_pause_notice(operation)
    operation.pause()
    assert [take_pause_notice(bench.other(operation)) for _ in range(3)] == [True, False, False]
    operation.resume()
    operation.pause()
    assert take_pause_notice(operation)


# ---- death between any two writes


@pytest.fixture
def broker_log(bench: Bench) -> str:
    """Where children write what they publish, for the parent to read."""
    return str(bench.path.parent / "broker.log")


def test_death_at_any_write_of_a_claim_loses_no_step(bench: Bench) -> None:
    for operation in deaths(bench.start, lambda one: claim_step(bench.other(one), "0001", 1, 1, "w")):
        settled = operation.reconcile()
        assert settled.state in (State.QUEUED, State.INTERRUPTED)
        assert [out.is_held for out in claims.all_out(operation.layout)] == [False]
        _finish_after_loss(bench, operation)


def test_death_at_any_write_of_a_commit_commits_once_or_not_at_all(bench: Bench) -> None:
    """The child claims and commits; whoever comes after goes on from what is on disk."""

    def claim_and_commit(operation: Operation) -> None:
        other = bench.other(operation)
        held = claim_step(other, "0001", 1, 1, "w")
        assert isinstance(held, HeldClaim)
        commit_step(other, held, os.getpid(), timestamp(bench.now))

    for operation in deaths(lambda: bench.start(2), claim_and_commit):
        operation.reconcile()
        first = operation.plan().steps[0]
        was_committed = operation.is_committed(first)
        before = operation.result_of(first) if was_committed else None
        _finish_after_loss(bench, operation)
        assert operation.state is State.SUCCEEDED
        if was_committed:
            assert operation.result_of(first) == before


@pytest.mark.parametrize("ask", ["pause", "cancel"])
def test_death_at_any_write_of_a_verb_has_asked_or_not_and_never_half(bench: Bench, ask: str) -> None:
    stopped = {"pause": State.PAUSED, "cancel": State.CANCELLED}[ask]
    seen = set()
    for operation in deaths(bench.start, lambda one: getattr(bench.other(one), ask)("why")):
        operation.reconcile()
        state = operation.reconcile().state
        seen.add(state)
        assert state in (State.QUEUED, stopped)
        assert operation.view().want == (ask if state is stopped else "run")
        assert operation.view().reason == ("why" if state is stopped else None)
        assert [path.name for path in operation.path.glob("*.rejected-*")] == []
        if state is not State.CANCELLED:
            operation.resume()
            _finish_after_loss(bench, operation)
    assert seen == {State.QUEUED, stopped}


@pytest.mark.parametrize("state", ["paused", "failed", "cancelled"])
def test_death_at_any_write_of_a_resume_leaves_an_operation_that_can_be_resumed(bench: Bench, state: str) -> None:
    for operation in deaths(lambda: bench.in_state(state)[0], lambda one: bench.other(one).resume()):
        operation.reconcile()
        operation.resume()
        assert operation.epoch() == 2
        _finish_after_loss(bench, operation)


def test_death_at_any_write_of_an_end_leaves_a_whole_result(bench: Bench) -> None:
    def scene() -> Operation:
        operation = bench.start(1)
        files.create(operation.layout.commit(plan_of(1).steps[0]), b'{"result": {"a": 1}, "epoch": 1, "attempt": 1}')
        return operation

    for operation in deaths(scene, lambda one: bench.other(one).reconcile()):
        assert operation.reconcile().state is State.SUCCEEDED
        assert operation.result == {"a": 1}


def test_death_at_any_write_of_a_failure_leaves_a_failure_or_a_lost_worker(bench: Bench) -> None:
    def fail(operation: Operation) -> None:
        other = bench.other(operation)
        held = claim_step(other, "0001", 1, 1, "w")
        assert isinstance(held, HeldClaim)
        fail_step(other, held, Failure(type="ValueError", message="no"))

    for operation in deaths(bench.start, fail):
        if operation.reconcile().state is not State.FAILED:
            _finish_after_loss(bench, operation)


def _finish_after_loss(bench: Bench, operation: Operation) -> None:
    """Run it to its end when messages may have been lost: after the delay each is published again."""
    for _ in range(20):
        if operation.reconcile().state is State.SUCCEEDED:
            return
        messages = [one for one in bench.published if one.operation_id == operation.id]
        held = bench.take(operation) if messages else Dropped("none")
        if isinstance(held, Dropped):
            bench.now += 61
        else:
            bench.commit(operation, held)
    raise AssertionError(f"{operation.id} does not end: {operation.view()}")


# ---- what cannot be written


def test_a_claim_whose_notes_cannot_be_written_is_not_held_for_ever(bench: Bench) -> None:
    """The worker lives on, so its lock would keep the step from everybody."""
    operation = bench.start()
    operation.layout.journal.unlink()
    operation.layout.journal.mkdir()
    with pytest.raises(IsADirectoryError):
        bench.take(operation)
    operation.layout.journal.rmdir()
    assert operation.reconcile().state in (State.INTERRUPTED, State.RUNNING, State.QUEUED)
    assert not any(out.is_held for out in claims.all_out(operation.layout))
    bench.now += 61
    operation.reconcile()
    bench.finish(operation)


def test_a_commit_that_cannot_be_written_gives_the_step_to_the_next_worker(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    moved = operation.layout.steps.with_name("moved")
    operation.layout.steps.rename(moved)
    operation.layout.steps.write_text("in the way")
    with pytest.raises(NotADirectoryError):
        commit(bench, operation, held)
    operation.layout.steps.unlink()
    assert held.is_ours(), "so that it can be put out again"
    assert isinstance(return_step(operation, held, "it is no folder"), Settled)
    assert operation.state is State.INTERRUPTED
    bench.now += 10
    operation.reconcile()
    bench.finish(operation)


def test_a_step_that_was_given_up_is_put_out_by_whoever_looks_next_and_only_its_holder_can_do_so(
    bench: Bench,
) -> None:
    """Also where nothing at all can be written: taking a claim away needs no room."""
    operation = bench.start()
    held = bench.claim(operation)
    give_away(operation, "0001", 1, 1, "it is frozen")
    follower = bench.claim(operation)
    give_up_step(operation, held)
    assert follower.is_ours()
    give_up_step(operation, follower)
    assert claims.all_out(operation.layout) == []
    give_up_step(operation, follower)
    operation.reconcile()
    bench.finish(operation)


def test_who_cannot_publish_leaves_the_next_step_to_who_can(bench: Bench) -> None:
    operation = bench.start()
    alone = Control(bench.path, clock=lambda: bench.now).operation(operation.id)
    held = claim_step(alone, "0001", 1, 1, "w")
    assert isinstance(held, HeldClaim)
    commit_step(alone, held, None, timestamp(bench.now))
    assert len(bench.published) == 1
    operation.reconcile()
    assert bench.published[-1].step.path == "0002"
