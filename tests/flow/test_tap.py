"""Taps inside a step (`tap`) and where a running step is (`place`)."""

import json
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery import Celery

from support.flows import Clock, Numbers, Post, finish, journal_of, touch
from tapfs import Bus, CsvFile, Operation, OperationFailed, State, tap, tappable
from tapfs.bus.losses import give_away
from tapfs.bus.records import Checkpoint
from tapfs.bus.verbs import Answer
from tapfs.errors import ResultUnstorable, TapfsError
from tapfs.flow import fold as fold_module
from tapfs.flow import place
from tapfs.flow.sources import SourceChanged

Start = Any


def checkpoint_of(operation: Operation, label: str = "0001-work") -> Checkpoint | None:
    try:
        return Checkpoint.read(operation.path / "steps" / f"{label}.checkpoint.json")
    except FileNotFoundError:
        return None


def folds_of(operation: Operation) -> list[tuple[Any, Any]]:
    found = checkpoint_of(operation)
    assert found is not None
    return [(fold["cursor"], fold["value"]) for fold in found.folds]


@pytest.fixture
def start(app: Celery, bus: Bus) -> Start:
    """Start an operation of one step, `work`, that calls the given function."""

    def start(function: Any) -> Operation:
        @app.task(name="work")
        def work() -> Any:
            return function()

        return tappable(work.s(), bus=bus).delay()

    return start


# Outside an operation


def test_outside_an_operation_a_fold_just_iterates() -> None:
    turns = [(list(value), chunk) for value, chunk in tap.fold(Numbers(3), [])]
    assert turns == [([], [0]), ([], [1]), ([], [2])]


def test_outside_an_operation_check_and_progress_do_nothing_and_there_is_no_operation_id() -> None:
    tap.check()
    tap.progress(1, 2, unit="rows", note="half")
    assert tap.operation_id() is None


def test_a_step_knows_its_operation_and_after_it_nobody_does(start: Start, post: Post) -> None:
    operation = start(tap.operation_id)
    post.deliver_all()
    assert operation.result == operation.id
    assert tap.operation_id() is None


def test_a_thread_that_a_task_starts_has_no_taps(start: Start, post: Post) -> None:
    found: list[Any] = []

    def ask() -> None:
        thread = threading.Thread(target=lambda: found.append(tap.operation_id()))
        thread.start()
        thread.join()

    start(ask)
    post.deliver_all()
    assert found == [None]


def test_an_empty_source_gives_one_empty_chunk(start: Start, post: Post) -> None:
    assert list(tap.fold(Numbers(0), {})) == [({}, [])]
    operation = start(lambda: [chunk for _, chunk in tap.fold(Numbers(0), {})])
    post.deliver_all()
    assert operation.result == [[]]


# Exactness


def count_up(source: Numbers) -> dict[str, Any]:
    value: dict[str, Any]
    for value, numbers in tap.fold(source, {"sum": 0, "seen": []}):
        for number in numbers:
            value["sum"] += number
            value["seen"].append(number)
    return value


@pytest.mark.usefixtures("looks_at_every_tap")
@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_a_fold_stopped_behind_every_chunk_is_exact(start: Start, bus: Bus, post: Post, at_once: int) -> None:
    """B01, B22, B23: it stops after the chunk at hand, and goes on with the first one not done."""
    stops = []

    def ask_to_pause(number: int) -> None:
        stops.append(number)
        touch(operation.path / "PAUSE")

    source = Numbers(20, at_once, ask_to_pause)
    operation = start(lambda: count_up(source))
    rounds = 0
    while not operation.ready():
        post.deliver_all()
        if operation.state is State.PAUSED:
            rounds += 1
            done = min(rounds * at_once, 20)
            assert folds_of(operation) == [(done, {"sum": sum(range(done)), "seen": list(range(done))})]
            (operation.path / "PAUSE").unlink()
            bus.reconcile(operation)
    assert operation.result == {"sum": 190, "seen": list(range(20))}
    assert source.read_from == [None, *range(at_once, 20, at_once), 20]
    assert stops == [min(end, 20) - 1 for end in range(at_once, 20 + at_once, at_once)]  # each chunk was read once


