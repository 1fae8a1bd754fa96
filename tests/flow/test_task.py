"""`TappableTask`: the task class of an app; retries are its part, and telling a step from a plain task."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Retry

from support.flows import WORKER, Numbers, Post, claim_of, drops_of, failure_of, touch
from tapfs import Bus, State, tap, tappable
from tapfs.bus.clock import seconds_of
from tapfs.bus.records import Commit


def test_a_task_called_without_an_operation_just_runs(app: Celery, note: Any, post: Post, runs: list[Any]) -> None:
    assert note(1) == 1
    assert note.run(2) == 2
    assert note.apply(args=(3,)).get() == 3
    answer = post.deliver_header("note", None, has_header=False)
    assert answer.retval == 4
    assert runs == [(1,), (2,), (3,), ()]


def test_a_task_bound_to_itself_sees_its_arguments_in_its_request(app: Celery, bus: Bus, post: Post) -> None:
    @app.task(name="bound", bind=True)
    def bound(self: Any, *args: Any, **kwargs: Any) -> Any:
        return [self.request.args, self.request.kwargs, self.request.hostname, self.request.retries]

    operation = tappable(bound.s(1, a=2), bus=bus).delay()
    post.deliver_all()
    assert operation.result == [[1], {"a": 2}, WORKER, 0]


def test_a_step_may_call_its_own_task_as_a_function(app: Celery, bus: Bus, post: Post) -> None:
    """The call inside is no second delivery of the step's message."""

    @app.task(name="factorial", bind=True)
    def factorial(self: Any, number: int) -> int:
        return 1 if number < 2 else number * self(number - 1)

    operation = tappable(factorial.s(5), bus=bus).delay()
    post.deliver_all()
    assert operation.result == 120
    assert drops_of(operation) == []


# Retries


def test_a_retry_of_a_task_that_is_no_step_is_celerys_own(app: Celery, post: Post, runs: list[Any]) -> None:
    app.conf.task_default_queue = "retried"  # a queue in memory is the process's: other tests left theirs

    @app.task(name="plain", bind=True)
    def plain(self: Any, number: int = 1) -> None:
        runs.append((number, self.request.retries))
        raise self.retry(args=(number + 1,), countdown=30)

    answer = post.deliver_header("plain", None, has_header=False)
    assert answer.info.state == "RETRY"
    with app.connection_for_read() as connection, connection.channel() as channel:
        [args, _, _] = channel.basic_get(app.conf.task_default_queue, no_ack=True).decode()
    assert args == [2]
    assert runs == [(1, 0)]


@pytest.fixture
def flaky(app: Celery, runs: list[Any]) -> Any:
    @app.task(name="flaky", bind=True, max_retries=3)
    def flaky(self: Any, failing: int, **options: Any) -> str:
        runs.append(self.request.retries)
        if self.request.retries < failing:
            raise self.retry(exc=ConnectionError("away"), **options)
        return "there"

    return flaky


