"""What the worker's parent sees of a step's process, and of messages that no process gets: each is written down."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.app.task import Context
from celery.worker import state as worker_state
from celery.worker.state import revoked as revoked_tasks
from kombu import Connection

from support import wait_for
from support.bench import snapshot
from support.flows import Post, claim_of, failure_of, journal_of
from tapfs import Bus, Operation, State, tappable
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.publication import Publication
from tapfs.bus.steps import commit_step, release_step
from tapfs.flow import employment, worker
from tapfs.flow.message import HEADER, header_for
from tapfs.flow.request import StepRequest, header_in, in_background, see_to

WORKER_LOST = "Worker exited prematurely: signal 9 (SIGKILL) Job: 3."


@pytest.fixture
def operation(note: Any, bus: Bus, post: Post) -> Operation:
    return tappable(note.s() | note.s(), bus=bus).delay()


@pytest.fixture
def hooks() -> list[str]:
    """What was told to the task's own `on_failure`."""
    return []


def message_of(app: Celery, task: str, headers: dict[str, Any], **options: Any) -> Any:
    """A message as a worker gets it, by way of a broker in memory."""
    with Connection("memory://") as connection, connection.SimpleQueue(f"q-{id(headers)}") as queue:
        app.send_task(task, connection=connection, queue=queue.queue.name, headers=headers, **options)
        return queue.get(timeout=5)


def request_of(app: Celery, publication: Publication, **options: Any) -> StepRequest:
    """The request for a step's message, as the parent of a worker makes it."""
    header = {HEADER: header_for(publication)}
    message = message_of(app, publication.step.task, header, **options)
    return StepRequest(message, app=app, hostname="worker@here")


def held_by_another(operation: Operation, publication: Publication) -> HeldClaim:
    """The claim as the child of the worker has it."""
    held = claim_step(operation, publication.step.path, publication.epoch, publication.attempt, "worker@here")
    assert isinstance(held, HeldClaim)
    return held


