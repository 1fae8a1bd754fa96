"""What others do about a lost step (`losses`), and the order in which a failure is written down (`failures`)."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from support.bench import Bench, events, history, snapshot
from support.mortal import deaths
from tapfs.bus import claims, files
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.decide import Recovery
from tapfs.bus.failures import failure_of, write_failure
from tapfs.bus.losses import fail_out, give_away, is_current, note_loss, pass_on, refuse
from tapfs.bus.operation import Operation
from tapfs.bus.records import Checkpoint, Claim, Failure
from tapfs.bus.runs import read_run
from tapfs.bus.saved import note_begun, write_checkpoint
from tapfs.bus.states import State
from tapfs.bus.steps import commit_step, fail_step, interrupt_step, release_step, retry_step, return_step
from tapfs.bus.workers import WorkerFolder

#: The step and attempt that a fresh operation has out.
FIRST = ("0001", 1, 1)


def claim_of(operation: Operation, path: str = "0001") -> Claim:
    return Claim.read(operation.layout.claim(path))


def failure(operation: Operation) -> Failure:
    found = operation.failure()
    assert found is not None
    return found


def sent(bench: Bench, operation: Operation) -> list[tuple[str, int, int]]:
    """Step, epoch and attempt of each of its messages."""
    return [(one.step.path, one.epoch, one.attempt) for one in bench.published if one.operation_id == operation.id]


def changed(before: dict[str, bytes | None], operation: Operation) -> set[str]:
    """The names below the operation's folder whose content is another than before; a hidden one is but short-lived."""
    after = snapshot(operation.path)
    return {name for name in before | after if before.get(name) != after.get(name) and not name.startswith(".")}


# ---- give_away