def test_a_pause_before_the_first_chunk_lets_none_be_read(start: Start, bus: Bus, post: Post) -> None:
    """B02, within the step: the request came after its claim."""
    source = Numbers(5)

    def work() -> Any:
        touch(operation.path / "PAUSE")
        return count_up(source)

    operation = start(work)
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert source.read_from == []
    assert folds_of(operation) == [(None, {"sum": 0, "seen": []})]


@pytest.mark.usefixtures("looks_at_every_tap")
def test_a_stop_inside_a_folds_body_goes_back_to_the_last_whole_turn(start: Start, bus: Bus, post: Post) -> None:
    """B03: no row is counted twice, although the value had half of the chunk in it when it stopped."""
    stopped = []

    def work() -> dict[str, int]:
        value: dict[str, int]
        for value, numbers in tap.fold(Numbers(30, 10), {"sum": 0}):
            for number in numbers:
                value["sum"] += number
                if number in (4, 15, 29) and number not in stopped:
                    stopped.append(number)
                    touch(operation.path / "PAUSE")
                tap.check()
        return value

    operation = start(work)
    for last_turn, value in ((None, 0), (10, sum(range(10))), (20, sum(range(20)))):
        post.deliver_all()
        assert operation.state is State.PAUSED
        assert folds_of(operation) == [(last_turn, {"sum": value})]
        operation.resume()
    post.deliver_all()
    assert operation.result == {"sum": sum(range(30))}


@pytest.mark.usefixtures("looks_at_every_tap")
def test_two_folds_of_a_step_each_go_on_where_they_were(start: Start, bus: Bus, post: Post) -> None:
    asked = []

    def pause_once(number: int) -> None:
        if len(asked) < 2 and number == 5:
            asked.append(number)
            touch(operation.path / "PAUSE")

    first, second = Numbers(8, on_chunk=pause_once), Numbers(6, on_chunk=pause_once)
    operation = start(lambda: [count_up(first)["sum"], count_up(second)["sum"]])
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == [28, 15]
    assert first.read_from == [None, 6, 8]  # stopped behind 5; over, and not read again, when the second stopped
    assert second.read_from == [None, 6]


@pytest.mark.usefixtures("looks_at_every_tap")
def test_a_stop_before_a_fold_is_opened_again_does_not_lose_its_place(start: Start, bus: Bus, post: Post) -> None:
    """A step that reports progress, or stops in its first fold, keeps what its later folds have saved."""
    asked = []

    def pause_at(moment: str) -> None:
        if moment not in asked:
            asked.append(moment)
            touch(operation.path / "PAUSE")

    def work() -> int:
        if "within" in asked:
            pause_at("before")
        tap.progress(0, 10)
        return int(count_up(source)["sum"])

    source = Numbers(10, on_chunk=lambda number: number == 6 and pause_at("within"))
    operation = start(work)
    post.deliver_all()
    assert folds_of(operation)[0][0] == 7
    operation.resume()
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert folds_of(operation)[0][0] == 7
    operation.resume()
    post.deliver_all()
    assert operation.result == 45
    assert source.read_from == [None, 7]


def test_a_fold_inside_another_is_refused(start: Start, post: Post) -> None:
    """It would take the checkpoint of another chunk's fold for its own when it goes on."""

    def work() -> None:
        for _ in tap.fold(Numbers(2), {}):
            for _ in tap.fold(Numbers(2), {}):
                pass

    operation = start(work)
    post.deliver_all()
    with pytest.raises(OperationFailed, match="while another of its folds is not over"):
        operation.get()


def test_a_fold_that_was_broken_off_is_over(start: Start, post: Post) -> None:
    def work() -> list[int]:
        for value, numbers in tap.fold(Numbers(5), {"last": 0}):
            value["last"] = numbers[0]
            if numbers == [2]:
                break
        return [value["last"], count_up(Numbers(3))["sum"]]

    operation = start(work)
    post.deliver_all()
    assert operation.result == [2, 3]


# What can be saved


@pytest.mark.parametrize("initial", [0, "", None, (1, 2), 1.5, frozenset(), True])
def test_an_initial_value_that_cannot_be_changed_in_place_is_refused(initial: Any) -> None:
    """B33"""
    with pytest.raises(ResultUnstorable, match="must be a dict or a list") as caught:
        next(tap.fold(Numbers(1), initial))
    assert caught.value.hint == "for a count, fold into {'count': 0}"