def test_a_retry_is_put_out_again_for_later_and_ends_well(
    flaky: Any, note: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    operation = tappable(flaky.s(2, countdown=30) | note.s(), bus=bus).delay()
    began = datetime.now(UTC)
    post.deliver_next()
    claim = claim_of(operation)
    assert (claim.attempt, claim.retries, claim.cause, claim.holder) == (2, 1, "retry", None)
    due = datetime.fromtimestamp(seconds_of(claim.not_before) or 0, UTC)
    assert timedelta(seconds=28) < due - began < timedelta(seconds=35)
    [again] = post.waiting
    assert (again.attempt, again.retries, again.not_before) == (2, 1, claim.not_before)
    assert operation.state is State.RUNNING
    bus.reconcile(operation)
    assert len(post.waiting) == 1  # not due, so not lost
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert runs == [0, 1, 2, ("there",)]
    assert Commit.read(operation.path / "steps" / "0001-flaky.json").attempt == 3


def test_retries_that_are_used_up_fail_the_operation_with_the_error_itself(flaky: Any, bus: Bus, post: Post) -> None:
    operation = tappable(flaky.s(9, countdown=0), bus=bus).delay()
    assert post.deliver_all() == 4
    assert operation.state is State.FAILED
    failure = failure_of(operation)
    assert (failure.type, failure.message, failure.attempt) == ("ConnectionError", "away", 4)


def test_retries_that_are_used_up_without_an_error_say_so(app: Celery, bus: Bus, post: Post) -> None:
    @app.task(name="again", bind=True, max_retries=1, default_retry_delay=0)
    def again(self: Any) -> None:
        self.retry()

    operation = tappable(again.s(), bus=bus).delay()
    assert post.deliver_all() == 2
    assert failure_of(operation).type == "MaxRetriesExceededError"


def test_autoretry_tries_again(app: Celery, bus: Bus, post: Post, runs: list[Any]) -> None:
    @app.task(name="auto", bind=True, autoretry_for=(KeyError,), retry_backoff=True, retry_kwargs={"max_retries": 2})
    def auto(self: Any) -> str:
        runs.append(self.request.retries)
        if self.request.retries < 2:
            raise KeyError("not yet")
        return "now"

    operation = tappable(auto.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.result == "now"
    assert runs == [0, 1, 2]


def test_a_retry_asked_for_without_raising_counts_too(app: Celery, bus: Bus, post: Post, runs: list[Any]) -> None:
    @app.task(name="quiet", bind=True)
    def quiet(self: Any) -> str:
        runs.append(self.request.retries)
        if not self.request.retries:
            self.retry(throw=False, countdown=0)
        return "done"

    operation = tappable(quiet.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.result == "done"
    assert runs == [0, 1]


def test_a_retry_raised_by_hand_keeps_the_count(app: Celery, bus: Bus, post: Post, runs: list[Any]) -> None:
    @app.task(name="hand", bind=True)
    def hand(self: Any) -> str:
        runs.append(self.request.retries)
        if len(runs) == 1:
            self.retry(countdown=0)
        if len(runs) == 2:
            raise Retry("once more")
        return "done"

    operation = tappable(hand.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.result == "done"
    assert runs == [0, 1, 1]


@pytest.mark.parametrize("options", [{"args": [2]}, {"kwargs": {"failing": 3}}], ids=["args", "kwargs"])
def test_a_retry_with_other_arguments_is_refused_clearly(
    app: Celery, bus: Bus, post: Post, options: dict[str, Any]
) -> None:
    @app.task(name="other", bind=True)
    def other(self: Any, failing: int) -> None:
        self.retry(**options)

    operation = tappable(other.s(1), bus=bus).delay()
    post.deliver_all()
    failure = failure_of(operation)
    assert failure.type == "TapfsError"
    assert failure.message == "other: a step cannot be retried with other arguments than the workflow gives it"


def test_a_retry_with_the_same_arguments_is_a_retry(app: Celery, bus: Bus, post: Post) -> None:
    @app.task(name="same", bind=True)
    def same(self: Any, number: int, *, name: str) -> int:
        if not self.request.retries:
            self.retry(args=[number], kwargs={"name": name}, countdown=0)
        return number

    operation = tappable(same.s(1, name="x"), bus=bus).delay()
    post.deliver_all()
    assert operation.result == 1


@pytest.mark.parametrize(
    "eta",
    [datetime(2126, 1, 1, tzinfo=UTC), datetime(2126, 1, 1), "2126-01-01T00:00:00Z", "2126-01-01T00:00:00"],  # noqa: DTZ001
    ids=["aware", "naive", "text", "naive text"],
)
def test_a_retry_may_name_the_time_itself(app: Celery, bus: Bus, post: Post, eta: Any) -> None:
    """Without a zone it is in the app's, as Celery takes it."""

    @app.task(name="later", bind=True)
    def later(self: Any) -> None:
        self.retry(eta=eta)

    app.conf.timezone = "UTC"
    operation = tappable(later.s(), bus=bus).delay()
    post.deliver_next()
    assert claim_of(operation).not_before == "2126-01-01T00:00:00.000Z"


def test_a_retry_waits_while_paused_and_its_count_does_not_move(
    flaky: Any, bus: Bus, post: Post, runs: list[Any]
) -> None:
    """B09, B08: after the resume it is the first try of a new epoch."""
    operation = tappable(flaky.s(1, countdown=0), bus=bus).delay()
    post.deliver_next()
    touch(operation.path / "PAUSE")
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert runs == [0]
    (operation.path / "PAUSE").unlink()
    bus.reconcile(operation)
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


def test_a_retry_saves_the_progress_made(app: Celery, bus: Bus, post: Post) -> None:
    source = Numbers(6)

    @app.task(name="fold", bind=True, autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0)
    def fold(self: Any) -> int:
        total = 0
        for value, numbers in tap.fold(source, {"sum": 0}):  # numbers is empty when it goes on at the end
            value["sum"] += sum(numbers)
            total = value["sum"]
        if not self.request.retries:
            raise OSError("the disk is away")
        return int(total)

    operation = tappable(fold.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.result == 15
    assert source.read_from == [None, 6]


GOOD = {"operation": "20260101-000000-note-abcdef", "step": "0001", "epoch": 1, "attempt": 1}


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="null"),
        pytest.param("20260101", id="text"),
        pytest.param([GOOD], id="list"),
        pytest.param({}, id="empty"),
        pytest.param({**GOOD, "epoch": "1"}, id="text for a number"),
        pytest.param({**GOOD, "attempt": True}, id="bool for a number"),
        pytest.param({key: GOOD[key] for key in ("operation", "step", "epoch")}, id="field missing"),
        pytest.param({**GOOD, "operation": "../../elsewhere"}, id="path"),
        pytest.param({**GOOD, "operation": GOOD["operation"] + "\n"}, id="newline"),
    ],
)
def test_a_message_with_a_malformed_header_is_dropped_and_said_so_in_the_log(
    header: Any, note: Any, post: Post, runs: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The task is not run as a plain one either: it would have no arguments."""
    post.deliver_header("note", header)
    assert runs == []
    assert "dropped a message of task note: the header 'tapfs'" in caplog.text
