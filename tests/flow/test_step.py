"""The worker's side of a step: what becomes of a task's end, and which messages have an effect."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from celery.exceptions import Ignore, Reject

from support.flows import WORKER, Numbers, Post, claim_of, drops_of, failure_of, finish, journal_of, touch
from tapfs import Bus, OperationFailed, State, tap, tappable
from tapfs.bus import steps
from tapfs.bus.clock import seconds_of
from tapfs.bus.control import Control
from tapfs.bus.decide import Recovery
from tapfs.bus.records import Commit, Failure

# A step that ends well


def test_each_result_is_the_next_steps_first_argument(note: Any, bus: Bus, post: Post, runs: list[Any]) -> None:
    operation = tappable(note.s("a") | note.s("b") | note.si("c") | note.s(), bus=bus).delay()
    assert post.deliver_all() == 4
    assert runs == [("a",), (1, "b"), ("c",), (3,)]
    assert operation.state is State.SUCCEEDED
    assert operation.result == 4


def test_only_one_step_is_out_at_a_time_and_its_message_holds_no_argument(
    note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    """Law 2: one step ahead."""
    operation = tappable(chain(note.s("secret"), *(note.s() for _ in range(9))), bus=bus).delay()
    for number in range(1, 11):
        assert [one.step.path for one in post.waiting] == [f"{number:04}"]
        assert [path.name for path in (operation.path / "claims").iterdir()] == [f"{number:04}"]
        post.deliver_next()
    assert post.waiting == []
    assert operation.state is State.SUCCEEDED


def test_a_commit_says_who_ran_it_when_and_in_which_epoch(note: Any, bus: Bus, post: Post) -> None:
    operation = tappable(note.s(), bus=bus).delay()
    post.deliver_all()
    commit = Commit.read(operation.path / "steps" / "0001-note.json")
    assert (commit.result, commit.epoch, commit.attempt) == (1, 1, 1)
    assert commit.worker == f"worker:{WORKER}"
    assert (seconds_of(commit.started_at) or 0) <= (seconds_of(commit.finished_at) or 0)
    assert list((operation.path / "claims").iterdir()) == []


# A step that fails


def test_an_exception_fails_the_operation_and_its_error_says_what_where_and_who(
    app: Celery, note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    @app.task(name="shop.explode")
    def explode(_: Any) -> None:
        raise ZeroDivisionError("no such price: 0")

    operation = tappable(note.s() | explode.s() | note.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.FAILED
    failure = failure_of(operation)
    assert (failure.type, failure.message, failure.step) == ("ZeroDivisionError", "no such price: 0", "0002-explode")
    assert (failure.attempt, failure.epoch, failure.worker) == (1, 1, WORKER)
    assert failure.traceback is not None
    assert 'raise ZeroDivisionError("no such price: 0")' in failure.traceback
    assert seconds_of(failure.failed_at)
    assert operation.view().message == "0002-explode: ZeroDivisionError: no such price: 0"
    assert len(runs) == 1
    with pytest.raises(OperationFailed, match="is failed: ZeroDivisionError: no such price: 0") as caught:
        operation.get(timeout=0)
    assert caught.value.failure == failure


def test_a_failed_operation_is_resumed_from_the_failed_step(
    app: Celery, note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    """B25, B30: what is done is not done again, and the earlier error stays."""
    is_broken = True

    @app.task(name="fragile")
    def fragile(given: int) -> int:
        if is_broken:
            raise ValueError("broken")
        return given + 100

    operation = tappable(note.s() | fragile.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.FAILED
    is_broken = False
    operation.resume()
    assert operation.failure() is None
    post.deliver_all()
    assert operation.result == 101
    assert len(runs) == 1
    assert Failure.read(operation.path / "attic" / "epoch-1" / "error.json").message == "broken"


def test_a_step_that_its_task_rejects_for_others_is_given_to_another_but_not_for_ever(
    app: Celery, bus: Bus, post: Post
) -> None:
    """`Reject(requeue=True)`: no retry is used up; where nobody wants it, the operation fails and says why."""
    runs = []

    @app.task(name="picky", bind=True)
    def picky(self: Any, wanted: int) -> int:
        runs.append(self.request.retries)
        if len(runs) < wanted:
            raise Reject("not mine", requeue=True)
        return len(runs)

    operation = tappable(picky.s(4), bus=bus).delay()
    post.deliver_all()
    assert operation.result == 4
    assert runs == [0, 0, 0, 0]
    runs.clear()
    unwanted = tappable(picky.s(100), bus=bus).delay()
    post.deliver_all()
    assert unwanted.state is State.FAILED
    failure = failure_of(unwanted)
    assert failure.type == "InterruptedTooOften"
    assert "not mine" in failure.message
    assert len(runs) == bus.control.recovery.max_interruptions + 1


@pytest.mark.parametrize("outcome", [Ignore("never mind"), Reject("not mine")], ids=["Ignore", "Reject"])
def test_a_task_that_wants_no_outcome_has_failed_for_an_operation_must_have_one(
    outcome: Exception, app: Celery, bus: Bus, post: Post
) -> None:
    @app.task(name="odd")
    def odd() -> None:
        raise outcome

    operation = tappable(odd.s() | odd.s(), bus=bus).delay()
    first = post.waiting[0]
    post.deliver_all()
    assert operation.state is State.FAILED
    assert failure_of(operation).type == type(outcome).__name__
    post.deliver(first)  # what the broker does when it is asked to requeue
    assert operation.state is State.FAILED
    assert drops_of(operation) == ["the operation is failed"]


def test_a_failure_while_paused_is_recorded_and_nothing_is_tried_again_before_a_resume(
    app: Celery, bus: Bus, post: Post
) -> None:
    """B08"""

    @app.task(name="late")
    def late() -> None:
        touch(operation.path / "PAUSE")
        raise RuntimeError("too late")

    operation = tappable(late.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.FAILED
    bus.reconcile(operation)
    assert post.waiting == []


def test_an_error_whose_text_holds_anything_is_recorded(app: Celery, bus: Bus, post: Post) -> None:
    @app.task(name="odd")
    def odd() -> None:
        raise ValueError("line 1\nline 2 \udce9 \x00 " + "x" * 100_000)

    operation = tappable(odd.s(), bus=bus).delay()
    post.deliver_all()
    assert failure_of(operation).message.startswith("line 1\nline 2 \udce9 \x00 xxx")
    assert len(operation.view().message or "") <= 500


def test_a_spoilt_result_of_the_step_before_fails_the_next_one(note: Any, bus: Bus, post: Post) -> None:
    operation = tappable(note.s() | note.s(), bus=bus).delay()
    post.deliver_next()
    path = operation.path / "steps" / "0001-note.json"
    path.write_text("{")
    post.deliver_all()
    assert operation.state is State.FAILED
    assert str(path) in failure_of(operation).message


# A step that takes its worker with it


def test_an_exit_leaves_a_dead_claim_that_recovery_takes_up(app: Celery, bus: Bus, post: Post) -> None:
    is_broken = True

    @app.task(name="leave")
    def leave() -> int:
        for value, (number,) in tap.fold(Numbers(5), {"sum": 0}):
            value["sum"] += number
            if number == 3 and is_broken:
                raise SystemExit(3)
        return int(value["sum"])

    operation = tappable(leave.s(), bus=bus).delay()
    with pytest.raises(SystemExit):
        post.deliver_next()
    assert claim_of(operation).holder is not None
    is_broken = False
    bus.reconcile(operation)
    assert operation.state is State.INTERRUPTED
    claim = claim_of(operation)
    assert (claim.attempt, claim.cause, claim.crashes, claim.holder) == (2, "crash", 1, None)
    post.deliver_all()
    assert operation.result == 10
    assert [line["to"] for line in journal_of(operation) if line["event"] == "state"] == [
        "running",
        "interrupted",
        "running",
        "succeeded",
    ]


def test_a_step_that_takes_its_worker_with_it_again_and_again_fails(app: Celery, bus: Bus, post: Post) -> None:
    """B66, B67"""

    @app.task(name="leave")
    def leave() -> None:
        raise SystemExit(1)

    operation = tappable(leave.s(), bus=bus).delay()
    for _ in range(3):
        with pytest.raises(SystemExit):
            post.deliver_next()
        bus.reconcile(operation)
    assert post.waiting == []
    assert operation.state is State.FAILED
    assert failure_of(operation).type == "WorkerLost"
    assert "took down its worker 3 times" in failure_of(operation).message


def test_a_worker_killed_within_a_step_frees_its_claim_at_once(app: Celery, bus: Bus, post: Post) -> None:
    """B63, in a real process: its lock dies with it."""

    @app.task(name="die")
    def die() -> str:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"

    here = os.getpid()
    operation = tappable(die.s(), bus=bus).delay()
    child = os.fork()
    if child == 0:
        try:
            bus.control = Control(bus.control.path)  # a process locks with objects of its own
            post.deliver_next()
        finally:
            os._exit(9)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert claim_of(operation).holder is not None
    post.waiting.clear()
    bus.reconcile(operation)
    assert post.deliver_all() == 1
    assert operation.result == "alive"
    commit = Commit.read(operation.path / "steps" / "0001-die.json")
    assert commit.attempt == 2


def test_an_end_that_cannot_be_written_leaves_the_step_to_be_recovered(
    note: Any, bus: Bus, post: Post, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the commit: the claim must not stay locked by a worker that has done with it."""
    operation = tappable(note.s() | note.s(), bus=bus).delay()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(steps.files, "create", full)
        post.deliver_next()
    assert operation.state is State.INTERRUPTED
    claim = claim_of(operation)
    assert (claim.holder, claim.crashes) == (None, 0)
    assert "No space left" in (claim.trouble or "").replace("no", "No")
    assert "step 0001 waits: it could not be ended" in (operation.view().message or "")
    assert post.waiting == [], "it is tried again after a while, not at once"
    bus.control.now = lambda: time.time() + 60
    bus.control.operation(operation.id).now = bus.control.now
    bus.reconcile(operation)
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert runs == [(), (), (2,)]