class Rows(list[int]):
    pass


class Pair(NamedTuple):
    one: int
    two: int


UNFAITHFUL = [
    pytest.param({1: 0}, "the key 1 in value is int, not text", id="int key"),
    pytest.param({"a": {None: 0}}, "the key None in value['a'] is NoneType", id="None key"),
    pytest.param({"a": [0, (1, 2)]}, "value['a'][1] is tuple: (1, 2)", id="tuple"),
    pytest.param({"a": Pair(1, 2)}, "value['a'] is Pair", id="named tuple"),
    pytest.param([float("nan")], "value[0] is float: nan", id="NaN"),
    pytest.param([float("-inf")], "value[0] is float: -inf", id="infinity"),
    pytest.param([{"a": {1}}], "value[0]['a'] is set: {1}", id="set"),
    pytest.param({"a": b"x"}, "value['a'] is bytes: b'x'", id="bytes"),
    pytest.param(Counter(a=1), "value is Counter", id="Counter"),
    pytest.param({"a": [OrderedDict()]}, "value['a'][0] is OrderedDict", id="OrderedDict"),
    pytest.param({"a": Rows([1])}, "value['a'] is Rows: [1]", id="list of another class"),
]


@pytest.mark.parametrize(("value", "culprit"), UNFAITHFUL)
def test_an_initial_value_that_json_does_not_keep_is_refused_with_its_culprit(value: Any, culprit: str) -> None:
    """B33"""
    with pytest.raises(ResultUnstorable) as caught:
        next(tap.fold(Numbers(1), value))
    assert culprit in str(caught.value)
    assert "plain dicts with text keys" in (caught.value.hint or "")


@pytest.mark.parametrize(("value", "culprit"), UNFAITHFUL)
@pytest.mark.parametrize("at", [0, 1])
def test_a_value_that_json_does_not_keep_any_more_fails_the_step(
    start: Start, post: Post, value: Any, culprit: str, at: int
) -> None:
    """B33: at the first chunk, so that it is found in the first trial; and at the end at the latest."""
    turns = []

    def work() -> None:
        for whole, numbers in tap.fold(Numbers(2), {}):
            turns.append(numbers)
            if numbers == [at]:
                whole["new"] = value

    operation = start(work)
    post.deliver_all()
    assert operation.state is State.FAILED
    failure = operation.failure()
    assert failure is not None
    assert failure.type == "ResultUnstorable"
    assert (
        culprit.replace("in value", "in value['new']")
        .replace("value[", "value['new'][")
        .replace("value is", "value['new'] is")
        .replace("value['new']['new']", "value['new']")
        in failure.message
    )
    assert len(turns) == at + 1


def test_a_value_that_contains_itself_fails_the_step(start: Start, post: Post) -> None:
    def work() -> None:
        for whole, _ in tap.fold(Numbers(2), []):
            whole.append(whole)

    operation = start(work)
    post.deliver_all()
    assert operation.state is State.FAILED
    assert "cannot be saved" in (operation.failure() or pytest.fail("no error.json")).message


@pytest.mark.parametrize(
    ("cursor", "culprit"), [((1, 2), "cursor is tuple"), (b"x", "cursor is bytes"), ({1: 2}, "the key 1 in cursor")]
)
def test_a_cursor_that_is_not_json_is_refused_at_once(start: Start, post: Post, cursor: Any, culprit: str) -> None:
    """B33"""

    class Odd(Numbers):
        def read(self, _: Any) -> Iterator[tuple[list[int], Any, int]]:
            yield [1], cursor, 1
            yield [2], 2, 2

    turns = []
    operation = start(lambda: turns.extend(chunk for _, chunk in tap.fold(Odd(2), {})))
    post.deliver_all()
    assert operation.state is State.FAILED
    assert culprit in (operation.failure() or pytest.fail("no error.json")).message
    assert turns == [[1]]


# Failures


