"""Doing again what failed: of an operation, of a group, of one member; and going on after a failure or a cancel."""

import json
import random

import pytest

from support.bench import Bench, events, history, snapshot
from support.forest import Worker, chain, group, random_part, start, task, without
from support.mortal import deaths
from tapfs.bus import claims
from tapfs.bus.control import NewOperation
from tapfs.bus.fit import misfits
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, FAIL, Plan, Sequence, Step
from tapfs.bus.rewind import given_up_in
from tapfs.bus.states import FINAL, State
from tapfs.errors import Refused


def collected(bench: Bench, *failing: str) -> tuple[Operation, Worker]:
    """One that succeeded though some members of its group were given up; one member holds a group of its own."""
    inner = Sequence((task("p"), group(task("q"), task("r"), on_error=CONTINUE), task("s")))
    members = (task("a"), chain("b", "c"), inner)
    operation = start(bench, task("read"), group(*members, on_error=CONTINUE), task("join"), task("send"))
    worker = Worker(bench, operation)
    worker.failing = set(failing)
    worker.run()
    assert operation.state is State.SUCCEEDED
    worker.failing = set()
    worker.ran = []
    return operation, worker


@pytest.mark.parametrize(
    ("failed", "step", "done_again"),
    [
        ("0002/0001", "0002/0001", ["0002/0001", "0003", "0004"]),
        ("0002/0001", "0002", ["0002/0001", "0003", "0004"]),
        ("0002/0002/0002", "0002/0002", ["0002/0002/0002", "0003", "0004"]),
        ("0002/0002/0001", "0002/0002", ["0002/0002/0001", "0002/0002/0002", "0003", "0004"]),
        ("0002/0002/0002", "0002/0002/0002-c", ["0002/0002/0002", "0003", "0004"]),
        ("0002/0003/0002/0002", "0002/0003/0002/0002", ["0002/0003/0002/0002", "0002/0003/0003", "0003", "0004"]),
        ("0002/0003/0002/0002", "0002", ["0002/0003/0002/0002", "0002/0003/0003", "0003", "0004"]),
        ("0002/0003/0003", "0002/0003", ["0002/0003/0003", "0003", "0004"]),
    ],
)
def test_retry_of_what_was_given_up_runs_only_that_and_what_waits_for_it(
    bench: Bench, failed: str, step: str, done_again: list[str]
) -> None:
    """B79."""
    operation, worker = collected(bench, failed)
    assert "no paper" in operation.result
    answer = operation.retry(step, "paper is in")
    assert (answer.changed, answer.state) == (True, "running")
    assert worker.run() == done_again
    assert operation.state is State.SUCCEEDED
    assert "no paper" not in operation.result
    aside = [path.name for path in (operation.layout.attic / "epoch-1" / "steps").rglob("*.error.json")]
    assert len(aside) == 1, "the error stays in the history (B30)"


def test_what_one_retries_leaves_the_other_members_given_up(bench: Bench) -> None:
    operation, worker = collected(bench, "0002/0001", "0002/0002/0001")
    operation.retry("0002/0001")
    assert worker.run() == ["0002/0001", "0003", "0004"]
    assert operation.result.count("no paper") == 1
    operation.retry("0002")
    assert worker.run() == ["0002/0002/0001", "0002/0002/0002", "0003", "0004"]
    assert "no paper" not in operation.result


def test_a_paused_operation_can_have_a_member_retried(bench: Bench) -> None:
    """B81: it runs then."""
    operation = start(bench, group(task("a"), task("b"), task("c"), on_error=CONTINUE), task("join"))
    worker = Worker(bench, operation)
    worker.failing = {"0001/0001"}
    worker.run(until={"0001/0003"})
    operation.pause()
    worker.failing = set()
    assert operation.retry("0001/0001").state == "running"
    worker.finish()
    assert sorted(worker.ran) == ["0001/0001", "0001/0001", "0001/0002", "0001/0003", "0002"]
    assert operation.state is State.SUCCEEDED


def test_a_member_that_is_cancelled_and_retried_in_turn_while_it_is_held_loses_no_record(bench: Bench) -> None:
    """All in one epoch: nothing in the attic is overwritten."""
    operation = start(bench, group(task("a"), task("b"), on_error=CONTINUE), task("join"))
    (bench.path / "PAUSE").touch()
    operation.reconcile()
    for number in (1, 2, 3):
        operation.cancel_member("0001/0001", f"reason {number}")
        assert operation.retry("0001/0001").state == "paused"
    aside = (operation.layout.attic / "epoch-1" / "steps" / "0001").iterdir()
    assert sorted(json.loads(path.read_text())["message"] for path in aside) == ["reason 1", "reason 2", "reason 3"]
    (bench.path / "PAUSE").unlink()
    operation.reconcile()
    worker = Worker(bench, operation)
    worker.finish()
    assert sorted(worker.ran) == ["0001/0001", "0001/0002", "0002"]


