"""`tapfs.testing`, as people use it in their own test suites."""

import itertools
import os
import random
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, group

from support.canvas_plain import define_tasks, evaluate, random_canvas
from support.flows import Numbers, Post, journal_of
from tapfs import Bus, State, TapfsError, gate, tap, tappable, testing
from tapfs.bus.answering import answer
from tapfs.bus.records import Commit
from tapfs.flow import step
from tapfs.flow.bus import bus_of, buses
from tapfs.flow.place import Place

DONE: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="add")
    def add(x: int, y: int) -> int:
        DONE.append((x, y))
        return x + y

    return add


@pytest.fixture
def sum_up(app: Celery) -> Any:
    @app.task(name="sum_up")
    def sum_up(count: int) -> int:
        for value, numbers in tap.fold(Numbers(count), {"sum": 0}):
            value["sum"] += sum(numbers)
            DONE.extend(numbers)
        return int(value["sum"])

    return sum_up


def asked(operation: Any) -> list[tuple[str, str, str]]:
    return [(line["by"], line["want"], line["reason"]) for line in journal_of(operation) if line["event"] == "asked"]


# The bus


def test_a_bus_is_in_a_directory_of_its_own_and_gone_afterwards(app: Celery, add: Any) -> None:
    with testing.bus(app) as bus:
        operation = tappable(add.s(1, 2)).delay()
        assert operation.path.is_relative_to(bus.control.path)
        folder = bus.control.path.parent
        assert testing.run(operation) is State.SUCCEEDED
    assert not folder.exists()
    assert app not in buses


def test_the_apps_own_bus_is_lent_another_directory_and_is_as_it_was_afterwards(
    app: Celery, add: Any, bus: Bus, post: Post
) -> None:
    @bus.operation
    def adding(x: int) -> Any:
        return add.s(x, 1)

    before = dict(vars(bus))
    with testing.bus(app) as lent:
        assert lent is bus
        assert bus_of(app) is bus
        assert bus.control.path != before["control"].path
        operation = bus.start("adding", x=1)
        assert testing.run(operation) is State.SUCCEEDED

        @bus.operation
        def only_here() -> Any:
            return add.s(1, 1)

    assert vars(bus) == before
    assert list(bus.definitions) == ["adding"]
    assert bus.control.ids() == []
    assert post.sent == []


def test_it_is_as_it_was_also_when_the_test_fails(app: Celery, bus: Bus) -> None:
    control = bus.control
    environment = dict(os.environ)
    with pytest.raises(ZeroDivisionError), testing.bus(app, eager=True), testing.pause_after(3):
        _ = 1 / 0
    assert bus.control is control
    assert not app.conf.task_always_eager
    assert dict(os.environ) == environment
    assert step.Place is Place


def test_a_bus_may_be_eager_while_it_lasts(app: Celery, add: Any) -> None:
    with testing.bus(app, eager=True):
        assert tappable(add.s(1, 2)).delay().result == 3
    assert not app.conf.task_always_eager
    app.conf.task_always_eager = True
    with testing.bus(app):
        assert tappable(add.s(1, 2)).delay().result == 3
    with testing.bus(app, eager=False):
        assert tappable(add.s(1, 2)).delay().state is State.QUEUED
    assert app.conf.task_always_eager


def test_buses_of_several_apps_and_one_inside_another_keep_apart(app: Celery, add: Any) -> None:
    other = Celery("other", task_cls="tapfs.flow:TappableTask", set_as_current=False)

    @other.task(name="double", shared=False)
    def double(x: int) -> int:
        return 2 * x

    with testing.bus(app), testing.bus(other):
        first, second = tappable(add.s(1, 2)).delay(), tappable(double.s(4)).delay()
        with testing.bus(app):
            assert testing.run(tappable(add.s(5, 5)).delay()) is State.SUCCEEDED
        assert testing.run(second) is State.SUCCEEDED
        assert testing.run(first) is State.SUCCEEDED
        assert (first.result, second.result) == (3, 8)