def test_a_plan_that_cannot_be_read_does_not_keep_the_claim(note: Any, bus: Bus, post: Post) -> None:
    operation = tappable(note.s() | note.s(), bus=bus).delay()
    plan = operation.path / "workflow.json"
    kept = plan.read_bytes()
    plan.write_text("{")
    post.deliver_next()
    assert claim_of(operation).holder is None
    plan.write_bytes(kept)
    bus.reconcile(operation)
    post.deliver(post.sent[0])
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


# Messages without effect


def test_a_doubled_message_has_no_effect(note: Any, bus: Bus, post: Post, runs: list[Any]) -> None:
    """Law 1: a second delivery of a committed step is dropped."""
    operation = tappable(note.s() | note.s(), bus=bus).delay()
    first = post.deliver_next()
    post.deliver(first)
    post.deliver(first)
    assert runs == [()]
    assert drops_of(operation) == ["the step is already committed"] * 2
    assert len(post.waiting) == 1
    post.deliver_all()
    assert operation.result == 2


def test_a_doubled_message_of_a_running_step_has_no_effect(app: Celery, bus: Bus, post: Post, runs: list[Any]) -> None:
    @app.task(name="outer")
    def outer() -> str:
        runs.append("run")
        post.deliver(first)
        return "once"

    operation = tappable(outer.s(), bus=bus).delay()
    first = post.waiting[0]
    post.deliver_all()
    assert runs == ["run"]
    assert drops_of(operation) == [f"the step is claimed by {WORKER}"]
    assert operation.result == "once"