def test_what_was_not_given_up_and_not_done_is_not_retried(bench: Bench) -> None:
    """B79."""
    operation = start(bench, group(task("a"), task("b"), on_error=CONTINUE), task("join"))
    worker = Worker(bench, operation)
    worker.run(until={"0001/0001"})
    operation.pause()
    before = without(snapshot(operation.path), "lock")
    with pytest.raises(Refused, match=r"cannot retry step 0002 .* it has not been done yet"):
        operation.retry("0002")
    assert without(snapshot(operation.path), "lock") == before


@pytest.mark.parametrize("state", ["queued", "running", "pausing", "interrupted", "cancelling"])
def test_what_is_not_at_rest_refuses_a_retry_of_a_step(bench: Bench, state: str) -> None:
    """B82."""
    operation, held = bench.in_state(state)
    operation.reconcile()
    before = without(snapshot(operation.path), "lock", ".state.json")
    with pytest.raises(Refused, match=f"it is {state}"):
        operation.retry("0001")
    assert without(snapshot(operation.path), "lock", ".state.json") == before
    del held


def test_who_asked_for_a_retry_is_in_the_journal(bench: Bench) -> None:
    operation, _ = collected(bench, "0002/0001")
    operation.retry("0002/0001", "paper is in")
    (line,) = events(operation, "retried")
    assert (line["by"], line["step"], line["reason"]) == ("test", "0002/0001", "paper is in")


def test_a_death_at_any_write_of_a_retry_leaves_it_asked_and_completed_or_not_asked(bench: Bench) -> None:
    """Who finds only a part of the given-up members left must still put aside all that waits for any of them."""

    def scene() -> Operation:
        return collected(bench, "0002/0001", "0002/0003/0002/0002")[0]

    for operation in deaths(scene, lambda operation: bench.other(operation).retry("0002")):
        other = bench.other(operation)
        state = other.reconcile().state
        assert '"rewind_to": null' in other.layout.run.read_text()
        assert misfits(other.layout, other.plan()) == []
        if state is State.SUCCEEDED:
            assert other.result.count("no paper") == 2, "it was not asked yet"
            continue
        other.resume()
        worker = Worker(bench, other)
        worker.finish()
        wanted = ["0002/0001", "0002/0003/0002/0002", "0002/0003/0003", "0003", "0004"]
        assert sorted(worker.ran) == wanted
        assert other.state is State.SUCCEEDED
        assert "no paper" not in other.result


