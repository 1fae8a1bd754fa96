"""Clauses, callbacks and `nth`: in chains, in groups, and with control buses that are not files."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import Celery, chain, current_app, group

from support.flows import Numbers, Post, finish, journal_of, touch
from tapfs import Bus, State, TapfsError, tap, tappable, testing, then
from tapfs.flow import place
from tapfs.flow.foreground import Foreground

EXAMPLES = Path(__file__).parents[2] / "examples" / "canvas"
ASKED: list[Any] = []
TOLD: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    ASKED.clear()
    TOLD.clear()
    monkeypatch.setenv("TAPFS_SYNC", "off")  # nothing here is about power cuts


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="add")
    def add(x: int = 0, y: int = 0) -> int:
        return x + y

    return add


def is_large(last: Any) -> bool:
    ASKED.append(last)
    return isinstance(last, int) and last > 100


def never(last: Any) -> bool:
    ASKED.append(last)
    return False


def tell(last: Any, remaining: Any) -> None:
    TOLD.append((last, [(step["task"], step["args"]) for step in remaining]))


def explode(*_: Any) -> None:
    TOLD.append("exploding")
    raise LookupError("the web API is away")


# Groups


def test_a_clause_is_asked_when_a_member_ends_with_its_value(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(group(add.s(number, 1) for number in range(4)) | add.si(1, 1), clause=never, bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert ASKED == [1, 2, 3, 4]  # there is a tap behind each of them


def test_a_clause_that_is_true_holds_a_group_where_it_is_and_no_member_is_repeated(
    app: Celery, bus: Bus, post: Post
) -> None:
    """B13: nothing new starts."""
    runs = []

    @app.task(name="member")
    def member(number: int) -> int:
        runs.append(number)
        return 101 if number == 2 else number

    workflow = group(member.s(number) for number in range(8))
    operation = tappable(workflow, clause=is_large, concurrency=2, bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert operation.view().reason == f"the clause {__name__}:is_large says so"
    assert runs == [0, 1, 2]
    operation.resume()
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == [0, 1, 101, 3, 4, 5, 6, 7]
    assert sorted(runs) == list(range(8))


def test_a_clause_that_becomes_true_lets_the_members_that_run_end_or_stop_at_their_taps(
    app: Celery, add: Any, bus: Bus, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "CHECK_INTERVAL_S", 0.0)
    turns: list[int] = []

    @app.task(name="long")
    def long() -> int:
        for value, numbers in tap.fold(Numbers(6), {"sum": 0}):
            turns.extend(numbers)
            value["sum"] += sum(numbers)
            if numbers == [2] and len(turns) == 3:
                post.deliver(other)  # another worker ends the other member meanwhile
                assert operation.state is State.PAUSING
        return int(value["sum"])

    operation = tappable(group(add.si(100, 1), long.si()), clause=is_large, bus=bus).delay()
    other, own = post.waiting
    post.waiting.clear()
    post.deliver(own)
    assert operation.state is State.PAUSED
    assert turns == [0, 1, 2]
    operation.resume()
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == [101, 15]
    assert turns == [0, 1, 2, 3, 4, 5]


def test_a_clause_is_asked_within_a_member_too_with_the_value_before_it(
    app: Celery, add: Any, bus: Bus, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "CHECK_INTERVAL_S", 0.0)
    monkeypatch.setattr(place, "CLAUSE_INTERVAL_S", 0.0)

    @app.task(name="tapping")
    def tapping(given: int) -> int:
        tap.check()
        return given + 1

    workflow = add.s(1, 1) | group(tapping.s(), add.s(10) | tapping.s())
    operation = tappable(workflow, clause=never, concurrency=1, bus=bus).delay()
    post.deliver_all()
    assert operation.result == [3, 13]
    assert ASKED == [2, 2, 3, 12, 12]


@pytest.mark.parametrize("nth", [1, 2, 3, 5])
def test_nth_of_members_a_pause_takes_hold_before_the_first_and_behind_every_nth(
    add: Any, bus: Bus, post: Post, nth: int
) -> None:
    workflow = group(add.s(number, 1) for number in range(7))
    operation = tappable(workflow, nth=nth, concurrency=1, bus=bus).apply_async(is_paused=True)
    held_at = []
    for _ in range(100):
        if operation.state is State.PAUSED:
            held_at.append(operation.view().steps_done)
            operation.resume()
            post.deliver_next()
        if operation.ready():
            break
        operation.pause()
        post.deliver_all()
    assert held_at == [done for done in range(7) if done % nth == 0]
    assert operation.result == list(range(1, 8))


def test_nth_of_members_a_clause_is_asked_behind_every_nth_only(add: Any, bus: Bus, post: Post) -> None:
    workflow = group(add.s(number, 0) for number in range(1, 8)) | add.si(50)
    tappable(workflow, clause=never, nth=3, concurrency=1, bus=bus).delay()
    post.deliver_all()
    assert ASKED == [3, 6]


def test_in_a_group_of_chains_both_have_taps_of_their_own_count(add: Any, bus: Bus, post: Post) -> None:
    """With nth=2: before the first step of every second member, and behind the second of four steps in each."""
    workflow = group(chain(add.s(100 * number, 1), *(add.s(1) for _ in range(3))) for number in range(2))
    tappable(workflow | add.si(), clause=never, nth=2, concurrency=1, bus=bus).delay()
    post.deliver_all()
    assert ASKED == [2, 102]


def test_a_clause_is_asked_behind_what_a_step_put_in_behind_itself(app: Celery, add: Any, bus: Bus, post: Post) -> None:
    @app.task(name="saying")
    def saying() -> Any:
        return then(add.s(3, 4) | add.s(5))

    operation = tappable(saying.s() | add.s(1), clause=never, bus=bus).delay()
    post.deliver_all()
    assert operation.result == 13
    assert ASKED == [None, 7, 12]


# Callbacks


def test_a_callback_is_told_in_the_middle_of_a_group_what_is_left_of_it_and_behind_it(app: Celery, add: Any) -> None:
    with testing.bus(app) as bus:
        workflow = add.s(1, 1) | group(add.s(number) for number in range(10, 14)) | add.si(7)
        operation = tappable(workflow, callback=tell, bus=bus).delay()
        with testing.pause_after(3):
            assert testing.run(operation) is State.PAUSED
        assert TOLD == [(2, [("add", [12]), ("add", [13]), ("add", [7])])]
        operation.resume()
        with testing.pause_after(2):
            assert testing.run(operation) is State.PAUSED
        assert TOLD[1:] == [([12, 13, 14, 15], [("add", [7])])]
        operation.resume()
        assert testing.run(operation) is State.SUCCEEDED
    assert len(TOLD) == 2


def test_a_callback_is_told_once_an_epoch_by_however_many_workers(app: Celery, bus: Bus) -> None:
    """B91: the pause hook, exactly once for each pause."""
    barrier, is_asked = threading.Barrier(4), threading.Event()

    @app.task(name="waiting")
    def waiting(number: int) -> int:
        if operation.epoch() == 1 and number < 4:
            barrier.wait(60)
            if number == 0:
                operation.pause()
                is_asked.set()
            assert is_asked.wait(60)
        return number

    def run_by_four() -> list[State]:
        buses = [Bus(bus.control.path, app=app) for _ in range(4)]
        for one in buses:
            one.control.publisher = lambda publication: None
        with ThreadPoolExecutor(4) as pool:
            runs = [pool.submit(Foreground(one, one.find(operation.id)).run_to_rest) for one in buses]
            states = [run.result(90) for run in runs]
        for one in buses:
            one.reconcile(one.find(operation.id))
        return states

    bus.control.publisher = lambda publication: None
    operation = tappable(group(waiting.s(number) for number in range(12)), callback=tell, bus=bus).delay()
    assert set(run_by_four()) == {State.PAUSED}
    operation.resume()
    assert set(run_by_four()) == {State.SUCCEEDED}
    assert operation.result == list(range(12))
    assert len(TOLD) == 1


def test_a_callback_is_not_told_of_members_that_were_given_up(app: Celery, add: Any) -> None:
    @app.task(name="failing")
    def failing() -> None:
        raise ValueError("no")

    with testing.bus(app) as bus:
        workflow = group(failing.s() | add.s(1), add.s(2, 2), add.s(3, 3))
        operation = tappable(workflow, callback=tell, on_error="continue", bus=bus).delay()
        with testing.pause_after(1):
            testing.run(operation)
        assert TOLD == [(None, [("add", [3, 3])])]


@pytest.mark.parametrize("what", ["chain", "group"])
def test_a_callback_that_raises_hurts_nothing(app: Celery, add: Any, what: str, caplog: Any) -> None:
    """B91: the pause stands, is told once, and the operation goes on when it is resumed."""
    steps = [add.si(number, 1) for number in range(4)]
    with testing.bus(app) as bus:
        operation = tappable(chain(*steps) if what == "chain" else group(steps), callback=explode, bus=bus).delay()
        with testing.pause_after(2):
            assert testing.run(operation) is State.PAUSED
        for _ in range(3):
            bus.reconcile(operation)
        assert TOLD == ["exploding"]
        assert "the web API is away" in caplog.text
        operation.resume()
        assert testing.run(operation) is State.SUCCEEDED
        assert operation.failure() is None


def test_a_callback_that_raises_loses_no_failure(app: Celery) -> None:
    """B91: the record of what failed stands."""

    @app.task(name="failing")
    def failing() -> None:
        if operation.epoch() == 1:
            operation.pause()
            tap.check()
        raise ValueError("the reason")

    with testing.bus(app) as bus:
        operation = tappable(failing.s(), callback=explode, bus=bus).delay()
        with testing.pause_after(1, may_miss=True):
            assert testing.run(operation) is State.PAUSED
        operation.resume()
        assert testing.run(operation) is State.FAILED
        failure = operation.failure()
        assert failure is not None
        assert failure.message == "the reason"
    assert TOLD == ["exploding"]


def test_a_clause_that_raises_in_a_group_holds_it_and_says_why(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(group(add.s(1), add.s(2)), clause=explode, concurrency=1, bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert operation.view().reason == "the clause raised LookupError: the web API is away"
    assert finish(bus, post, operation) is State.SUCCEEDED


def test_a_callback_that_gets_a_spoilt_value_is_not_called_and_hurts_nothing(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(add.s(1) | add.s(2) | add.s(3), callback=tell, bus=bus).delay()
    post.deliver_next()
    touch(operation.path / "steps" / "0001-add.json", "spoilt")
    touch(operation.path / "PAUSE")
    bus.reconcile(operation)
    assert operation.state is State.PAUSED
    assert TOLD == []


@pytest.mark.parametrize("what", ["clause", "callback"])
def test_a_function_of_the_script_that_is_run_is_refused_for_no_worker_runs_it(
    add: Any, bus: Bus, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(*_: Any) -> bool:
        return False

    here.__module__, here.__qualname__ = "__main__", "here"
    monkeypatch.setattr(sys.modules["__main__"], "here", here, raising=False)
    with pytest.raises(TapfsError, match="cannot be found again by a worker") as caught:
        tappable(add.s(), bus=bus, **{what: here})
    assert "module that both import" in str(caught.value.hint)


# Control buses that are not files


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Import an example as a person in its folder does."""
    monkeypatch.setenv("TAPFS_CONTROL", str(tmp_path / "control"))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = current_app._get_current_object()
    yield import_module
    before.set_current()