def test_progress_is_saved_when_a_chunk_raises_and_a_resumed_operation_goes_on_from_there(
    start: Start, bus: Bus, post: Post
) -> None:
    """B68, B30: the checkpoint holds whole turns before the chunk that raised, nothing of that one."""
    is_broken = True

    def work() -> dict[str, int]:
        value: dict[str, int]
        for value, (number,) in tap.fold(source, {"sum": 0}):
            value["sum"] += number
            if number == 700 and is_broken:
                raise RuntimeError("row 700 is bad")
        return value

    source = Numbers(1000)
    operation = start(work)
    post.deliver_all()
    assert operation.state is State.FAILED
    [(cursor, value)] = folds_of(operation)
    assert 0 < cursor <= 700
    assert value == {"sum": sum(range(cursor))}
    is_broken = False
    answer: Answer = operation.resume()
    assert answer.changed
    post.deliver_all()
    assert operation.result == {"sum": sum(range(1000))}
    assert source.read_from == [None, cursor]
    assert operation.epoch() == 2
    assert "row 700 is bad" in (operation.path / "attic" / "epoch-1" / "error.json").read_text()


def test_a_step_that_raises_behind_its_fold_does_not_fold_again(start: Start, post: Post) -> None:
    """B68"""
    is_broken = True

    def work() -> int:
        value = count_up(source)
        if is_broken:
            raise RuntimeError("the mail server is away")
        return int(value["sum"])

    source = Numbers(50)
    operation = start(work)
    post.deliver_all()
    is_broken = False
    operation.resume()
    post.deliver_all()
    assert operation.result == sum(range(50))
    assert source.read_from == [None, 50]


def test_a_spoilt_checkpoint_fails_the_step_and_says_what_to_do(start: Start, post: Post) -> None:
    """B34"""
    operation = start(lambda: count_up(Numbers(2)))
    path = operation.path / "steps" / "0001-work.checkpoint.json"
    path.write_text('{"folds": [')
    post.deliver_all()
    assert operation.state is State.FAILED
    assert str(path) in (operation.failure() or pytest.fail("no error.json")).message
    assert path.read_text() == '{"folds": ['
    path.rename(operation.path / "moved-away")
    operation.resume()
    post.deliver_all()
    assert operation.result["sum"] == 1


def test_a_checkpoint_whose_folds_are_none_is_refused(start: Start, post: Post) -> None:
    operation = start(lambda: count_up(Numbers(2)))
    (operation.path / "steps" / "0001-work.checkpoint.json").write_text('{"folds": [{"cursor": 1}], "epoch": 1}')
    post.deliver_all()
    assert "field 'folds' holds no fold" in (operation.failure() or pytest.fail("no error.json")).message


# A stop and the task's own code


@pytest.mark.usefixtures("looks_at_every_tap")
def test_except_exception_in_a_task_does_not_swallow_a_pause_and_its_finally_runs(start: Start, post: Post) -> None:
    cleaned, caught = [], []

    def rows() -> Iterator[int]:
        try:
            for _, (number,) in tap.fold(Numbers(5), {}):
                yield number
        finally:
            cleaned.append("generator")

    def work() -> str:
        try:
            for number in rows():
                if number == 2 and not cleaned:
                    touch(operation.path / "PAUSE")
                try:
                    tap.progress(number)
                except Exception as error:
                    caught.append(error)
        except Exception as error:
            caught.append(error)
        finally:
            cleaned.append("task")
        return "done"

    operation = start(work)
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert caught == []
    assert sorted(cleaned) == ["generator", "task"]
    operation.resume()
    post.deliver_all()
    assert operation.result == "done"


@pytest.mark.usefixtures("looks_at_every_tap")
def test_a_cancel_stops_at_the_next_tap(start: Start, post: Post) -> None:
    """B39"""
    source = Numbers(9, on_chunk=lambda number: number == 3 and touch(operation.path / "CANCEL", "enough"))
    operation = start(lambda: count_up(source))
    post.deliver_all()
    assert operation.state is State.CANCELLED
    assert folds_of(operation)[0][0] == 4
    assert [(line["from"], line["to"], line["reason"]) for line in journal_of(operation) if line["event"] == "state"][
        1:
    ] == [("running", "cancelling", "enough"), ("cancelling", "cancelled", "enough")]