@pytest.mark.parametrize("seed", range(30))
def test_a_random_tree_whose_failures_are_retried_comes_to_what_it_would_have_come_to_without_them(
    bench: Bench, seed: int
) -> None:
    """B79."""
    dice = random.Random(seed)
    parts = [random_part(dice, 3) for _ in range(dice.randint(1, 3))]
    whole = start(bench, *parts)
    Worker(bench, whole).run()
    operation = start(bench, *parts)
    worker = Worker(bench, operation)
    steps = [step.path for step in operation.plan().steps]
    worker.failing = set(dice.sample(steps, (len(steps) + 1) // 2))
    worker.run()
    for _ in range(200):
        given_up = given_up_in(operation.layout, operation.plan().root)
        if operation.state is State.SUCCEEDED and not given_up:
            break
        worker.failing = set(dice.sample(sorted(worker.failing), len(worker.failing) * 2 // 3))
        place = dice.choice(given_up).path if given_up and dice.random() < 0.8 else None
        print("retry", place, operation.state, [one.path for one in given_up])
        if place is not None or operation.state is State.FAILED:
            assert operation.retry(place).changed
        worker.run()
        assert misfits(operation.layout, operation.plan()) == []
    assert operation.result == whole.result


# ---- operations that failed or were cancelled


def test_a_failed_operation_goes_on_from_what_failed_and_its_error_stays_in_the_history(bench: Bench) -> None:
    """B30."""
    operation = start(bench, task("read"), group(task("a"), task("b"), task("c")), task("join"))
    worker = Worker(bench, operation)
    worker.failing = {"0002/0002"}
    worker.run()
    assert operation.state is State.FAILED
    failure = operation.failure()
    done = list(worker.ran)
    worker.failing = set()
    assert operation.retry().state == "running"
    worker.finish()
    assert sorted(worker.ran[len(done) :] + done) == [
        "0001",
        "0002/0001",
        "0002/0002",
        "0002/0002",
        "0002/0003",
        "0003",
    ]
    assert operation.state is State.SUCCEEDED
    assert failure is not None
    assert json.loads((operation.layout.attic / "epoch-1" / "error.json").read_text())["step"] == failure.step
    assert "failed" in history(operation)


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_an_operation_whose_member_failed_while_another_ran_goes_on_when_it_is_asked_to(
    bench: Bench, verb: str
) -> None:
    """B30, laws 7 and 10."""
    operation = start(bench, group(task("a"), task("b")), task("join"))
    one, other = (bench.claim_at(operation, f"0001/000{number}") for number in (1, 2))
    worker = Worker(bench, operation)
    worker.failing = {"0001/0001"}
    worker.end(one)
    assert operation.reconcile().state is State.RUNNING
    worker.end(other)
    assert operation.reconcile().state is State.FAILED
    worker.failing = set()
    assert getattr(operation, verb)().state == "running"
    worker.finish()
    assert worker.ran == ["0001/0001", "0002"]


def test_a_cancelled_operation_is_resumed_and_repeats_nothing(bench: Bench) -> None:
    """B29."""
    operation = start(bench, task("read"), group(*[task("a") for _ in range(6)], concurrency=2), task("join"))
    worker = Worker(bench, operation)
    worker.run(until={"0002/0004"})
    operation.cancel("lunch")
    assert operation.state is State.CANCELLED
    assert worker.run() == []
    assert operation.resume().state == "running"
    worker.finish()
    assert sorted(worker.ran) == ["0001", *(f"0002/000{number}" for number in range(1, 7)), "0003"]
    assert operation.state is State.SUCCEEDED


def test_a_fan_out_that_a_step_has_decided_is_resumed_as_it_was_decided(bench: Bench) -> None:
    """B31: the split is in workflow.json; what it was made from may have changed since."""
    operation = start(bench, task("split"), task("join"))
    worker = Worker(bench, operation)
    worker.puts_in = {"0001": (group(task("a"), task("b"), task("c")),)}
    worker.run(until={"0001.0001/0002"})
    operation.pause()
    worker.puts_in = {"0001": (group(task("a"), task("b")),)}
    operation.resume()
    worker.finish()
    assert sorted(worker.ran) == ["0001", "0001.0001/0001", "0001.0001/0002", "0001.0001/0003", "0002"]
    assert json.loads(operation.result[5:-1]) == ['a("split()")', 'b("split()")', 'c("split()")']


@pytest.mark.parametrize("on_error", [FAIL, CONTINUE])
def test_what_waits_for_a_step_that_failed_is_not_left_waiting(bench: Bench, on_error: str) -> None:
    """B101: the operation has failed, nothing is out; or what waits gets the error in the member's place."""
    operation = start(bench, group(task("a"), chain("b", "c"), on_error=on_error), task("join"))
    worker = Worker(bench, operation)
    worker.failing = {"0001/0002/0001"}
    worker.run()
    assert claims.all_out(operation.layout) == []
    assert "0001/0002/0002" not in worker.ran
    if on_error == FAIL:
        assert operation.state is State.FAILED
        assert worker.run() == []
        return
    assert operation.state is State.SUCCEEDED
    error = json.loads(operation.result[5:-1])[1]["error"]
    assert error == {"type": "ValueError", "message": "no paper", "step": "0001/0002/0001-b"}


def test_a_delayed_start_is_not_before_its_time_and_can_be_taken_back(bench: Bench) -> None:
    """B100."""
    late = Plan(Sequence((Step("0001", "one", "test.one", options={"countdown": 3600}),)))
    kept, taken_back = (bench.control.start(NewOperation("late", late, {})) for _ in range(2))
    assert [one.not_before for one in bench.published] == ["2027-01-15T09:00:00.000Z"] * 2
    assert taken_back.cancel().state == "cancelled"
    bench.now += 3600
    taken_back.reconcile()
    kept.reconcile()
    assert bench.drop(taken_back)
    assert bench.step(kept).state is State.SUCCEEDED
    assert taken_back.state in FINAL
