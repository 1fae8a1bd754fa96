"""`task_always_eager`: operations run at once, here, with no broker; and tasks called directly, in unit tests."""

import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group

from support import wait_for
from support.flows import Numbers, journal_of, touch
from tapfs import Bus, OperationFailed, State, TapfsError, gate, tap, tappable, then
from tapfs.bus.answering import answer
from tapfs.flow.eager import run_eagerly

CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setenv("TAPFS_SYNC", "off")


@pytest.fixture
def bus(app: Celery, tmp_path: Path) -> Bus:
    """A bus that publishes as a program's own does: to a broker, were the app not eager."""
    app.conf.task_always_eager = True
    app.conf.broker_url = "redis://127.0.0.1:1/"  # nobody is there
    app.conf.broker_connection_retry = False
    return Bus(tmp_path / "control", app=app, actor="python:ada@here")


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="add")
    def add(x: int, y: int) -> int:
        CALLS.append((x, y))
        return x + y

    return add


@pytest.fixture
def total(app: Celery) -> Any:
    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return total


@pytest.fixture
def explode(app: Celery) -> Any:
    @app.task(name="explode")
    def explode(*_: Any) -> None:
        raise LookupError("no such row")

    return explode


# Operations


def test_delay_runs_a_chain_to_its_end_and_returns_the_operation(add: Any, bus: Bus) -> None:
    operation = tappable(add.s(1, 2) | add.s(3) | add.s(4), bus=bus).delay()
    assert operation.state is State.SUCCEEDED
    assert operation.get(timeout=0) == 10


def test_a_started_operation_runs_a_group_and_what_follows_it(add: Any, total: Any, bus: Bus) -> None:
    @bus.operation
    def summing(count: int) -> Any:
        return group(add.s(number, 1) for number in range(count)) | total.s() | add.s(100)

    operation = bus.start("summing", count=12)
    assert operation.result == sum(range(12)) + 12 + 100
    assert len(CALLS) == 13


def test_dynamic_steps_run_eagerly_too(app: Celery, add: Any, total: Any, bus: Bus) -> None:
    @app.task(name="spread", bind=True)
    def spread(self: Any, count: int) -> Any:
        raise self.replace(group(add.si(number, 0) for number in range(count)) | total.s())

    @app.task(name="count_down")
    def count_down(number: int) -> Any:
        return then(count_down.s(number - 1)) if number else "done"

    assert tappable(add.s(1, 3) | spread.s() | add.s(10), bus=bus).delay().result == 16
    assert tappable(count_down.s(5), bus=bus).delay().result == "done"


def test_a_chain_of_many_steps_does_not_nest(add: Any, bus: Bus) -> None:
    """Each is found, not called by the one before."""
    assert tappable(chain(add.s(0, 1), *(add.s(1) for _ in range(299))), bus=bus).delay().result == 300


def test_retries_and_countdowns_are_not_waited_for(app: Celery, add: Any, bus: Bus) -> None:
    tries: list[int] = []

    @app.task(name="retrying", bind=True, max_retries=5)
    def retrying(self: Any) -> int:
        tries.append(self.request.retries)
        if len(tries) < 4:
            raise self.retry(countdown=3600)
        return len(tries)

    operation = tappable(retrying.s() | add.s(1).set(countdown=3600), bus=bus).delay()
    assert operation.result == 5
    assert tries == [0, 1, 2, 3]


def test_what_is_paused_rests_and_a_resume_runs_it_on(app: Celery, add: Any, bus: Bus) -> None:
    @app.task(name="pausing")
    def pausing(given: int) -> int:
        touch(bus.control.path / "PAUSE")
        return given

    operation = tappable(add.s(1, 2) | pausing.s() | add.s(3), bus=bus).delay()
    assert operation.state is State.PAUSED
    assert operation.view().steps_done == 2
    (bus.control.path / "PAUSE").unlink()
    operation.reconcile()
    assert operation.result == 6


def test_what_is_started_held_is_run_by_its_resume(add: Any, bus: Bus) -> None:
    operation = tappable(add.s(1, 2), bus=bus).apply_async(is_paused=True)
    assert (operation.state, CALLS) == (State.PAUSED, [])
    operation.resume()
    assert operation.result == 3
    assert [line["by"] for line in journal_of(operation) if line["event"] == "asked"] == ["python:ada@here"]