def test_a_message_of_an_earlier_epoch_has_no_effect(note: Any, bus: Bus, post: Post, runs: list[Any]) -> None:
    """B06: a message that was out when it was paused is void, also after a resume."""
    operation = tappable(note.s(), bus=bus).delay()
    stale = post.waiting.pop()
    operation.pause()
    post.deliver(stale)
    assert operation.state is State.PAUSED
    operation.resume()
    post.deliver(stale)
    assert runs == []
    assert drops_of(operation) == ["the operation is paused", "the message is of epoch 1, the operation in epoch 2"]
    assert [one.epoch for one in post.waiting] == [2]
    post.deliver_all()
    assert operation.result == 1


def test_a_message_of_another_attempt_has_no_effect(note: Any, bus: Bus, post: Post, runs: list[Any]) -> None:
    operation = tappable(note.s(), bus=bus).delay()
    [message] = post.waiting
    for attempt in (0, 2, -1):
        post.deliver(message, attempt=attempt)
    assert runs == []
    assert drops_of(operation)[1] == "the message is of attempt 2, the step at attempt 1"
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


def test_a_message_after_a_cancel_has_no_effect(note: Any, bus: Bus, post: Post, runs: list[Any]) -> None:
    """B40, B45, B50"""
    operation = tappable(note.s(), bus=bus).delay()
    operation.cancel()
    post.deliver_all()
    assert runs == []
    assert operation.state is State.CANCELLED
    assert drops_of(operation) == ["the operation is cancelled"]