def test_no_broker_is_asked_for_anything(app: Celery, add: Any) -> None:
    app.conf.broker_url = "redis://127.0.0.1:1/"

    @app.task(name="calling")
    def calling() -> int:
        return int(add.delay(1, 2).result)

    with testing.bus(app):
        operation = tappable(calling.s() | add.s(3).set(link=add.s(10))).delay()
        assert testing.run(operation) is State.SUCCEEDED
    assert DONE == [(1, 2), (3, 3), (6, 10)]


# Running


def test_running_ends_at_the_end_or_at_rest(app: Celery, add: Any) -> None:
    with testing.bus(app):
        held = tappable(add.s(1, 2)).apply_async(is_paused=True)
        assert testing.run(held) is State.PAUSED
        held.resume()
        assert testing.run(held) is State.SUCCEEDED
        assert testing.run(held) is State.SUCCEEDED
        asking = tappable(gate("approve", fields={"ok": bool}) | add.si(3, 4)).delay()
        assert testing.run(asking) is State.WAITING
        answer(asking, ["ok=yes"])
        assert testing.run(asking) is State.SUCCEEDED
    assert DONE == [(1, 2), (3, 4)]


def test_what_a_step_raised_is_told_and_not_raised(app: Celery) -> None:
    @app.task(name="explode")
    def explode() -> None:
        raise LookupError("no such row")

    with testing.bus(app):
        operation = tappable(explode.s()).delay()
        assert testing.run(operation) is State.FAILED
        failure = operation.failure()
        assert failure is not None
        assert (failure.type, failure.message) == ("LookupError", "no such row")
        assert "in explode" in str(failure.traceback)


def test_an_operation_of_no_bus_here_is_not_run(app: Celery, add: Any) -> None:
    with testing.bus(app):
        operation = tappable(add.s(1, 2)).delay()
    with pytest.raises(TapfsError, match="no bus here is on"):
        testing.run(operation)


def test_a_step_cannot_run_its_own_operation(app: Celery) -> None:
    @app.task(name="circling")
    def circling() -> str:
        with pytest.raises(TapfsError, match="from its own step"):
            testing.run(operation)
        return "told"

    with testing.bus(app):
        operation = tappable(circling.s()).delay()
        testing.run(operation)
        assert operation.result == "told"


def test_a_person_who_asks_afterwards_is_journaled_as_such_and_not_as_the_worker(app: Celery, add: Any) -> None:
    with testing.bus(app) as bus:
        operation = tappable(add.s(1, 2) | add.s(3)).delay()
        with testing.pause_after(1):
            testing.run(operation)
        operation.resume("lunch is over")
        assert asked(operation)[-1] == (bus.control.actor, "run", "lunch is over")


# Stops


def test_it_is_paused_at_the_nth_chunk_of_a_fold_and_goes_on_with_the_next(app: Celery, sum_up: Any) -> None:
    for taps in range(1, 6):
        DONE.clear()
        with testing.bus(app):
            operation = tappable(sum_up.s(5)).delay()
            with testing.pause_after(taps) as pause:
                assert testing.run(operation) is State.PAUSED
            assert (pause.taps, pause.has_happened, len(DONE)) == (taps, True, taps)
            assert asked(operation) == [("testing", "pause", f"testing.pause_after({taps})")]
            operation.resume()
            assert testing.run(operation) is State.SUCCEEDED
            assert operation.result == 10
            assert DONE == [0, 1, 2, 3, 4]


def test_taps_are_checks_and_progress_and_ends_of_steps_too(app: Celery, add: Any) -> None:
    @app.task(name="tapping")
    def tapping(given: int) -> int:
        tap.check()
        DONE.append("checked")
        tap.progress(1, 2)
        DONE.append("told")
        return given

    def stopped_at(taps: int) -> Any:
        DONE.clear()
        with testing.bus(app):
            operation = tappable(add.s(1, 2) | tapping.s() | add.s(3)).delay()
            with testing.pause_after(taps, may_miss=True) as pause:
                state = testing.run(operation)
            return state, operation.view().steps_done, DONE[1:], pause.has_happened

    assert stopped_at(1) == (State.PAUSED, 1, [], True)
    assert stopped_at(2) == (State.PAUSED, 1, [], True)
    assert stopped_at(3) == (State.PAUSED, 1, ["checked"], True)
    assert stopped_at(4) == (State.PAUSED, 2, ["checked", "told"], True)
    assert stopped_at(5) == (State.SUCCEEDED, 3, ["checked", "told", (3, 3)], False)
    assert stopped_at(6) == (State.SUCCEEDED, 3, ["checked", "told", (3, 3)], False)