def test_at_a_gate_it_rests_when_nothing_else_is_to_do_and_an_answer_runs_it_on(add: Any, total: Any, bus: Bus) -> None:
    approve = gate("approve", "Send them?", fields={"ok": bool})
    operation = tappable(group(add.s(1, 1), approve, add.s(2, 2)) | add.si(5, 5), bus=bus).delay()
    assert operation.state is State.WAITING
    assert CALLS == [(1, 1), (2, 2)]
    answer(operation, ["ok=yes"])
    assert operation.state is State.SUCCEEDED
    assert CALLS[2:] == [(5, 5)]


def test_a_failure_is_told_by_the_operation_and_a_retry_runs_what_failed(app: Celery, add: Any, bus: Bus) -> None:
    @app.task(name="fragile")
    def fragile(given: int) -> int:
        CALLS.append("fragile")
        if CALLS.count("fragile") == 1:
            raise ValueError("no")
        return given

    operation = tappable(add.s(1, 2) | fragile.s(), bus=bus).delay()
    assert operation.state is State.FAILED
    with pytest.raises(OperationFailed, match="ValueError: no"):
        operation.get()
    operation.retry()
    assert operation.result == 3
    assert CALLS == [(1, 2), "fragile", "fragile"]


def test_with_propagation_what_a_step_raised_comes_out_as_it_was_raised(app: Celery, bus: Bus, explode: Any) -> None:
    app.conf.task_eager_propagates = True
    with pytest.raises(LookupError, match="no such row") as caught:
        tappable(explode.s() | explode.s(), bus=bus).delay()
    assert any(entry.name == "explode" for entry in caught.traceback), "it shows the line in the task"
    [operation_id] = bus.control.ids()
    assert bus.find(operation_id).state is State.FAILED


def test_with_propagation_the_failure_that_counts_comes_out_of_a_group(app: Celery, bus: Bus, add: Any) -> None:
    app.conf.task_eager_propagates = True

    @app.task(name="explode_with")
    def explode_with(text: str) -> None:
        raise ValueError(text)

    with pytest.raises(ValueError, match="first"):
        tappable(group(add.s(1, 1), explode_with.s("first"), explode_with.s("second")), bus=bus).delay()


def test_with_propagation_a_member_that_is_given_up_raises_nothing(
    app: Celery, bus: Bus, add: Any, explode: Any
) -> None:
    app.conf.task_eager_propagates = True
    operation = tappable(group(add.s(1, 1), explode.s()), bus=bus, on_error="continue").delay()
    assert operation.state is State.SUCCEEDED
    assert operation.result[1]["error"]["type"] == "LookupError"


def test_with_propagation_a_failure_that_no_step_raised_is_told_too(app: Celery, bus: Bus, add: Any) -> None:
    app.conf.task_eager_propagates = True

    @app.task(name="odd")
    def odd() -> object:
        return object()

    with pytest.raises(TapfsError):
        tappable(odd.s(), bus=bus).delay()
    late = gate("late", timeout_s=0.001)

    def run_late() -> None:
        operation = tappable(add.s(1, 2) | late, bus=bus).delay()
        wait_for(lambda: run_eagerly(bus, operation))

    with pytest.raises(OperationFailed, match="NobodyAnswered"):
        run_late()


def test_a_task_that_the_app_does_not_know_is_said_at_the_start(app: Celery, bus: Bus) -> None:
    with pytest.raises(TapfsError, match=r"app 'shop' knows no task 'elsewhere\.run'"):
        tappable(app.signature("elsewhere.run"), bus=bus).delay()