@pytest.mark.usefixtures("looks_at_every_tap")
def test_a_step_that_was_given_to_another_stops_and_leaves_no_trace(start: Start, post: Post) -> None:
    """B65: its claim is gone, so neither its checkpoint nor its result counts."""

    def lose(number: int) -> None:
        if number == 3:
            (operation.path / "claims" / "0001").unlink()

    operation = start(lambda: count_up(Numbers(9, on_chunk=lose)))
    post.deliver_next()
    assert checkpoint_of(operation) is None
    assert not (operation.path / "steps" / "0001-work.json").exists()
    assert [line["reason"] for line in journal_of(operation) if line["event"] == "dropped"] == [
        "the step was given to another while this worker had it"
    ]


# When it looks and when it writes


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments at which a step looked at the files."""
    moments: list[float] = []
    real = place.in_force

    def counted(*arguments: Any) -> Any:
        moments.append(place.time.monotonic())
        return real(*arguments)

    monkeypatch.setattr(place, "in_force", counted)
    return moments


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(place, "time", clock)
    monkeypatch.setattr(fold_module, "time", clock)
    return clock


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Checkpoint]:
    """The checkpoints that were written."""
    found: list[Checkpoint] = []
    real = place.write_checkpoint

    def counted(operation: Any, held: Any, checkpoint: Checkpoint) -> bool:
        found.append(checkpoint)
        return real(operation, held, checkpoint)

    monkeypatch.setattr(place, "write_checkpoint", counted)
    return found


def test_the_files_are_looked_at_every_fifty_milliseconds_however_often_a_task_taps(
    start: Start, post: Post, looks: list[float], clock: Clock
) -> None:
    """B04"""

    def work() -> None:
        for _ in range(1000):
            tap.check()
        for _ in range(10_000):
            clock.now += 0.001
            tap.check()

    start(work)
    post.deliver_all()
    assert looks[0] == 1000.0
    gaps = [later - earlier for earlier, later in pairwise(looks)]
    assert min(gaps) >= 0.05 - 1e-9
    assert max(gaps) <= 0.051 + 1e-9


def test_a_fold_looks_at_the_files_every_fifty_milliseconds_too(
    start: Start, post: Post, looks: list[float], clock: Clock
) -> None:
    """B04"""

    def tick(_: int) -> None:
        clock.now += 0.001

    start(lambda: count_up(Numbers(2000, on_chunk=tick))["sum"])
    post.deliver_all()
    assert 38 <= len(looks) <= 41


def test_a_checkpoint_is_written_about_once_a_second_not_per_chunk(
    start: Start, post: Post, written: list[Checkpoint], clock: Clock
) -> None:
    """B87: ten seconds of chunks of 10 ms each."""

    def tick(_: int) -> None:
        clock.now += 0.01

    operation = start(lambda: len(count_up(Numbers(1000, on_chunk=tick))["seen"]))
    post.deliver_all()
    assert operation.result == 1000
    assert 8 <= len(written) <= 10
    dones = [checkpoint.done or 0 for checkpoint in written]
    assert dones == sorted(set(dones))
    assert written[0].total == 1000
    assert written[0].unit == "numbers"
    assert [round(checkpoint.running_s) for checkpoint in written] == list(range(1, len(written) + 1))


def test_nothing_is_written_when_nothing_happened(
    start: Start, post: Post, written: list[Checkpoint], clock: Clock
) -> None:
    """B87: taps with no progress, and the same progress again, write nothing."""

    def work() -> None:
        for _ in range(100):
            clock.now += 0.1
            tap.check()
        tap.progress(1, 2, unit="rows")
        for _ in range(100):
            clock.now += 0.1
            tap.check()

    operation = start(work)
    post.deliver_all()
    assert [(one.done, one.total, one.unit) for one in written] == [(1, 2, "rows")]
    assert checkpoint_of(operation) is None  # taken away by the commit


@pytest.mark.usefixtures("looks_at_every_tap")
def test_the_last_progress_is_always_written_at_a_stop(start: Start, post: Post, written: list[Checkpoint]) -> None:
    """B87, B32: well within the first second."""

    def work() -> None:
        for done in range(5):
            tap.progress(done, 5, unit="mails", note=f"mail {done}")
        touch(operation.path / "PAUSE")
        tap.progress(5, 5, unit="mails", note="mail 5")

    operation = start(work)
    post.deliver_all()
    assert [(one.done, one.note) for one in written] == [(5, "mail 5")]
    found = checkpoint_of(operation)
    assert found is not None
    assert (found.done, found.total, found.unit, found.note) == (5, 5, "mails", "mail 5")


def test_the_running_time_of_a_step_adds_up_over_its_pauses(start: Start, post: Post, clock: Clock) -> None:
    """B89: the time between two runs does not count."""
    stops = iter([2, 5, None])

    def work() -> int:
        stop = next(stops)
        for value, (number,) in tap.fold(Numbers(8), {"sum": 0}):
            clock.now += 10.0
            value["sum"] += number
            if number == stop:
                touch(operation.path / "PAUSE")
        return int(value["sum"])

    operation = start(work)
    for running_s, done in ((30.0, 3), (60.0, 6)):
        post.deliver_all()
        found = checkpoint_of(operation)
        assert found is not None
        assert (found.running_s, found.done, found.total) == (running_s, done, 8)
        clock.now += 3600.0
        operation.resume()
    post.deliver_all()
    assert operation.result == 28


def test_a_large_value_is_saved_less_often(
    start: Start, post: Post, written: list[Checkpoint], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that takes a second is taken every twenty or so: what it costs is bounded to a share of the time."""
    taken = []

    class Slow:
        def loads(self, text: str) -> Any:
            taken.append(clock.now)
            clock.now += 1.0
            return json.loads(text)

        dumps = staticmethod(json.dumps)

    monkeypatch.setattr(fold_module, "json", Slow())

    def tick(_: int) -> None:
        clock.now += 0.1

    start(lambda: count_up(Numbers(1000, on_chunk=tick))["sum"])
    post.deliver_all()
    assert len(taken) <= 8
    assert clock.now - 1000.0 <= 108