def test_a_step_that_is_given_away_is_out_again_at_once_for_another(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    assert give_away(operation, *FIRST, "no sign of life for 60 s")
    assert not held.is_ours()
    assert sent(bench, operation) == [FIRST, ("0001", 1, 2)]
    (lost,) = events(operation, "lost")
    assert (lost["step"], lost["attempt"], lost["worker"]) == ("0001", 1, "worker@test")
    assert lost["reason"] == "no sign of life for 60 s"
    assert operation.state is State.INTERRUPTED
    bench.finish(operation)


@pytest.mark.parametrize("write", ["result", "failure", "retry", "release", "interruption", "return"])
def test_a_holder_that_lost_its_step_can_write_no_end_of_it(bench: Bench, write: str) -> None:
    """B65."""
    ends: dict[str, Callable[[HeldClaim], object]] = {
        "result": lambda held: commit_step(bench.other(operation), held, "late", timestamp(bench.now)),
        "failure": lambda held: fail_step(bench.other(operation), held, Failure(type="ValueError", message="late")),
        "retry": lambda held: retry_step(bench.other(operation), held, None, 7),
        "release": lambda held: release_step(bench.other(operation), held, pause_because="late"),
        "interruption": lambda held: interrupt_step(bench.other(operation), held, "late"),
        "return": lambda held: return_step(bench.other(operation), held, "late"),
    }
    operation = bench.start()
    held = bench.claim(operation)
    assert give_away(operation, *FIRST, "it is frozen")
    other = bench.claim(operation)
    before = snapshot(operation.path)
    assert ends[write](held) == Dropped("the step was given to another while this worker had it")
    assert events(operation, "dropped")[-1]["attempt"] == 1
    assert changed(before, operation) == {"journal.jsonl"}
    assert len(bench.published) == 2
    bench.commit(operation, other, "in time")
    assert operation.result_of(other.step) == "in time"
    bench.finish(operation)


def test_a_holder_that_lost_its_step_saves_nothing_inside_it_either(bench: Bench) -> None:
    """B65: neither a checkpoint nor the note of a side effect."""
    operation = bench.start()
    held = bench.claim(operation)
    give_away(operation, *FIRST, "it is frozen")
    assert not write_checkpoint(bench.other(operation), held, Checkpoint(done=1.0, epoch=1, attempt=1))
    assert not note_begun(bench.other(operation), held, "mail-42")
    assert list(operation.layout.steps.iterdir()) == []


def test_a_step_is_given_away_once_however_many_see_that_it_is_silent(bench: Bench) -> None:
    operation = bench.start()
    bench.claim(operation)
    assert [give_away(bench.other(operation), *FIRST, "silent") for _ in range(3)] == [True, False, False]
    assert len(events(operation, "lost")) == 1
    assert len(bench.published) == 2


@pytest.mark.parametrize(
    ("path", "epoch", "attempt"), [("0001", 1, 2), ("0001", 2, 1), ("0001", 1, 0), ("0002", 1, 1), ("0009", 1, 1)]
)
def test_a_loss_of_another_attempt_or_step_changes_nothing(bench: Bench, path: str, epoch: int, attempt: int) -> None:
    """Law 3: what is late is asked whether it still holds."""
    operation = bench.start()
    held = bench.claim(operation)
    before = snapshot(operation.path)
    assert not give_away(operation, path, epoch, attempt, "late")
    assert not fail_out(operation, path, epoch, attempt, "TimeLimitExceeded", "late")
    refuse(operation, path, epoch, attempt, "NotRegistered", "late")
    assert not pass_on(operation, path, epoch, attempt)
    assert not is_current(operation, path, epoch, attempt)
    assert snapshot(operation.path) == before
    note_loss(operation, path, epoch, attempt, "late")
    assert changed(before, operation) <= {"journal.jsonl"}
    bench.commit(operation, held)
    bench.finish(operation)


@pytest.mark.parametrize("state", ["paused", "succeeded", "failed", "cancelled"])
def test_nothing_late_moves_an_operation_that_has_stopped(bench: Bench, state: str) -> None:
    """B50."""
    operation, _ = bench.in_state(state)
    operation.reconcile()
    before = snapshot(operation.path)
    for path in ("0001", "0003"):
        assert not give_away(operation, path, 1, 1, "late")
        assert not fail_out(operation, path, 1, 1, "TimeLimitExceeded", "late")
        refuse(operation, path, 1, 1, "NotRegistered", "late")
        assert not pass_on(operation, path, 1, 1)
        assert not is_current(operation, path, 1, 1)
    assert snapshot(operation.path) == before
    note_loss(operation, "0003", 1, 1, "late")
    assert changed(before, operation) <= {"journal.jsonl"}
    assert operation.reconcile().state == state


@pytest.mark.parametrize(("state", "end"), [("pausing", State.PAUSED), ("cancelling", State.CANCELLED)])
def test_a_step_given_away_while_the_operation_stops_is_not_published_and_the_stop_is_complete(
    bench: Bench, state: str, end: State
) -> None:
    """B16."""
    operation, held = bench.in_state(state)
    assert held is not None
    assert give_away(operation, *FIRST, "silent")
    assert (operation.state, len(bench.published)) == (end, 1)
    assert list(operation.layout.claims.iterdir()) == []
    assert isinstance(commit_step(operation, held, "late", timestamp(bench.now)), Dropped)
    assert operation.state is end
    operation.resume()
    bench.finish(operation)


# ---- note_loss


def test_how_a_process_was_lost_is_written_down_and_its_step_goes_on_at_once(bench: Bench) -> None:
    operation = bench.start()
    bench.claim(operation).release()
    note_loss(operation, *FIRST, "signal 9 (SIGKILL)")
    (lost,) = events(operation, "lost")
    assert (lost["worker"], lost["attempt"], lost["reason"]) == ("worker@test", 1, "signal 9 (SIGKILL)")
    assert sent(bench, operation)[-1] == ("0001", 1, 2)
    bench.finish(operation)


def test_a_loss_that_is_noted_after_somebody_found_the_claim_free_is_noted_all_the_same(bench: Bench) -> None:
    operation = bench.start()
    bench.claim(operation).release()
    operation.reconcile()
    note_loss(operation, *FIRST, "signal 9 (SIGKILL)")
    assert [line["reason"] for line in events(operation, "lost")] == ["signal 9 (SIGKILL)"]
    assert sent(bench, operation) == [FIRST, ("0001", 1, 2)], "it is not published twice for that"
    bench.finish(operation)


def test_a_loss_says_nothing_against_the_next_attempt_once_that_is_claimed(bench: Bench) -> None:
    operation = bench.start()
    bench.claim(operation).release()
    operation.reconcile()
    held = bench.claim(operation)
    note_loss(operation, *FIRST, "signal 9 (SIGKILL)")
    assert claim_of(operation).lost_to is None
    assert held.is_ours()
    bench.commit(operation, held)
    bench.finish(operation)


def test_a_loss_that_is_told_of_a_holder_that_lives_takes_nothing_from_it(bench: Bench) -> None:
    """B73: the lock is the truth."""
    operation = bench.start()
    held = bench.claim(operation)
    note_loss(operation, *FIRST, "signal 9 (SIGKILL)")
    assert (held.is_ours(), operation.reconcile().state, len(bench.published)) == (True, State.RUNNING, 1)
    bench.commit(operation, held)
    bench.finish(operation)


@pytest.mark.parametrize("is_late", [False, True], ids=["noted first", "found first"])
def test_after_too_many_crashes_it_is_parked_as_failed_says_what_ended_the_last_and_resume_releases_it(
    bench: Bench, is_late: bool
) -> None:
    """B66."""
    operation = bench.start()
    for attempt in (1, 2, 3):
        bench.claim(operation).release()
        if is_late:
            operation.reconcile()
        note_loss(operation, "0001", 1, attempt, f"signal {attempt}")
    assert operation.state is State.FAILED
    found = failure(operation)
    assert (found.type, found.attempt, found.worker) == ("WorkerLost", 3, "worker@test")
    assert found.message.endswith("the last was worker@test, ended by signal 3")
    assert found.message in (operation.view().message or "")
    note_loss(operation, "0001", 1, 3, "signal 3")
    assert failure(operation) == found, "told twice, said once"
    bench.now += 3600
    operation.reconcile()
    assert len(bench.published) == 3, "it stays parked"
    operation.resume()
    assert sent(bench, operation)[-1] == ("0001", 2, 1)
    bench.claim(operation).release()
    assert operation.reconcile().state is State.INTERRUPTED, "the count begins anew"
    bench.finish(operation)


def test_a_failure_of_another_kind_is_left_as_it_is_by_a_late_loss(bench: Bench) -> None:
    operation = bench.start()
    bench.fail(operation)
    before = operation.layout.error.read_bytes()
    note_loss(operation, *FIRST, "signal 9 (SIGKILL)")
    assert operation.layout.error.read_bytes() == before
    operation.layout.error.write_text("{")
    note_loss(operation, *FIRST, "signal 9 (SIGKILL)")
    operation.layout.error.unlink()
    note_loss(operation, *FIRST, "signal 9 (SIGKILL)")
    assert not operation.layout.error.exists()


@pytest.mark.parametrize(("state", "end"), [("pausing", State.PAUSED), ("cancelling", State.CANCELLED)])
def test_a_loss_while_the_operation_stops_completes_the_stop(bench: Bench, state: str, end: State) -> None:
    """B16, B49."""
    operation, held = bench.in_state(state)
    assert held is not None
    held.release()
    note_loss(operation, *FIRST, "signal 9 (SIGKILL)")
    assert (operation.state, len(bench.published)) == (end, 1)


# ---- fail_out


def test_a_step_over_its_hard_time_limit_fails_the_operation_while_its_process_still_holds_it(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    assert fail_out(operation, *FIRST, "TimeLimitExceeded", "it ran over its limit of 5 s", "parent@test")
    found = failure(operation)
    assert (found.type, found.message, found.step) == ("TimeLimitExceeded", "it ran over its limit of 5 s", "0001-one")
    assert (found.attempt, found.epoch, found.worker) == (1, 1, "worker@test")
    assert found.failed_at == timestamp(bench.now)
    assert (operation.state, len(bench.published)) == (State.FAILED, 1)
    assert isinstance(commit_step(operation, held, "late", timestamp(bench.now)), Dropped)
    assert not operation.is_committed(held.step)
    operation.resume()
    bench.finish(operation)


def test_a_step_that_was_out_and_unclaimed_fails_in_the_name_of_who_says_so(bench: Bench) -> None:
    operation = bench.start()
    assert fail_out(operation, *FIRST, "TaskRevokedError", "its message expired", "parent@test")
    assert failure(operation).worker == "parent@test"
    assert history(operation) == ["queued", "failed"]
    assert not fail_out(operation, *FIRST, "TaskRevokedError", "again")
    assert failure(operation).message == "its message expired"


def test_a_step_that_ran_over_its_limit_and_was_found_dead_first_is_not_run_again(bench: Bench) -> None:
    """The process is ended for the limit; whoever sees its claim free first would have it run again."""
    operation = bench.start()
    bench.claim(operation).release()
    operation.reconcile()
    assert fail_out(operation, *FIRST, "TimeLimitExceeded", "too long", "parent@test")
    assert (operation.state, failure(operation).attempt) == (State.FAILED, 1)
    assert "failed" in bench.drop(operation)


def test_a_step_that_fails_while_the_operation_is_pausing_is_recorded_and_nothing_is_published(bench: Bench) -> None:
    """B08: it raised, or ran over its limit; no retry before a resume."""
    for fail in (
        lambda operation, held: fail_step(operation, held, Failure(type="ValueError", message="no", step="0001-one")),
        lambda operation, held: fail_out(operation, *FIRST, "TimeLimitExceeded", "no"),
    ):
        operation, held = bench.in_state("pausing")
        count = len(bench.published)
        fail(operation, held)
        assert (operation.state, failure(operation).message) == (State.FAILED, "no")
        bench.now += 3600
        operation.reconcile()
        assert len(bench.published) == count
        assert history(operation) == ["queued", "running", "pausing", "failed"]
        operation.resume()
        assert sent(bench, operation)[-1] == ("0001", 2, 1)
        bench.finish(operation)


# ---- refuse


def test_a_step_whose_task_a_worker_does_not_know_is_published_again_after_the_delay(bench: Bench) -> None:
    """B36: another worker may know it."""
    operation = bench.start()
    bench.now += 5
    refuse(operation, *FIRST, "NotRegistered", "worker w knows no task 'test.one'")
    assert "worker w knows no task 'test.one'" in (operation.view().message or "")
    bench.now += 9.9
    operation.reconcile()
    assert len(bench.published) == 1, "the delay begins with the refusal"
    bench.now += 0.1
    operation.reconcile()
    last = bench.published[-1]
    assert (last.step.path, last.attempt, last.retries) == ("0001", 2, 0), "no retry is used up"
    bench.finish(operation)


def test_a_step_that_nobody_knows_fails_after_a_few_refusals_and_never_loops(bench: Bench) -> None:
    """B36: failed with a clear text; a resume tries anew."""
    operation = bench.start()
    for attempt in range(1, operation.recovery.max_crashes + 1):
        assert operation.state is State.QUEUED
        refuse(operation, "0001", 1, attempt, "NotRegistered", "worker w knows no task 'test.one'")
        bench.now += 60
        operation.reconcile()
    assert operation.state is State.FAILED
    assert (failure(operation).type, failure(operation).step) == ("NotRegistered", "0001-one")
    assert failure(operation).message == "worker w knows no task 'test.one'"
    assert len(bench.published) == 3
    operation.resume()
    bench.finish(operation)


def test_a_doubled_message_is_refused_once(bench: Bench) -> None:
    operation = bench.start()
    for _ in range(9):
        refuse(operation, *FIRST, "NotRegistered", "no such task")
    assert (operation.state, claim_of(operation).crashes) == (State.QUEUED, 1)


def test_a_step_that_was_done_by_one_who_died_before_its_claim_was_taken_in_is_done(bench: Bench) -> None:
    """Law 3: the commit is what counts, whatever is said of its claim afterwards."""
    for act in (
        lambda operation: fail_out(operation, *FIRST, "TimeLimitExceeded", "late"),
        lambda operation: refuse(operation, *FIRST, "NotRegistered", "late"),
        lambda operation: pass_on(operation, *FIRST),
        lambda operation: note_loss(operation, *FIRST, "signal 9"),
    ):
        operation = bench.start()
        held = bench.claim(operation)
        files.create(operation.layout.commit(held.step), b'{"result": "done", "epoch": 1, "attempt": 1}')
        held.release()
        act(operation)
        assert operation.reconcile().state is State.RUNNING
        assert sent(bench, operation) == [FIRST, ("0002", 1, 1)]
        assert operation.result_of(held.step) == "done"
        bench.finish(operation)


def test_a_refusal_of_a_step_that_another_worker_runs_changes_nothing(bench: Bench) -> None:
    """A doubled message: one worker knows the task, the other does not."""
    operation = bench.start()
    held = bench.claim(operation)
    refuse(operation, *FIRST, "NotRegistered", "no")
    assert claim_of(operation) == held.claim
    bench.commit(operation, held)
    bench.finish(operation)


def test_a_trouble_of_any_length_leaves_a_claim_that_can_be_read(bench: Bench) -> None:
    operation = bench.start()
    refuse(operation, *FIRST, "NotRegistered", "\N{BUG}" * 100_000)
    assert len(claim_of(operation).trouble or "") == 500
    bench.now += 60
    operation.reconcile()
    bench.finish(operation)


# ---- pass_on


def test_a_message_that_reaches_a_worker_about_to_leave_is_published_again_at_once(bench: Bench) -> None:
    operation = bench.start()
    assert pass_on(operation, *FIRST)
    assert [(one.attempt, one.number) for one in bench.published] == [(1, 1), (2, 1)]
    assert "attempt 1" in bench.drop(operation, 0)
    bench.finish(operation)


def test_a_message_can_be_passed_on_as_often_as_workers_leave_and_each_time_counts_as_the_first(bench: Bench) -> None:
    """It waits in the queue then, and not for a delay that has grown; and it is no repeat, which might be left out."""
    operation = bench.start()
    for attempt in range(1, 21):
        assert pass_on(operation, "0001", 1, attempt)
    assert [one.number for one in bench.published] == [1] * 21
    bench.finish(operation)


def test_a_retry_that_is_passed_on_is_published_at_once_with_its_count(bench: Bench) -> None:
    operation = bench.start()
    retry_step(operation, bench.claim(operation), timestamp(bench.now + 30), 3)
    bench.now += 30
    assert pass_on(operation, "0001", 1, 2)
    last = bench.published[-1]
    assert (last.attempt, last.number, last.retries, last.not_before) == (3, 1, 3, None)
    bench.finish(operation)


def test_passing_a_message_on_does_not_hide_that_its_holder_died(bench: Bench) -> None:
    """B66: the broker gives the message of a lost process to a worker that is about to leave."""
    operation = bench.start()
    for attempt in (1, 2, 3):
        bench.claim(operation).release()
        pass_on(operation, "0001", 1, attempt)
    assert (operation.state, failure(operation).type) == (State.FAILED, "WorkerLost")


def test_a_step_that_is_held_is_not_passed_on(bench: Bench) -> None:
    operation = bench.start()
    bench.claim(operation)
    assert not pass_on(operation, *FIRST)
    assert len(bench.published) == 1


@pytest.mark.parametrize(("marker", "state"), [("PAUSE", State.PAUSED), ("CANCEL", State.CANCELLED)])
def test_a_message_that_reaches_a_worker_about_to_leave_when_a_stop_is_asked_is_not_published_again(
    bench: Bench, marker: str, state: State
) -> None:
    """B16: also where nobody has looked at the marker yet."""
    operation = bench.start()
    (operation.path / marker).touch()
    pass_on(operation, *FIRST)
    assert (operation.state, len(bench.published)) == (state, 1)


# ---- is_current


def test_an_attempt_is_current_while_it_is_out_and_after_its_crash_until_another_has_begun(bench: Bench) -> None:
    operation = bench.start()
    assert is_current(operation, *FIRST)
    bench.claim(operation).release()
    operation.reconcile()
    assert is_current(operation, *FIRST)
    held = bench.claim(operation)
    assert not is_current(operation, *FIRST)
    assert is_current(operation, "0001", 1, 2)
    bench.commit(operation, held)
    assert not is_current(operation, "0001", 1, 2)


# ---- failures


def test_a_failure_is_described_by_its_claim_and_written_before_the_claim_goes(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    described = failure_of(operation, held.step, held.claim, "Odd", "so it is")
    assert (described.step, described.attempt, described.epoch) == ("0001-one", 1, 1)
    assert (described.worker, described.failed_at) == ("worker@test", timestamp(bench.now))
    nobody = failure_of(operation, held.step, replace(held.claim, holder={"worker": 5}), "Odd", "so it is")
    assert nobody.worker is None
    with operation.locked():
        write_failure(operation, "0001", described)
        assert (failure(operation), read_run(operation).outcome) == (described, "failed")
    assert list(operation.layout.claims.iterdir()) == []


def test_a_failure_does_not_take_the_place_of_an_end(bench: Bench) -> None:
    """B47: what landed first under the lock stands."""
    operation, _ = bench.in_state("cancelled")
    with operation.locked():
        write_failure(operation, "0001", Failure(type="ValueError"))
    assert operation.reconcile().state is State.CANCELLED


# ---- death between any two writes


def finish_after_loss(bench: Bench, operation: Operation) -> None:
    """Run it to its end, whatever messages and processes were lost; each step must be committed once, in order."""
    for _ in range(40):
        state = operation.reconcile().state
        if state is State.SUCCEEDED:
            break
        if state in (State.FAILED, State.PAUSED, State.CANCELLED):
            operation.resume()
        mine = [one for one in bench.published if one.operation_id == operation.id]
        held = bench.take(operation) if mine else Dropped("none")
        if isinstance(held, Dropped):
            bench.now += 61
        else:
            bench.commit(operation, held, held.step.path)
    assert operation.result == operation.plan().steps[-1].path, operation.view()
    assert [operation.result_of(step) for step in operation.plan().steps] == ["0001", "0002"]
    assert claims.all_out(operation.layout) == []


ABOUT_A_HELD_STEP: dict[str, Callable[[Operation], object]] = {
    "give_away": lambda operation: give_away(operation, *FIRST, "silent"),
    "fail_out": lambda operation: fail_out(operation, *FIRST, "TimeLimitExceeded", "too long"),
}
ABOUT_A_STEP_THAT_WAITS: dict[str, Callable[[Operation], object]] = {
    "refuse": lambda operation: refuse(operation, *FIRST, "NotRegistered", "no such task"),
    "pass_on": lambda operation: pass_on(operation, *FIRST),
    "fail_out": lambda operation: fail_out(operation, *FIRST, "TaskRevokedError", "expired"),
}


@pytest.mark.parametrize("action", sorted(ABOUT_A_HELD_STEP))
def test_death_at_any_write_about_a_held_step_leaves_it_with_its_holder_or_takes_it_for_good(
    bench: Bench, action: str
) -> None:
    held: dict[str, HeldClaim] = {}
    was_ours = []

    def scene() -> Operation:
        operation = bench.start()
        held[operation.id] = bench.claim(operation)
        return operation

    for operation in deaths(scene, lambda one: ABOUT_A_HELD_STEP[action](bench.other(one))):
        state = operation.reconcile().state
        assert state in (State.RUNNING, State.INTERRUPTED, State.FAILED)
        was_ours.append(held[operation.id].is_ours() and state is not State.FAILED)
        outcome = commit_step(operation, held[operation.id], "0001", timestamp(bench.now))
        assert isinstance(outcome, Dropped) == (not was_ours[-1])
        finish_after_loss(bench, operation)
    assert was_ours == sorted(was_ours, reverse=True), "once it is taken, it stays so"
    assert (was_ours[0], was_ours[-1]) == (True, False)


@pytest.mark.parametrize("action", sorted(ABOUT_A_STEP_THAT_WAITS))
def test_death_at_any_write_about_a_step_that_waits_loses_nothing(bench: Bench, action: str) -> None:
    for operation in deaths(bench.start, lambda one: ABOUT_A_STEP_THAT_WAITS[action](bench.other(one))):
        assert operation.reconcile().state in (State.QUEUED, State.FAILED)
        finish_after_loss(bench, operation)


def test_death_at_any_write_of_the_last_refusal_fails_it_or_leaves_it_to_be_refused_again(bench: Bench) -> None:
    bench.control.recovery = Recovery(max_crashes=1)
    for operation in deaths(
        bench.start, lambda one: ABOUT_A_STEP_THAT_WAITS["refuse"](bench.control.operation(one.id))
    ):
        if operation.reconcile().state is State.FAILED:
            assert failure(operation).type == "NotRegistered"
        finish_after_loss(bench, operation)


def test_death_at_any_write_of_a_noted_loss_loses_the_note_at_most(bench: Bench) -> None:
    def scene() -> Operation:
        operation = bench.start()
        bench.claim(operation).release()
        return operation

    for operation in deaths(scene, lambda one: note_loss(bench.other(one), *FIRST, "signal 9")):
        assert operation.reconcile().state is State.INTERRUPTED
        finish_after_loss(bench, operation)


def test_death_at_any_write_of_an_interruption_puts_the_step_out_again_exactly_once(bench: Bench) -> None:
    """B60: the child claims, saves its place, and gives the step away."""

    def interrupt(operation: Operation) -> None:
        other = bench.other(operation)
        held = claim_step(other, *FIRST, "w")
        assert isinstance(held, HeldClaim)
        interrupt_step(other, held, "the worker got SIGTERM")

    for operation in deaths(bench.start, interrupt):
        assert operation.reconcile().state in (State.QUEUED, State.INTERRUPTED)
        claim = claim_of(operation)
        assert (claim.holder, claim.retries) == (None, 0)
        assert claim.attempt in (1, 2)
        assert read_run(operation).interruptions <= claim.attempt - 1
        finish_after_loss(bench, operation)


def test_at_whatever_instant_others_die_the_file_that_is_there_is_whole(bench: Bench) -> None:
    """Law 3, of files: no reader finds half a record."""

    def records(operation: Operation) -> list[Any]:
        paths = [path for path in operation.path.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return [json.loads(path.read_bytes()) for path in paths if path.suffix == ".json" or "claims" in path.parts]

    for action in ABOUT_A_STEP_THAT_WAITS.values():
        for operation in deaths(bench.start, lambda one, action=action: action(bench.other(one))):
            assert all(isinstance(one, dict) for one in records(operation))
            assert not any(os.path.islink(path) for path in operation.path.rglob("*"))
            assert claims.find(operation.layout, "0001") is None or files.exists(operation.layout.claim("0001"))


def test_a_worker_of_old_code_fails_no_step_while_another_lives_that_was_not_asked(bench: Bench) -> None:
    """A deploy leaves such a worker for a while; it answers at once, and so gets most messages."""
    bench.control.prepare()
    new = WorkerFolder.enter(bench.control.layout, "new@here", bench.now)
    operation = bench.start()
    for attempt in range(1, 12):
        refuse(operation, "0001", 1, attempt, "NotRegistered", "worker old@here knows no task", "old@here")
        bench.now += 60
        operation.reconcile()
    assert operation.state is State.QUEUED
    new.leave()
    refuse(operation, "0001", 1, 12, "NotRegistered", "worker old@here knows no task", "old@here")
    assert operation.state is State.FAILED