def test_an_app_without_tapfs_task_class_is_told_so(tmp_path: Path) -> None:
    app = Celery("plain", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True

    @app.task(name="one", shared=False)
    def one() -> int:
        return 1

    with pytest.raises(TapfsError, match="is a Task, no TappableTask") as caught:
        tappable(one.s(), bus=Bus(tmp_path / "control", app=app)).delay()
    assert "task_cls" in str(caught.value.hint)


def test_a_step_may_start_another_operation_and_have_its_result(app: Celery, bus: Bus, add: Any) -> None:
    @app.task(name="outer")
    def outer() -> Any:
        inner = tappable(add.s(1, 2) | add.s(3), bus=bus).delay()
        return [inner.result, tap.operation_id() != inner.id]

    assert tappable(outer.s() | add.s([]), bus=bus).delay().result == [6, True]


def test_a_plain_delay_inside_a_step_is_celerys_own(app: Celery, bus: Bus, add: Any) -> None:
    @app.task(name="calling")
    def calling() -> Any:
        return add.delay(1, 2).get()

    operation = tappable(calling.s(), bus=bus).delay()
    assert operation.result == 3
    assert operation.view().steps_total == 1


def test_links_are_called_here_too(app: Celery, bus: Bus, add: Any, explode: Any) -> None:
    told: list[Any] = []

    @app.task(name="tell")
    def tell(*args: Any) -> None:
        told.append(args)

    tappable(add.s(1, 2).set(link=tell.s("linked")), bus=bus).delay()
    tappable(explode.s().set(link_error=tell.si("failed")), bus=bus).delay()
    assert told == [(3, "linked"), ("failed",)]


def test_two_threads_may_run_one_operation_and_do_each_step_once(app: Celery, bus: Bus) -> None:
    """Law 3."""

    @app.task(name="count")
    def count(number: int) -> int:
        CALLS.append(number)
        return number

    operation = tappable(group(count.s(number) for number in range(60)), bus=bus).apply_async(is_paused=True)
    operation.pause("a marker holds it")
    touch(operation.path / "PAUSE")
    operation.resume()
    buses = [Bus(bus.control.path, app=app) for _ in range(3)]
    threads = [threading.Thread(target=lambda one=one: one.find(operation.id).resume()) for one in buses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert operation.result == list(range(60))
    assert sorted(CALLS) == list(range(60))


def test_without_eager_nothing_runs_here(app: Celery, add: Any, bus: Bus) -> None:
    app.conf.task_always_eager = False
    app.conf.broker_url = "memory://"
    operation = tappable(add.s(1, 2), bus=bus).delay()
    assert operation.state is State.QUEUED
    assert CALLS == []


# Tasks called directly, outside any operation


@pytest.fixture(params=["called", "apply", "eager delay", "signature"])
def calling(request: pytest.FixtureRequest, app: Celery) -> Any:
    """Each of the ways in which a unit test runs a task."""
    ways = {
        "called": lambda task, *args: task(*args),
        "apply": lambda task, *args: task.apply(args).get(),
        "eager delay": lambda task, *args: task.delay(*args).get(),
        "signature": lambda task, *args: task.s(*args)(),
    }
    app.conf.task_always_eager = True
    return ways[request.param]


def test_a_task_with_taps_just_runs(app: Celery, calling: Any) -> None:
    @app.task(name="folding")
    def folding(count: int) -> Any:
        for value, numbers in tap.fold(Numbers(count, 3), {"sum": 0}):
            value["sum"] += sum(numbers)
            tap.check()
            tap.progress(1, 2)
        return [value["sum"], tap.once("mail"), tap.once("mail"), tap.idempotency_key("mail"), tap.operation_id()]

    assert calling(folding, 10) == [45, True, True, "mail", None]


def test_a_task_that_retries_just_runs(app: Celery, calling: Any, request: pytest.FixtureRequest) -> None:
    @app.task(name="retrying", bind=True, max_retries=2)
    def retrying(self: Any, text: str) -> str:
        CALLS.append(self.request.retries)
        if self.request.retries < 2 and not self.request.called_directly:
            raise self.retry(countdown=60)
        return text

    assert calling(retrying, "here") == "here"


def test_a_task_that_is_replaced_gives_the_result_of_what_replaces_it(app: Celery, add: Any, calling: Any) -> None:
    @app.task(name="replaced", bind=True)
    def replaced(self: Any, number: int) -> Any:
        return self.replace(add.s(number, 1) | add.s(10))

    assert calling(replaced, 4) == 15


def test_a_task_that_says_what_comes_next_gives_its_result(app: Celery, add: Any, calling: Any) -> None:
    @app.task(name="saying")
    def saying(number: int) -> Any:
        return then(add.s(number, 1) | add.s(10))

    assert calling(saying, 4) == 15


def test_canvas_without_tapfs_runs_as_celery_runs_it(app: Celery, bus: Bus, add: Any, total: Any) -> None:
    assert (add.s(1, 2) | add.s(3)).apply().get() == 6
    assert (add.s(1, 2) | add.s(3)).delay().get() == 6
    assert group(add.s(1, 2), add.s(3, 4)).apply().get() == [3, 7]
    assert chord([add.s(1, 2), add.s(3, 4)], total.s()).apply().get() == 10
    assert bus.control.ids() == []