def test_it_is_paused_in_the_middle_of_a_group(app: Celery, add: Any) -> None:
    with testing.bus(app):
        operation = tappable(group(add.s(number, 1) for number in range(10))).delay()
        with testing.pause_after(4):
            assert testing.run(operation) is State.PAUSED
        assert operation.view().steps_done == len(DONE) == 4
        operation.resume()
        with testing.cancel_after(2):
            assert testing.run(operation) is State.CANCELLED
        assert len(DONE) == 6
        operation.resume()
        assert testing.run(operation) is State.SUCCEEDED
        assert operation.result == list(range(1, 11))
    assert sorted(DONE) == [(number, 1) for number in range(10)]


def test_it_is_cancelled_at_the_nth_tap(app: Celery, sum_up: Any) -> None:
    with testing.bus(app):
        operation = tappable(sum_up.s(5)).delay()
        with testing.cancel_after(2):
            assert testing.run(operation) is State.CANCELLED
        assert DONE == [0, 1]
        assert asked(operation)[0][:2] == ("testing", "cancel")


def test_a_stop_holds_as_late_as_the_workflow_allows(app: Celery, add: Any) -> None:
    with testing.bus(app):
        operation = tappable(chain(add.s(0, 1), *(add.s(1) for _ in range(5))), nth=3).delay()
        with testing.pause_after(1):
            assert testing.run(operation) is State.PAUSED
        assert operation.view().steps_done == 3


def test_a_stop_that_stopped_nothing_fails_the_test_unless_it_may_miss(app: Celery, add: Any) -> None:
    with testing.bus(app):
        for stop in (testing.pause_after, testing.cancel_after, testing.crash_after):
            with pytest.raises(AssertionError, match=r"_after\(7\) has stopped nothing: 1 taps came by"), stop(7):
                testing.run(tappable(add.s(1, 2)).delay())
            with stop(7, may_miss=True) as missed:
                testing.run(tappable(add.s(1, 2)).delay())
            assert not missed.has_happened
        with pytest.raises(AssertionError, match="has stopped nothing"), testing.pause_after(1):
            testing.run(tappable(add.s(1, 2)).delay())  # it ends there
        with pytest.raises(ValueError, match="counted from 1"), testing.pause_after(0):
            pass


def test_stops_work_in_an_eager_bus_too(app: Celery, add: Any) -> None:
    with testing.bus(app, eager=True):
        with testing.pause_after(1), testing.crash_after(2):
            operation = tappable(add.s(1, 2) | add.s(3) | add.s(4)).delay()
            assert operation.state is State.PAUSED
            operation.resume()
        assert operation.result == 10
    assert DONE == [(1, 2), (3, 3), (3, 3), (6, 4)]


# Crashes


def test_a_crash_at_the_end_of_a_step_loses_its_result_and_the_step_is_done_again(app: Celery, add: Any) -> None:
    with testing.bus(app):
        operation = tappable(add.s(1, 2) | add.s(3) | add.s(4)).delay()
        with testing.crash_after(2):
            assert testing.run(operation) is State.SUCCEEDED
        assert operation.result == 10
        assert DONE == [(1, 2), (3, 3), (3, 3), (6, 4)]
        assert [line["to"] for line in journal_of(operation) if line["event"] == "state"] == [
            "running",
            "interrupted",
            "running",
            "succeeded",
        ]
        assert Commit.read(operation.path / "steps" / "0002-add.json").attempt == 2
        assert not [line for line in journal_of(operation) if line["event"] == "dropped"]


@pytest.mark.parametrize("is_saved", [True, False])
def test_a_crash_in_a_fold_loses_what_was_not_saved_and_the_result_is_exact(
    app: Celery, sum_up: Any, is_saved: bool
) -> None:
    """Law 5."""
    with testing.bus(app):
        operation = tappable(sum_up.s(5)).delay()
        with testing.crash_after(4, is_saved=is_saved):
            assert testing.run(operation) is State.SUCCEEDED
        assert operation.result == 10
        assert [0, 1, 2, 3, *([3, 4] if is_saved else [0, 1, 2, 3, 4])] == DONE