def test_an_operation_that_cannot_be_reconciled_at_a_tap_does_not_fail_its_step(
    start: Start, post: Post, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> None:
        raise TapfsError("somebody holds the lock")

    monkeypatch.setattr(place, "reconcile", refuse)

    def tick(_: int) -> None:
        clock.now += 0.1

    operation = start(lambda: count_up(Numbers(30, on_chunk=tick))["sum"])
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert "cannot reconcile operation" in caplog.text


def test_a_checkpoint_that_cannot_be_written_does_not_hide_a_steps_own_error(
    start: Start, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, "write_checkpoint", refuse)

    def work() -> None:
        count_up(Numbers(3))
        raise RuntimeError("its own error")

    operation = start(work)
    post.deliver_all()
    assert (operation.failure() or pytest.fail("no error.json")).message == "its own error"


@pytest.mark.usefixtures("looks_at_every_tap")
def test_a_step_goes_on_at_a_tap_where_its_checkpoint_cannot_be_written(
    start: Start, post: Post, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full for a while: what is not saved may have to be done again, and nothing else."""

    def refuse(*_: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, "write_checkpoint", refuse)

    def pass_time(_: object) -> None:
        clock.now += 2

    operation = start(lambda: count_up(Numbers(30, on_chunk=pass_time))["sum"])
    post.deliver_all()
    assert operation.result == sum(range(30))
    assert "cannot be written" in caplog.text


# The source changes


def write_rows(path: Path, rows: list[int]) -> None:
    path.write_text("number\n" + "".join(f"{row}\n" for row in rows))


@pytest.mark.usefixtures("looks_at_every_tap")
def test_a_source_that_changed_while_paused_fails_clearly_keeps_the_checkpoint_and_goes_on_once_it_is_put_back(
    start: Start, post: Post, tmp_path: Path
) -> None:
    path = tmp_path / "numbers.csv"
    write_rows(path, list(range(1000)))
    kept = tmp_path / "kept.csv"

    def work() -> int:
        for value, rows in tap.fold(CsvFile(path, chunk_bytes=200), {"sum": 0}):
            value["sum"] += sum(int(row) for (row,) in rows)
            if rows[-1:] > [["500"]] and not kept.exists():
                touch(operation.path / "PAUSE")
        return int(value["sum"])

    operation = start(work)
    post.deliver_all()
    assert operation.state is State.PAUSED
    before = folds_of(operation)
    path.rename(kept)
    write_rows(path, list(range(1, 1001)))
    operation.resume()
    post.deliver_all()
    assert operation.state is State.FAILED
    failure = operation.failure()
    assert failure is not None
    assert failure.type == SourceChanged.__name__
    assert str(path) in failure.message
    assert "it changed since row" in failure.message
    assert folds_of(operation) == before
    kept.rename(path)
    kept.touch()
    operation.resume()
    post.deliver_all()
    assert operation.result == sum(range(1000))


def test_a_source_that_changed_keeps_the_checkpoint_also_of_a_step_that_reports_progress(
    start: Start, post: Post
) -> None:
    counts = iter([10, 11, 10])

    def work() -> int:
        tap.progress(0)
        source = Numbers(next(counts))
        for value, (number,) in tap.fold(source, {"sum": 0}):
            value["sum"] += number
            if number == 5 and not resumed:
                raise RuntimeError("once")
        return int(value["sum"])

    resumed: list[str] = []
    operation = start(work)
    post.deliver_all()
    before = folds_of(operation)
    assert before[0][0]
    for outcome in ("changed", "put back"):
        resumed.append(outcome)
        operation.resume()
        post.deliver_all()
        if outcome == "changed":
            assert "count is 11, it was 10" in (operation.failure() or pytest.fail("no error.json")).message
            assert folds_of(operation) == before
    assert operation.result == 45


def test_errors_of_a_fold_are_tapfs_errors() -> None:
    assert issubclass(ResultUnstorable, TapfsError)
    assert issubclass(SourceChanged, TapfsError)
    assert not issubclass(tap.Stop, Exception)


# Side effects


def test_outside_an_operation_every_side_effect_may_be_done_and_a_key_is_its_name() -> None:
    assert [tap.once("mail-1"), tap.once("mail-1")] == [True, True]
    assert tap.idempotency_key("mail-1") == "mail-1"


def test_a_side_effect_is_begun_once_in_all_runs_of_a_step(start: Start, bus: Bus, post: Post) -> None:
    """B74: also in the run after a crash, a pause, a failure."""
    mails: list[str] = []
    runs: list[int] = []

    def work() -> list[str]:
        runs.append(len(runs))
        for name in ("ada", "bob", "cy"):
            if tap.once(f"mail-{name}"):
                mails.append(name)
            if len(runs) == 1 and name == "bob":
                raise SystemExit  # as an end of the process: nothing is written
            if len(runs) == 2 and name == "bob":
                raise ValueError("no more paper")
            if len(runs) == 3 and name == "bob":
                operation.pause()
                tap.check()
        return mails

    operation = start(work)
    with pytest.raises(SystemExit):
        post.deliver_next()
    assert finish_after_failures(bus, post, operation) is State.SUCCEEDED
    assert mails == ["ada", "bob", "cy"]
    assert len(runs) == 4
    assert not list((operation.path / "steps").glob("*.once.jsonl")), "a committed step is not run again"


def finish_after_failures(bus: Bus, post: Post, operation: Operation) -> State:
    for _ in range(5):
        if finish(bus, post, operation) is State.SUCCEEDED:
            break
        operation.resume()
    return operation.state


def test_the_answer_is_on_disk_before_it_is_given(start: Start, post: Post) -> None:
    seen: list[list[str]] = []

    def work() -> None:
        for key in ("one", "two", "one"):
            assert tap.once(key) == (key not in seen[-1] if seen else True)
            lines = (operation.path / "steps" / "0001-work.once.jsonl").read_text().splitlines()
            seen.append([json.loads(line)["key"] for line in lines])

    operation = start(work)
    post.deliver_all()
    assert operation.state is State.SUCCEEDED, operation.failure()
    assert seen == [["one"], ["one", "two"], ["one", "two"]]


def test_two_steps_of_one_task_each_begin_their_own_side_effects(app: Celery, bus: Bus, post: Post) -> None:
    @app.task(name="send")
    def send(*_: Any) -> Any:
        return [tap.once("mail"), tap.once("mail"), tap.idempotency_key("mail")]

    operation = tappable(send.s() | send.s(), bus=bus).delay()
    post.deliver_all()
    assert operation.result_of(operation.plan().steps[0]) == [True, False, f"{operation.id}/0001/mail"]
    assert operation.result == [True, False, f"{operation.id}/0002/mail"]


def test_an_idempotency_key_is_the_same_in_every_run_of_a_step(app: Celery, start: Start, bus: Bus, post: Post) -> None:
    keys: list[str] = []

    def work() -> None:
        keys.append(tap.idempotency_key("order 7"))
        if len(keys) == 1:
            operation.pause()
            tap.check()
        if len(keys) == 2:
            raise ValueError("no more paper")

    operation = start(work)
    assert finish_after_failures(bus, post, operation) is State.SUCCEEDED
    assert keys == [f"{operation.id}/0001/order 7"] * 3
    other = tappable(app.tasks["work"].s(), bus=bus).delay()
    post.deliver_all()
    assert keys[-1] == f"{other.id}/0001/order 7"


def test_a_step_that_was_given_to_another_begins_no_side_effect(start: Start, bus: Bus, post: Post) -> None:
    """B65: it was frozen, and wakes in front of its mail."""
    mails: list[str] = []

    def work() -> None:
        if not mails and not is_lost:
            is_lost.append(True)
            give_away(operation, "0001", 1, 1, "no sign of life for 60 s")
        if tap.once("mail"):
            mails.append("mail")

    is_lost: list[bool] = []
    operation = start(work)
    post.deliver_next()
    assert mails == []
    assert "the step was given to another" in str([line.get("reason") for line in journal_of(operation)])
    post.deliver_all()
    assert (operation.state, mails) == (State.SUCCEEDED, ["mail"])


def test_a_side_effect_that_cannot_be_noted_for_want_of_room_waits_and_is_done_once(
    start: Start, bus: Bus, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is no fault of the step's."""
    mails: list[str] = []
    real = place.note_begun
    is_full = [True]

    def note_begun(*given: Any) -> bool:
        if is_full[0]:
            raise OSError(28, "No space left on device", "0001-work.once.jsonl")
        return real(*given)

    monkeypatch.setattr(place, "note_begun", note_begun)

    def work() -> None:
        if tap.once("mail"):
            mails.append("mail")

    operation = start(work)
    post.deliver_next()
    assert (operation.state, mails, post.waiting) == (State.INTERRUPTED, [], [])
    assert "no space left" in (operation.view().message or "")
    is_full[0] = False
    monkeypatch.setattr(operation, "now", lambda: time.time() + 60)
    bus.reconcile(operation)
    post.deliver_all()
    assert (operation.state, mails) == (State.SUCCEEDED, ["mail"])


# Files that cannot be read back


def test_a_spoilt_checkpoint_fails_the_step_tells_celerys_hook_and_the_next_message_is_served(
    app: Celery, bus: Bus, post: Post
) -> None:
    """B34."""
    told: list[tuple[str, str]] = []

    class Hooked(app.Task):  # type: ignore[name-defined,misc]
        def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            told.append((type(exc).__name__, task_id))

    @app.task(name="fold", base=Hooked)
    def fold() -> int:
        for value, numbers in tap.fold(Numbers(5), {"sum": 0}):
            value["sum"] += sum(numbers)
        return int(value["sum"])

    spoilt, sound = (tappable(fold.s(), bus=bus).delay() for _ in range(2))
    path = spoilt.path / "steps" / "0001-fold.checkpoint.json"
    path.write_bytes(b'{"folds": [')
    post.deliver_all()
    assert (spoilt.state, sound.state) == (State.FAILED, State.SUCCEEDED)
    failure = spoilt.failure()
    assert failure is not None
    assert failure.type == "RecordInvalid"
    assert str(path) in failure.message
    assert [name for name, _ in told] == ["RecordInvalid"]
    assert path.read_bytes() == b'{"folds": [', "it is left for a person to look at"
    assert sound.result == 10
    path.unlink()
    spoilt.resume()
    post.deliver_all()
    assert spoilt.result == 10