class Switch:
    """A web server with a switch; `after` counts the questions until it says hold."""

    def __init__(self) -> None:
        self.after: int | None = None
        self.asked = 0
        self.told: list[Any] = []
        switch = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                switch.asked += 1
                self._answer({"hold": switch.after is not None and switch.asked >= switch.after})

            def do_POST(self) -> None:
                switch.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer({})

            def _answer(self, value: Any) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(value).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/switch"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    made = Switch()
    monkeypatch.setenv("SWITCH_URL", made.url)
    yield made
    made.close()


def test_a_web_address_holds_a_mailing_and_lets_it_go_on(example: Callable[[str], ModuleType], switch: Switch) -> None:
    web = example("held_by_web")
    with testing.bus(web.app) as bus:
        switch.after = 7
        operation = bus.start("mailing", count=20)
        assert testing.run(operation) is State.PAUSED
        assert operation.view().steps_done == 7
        assert operation.view().reason == "the clause held_by_web:is_held says so"
        assert switch.told == [{"left": 14}]
        assert web.release() == []
        switch.after = None
        assert web.release() == [operation.id]
        assert testing.run(operation) is State.SUCCEEDED
        assert operation.result == {"sent": 20}
        assert len(switch.told) == 1


def test_a_web_address_that_does_not_answer_holds_too(example: Callable[[str], ModuleType], switch: Switch) -> None:
    web = example("held_by_web")
    switch.close()
    with testing.bus(web.app) as bus:
        operation = bus.start("mailing", count=5)
        assert testing.run(operation) is State.PAUSED
        assert "the clause raised URLError" in str(operation.view().reason)