def test_nothing_that_the_step_does_after_its_crash_counts(app: Celery) -> None:
    """As after a kill: also where its own code goes on."""

    @app.task(name="stubborn")
    def stubborn() -> Any:
        DONE.append("run")
        try:
            tap.check()
        except BaseException:
            if len(DONE) == 1:
                return "from beyond"
        return tap.once("mail")

    with testing.bus(app):
        operation = tappable(stubborn.s()).delay()
        with testing.crash_after(1):
            testing.run(operation)
        assert operation.result is True
    assert DONE == ["run", "run"]


def test_a_side_effect_once_begun_stays_begun_over_a_crash(app: Celery) -> None:
    @app.task(name="mailing")
    def mailing() -> None:
        for name in ("ada", "bob", "cy"):
            if tap.once(name):
                DONE.append(name)
            tap.check()

    with testing.bus(app), testing.crash_after(2):
        assert testing.run(tappable(mailing.s()).delay()) is State.SUCCEEDED
    assert DONE == ["ada", "bob", "cy"]


def test_a_workflow_survives_a_crash_at_every_tap_there_is(app: Celery, add: Any, sum_up: Any) -> None:
    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="more", bind=True)
    def more(self: Any, given: int) -> Any:
        return self.replace(add.s(given, 1) | add.s(1))

    for taps in itertools.count(1):
        with testing.bus(app), testing.crash_after(taps, may_miss=True) as crash:
            workflow = group(sum_up.s(3), add.s(1, 1) | add.s(2), add.s(5, 5)) | total.s() | more.s() | add.s(100)
            operation = tappable(workflow).delay()
            assert testing.run(operation) is State.SUCCEEDED
            assert operation.result == 3 + 4 + 10 + 2 + 100
        if not crash.has_happened:
            break
    assert taps == 4 + 2 + 1 + 1 + 1 + 2 + 1 + 1


def test_several_stops_count_for_themselves(app: Celery, sum_up: Any) -> None:
    with testing.bus(app):
        operation = tappable(sum_up.s(6)).delay()
        with testing.crash_after(2), testing.crash_after(5), testing.pause_after(7):
            assert testing.run(operation) is State.PAUSED
        operation.resume()
        assert testing.run(operation) is State.SUCCEEDED
        assert operation.result == 15


def test_the_control_directory_is_what_a_real_one_is(app: Celery, sum_up: Any, tmp_path: Path) -> None:
    """What a test leaves there can be verified, and looked into."""
    with testing.bus(app) as bus:
        operation = tappable(sum_up.s(3)).delay()
        with testing.crash_after(2):
            testing.run(operation)
        names = {path.name for path in operation.path.iterdir()}
        assert {"operation.json", "workflow.json", "state.json", "result.json", "journal.jsonl"} <= names
        assert bus.find(operation.id[-6:]) is operation


@pytest.mark.parametrize("number", range(10))
def test_any_canvas_gives_the_plain_result_with_stops_anywhere(number: int) -> None:
    seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**6)) + number
    print(f"TEST_SEED={seed - number}, canvas {number}")
    chance = random.Random(seed)
    app = Celery("canvas", task_cls="tapfs.flow:TappableTask", set_as_current=False)
    define_tasks(app)
    canvas = random_canvas(chance, app, depth=3, width=5)
    with testing.bus(app) as bus:
        operation = tappable(
            canvas, bus=bus, nth=chance.choice((1, 2, 3)), concurrency=chance.choice((1, 3, 16))
        ).delay()
        expected = evaluate(operation.plan(), app)
        for _ in range(6):
            stop = chance.choice((testing.pause_after, testing.cancel_after, testing.crash_after))
            with stop(chance.randint(1, 6), may_miss=True):
                testing.run(operation)
            if operation.state in (State.PAUSED, State.CANCELLED):
                operation.resume()
        assert testing.run(operation) is State.SUCCEEDED
        assert operation.result == expected
