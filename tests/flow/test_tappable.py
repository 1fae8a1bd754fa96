"""`tappable`: workflows with taps, clauses and callbacks, and the face of the operation it starts."""

import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, group

from support.flows import Numbers, Post, finish, journal_of, touch
from tapfs import Bus, OperationFailed, State, TapfsError, WaitedInVain, gate, tap, tappable
from tapfs.errors import Refused, ResultUnstorable
from tapfs.flow import place
from tapfs.flow.bus import bus_of
from tapfs.flow.plans import NotTappable

CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="shop.add")
    def add(x: int = 0, y: int = 0, *, times: int = 1) -> int:
        return (x + y) * times

    return add


# Starting


def test_a_chain_runs_step_by_step(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(add.s(1, 2) | add.s(3) | add.s(4, times=2), bus=bus).delay()
    post.deliver_all()
    assert operation.get(timeout=0) == ((1 + 2 + 3) + 4) * 2


def test_chains_in_chains_run_as_one(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(chain(add.s(1), chain(add.s(2), chain(add.s(3))), add.s(4)), bus=bus).delay()
    post.deliver_all()
    assert operation.result == 10


def test_a_single_signature_is_a_workflow(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(add.s(20, y=22), bus=bus).apply_async()
    post.deliver_all()
    assert operation.result == 42


def test_an_immutable_signature_takes_no_result(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(add.s(100) | add.si(1) | add.s(1), bus=bus).delay()
    post.deliver_all()
    assert operation.result == 2


def test_arguments_at_the_start_come_before_those_of_the_first_step(app: Celery, bus: Bus, post: Post) -> None:
    """As in Celery: partial arguments."""

    @app.task(name="note")
    def note(*args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    workflow = tappable(note.s(3, a=1), bus=bus)
    first = workflow.delay(1, 2, b=2)
    second = workflow.apply_async((1,), {"a": "start", "b": 2})
    third = tappable(note.si(3), bus=bus).delay(1, 2)
    post.deliver_all()
    assert first.result == [[1, 2, 3], {"a": 1, "b": 2}]
    assert second.result == [[1, 3], {"a": "start", "b": 2}]
    assert third.result == [[3], {}]  # an immutable one takes none
    assert workflow.plan.steps[0].args == [3]  # and the workflow is as it was


def test_an_argument_that_cannot_be_stored_starts_nothing(add: Any, bus: Bus, post: Post) -> None:
    with pytest.raises(ResultUnstorable, match="cannot store the arguments"):
        tappable(add.s(), bus=bus).delay({1, 2})
    assert list((bus.control.path / "operations").glob("*")) == []


def test_an_operation_is_called_after_its_first_task_unless_named(add: Any, bus: Bus) -> None:
    workflow = tappable(add.s() | add.s(), bus=bus)
    assert repr(workflow) == "<Tappable add: 2 steps>"
    assert workflow.delay().identity().operation == "add"
    assert tappable(add.s(), bus=bus, name="Nightly run").delay().identity().operation == "Nightly run"


def test_an_operation_may_be_somebody_elses_and_start_held(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(add.s(), bus=bus).apply_async(owner="ada", is_paused=True)
    assert operation.identity().owner == "ada"
    assert operation.state is State.PAUSED
    assert post.sent == []


def test_the_bus_is_that_of_the_workflows_app(add: Any, bus: Bus, app: Celery) -> None:
    assert bus_of(app) is bus
    operation = tappable(add.s()).delay()
    assert operation.path.is_relative_to(bus.control.path)


def test_the_bus_of_a_workflow_that_begins_with_a_gate_is_that_of_its_tasks_app(add: Any, bus: Bus) -> None:
    operation = tappable(gate("approve") | group(add.s(), add.s()) | add.s()).delay()
    assert operation.path.is_relative_to(bus.control.path)


def test_what_cannot_be_kept_is_refused_and_starts_nothing(add: Any, bus: Bus) -> None:
    with pytest.raises(NotTappable, match="has the option 'serializer' with 'pickle'"):
        tappable(add.s().set(serializer="pickle"), bus=bus)
    with pytest.raises(NotTappable, match="is no signature"):
        tappable(add, bus=bus)
    assert not (bus.control.path / "operations").exists()


# nth


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_pause_takes_hold_only_at_taps(add: Any, bus: Bus, post: Post, nth: int) -> None:
    operation = tappable(chain(*(add.s(1) for _ in range(7))), nth=nth, bus=bus).delay(0)
    held_at = []
    post.deliver_next()
    while not operation.ready():
        touch(operation.path / "PAUSE")
        bus.reconcile(operation)
        post.deliver_all()
        if operation.state is State.PAUSED:
            held_at.append(operation.view().steps_done)
            (operation.path / "PAUSE").unlink()
            bus.reconcile(operation)
            post.deliver_next()
    assert held_at == [done for done in range(1, 7) if done % nth == 0]
    assert operation.result == 7


def test_a_pause_between_taps_is_pausing_until_the_next(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(chain(*(add.s(1) for _ in range(6))), nth=3, bus=bus).delay(0)
    post.deliver_next()
    assert operation.pause("lunch").message == "pausing: it stops at its next tap"
    assert operation.state is State.PAUSING
    post.deliver_next()
    assert operation.state is State.PAUSING
    post.deliver_next()
    assert operation.state is State.PAUSED
    assert operation.view().steps_done == 3
    assert post.waiting == []


def test_a_cancel_between_taps_is_at_once(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(chain(*(add.s(1) for _ in range(6))), nth=3, bus=bus).delay(0)
    post.deliver_next()
    operation.cancel()
    assert operation.state is State.CANCELLED
    post.deliver_all()
    assert operation.view().steps_done == 1


@pytest.mark.usefixtures("looks_at_every_tap")
@pytest.mark.parametrize("marker", ["PAUSE", "CANCEL"])
def test_taps_inside_a_step_hold_only_where_the_workflow_has_a_tap_before_it(
    app: Celery, bus: Bus, post: Post, marker: str
) -> None:
    """Otherwise the step would be stopped and put out again without end. A cancel is at once, as everywhere."""
    turns = []

    @app.task(name="tapping")
    def tapping(number: int) -> int:
        for turn in range(5):
            turns.append((number, turn))
            if (number, turn) == (1, 2):
                touch(operation.path / marker)
            tap.check()
        return number + 1

    operation = tappable(chain(*(tapping.s() for _ in range(4))), nth=2, bus=bus).delay(0)
    post.deliver_all(most=50)
    if marker == "CANCEL":
        assert operation.state is State.CANCELLED
        assert turns[-1] == (1, 2)
        return
    assert operation.state is State.PAUSED
    assert turns == [(number, turn) for number in range(2) for turn in range(5)]
    operation.resume()
    post.deliver_all(most=50)
    assert operation.result == 4


# Clauses


def is_over_two(last: int | None) -> bool:
    CALLS.append(last)
    return last is not None and last > 2


def explode(last: Any) -> bool:
    raise LookupError("the web API is away")


def always(last: Any) -> bool:
    return True


def steps_of_one(add: Any, count: int) -> Any:
    return chain(*(add.s(1) for _ in range(count)))


def test_a_clause_is_asked_for_the_last_value_at_each_tap_and_its_truth_pauses(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(steps_of_one(add, 5), clause=is_over_two, bus=bus).delay(0)
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert operation.view().steps_done == 3
    assert CALLS == [1, 2, 3]
    assert operation.view().reason == f"the clause {__name__}:is_over_two says so"
    asked = [line for line in journal_of(operation) if line["event"] == "asked"]
    assert [(line["by"], line["want"]) for line in asked] == [("clause", "pause")]
    operation.resume()
    post.deliver_next()
    assert operation.view().steps_done == 4
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == 5
    assert CALLS == [1, 2, 3, 4]  # behind the last step there is no tap


def test_a_clause_may_be_a_signature(app: Celery, add: Any, bus: Bus, post: Post) -> None:
    @app.task(name="shop.reached")
    def reached(last: int, limit: int) -> bool:
        return last >= limit

    operation = tappable(steps_of_one(add, 5), clause=reached.s(limit=2), bus=bus).delay(0)
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert operation.view().steps_done == 2
    assert operation.view().reason == "the clause shop.reached says so"


def test_a_clause_may_be_a_signature_of_the_steps_own_task(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(steps_of_one(add, 3), clause=add.s(-2), bus=bus).delay(0)  # true of 1: 1 - 2
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert operation.view().steps_done == 1
    assert operation.view().reason == "the clause shop.add says so"


def test_a_clause_that_raises_pauses_and_says_so(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(steps_of_one(add, 3), clause=explode, bus=bus).delay(0)
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert operation.view().reason == "the clause raised LookupError: the web API is away"
    assert operation.view().steps_done == 1
    assert finish(bus, post, operation) is State.SUCCEEDED


def test_a_clause_is_asked_only_at_taps(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(steps_of_one(add, 7), clause=is_over_two, nth=3, bus=bus).delay(-10)
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert CALLS == [-7, -4]


def test_a_cancel_is_stronger_than_a_clause(app: Celery, add: Any, bus: Bus, post: Post) -> None:
    @app.task(name="cancelling")
    def cancelling() -> None:
        touch(operation.path / "CANCEL")

    operation = tappable(cancelling.si() | add.si(1), clause=always, bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.CANCELLED


@pytest.mark.usefixtures("looks_at_every_tap")
@pytest.mark.parametrize("nth", [1, 2])
def test_a_clause_is_asked_at_taps_inside_a_step_too_at_most_once_a_second(
    app: Celery, add: Any, bus: Bus, post: Post, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(place, "time", clock)
    turns = []

    @app.task(name="long")
    def long(given: int) -> int:
        for turn in range(35):
            turns.append(turn)
            clock.now += 0.1
            tap.progress(turn, 35)
        return given + 1

    operation = tappable(add.s(3) | long.s() | add.s(), clause=is_over_two, nth=nth, bus=bus).delay(0)
    post.deliver_all(most=20)
    assert operation.state is State.PAUSED
    if nth == 1:  # behind the first step, whose value is 3; then within the second, that goes on each time
        assert operation.view().steps_done == 1
        operation.resume()
        post.deliver_all(most=20)
        assert operation.state is State.PAUSED
        assert 9 <= turns[-1] <= 10
        assert operation.view().reason == f"the clause {__name__}:is_over_two says so"
    else:  # there is no tap before the second step
        assert operation.view().steps_done == 2
        assert turns == list(range(35))


@pytest.mark.parametrize("what", ["clause", "callback"])
def test_what_a_worker_could_not_find_again_is_refused(add: Any, bus: Bus, what: str) -> None:
    with pytest.raises(TapfsError, match=f"the {what} .* cannot be found again by a worker"):
        tappable(add.s(), bus=bus, **{what: lambda *_: True})


# Callbacks


def note_call(last: Any, remaining: Any) -> None:
    CALLS.append((last, remaining))


def test_a_callback_is_told_once_an_epoch_the_last_value_and_what_remains(add: Any, bus: Bus, post: Post) -> None:
    workflow = add.s(1) | add.s(2, times=2) | add.si(3)
    operation = tappable(workflow, callback=note_call, bus=bus).delay(0)
    post.deliver_next()
    operation.pause()
    post.deliver_all()
    for _ in range(3):
        bus.reconcile(operation)
    remaining = [
        {"task": "shop.add", "args": [2], "kwargs": {"times": 2}, "immutable": False},
        {"task": "shop.add", "args": [3], "kwargs": {}, "immutable": True},
    ]
    assert [(1, remaining)] == CALLS
    operation.resume()
    post.deliver_next()
    operation.pause()
    bus.reconcile(operation)
    assert CALLS[1:] == [(6, remaining[1:])]
    operation.resume()
    post.deliver_all()
    assert operation.result == 3
    assert len(CALLS) == 2


def test_a_callback_is_told_of_a_pause_before_anything_has_run(add: Any, bus: Bus) -> None:
    operation = tappable(add.s(1), callback=note_call, bus=bus).apply_async(is_paused=True)
    bus.reconcile(operation)
    assert CALLS == [(None, [{"task": "shop.add", "args": [1], "kwargs": {}, "immutable": False}])]


def test_a_callback_may_be_a_signature_also_of_the_steps_own_task(app: Celery, bus: Bus, post: Post) -> None:
    """It is told by the very worker that has the step's message."""

    @app.task(name="both")
    def both(*args: Any) -> str:
        CALLS.append(args)
        return "value"

    operation = tappable(both.si("step") | both.si("step"), callback=both.s("own"), bus=bus).delay()
    touch(operation.path / "PAUSE")
    post.deliver_all()
    assert operation.state is State.PAUSED
    [(last, remaining, own)] = CALLS
    assert (last, len(remaining), own) == (None, 2, "own")
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert CALLS[1:] == [("step",), ("step",)]


def test_nobody_is_told_of_a_cancel_or_of_an_end(add: Any, bus: Bus, post: Post) -> None:
    workflow = tappable(add.s(1), callback=note_call, bus=bus)
    ended, cancelled = workflow.delay(), workflow.delay()
    cancelled.cancel()
    post.deliver_all()
    for operation in (ended, cancelled):
        bus.reconcile(operation)
    assert CALLS == []


# The face of an operation


def test_an_operation_has_the_face_of_an_async_result(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(add.s(1) | add.s(2), bus=bus).delay(0)
    assert operation.id in str(operation.path)
    assert operation.path.is_dir()
    assert (operation.state, operation.ready(), operation.successful()) == (State.QUEUED, False, False)
    with pytest.raises(TapfsError, match="has no result yet: it is queued"):
        _ = operation.result
    with pytest.raises(WaitedInVain, match="is still queued after 0 s of waiting for its end") as caught:
        operation.get(timeout=0)
    assert caught.value.is_timeout
    post.deliver_all()
    assert (operation.state, operation.ready(), operation.successful()) == (State.SUCCEEDED, True, True)
    assert operation.result == operation.get() == operation.get(timeout=0) == 3
    operation.wait("succeeded", timeout_s=0)


def test_waiting_ends_with_the_state_or_when_it_cannot_come_any_more(add: Any, bus: Bus, post: Post) -> None:
    """B98"""
    operation = tappable(add.s(1), bus=bus).delay(0)
    operation.pause()
    operation.wait("paused", timeout_s=0)
    operation.cancel()
    with pytest.raises(WaitedInVain, match="is cancelled, not succeeded") as caught:
        operation.wait()
    assert (caught.value.state, caught.value.is_timeout) == ("cancelled", False)
    with pytest.raises(OperationFailed, match="has no result: it is cancelled"):
        operation.get()
    with pytest.raises(TapfsError, match="'done' is no state"):
        operation.wait("done")


def test_waiting_sees_what_another_thread_brings_about(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(add.s(1), bus=bus).delay(41)
    threading.Thread(target=post.deliver_all).start()
    assert operation.get(timeout=20) == 42


def test_the_verbs_of_an_operation_say_whether_they_changed_anything(add: Any, bus: Bus, post: Post) -> None:
    """B10, B27, B48"""
    operation = tappable(add.s(1), bus=bus).delay(0)
    assert [operation.pause("x").changed, operation.pause("x").changed] == [True, False]
    assert [operation.resume().changed, operation.resume().changed] == [True, False]
    post.deliver_all()
    for verb in (operation.pause, operation.cancel):
        with pytest.raises(Refused, match="has already succeeded"):
            verb()
    assert not operation.resume().changed


def test_the_control_directory_is_all_there_is(add: Any, bus: Bus, post: Post, tmp_path: Path) -> None:
    operation = tappable(add.s(1) | add.s(2), bus=bus).delay(0)
    post.deliver_all()
    assert operation.result == 3
    assert [path.name for path in tmp_path.iterdir()] == ["control"]


# Retries over a pause


@pytest.mark.parametrize("pause_at", ["before the retry", "while it waits", "at a tap within it"])
def test_celerys_count_of_retries_and_its_due_time_survive_pause_and_resume(
    app: Celery, bus: Bus, post: Post, pause_at: str
) -> None:
    """B09: whenever the pause comes, the task is tried as often as it says, and no oftener."""
    tries: list[int] = []

    @app.task(name="fragile", bind=True, max_retries=3)
    def fragile(self: Any) -> None:
        if pause_at == "at a tap within it" and self.request.retries == 2 and operation.epoch() == 1:
            operation.pause()
            tap.check()
        tries.append(self.request.retries)
        if pause_at == "before the retry" and self.request.retries == 1:
            operation.pause()
        raise self.retry(exc=OSError("away"), countdown=600)

    operation = tappable(fragile.s(), bus=bus).delay()
    while not operation.ready():
        if pause_at == "while it waits" and tries == [0, 1] and operation.epoch() == 1:
            operation.pause()  # the message that is out is void
        if post.waiting:
            post.deliver_next()
        if operation.state is State.PAUSED:
            bus.reconcile(operation)
            assert post.waiting == []
            operation.resume()
            [message] = post.waiting
            assert message.retries == 2
            assert (message.not_before is None) == (pause_at == "at a tap within it")
    assert operation.epoch() == 2
    assert tries == [0, 1, 2, 3]
    assert operation.state is State.FAILED
    assert (operation.failure() or pytest.fail("no error.json")).type == "OSError"


# Maximum running time


@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan")])
def test_a_maximum_running_time_that_is_none_starts_nothing(add: Any, bus: Bus, limit: float) -> None:
    with pytest.raises(NotTappable, match="max_running_s is"):
        tappable(add.s(1), bus=bus, max_running_s=limit)


def test_a_maximum_running_time_is_kept_with_the_operation(add: Any, bus: Bus, post: Post) -> None:
    """B62: whichever worker runs it, and also with arguments at the start."""
    workflow = tappable(add.s(1) | add.s(2), bus=bus, max_running_s=3600)
    assert workflow.plan.max_running_s == 3600
    operation = workflow.delay(5)
    assert operation.plan().max_running_s == 3600
    post.deliver_all()
    assert operation.result == 8


def test_the_environment_sets_the_bus_a_maximum_running_time(
    app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B62."""
    monkeypatch.setenv("TAPFS_MAX_RUNNING_S", "12.5")
    assert Bus(tmp_path / "control", app=app).max_running_s == 12.5
    assert Bus(tmp_path / "control", app=app, max_running_s=3).max_running_s == 3
    monkeypatch.setenv("TAPFS_MAX_RUNNING_S", "soon")
    with pytest.raises(TapfsError, match="TAPFS_MAX_RUNNING_S is 'soon': it must be a number above 0"):
        Bus(tmp_path / "control", app=app)


@pytest.mark.parametrize(
    ("of_bus", "of_plan", "is_out"),
    [(None, None, False), (1.0, None, True), (None, 1.0, True), (1.0, 9.0, True), (9.0, 1.0, True), (9.0, 9.0, False)],
)
def test_a_step_leaves_its_worker_after_the_smaller_of_the_two_limits(
    app: Celery,
    bus: Bus,
    post: Post,
    monkeypatch: pytest.MonkeyPatch,
    of_bus: float | None,
    of_plan: float | None,
    is_out: bool,
) -> None:
    """B62: five seconds pass within it."""
    clock = Clock()
    monkeypatch.setattr(place, "time", clock)

    @app.task(name="long")
    def long() -> str:
        for _ in tap.fold(Numbers(3), {}):
            if not runs:
                runs.append("run")
                clock.now += 5
        return "done"

    runs: list[str] = []
    bus.max_running_s = of_bus
    operation = tappable(long.s(), bus=bus, max_running_s=of_plan).delay()
    post.deliver_next()
    assert operation.state is (State.INTERRUPTED if is_out else State.SUCCEEDED)
    if is_out:
        (entry,) = [line for line in journal_of(operation) if line["event"] == "interrupted"]
        assert entry["reason"] == "it ran for its maximum of 1 s"
    post.deliver_all()
    assert operation.result == "done"


class Clock:
    """Stands in for `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now