def test_the_machines_load_holds_work_and_lets_it_go_on(
    example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = example("held_by_load")
    now = [0.0]
    monkeypatch.setattr("os.getloadavg", lambda: (now[0], 0.0, 0.0))
    with testing.bus(load.app) as bus:
        operation = bus.start("crunch", count=12, limit=0.5)
        now[0] = 1000.0
        assert testing.run(operation) is State.PAUSED
        assert operation.view().steps_done == 5
        now[0] = 0.0
        operation.resume()
        assert testing.run(operation) is State.SUCCEEDED
        assert operation.result == 12 * sum(number * number for number in range(10))


def test_the_machines_load_is_what_it_is(example: Callable[[str], ModuleType]) -> None:
    load = example("held_by_load")
    assert not load.is_busy(None, 1e9)
    assert load.is_busy(None, -1.0)
    with testing.bus(load.app) as bus:
        assert testing.run(bus.start("crunch", count=3, limit=1e9)) is State.SUCCEEDED


def test_the_journal_says_that_the_clause_asked(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(group(add.s(100, 1), add.s(1)), clause=is_large, concurrency=1, bus=bus).delay()
    post.deliver_all()
    asked = [line for line in journal_of(operation) if line["event"] == "asked"]
    assert [(line["by"], line["want"]) for line in asked] == [("clause", "pause")]