@pytest.mark.parametrize(("marker", "state"), [("PAUSE", State.PAUSED), ("CANCEL", State.CANCELLED)])
def test_a_request_that_came_before_the_message_keeps_the_step_from_running(
    marker: str, state: State, note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    """B02, B40: nobody has looked at the marker before the message arrives."""
    operation = tappable(note.s(), bus=bus).delay()
    touch(operation.path / marker)
    post.deliver_all()
    assert runs == []
    assert operation.state is state
    assert drops_of(operation) == [f"{marker} asks to {marker.lower()}"]


def test_a_step_that_started_before_the_pause_may_end_and_its_result_is_kept(
    app: Celery, note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    """B05: it has no tap inside, so it ends; nothing follows it."""

    @app.task(name="long")
    def long() -> str:
        operation.pause("lunch")
        assert operation.state is State.PAUSING
        return "kept"

    operation = tappable(long.s() | note.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert runs == []
    operation.resume()
    post.deliver_all()
    assert runs == [("kept",)]


def test_a_late_result_does_not_bring_a_cancelled_operation_back(app: Celery, note: Any, bus: Bus, post: Post) -> None:
    """B50"""

    @app.task(name="long")
    def long() -> None:
        operation.cancel()
        (operation.path / "claims" / "0001").unlink()  # as if it was given away meanwhile
        bus.reconcile(operation)
        assert operation.state is State.CANCELLED

    operation = tappable(long.s() | note.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.CANCELLED
    assert not (operation.path / "steps" / "0001-long.json").exists()


def test_a_message_for_an_unknown_operation_has_no_effect_and_makes_nothing(
    note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    operation = tappable(note.s(), bus=bus).delay()
    [message] = post.waiting
    unknown = "20200101-000000-gone-abcdef"
    post.deliver(message, operation=unknown)
    assert runs == []
    assert not (operation.path.parent / unknown).exists()


def test_a_message_for_a_step_that_is_not_in_the_plan_has_no_effect(
    note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    operation = tappable(note.s(), bus=bus).delay()
    [message] = post.waiting
    for step in ("0002", "", "../0001", "0001/0001"):
        post.deliver(message, step=step)
    assert runs == []
    assert drops_of(operation)[0] == "the plan has no step 0002"


def test_a_message_for_a_step_whose_turn_has_not_come_has_no_effect(
    note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    operation = tappable(note.s() | note.s(), bus=bus).delay()
    [message] = post.waiting
    post.deliver(message, step="0002")
    assert runs == []
    assert drops_of(operation) == ["a step before it is not committed"]


def test_fields_of_a_later_version_in_a_header_do_no_harm(note: Any, bus: Bus, post: Post, runs: list[Any]) -> None:
    tappable(note.s(), bus=bus).delay()
    post.deliver(post.waiting.pop(), colour="red")
    assert len(runs) == 1


# Losses


def test_a_lost_message_is_published_again_after_the_delay_and_not_before(app: Celery, tmp_path: Path) -> None:
    """Law 1."""
    bus = Bus(tmp_path / "control", app=app, recovery=Recovery(first_delay_s=10, longest_delay_s=25))
    post = bus.control.publisher = Post(app)
    now = 1_800_000_000.0
    bus.control.now = lambda: now
    note = app.task(name="one")(_one)
    operation = tappable(note.s(), bus=bus).delay()
    published = []
    for _ in range(70):
        post.waiting.clear()
        now += 1.0
        bus.reconcile(operation)
        published += [now - 1_800_000_000.0 for _ in post.waiting]
    assert published == [10, 30, 55]
    assert [(one.attempt, one.number) for one in post.sent] == [(1, 1), (1, 2), (1, 3), (1, 4)]
    post.deliver(post.sent[0])  # the one that was only late
    assert operation.state is State.SUCCEEDED


def _one() -> int:
    return 1


def test_steps_are_done_once_whatever_becomes_of_their_messages(note: Any, bus: Bus, post: Post) -> None:
    """Law 1: each message doubled, delivered late, and delivered again at the end."""
    operation = tappable(chain(*(note.si(number) for number in range(12))), bus=bus).delay()
    done: list[Any] = []
    while post.waiting:
        message = post.waiting.pop(0)
        post.deliver(message)
        for earlier in [*done, message]:
            post.deliver(earlier)
        done.append(message)
    assert operation.state is State.SUCCEEDED
    assert operation.result == 12
    assert finish(bus, post, operation) is State.SUCCEEDED