def lost(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except BaseException:
        return ExceptionInfo()


def no_threads_left() -> None:
    """Wait until what is done in the background is done."""
    wait_for(lambda: not any(thread.name == "tapfs-note" for thread in threading.enumerate()))


def losses_of(operation: Operation) -> list[str]:
    return [line["reason"] for line in journal_of(operation) if line["event"] == "lost"]


def test_the_requests_of_tappable_tasks_are_those_that_take_note(note: Any, bus: Bus) -> None:
    from celery.utils.imports import symbol_by_name

    assert symbol_by_name(note.Request) is StepRequest


# ---- time limits


def test_a_hard_time_limit_fails_the_step_and_nobody_runs_it_again(
    app: Celery, bus: Bus, post: Post, operation: Operation
) -> None:
    """The process is ended after that, so its claim is still held here."""
    [message] = post.waiting
    held = held_by_another(operation, message)
    request_of(app, message).on_timeout(soft=False, timeout=1.5)
    assert operation.state is State.FAILED
    failure = failure_of(operation)
    assert (failure.type, failure.step, failure.attempt) == ("TimeLimitExceeded", "0001-note", 1)
    assert failure.message == "the step ran over its hard time limit of 1.5 s, and its process was ended"
    assert failure.worker == "worker@here"
    held.release()  # what the end of the process does
    bus.reconcile(operation)
    assert len(post.sent) == 1
    assert operation.state is State.FAILED


def test_a_hard_time_limit_while_pausing_is_recorded_and_nothing_is_published_before_a_resume(
    app: Celery, bus: Bus, post: Post, operation: Operation
) -> None:
    """B08."""
    [message] = post.waiting
    held = held_by_another(operation, message)
    operation.pause()
    request_of(app, message).on_timeout(soft=False, timeout=5)
    held.release()
    bus.reconcile(operation)
    assert (operation.state, len(post.sent)) == (State.FAILED, 1)
    assert [line["to"] for line in journal_of(operation) if "to" in line] == ["queued", "running", "pausing", "failed"]
    operation.resume()
    assert [(one.step.path, one.epoch) for one in post.sent] == [("0001", 1), ("0001", 2)]


def test_a_time_limit_that_comes_when_the_step_has_just_ended_changes_nothing(
    app: Celery, post: Post, operation: Operation
) -> None:
    """B56: the record of the end stands."""
    message = post.deliver_next()
    before = snapshot(operation.path)
    request_of(app, message).on_timeout(soft=False, timeout=5)
    assert snapshot(operation.path) == before
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


def test_a_soft_time_limit_is_the_tasks_own_affair(
    app: Celery, post: Post, operation: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    [message] = post.waiting
    held = held_by_another(operation, message)
    before = snapshot(operation.path)
    request_of(app, message).on_timeout(soft=True, timeout=5)
    assert snapshot(operation.path) == before
    assert held.is_ours()


def test_time_limits_of_a_worker_that_ends_its_processes_are_none(
    app: Celery, post: Post, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold shutdown ends them by Celery's way of a time limit: the step is not to blame, and goes on elsewhere."""
    monkeypatch.setattr(worker_state, "should_terminate", True)
    [message] = post.waiting
    held_by_another(operation, message)
    request_of(app, message).on_timeout(soft=False, timeout=5)
    assert operation.state is State.RUNNING


# ---- lost processes


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (WorkerLostError(WORKER_LOST), "signal 9 (SIGKILL)"),
        (WorkerLostError("Worker exited prematurely: exitcode 155 Job: 0."), "exitcode 155"),
        (WorkerLostError("Could not start worker processes"), "Could not start worker processes"),
        (SystemExit(3), "exit with status 3"),
    ],
    ids=["signal", "exit code", "other", "exit"],
)
def test_a_lost_process_is_noted_with_its_end_and_its_step_goes_on_at_once(
    app: Celery, post: Post, operation: Operation, error: BaseException, how: str
) -> None:
    [message] = post.waiting
    held_by_another(operation, message).release()
    request_of(app, message).on_failure(lost(error))
    no_threads_left()
    assert losses_of(operation) == [how]
    assert post.waiting[-1].attempt == 2
    post.waiting.pop(0)
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


def test_a_step_that_takes_its_process_with_it_time_after_time_fails_and_says_by_which_signal(
    app: Celery, bus: Bus, post: Post, operation: Operation
) -> None:
    """B66: which worker, which signal, which attempt; a resume releases it."""
    for _ in range(3):
        message = post.waiting.pop(0)
        held_by_another(operation, message).release()
        bus.reconcile(operation)  # whoever sees the free claim is faster
        request_of(app, message).on_failure(lost(WorkerLostError(WORKER_LOST)))
        no_threads_left()
    assert (operation.state, post.waiting) == (State.FAILED, [])
    failure = failure_of(operation)
    assert (failure.type, failure.attempt, failure.worker) == ("WorkerLost", 3, "worker@here")
    assert failure.message.endswith("worker@here, ended by signal 9 (SIGKILL)")
    operation.resume()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


def test_a_process_that_is_lost_after_its_commit_takes_nothing_back(
    app: Celery, post: Post, operation: Operation
) -> None:
    """B56."""
    message = post.deliver_next()
    steps = snapshot(operation.layout.steps)
    request_of(app, message).on_failure(lost(WorkerLostError(WORKER_LOST)))
    no_threads_left()
    assert snapshot(operation.layout.steps) == steps
    assert [one.step.path for one in post.waiting] == ["0002"]
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


@pytest.mark.parametrize("error", [ValueError("no"), SoftTimeLimitExceeded()], ids=["ValueError", "soft limit"])
def test_what_the_task_itself_raised_was_written_by_its_process(
    app: Celery, post: Post, operation: Operation, error: Exception
) -> None:
    [message] = post.waiting
    held_by_another(operation, message)
    before = snapshot(operation.path)
    request_of(app, message).on_failure(lost(error))
    no_threads_left()
    assert snapshot(operation.path) == before


# ---- requests of tasks that are no steps


@pytest.mark.parametrize("headers", [{}, {HEADER: {"operation": "../../etc", "step": 5}}], ids=["none", "invalid"])
def test_a_request_of_a_task_that_is_no_step_is_celerys_own(
    app: Celery, note: Any, bus: Bus, operation: Operation, headers: dict[str, Any]
) -> None:
    before = snapshot(bus.control.path)
    request = StepRequest(message_of(app, "note", headers), app=app, hostname="worker@here")
    assert header_in(request._context) is None
    request.on_timeout(soft=False, timeout=5)
    request.on_failure(lost(WorkerLostError(WORKER_LOST)))
    worker.heed_revoke(sender=note, request=request._context, expired=True)
    worker.heed_unknown(sender=SimpleNamespace(app=app), message=request.message, name="note")
    no_threads_left()
    assert snapshot(bus.control.path) == before


def test_what_keeps_an_end_from_being_noted_is_logged_and_ends_nothing(
    app: Celery, bus: Bus, operation: Operation, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    header = header_in(Context(headers={HEADER: header_for(post.waiting[0])}))
    assert header is not None

    def fail(_: Operation) -> None:
        raise OSError(28, "No space left on device")

    see_to(app, header, fail)
    assert f"the end of step 0001 of operation {operation.id} could not be noted" in caplog.text
    operation.path.rename(bus.control.path / "elsewhere")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        see_to(app, header, lambda one: one.reconcile())
    assert caplog.text == ""
    assert not operation.path.exists()


def test_the_note_is_made_in_the_workers_own_name(app: Celery, bus: Bus, operation: Operation, post: Post) -> None:
    from tapfs.bus.workers import WorkerFolder

    header = header_in(Context(headers={HEADER: header_for(post.waiting[0])}))
    assert header is not None
    actors: list[str] = []
    see_to(app, header, lambda one: actors.append(one.actor))
    folder = WorkerFolder.enter(bus.control.layout, "first@here", bus.control.now())
    employment.begin(folder)
    try:
        in_background(app, header, lambda one: actors.append(one.actor))
        no_threads_left()
    finally:
        employment.begin(None)
        folder.leave()
    assert actors == ["worker:worker", "worker:first@here"]


# ---- revoked


def revoke(app: Celery, publication: Publication, **options: Any) -> None:
    """What Celery's worker does when it finds a request revoked."""
    request = request_of(app, publication, **options)
    if not options:
        revoked_tasks.add(request.id)
    try:
        assert request.revoked()
    finally:
        revoked_tasks.discard(request.id)
    no_threads_left()


def test_a_revoked_step_cancels_its_operation(app: Celery, post: Post, operation: Operation) -> None:
    revoke(app, post.waiting[0])
    assert operation.state is State.CANCELLED
    assert operation.view().reason == "the task of step 0001 was revoked"
    post.deliver_all()
    assert operation.state is State.CANCELLED
    operation.resume()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


def test_a_revoke_of_a_running_step_that_does_not_end_its_process_stops_it_at_its_next_tap(
    app: Celery, post: Post, operation: Operation
) -> None:
    held = held_by_another(operation, post.waiting[0])
    worker.heed_revoke(sender=app.tasks["note"], request=request_of(app, post.waiting[0])._context)
    no_threads_left()
    assert operation.state is State.CANCELLING
    release_step(operation, held)
    assert operation.state is State.CANCELLED


def test_a_revoke_that_ends_the_process_cancels_and_nothing_is_run_again(
    app: Celery, bus: Bus, post: Post, operation: Operation
) -> None:
    """`terminate=True`: whoever sees the free claim first puts the step out again; the revoke is still of it."""
    [message] = post.waiting
    held_by_another(operation, message).release()
    bus.reconcile(operation)
    worker.heed_revoke(sender=app.tasks["note"], request=request_of(app, message)._context)
    no_threads_left()
    assert operation.state is State.CANCELLED
    post.deliver_all()
    assert operation.state is State.CANCELLED


def test_a_revoke_that_comes_as_the_task_ends_does_not_break_the_record_of_its_end(
    app: Celery, note: Any, bus: Bus, post: Post
) -> None:
    """B56: neither that of the last step nor that of one in between."""
    for count in (1, 2):
        operation = tappable(note.s() if count == 1 else note.s() | note.s(), bus=bus).delay()
        message = post.deliver_next()
        before = snapshot(operation.path)
        revoke(app, message)
        assert snapshot(operation.path) == before
        post.deliver_all()
        assert operation.state is State.SUCCEEDED
        assert operation.failure() is None


def test_a_revoke_and_the_last_commit_in_the_same_instant_leave_one_whole_end(
    app: Celery, note: Any, bus: Bus, post: Post
) -> None:
    """B47, B56."""
    for _ in range(15):
        operation = tappable(note.s(), bus=bus).delay()
        message = post.waiting.pop()
        held = held_by_another(operation, message)
        context = request_of(app, message)._context
        worker.heed_revoke(sender=note, request=context)
        outcome = commit_step(operation, held, "all", timestamp(bus.control.now()))
        no_threads_left()
        bus.reconcile(operation)
        assert not isinstance(outcome, Dropped)
        assert operation.state is State.SUCCEEDED
        assert operation.result == "all"
        assert list((operation.path / "claims").iterdir()) == []


def test_a_message_that_expired_fails_its_operation(app: Celery, post: Post, operation: Operation) -> None:
    [message] = post.waiting
    revoke(app, message, expires=datetime.now(UTC) - timedelta(seconds=60))
    assert operation.state is State.FAILED
    failure = failure_of(operation)
    assert (failure.type, failure.step) == ("TaskRevokedError", "0001-note")
    assert failure.message == "its message expired before any worker began the step"


def test_a_message_that_expired_when_its_step_has_ended_changes_nothing(
    app: Celery, post: Post, operation: Operation
) -> None:
    """B56: it was doubled."""
    message = post.deliver_next()
    before = snapshot(operation.path)
    revoke(app, message, expires=datetime.now(UTC) - timedelta(seconds=60))
    assert snapshot(operation.path) == before
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


@pytest.mark.parametrize("state", ["paused", "cancelled", "failed"])
def test_a_revoke_of_a_step_of_an_operation_that_has_stopped_changes_nothing(
    app: Celery, post: Post, operation: Operation, state: str
) -> None:
    """B50, B72: a paused operation stays paused."""
    [message] = post.waiting
    if state == "failed":
        request_of(app, message).on_timeout(soft=False, timeout=5)
    else:
        operation.pause() if state == "paused" else operation.cancel()
    before = snapshot(operation.path)
    revoke(app, message)
    revoke(app, message, expires=datetime.now(UTC) - timedelta(seconds=60))
    assert (operation.state, snapshot(operation.path)) == (state, before)


# ---- unknown tasks


def unknown(app: Celery, publication: Publication) -> None:
    message = message_of(app, publication.step.task, {HEADER: header_for(publication)})
    worker.heed_unknown(sender=SimpleNamespace(app=app), message=message, name=publication.step.task)
    no_threads_left()


@pytest.fixture
def soon(bus: Bus) -> Callable[[float], None]:
    """Put the clock forward."""
    start, passed = bus.control.now(), [0.0]
    bus.control.now = lambda: start + passed[0]

    def go_on(seconds: float) -> None:
        passed[0] += seconds

    return go_on


def test_a_step_whose_task_this_worker_does_not_know_is_tried_again_and_then_fails_with_a_clear_text(
    app: Celery, bus: Bus, post: Post, soon: Callable[[float], None], note: Any
) -> None:
    """B36: no crash loop."""
    operation = tappable(note.s(), bus=bus).delay()
    for turn in range(bus.control.recovery.max_crashes):
        assert operation.state is State.QUEUED
        assert len(post.waiting) == 1, f"published again only after the delay, turn {turn}"
        unknown(app, post.waiting.pop())
        bus.reconcile(operation)
        assert post.waiting == []
        soon(31)
        bus.reconcile(operation)
    assert operation.state is State.FAILED
    assert failure_of(operation).type == "NotRegistered"
    assert "knows no task 'note'" in failure_of(operation).message
    assert post.waiting == []
    operation.resume()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


def test_a_step_that_another_worker_knows_is_run_by_it(
    app: Celery, bus: Bus, post: Post, soon: Callable[[float], None], note: Any
) -> None:
    operation = tappable(note.s(), bus=bus).delay()
    unknown(app, post.waiting.pop())
    assert "knows no task 'note'" in (operation.view().message or "")
    assert "knows no task 'note'" in (claim_of(operation).trouble or "")
    soon(31)
    bus.reconcile(operation)
    post.deliver_all()
    assert operation.result == 1
    assert operation.view().message is None
