"""Running an operation here and now, with no broker at all."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, group

from support import wait_for
from support.flows import Numbers, Post, journal_of, touch
from tapfs import Bus, Operation, State, TapfsError, gate, tap, tappable
from tapfs.bus import view
from tapfs.bus.answering import answer
from tapfs.bus.records import Commit
from tapfs.errors import OperationUnknown, Refused
from tapfs.flow import foreground
from tapfs.flow.foreground import Foreground
from tapfs.flow.place import Progress

RUNS: Counter[Any] = Counter()


@pytest.fixture(autouse=True)
def no_runs() -> None:
    RUNS.clear()


@pytest.fixture
def silent(app: Celery, tmp_path: Path) -> Bus:
    """A bus that rings nobody."""
    bus = Bus(tmp_path / "control", app=app)
    bus.control.publisher = lambda publication: None
    return bus


@pytest.fixture
def count(app: Celery) -> Any:
    @app.task(name="count")
    def count(given: int = 0, number: int = 0) -> int:
        RUNS[number] += 1
        return given + 1

    return count


def run_in_thread(runs: Foreground) -> Callable[[], State]:
    """Run it; what is returned waits for the end and gives the state."""
    states: list[State] = []
    thread = threading.Thread(target=lambda: states.append(runs.run()))
    thread.start()

    def end() -> State:
        thread.join(30)
        assert not thread.is_alive(), "run does not return"
        return states[0]

    return end


def steps_of(count: Any, number: int) -> Any:
    return chain(count.s(0, 1), *(count.s(each) for each in range(2, number + 1)))


def test_it_runs_all_steps_to_the_end_and_returns_the_state(count: Any, silent: Bus) -> None:
    operation = tappable(steps_of(count, 5), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.SUCCEEDED
    assert operation.result == 5
    assert set(RUNS.values()) == {1}
    assert Commit.read(operation.path / "steps" / "0001-count.json").worker.startswith("worker:foreground@")


def test_an_operation_is_started_from_words_and_rings_nobody(count: Any, app: Celery, bus: Bus, post: Post) -> None:
    @bus.operation
    def counting(number: int) -> Any:
        return steps_of(count, number)

    runs = foreground.start(bus, "counting", ["number=3"])
    assert runs.run() is State.SUCCEEDED
    assert runs.operation.result == 3
    assert post.sent == []


def test_it_returns_when_the_operation_fails(app: Celery, silent: Bus) -> None:
    @app.task(name="explode")
    def explode() -> None:
        raise ValueError("no")

    operation = tappable(explode.s() | explode.s(), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.FAILED
    failure = operation.failure()
    assert failure is not None
    assert failure.message == "no"


def test_it_returns_when_the_operation_is_cancelled(app: Celery, count: Any, silent: Bus) -> None:
    """B39"""

    @app.task(name="cancelling")
    def cancelling() -> None:
        touch(operation.path / "CANCEL")

    operation = tappable(cancelling.si() | count.si(), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.CANCELLED
    assert RUNS == {}


def test_an_ended_operation_is_not_run_again(count: Any, silent: Bus) -> None:
    operation = tappable(steps_of(count, 1), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.SUCCEEDED
    assert Foreground(silent, operation).run() is State.SUCCEEDED
    assert RUNS == {1: 1}


def test_it_waits_while_paused_and_goes_on_when_the_hold_is_lifted(app: Celery, count: Any, silent: Bus) -> None:
    operation = tappable(steps_of(count, 3), bus=silent).delay()
    touch(operation.path / "PAUSE")
    end = run_in_thread(Foreground(silent, operation))
    wait_for(lambda: operation.state is State.PAUSED)
    assert RUNS == {}
    (operation.path / "PAUSE").unlink()
    assert end() is State.SUCCEEDED


def test_pause_and_stop_pauses_at_the_next_tap_and_run_returns(app: Celery, silent: Bus) -> None:
    started = threading.Event()

    @app.task(name="long")
    def long() -> int:
        started.set()
        for value, (number,) in tap.fold(Numbers(1000, on_chunk=lambda _: time.sleep(0.002)), {"sum": 0}):
            value["sum"] += number
        return int(value["sum"])

    operation = tappable(long.s(), bus=silent).delay()
    runs = Foreground(silent, operation)
    end = run_in_thread(runs)
    assert started.wait(10)
    runs.pause_and_stop("Ctrl-C")
    assert end() is State.PAUSED
    assert operation.view().reason == "Ctrl-C"
    again = foreground.resume(silent, operation.id[-6:])
    assert again.operation.id == operation.id
    assert again.run() is State.SUCCEEDED
    assert operation.result == sum(range(1000))


def test_pause_and_stop_of_a_paused_operation_just_stops(count: Any, silent: Bus) -> None:
    operation = tappable(steps_of(count, 2), bus=silent).apply_async(is_paused=True)
    runs = Foreground(silent, operation)
    end = run_in_thread(runs)
    runs.pause_and_stop("Ctrl-C")
    assert end() is State.PAUSED
    assert RUNS == {}


def test_pause_and_stop_of_an_operation_that_ended_lets_run_return_its_end(count: Any, silent: Bus) -> None:
    operation = tappable(steps_of(count, 1), bus=silent).delay()
    runs = Foreground(silent, operation)
    assert runs.run() is State.SUCCEEDED
    runs.pause_and_stop("Ctrl-C")
    assert runs.run() is State.SUCCEEDED


def test_an_unknown_operation_is_not_resumed(silent: Bus) -> None:
    with pytest.raises(OperationUnknown):
        foreground.resume(silent, "nothing")


def test_an_operation_that_is_being_cancelled_is_not_resumed(app: Celery, silent: Bus) -> None:
    @app.task(name="long")
    def long() -> None:
        operation.cancel()
        with pytest.raises(Refused):
            foreground.resume(silent, operation.id)

    operation = tappable(long.s() | long.s(), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.CANCELLED


def test_a_cancelled_operation_is_resumed_and_goes_on_where_it_was(app: Celery, count: Any, silent: Bus) -> None:
    """B29, B25"""

    @app.task(name="cancelling")
    def cancelling(given: int) -> int:
        operation.cancel() if not RUNS["cancelled"] else None
        RUNS["cancelled"] += 1
        return given + 10

    operation = tappable(count.s(0, 1) | cancelling.s() | count.s(3), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.CANCELLED
    assert foreground.resume(silent, operation.id).run() is State.SUCCEEDED
    assert operation.result == 12
    assert RUNS == {1: 1, "cancelled": 1, 3: 1}


def test_a_task_that_the_app_does_not_know_is_an_error_that_says_what_to_do(app: Celery, silent: Bus) -> None:
    """B36: the operation is unchanged."""
    operation = tappable(app.signature("elsewhere.run"), bus=silent).delay()
    with pytest.raises(TapfsError, match=r"app 'shop' knows no task 'elsewhere\.run'") as caught:
        Foreground(silent, operation).run()
    assert caught.value.hint is not None
    assert operation.state is State.QUEUED
    assert operation.failure() is None


def test_a_retry_waits_for_its_time(app: Celery, silent: Bus) -> None:
    moments = []

    @app.task(name="retrying", bind=True)
    def retrying(self: Any) -> str:
        moments.append(time.time())
        if len(moments) < 3:
            raise self.retry(countdown=0.25)
        return "done"

    operation = tappable(retrying.s(), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.SUCCEEDED
    assert len(moments) == 3
    assert moments[1] - moments[0] > 0.24
    assert moments[2] - moments[1] > 0.24


def test_a_countdown_of_a_signature_is_waited_for(count: Any, silent: Bus) -> None:
    operation = tappable(count.s(0, 1) | count.s(2).set(countdown=0.3), bus=silent).delay()
    began = time.monotonic()
    assert Foreground(silent, operation).run() is State.SUCCEEDED
    assert time.monotonic() - began > 0.25


def test_a_step_sees_the_request_of_its_message(app: Celery, silent: Bus) -> None:
    @app.task(name="ask", bind=True)
    def ask(self: Any) -> Any:
        return [self.request.headers["tenant"], self.request.retries, self.request.called_directly]

    operation = tappable(ask.s().set(headers={"tenant": "acme"}), bus=silent).delay()
    Foreground(silent, operation).run()
    assert operation.result == ["acme", 0, False]


def test_it_says_how_the_operation_stands_while_a_step_runs(app: Celery, silent: Bus) -> None:
    standings = []

    @app.task(name="long")
    def long(given: Any = None) -> None:
        standings.extend(runs.standing() for _ in tap.fold(Numbers(4), {}))
        tap.progress(3, 7, unit="mails", note="to ada")
        standings.append(runs.standing())

    operation = tappable(long.s() | long.s(), bus=silent).delay()
    runs = Foreground(silent, operation)
    assert runs.standing().state is State.QUEUED
    assert runs.standing().progress == Progress()
    runs.run()
    first = standings[0]
    assert (first.state, first.step, first.steps_total) == (State.RUNNING, "0001-long", 2)
    assert [standing.progress.done for standing in standings[:5]] == [0, 1, 2, 3, 3]
    assert standings[3].progress == Progress(3, 4, "numbers")
    assert standings[4].progress == Progress(3, 7, "mails", "to ada")
    last = runs.standing()
    assert (last.state, last.steps_done, last.step) == (State.SUCCEEDED, 2, None)
    assert last.progress == Progress()


@pytest.mark.parametrize("others", [1, 3])
def test_beside_others_on_the_same_operation_no_step_is_done_twice(app: Celery, silent: Bus, others: int) -> None:
    """Law 3, B26: one claim, one commit between all of them."""

    @app.task(name="slow")
    def slow(given: int) -> int:
        RUNS[given] += 1
        time.sleep(0.002)
        return given + 1

    operation = tappable(chain(slow.s(0), *(slow.s() for _ in range(29))), bus=silent).delay()
    ends = []
    for _ in range(1 + others):
        bus = Bus(silent.control.path, app=app)
        bus.control.publisher = lambda publication: None
        ends.append(run_in_thread(Foreground(bus, bus.find(operation.id))))
    assert {end() for end in ends} == {State.SUCCEEDED}
    assert dict(RUNS) == dict.fromkeys(range(30), 1)
    assert operation.result == 30


def test_beside_a_worker_that_is_rung_no_step_is_done_twice(app: Celery, bus: Bus, post: Post) -> None:
    """Law 3: the same steps by messages and by looking."""

    @app.task(name="slow")
    def slow(given: int) -> int:
        RUNS[given] += 1
        time.sleep(0.002)
        return given + 1

    operation = tappable(chain(slow.s(0), *(slow.s() for _ in range(29))), bus=bus).delay()
    other = Bus(bus.control.path, app=app)
    other.control.publisher = post
    end = run_in_thread(Foreground(other, other.find(operation.id)))
    while not operation.ready():
        post.deliver_all()
        time.sleep(0.001)
    assert end() is State.SUCCEEDED
    assert dict(RUNS) == dict.fromkeys(range(30), 1)
    assert operation.result == 30


def test_a_claim_of_a_worker_that_is_gone_is_taken_up(app: Celery, bus: Bus, post: Post) -> None:
    @app.task(name="leave")
    def leave() -> str:
        RUNS["leave"] += 1
        if RUNS["leave"] == 1:
            raise SystemExit(1)
        return "here"

    operation = tappable(leave.s(), bus=bus).delay()
    with pytest.raises(SystemExit):
        post.deliver_next()
    assert Foreground(bus, operation).run() is State.SUCCEEDED
    assert operation.result == "here"


def test_files_in_claims_that_are_none_do_no_harm(count: Any, silent: Bus) -> None:
    operation = tappable(steps_of(count, 2), bus=silent).delay()
    touch(operation.path / "claims" / "note", "to self")
    assert Foreground(silent, operation).run() is State.SUCCEEDED


def test_the_journal_tells_who_paused_it(count: Any, silent: Bus) -> None:
    operation: Operation = tappable(steps_of(count, 2), bus=silent).delay()
    operation.pause("by hand")
    runs = Foreground(silent, operation)
    runs.pause_and_stop("Ctrl-C")
    assert runs.run() is State.PAUSED
    assert journal_of(operation)[-1]["to"] == "paused"


# Groups


def test_members_of_a_group_run_one_after_the_other_and_their_list_goes_on(app: Celery, silent: Bus) -> None:
    at_once = []
    running = []

    @app.task(name="member")
    def member(number: int) -> int:
        running.append(number)
        at_once.append(len(running))
        running.remove(number)
        return number

    @app.task(name="total")
    def total(numbers: list[int]) -> list[int]:
        return numbers

    operation = tappable(group(member.s(number) for number in range(20)) | total.s(), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.SUCCEEDED
    assert operation.result == list(range(20))
    assert at_once == [1] * 20


def test_beside_others_no_member_of_a_group_is_done_twice(app: Celery, bus: Bus, post: Post) -> None:
    """Law 3: two look for themselves, one is rung."""

    @app.task(name="slow")
    def slow(number: int) -> int:
        RUNS[number] += 1
        time.sleep(0.002)
        return number

    operation = tappable(group(slow.s(number) | slow.s() for number in range(20)), bus=bus).delay()
    ends = []
    for _ in range(2):
        other = Bus(bus.control.path, app=app)
        other.control.publisher = post
        ends.append(run_in_thread(Foreground(other, other.find(operation.id))))
    while not operation.ready():
        post.deliver_all()
        time.sleep(0.001)
    assert {end() for end in ends} == {State.SUCCEEDED}
    assert operation.result == list(range(20))
    assert dict(RUNS) == dict.fromkeys(range(20), 2)


def test_it_says_how_far_a_group_has_come_where_its_steps_do_not_tell_themselves(
    app: Celery, silent: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "VIEW_INTERVAL_S", 0.0)
    standings = []

    @app.task(name="member")
    def member(given: int, number: int) -> int:
        standings.append(runs.standing())
        if number == 2:
            tap.progress(5, 7, unit="mails")
            standings.append(runs.standing())
        return number

    @app.task(name="single")
    def single(given: Any) -> int:
        standings.append(runs.standing())
        return 1

    workflow = single.s(0) | group(single.s() | member.s(number) for number in range(4)) | single.s()
    operation = tappable(workflow, bus=silent).delay()
    runs = Foreground(silent, operation)
    runs.run()
    assert standings[0].progress == Progress()
    of_group = [one.progress for one in standings[1:-1] if one.progress.unit == "steps"]
    assert {(one.total, one.unit) for one in of_group} == {(8, "steps")}
    assert [one.done for one in of_group] == list(range(8))
    assert Progress(5, 7, "mails") in [one.progress for one in standings]


def test_a_member_that_fails_ends_it_and_nothing_more_is_begun(app: Celery, count: Any, silent: Bus) -> None:
    @app.task(name="explode")
    def explode() -> None:
        raise ValueError("no")

    operation = tappable(group(count.s(0, 1), explode.s(), count.s(0, 3)), bus=silent).delay()
    assert Foreground(silent, operation).run() is State.FAILED
    assert RUNS == {1: 1}
    assert not [line for line in journal_of(operation) if line["event"] == "dropped"]


# Gates, and rest


def test_at_a_gate_it_waits_and_says_so_and_an_answer_lets_it_go_on(count: Any, silent: Bus) -> None:
    """The answer comes from elsewhere, as from another terminal."""
    approve = gate("approve", "Send 10,000 mails?", fields={"ok": bool})
    operation = tappable(count.s(0, 1) | approve | count.si(5, 2), bus=silent).delay()
    runs = Foreground(silent, operation)
    end = run_in_thread(runs)
    wait_for(lambda: operation.state is State.WAITING)
    assert "Send 10,000 mails?" in str(runs.standing().message)
    assert RUNS == {1: 1}
    answer(Bus(silent.control.path, app=silent.app).find(operation.id), ["ok=yes"])
    assert end() is State.SUCCEEDED
    assert operation.result == 6


def test_pause_and_stop_at_a_gate_pauses_and_returns(count: Any, silent: Bus) -> None:
    operation = tappable(count.s(0, 1) | gate("approve") | count.si(5, 2), bus=silent).delay()
    runs = Foreground(silent, operation)
    end = run_in_thread(runs)
    wait_for(lambda: operation.state is State.WAITING)
    runs.pause_and_stop("Ctrl-C")
    assert end() is State.PAUSED


def test_it_rests_where_there_is_nothing_more_to_run(count: Any, silent: Bus) -> None:
    operation = tappable(count.s(0, 1).set(countdown=3600) | gate("approve") | count.si(5, 2), bus=silent).apply_async(
        is_paused=True
    )
    assert Foreground(silent, operation).run_to_rest() is State.PAUSED
    operation.resume()
    assert Foreground(silent, operation).run_to_rest() is State.WAITING
    assert RUNS == {1: 1}
    answer(operation, [])
    assert Foreground(silent, operation).run_to_rest() is State.SUCCEEDED
    assert Foreground(silent, operation).run_to_rest() is State.SUCCEEDED


def test_it_does_not_rest_while_a_step_runs_elsewhere(app: Celery, silent: Bus) -> None:
    started, goes_on = threading.Event(), threading.Event()

    @app.task(name="slow")
    def slow() -> str:
        started.set()
        assert goes_on.wait(30)
        return "done"

    operation = tappable(slow.s() | slow.si(), bus=silent).delay()
    other = Bus(silent.control.path, app=app)
    other.control.publisher = lambda publication: None
    first = run_in_thread(Foreground(other, other.find(operation.id)))
    assert started.wait(30)
    states: list[State] = []
    resting = threading.Thread(target=lambda: states.append(Foreground(silent, operation).run_to_rest()))
    resting.start()
    goes_on.set()
    resting.join(30)
    assert states == [State.SUCCEEDED]
    assert first() is State.SUCCEEDED


@pytest.mark.parametrize("by", ["PAUSE", "CANCEL"])
def test_what_waits_for_a_retry_is_left_alone_while_it_is_held(app: Celery, silent: Bus, by: str) -> None:
    """And the journal is not filled with messages that are dropped."""

    @app.task(name="retrying", bind=True)
    def retrying(self: Any) -> str:
        RUNS["tries"] += 1
        if RUNS["tries"] == 1:
            touch(operation.path / by)
            raise self.retry(countdown=0)
        return "done"

    operation = tappable(retrying.s(), bus=silent).delay()
    state = Foreground(silent, operation).run_to_rest()
    assert state is (State.PAUSED if by == "PAUSE" else State.CANCELLED)
    end = run_in_thread(Foreground(silent, operation))
    if by == "PAUSE":
        for _ in range(3):
            silent.reconcile(operation)
        (operation.path / "PAUSE").unlink()
        assert end() is State.SUCCEEDED
        assert operation.result == "done"
    else:
        assert end() is State.CANCELLED
    assert not [line for line in journal_of(operation) if line["event"] == "dropped"]


def test_who_asks_afterwards_is_not_taken_for_the_worker(count: Any, silent: Bus) -> None:
    operation = tappable(steps_of(count, 1), bus=silent).delay()
    actor = operation.actor
    Foreground(silent, operation).run()
    assert operation.actor == actor != ""


def test_callbacks_of_a_step_are_told_as_a_worker_tells_them(app: Celery, count: Any, silent: Bus) -> None:
    app.conf.task_always_eager = True  # the callbacks' own messages

    @app.task(name="tell")
    def tell(*args: Any) -> None:
        RUNS[args] += 1

    @app.task(name="explode")
    def explode() -> None:
        raise ValueError("no")

    linked = tappable(count.s(0, 1).set(link=tell.s("linked")) | count.s(2), bus=silent).delay()
    Foreground(silent, linked).run()
    failed = tappable(explode.s().set(link_error=tell.si("failed")), bus=silent).delay()
    Foreground(silent, failed).run()
    assert RUNS == {1: 1, 2: 1, (1, "linked"): 1, ("failed",): 1}
