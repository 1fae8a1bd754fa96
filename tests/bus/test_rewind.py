"""Going back to a step: what is put aside, what is done again, and death in between."""

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from support.bench import Bench, events, history, snapshot
from support.forest import Worker, chain, group, random_part, start, task, without
from support.mortal import deaths
from tapfs.bus import files
from tapfs.bus.claims import HeldClaim
from tapfs.bus.fit import misfits
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Part, Plan, Step, leaves, parts_of
from tapfs.bus.planfile import encode_plan
from tapfs.bus.records import Checkpoint, Commit
from tapfs.bus.saved import write_checkpoint
from tapfs.bus.states import State
from tapfs.bus.steps import retry_step
from tapfs.errors import Refused

#: read, a group of a step, a chain and a group, join, send.
TREE: tuple[Part, ...] = (
    task("read"),
    group(task("a"), chain("b", "c"), group(task("d"), task("e"))),
    task("join"),
    task("send"),
)
ALL = ["0001", "0002/0001", "0002/0002/0001", "0002/0002/0002", "0002/0003/0001", "0002/0003/0002", "0003", "0004"]
#: For each place to rewind to, what is done again.
AGAIN = {
    "0001": ALL,
    "0002": ALL[1:],
    "0002/0001": ["0002/0001", "0003", "0004"],
    "0002/0002": ["0002/0002/0001", "0002/0002/0002", "0003", "0004"],
    "0002/0002/0002": ["0002/0002/0002", "0003", "0004"],
    "0002/0003": ["0002/0003/0001", "0002/0003/0002", "0003", "0004"],
    "0002/0003/0002": ["0002/0003/0002", "0003", "0004"],
    "0003": ["0003", "0004"],
    "0004": ["0004"],
}


def succeeded(bench: Bench, *parts: Part, **options: Any) -> tuple[Operation, Worker]:
    operation = start(bench, *(parts or TREE), **options)
    worker = Worker(bench, operation)
    worker.run()
    assert operation.state is State.SUCCEEDED
    return operation, worker


def commits_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.json")}


@pytest.mark.parametrize("place", AGAIN)
def test_what_is_done_from_there_on_is_done_again_and_nothing_else(bench: Bench, place: str) -> None:
    """B79: a rewind resets just the right steps."""
    operation, worker = succeeded(bench)
    result, before = operation.result, commits_below(operation.layout.steps)
    answer = operation.rewind(place)
    assert (answer.changed, answer.state, answer.message) == (
        True,
        "running",
        f"rewound to {place}; it goes on from there",
    )
    assert sorted(worker.run()) == AGAIN[place]
    assert (operation.state, operation.result, operation.epoch()) == (State.SUCCEEDED, result, 2)
    kept = {name: content for name, content in before.items() if name.rpartition("-")[0] not in AGAIN[place]}
    assert kept.items() <= commits_below(operation.layout.steps).items()


@pytest.mark.parametrize("place", AGAIN)
def test_what_is_put_aside_is_in_the_attic_byte_for_byte_under_the_names_it_had(bench: Bench, place: str) -> None:
    operation, _ = succeeded(bench)
    before = commits_below(operation.layout.steps)
    result = operation.layout.result.read_bytes()
    operation.rewind(place)
    attic = operation.layout.attic / "epoch-1"
    aside, left = commits_below(attic / "steps"), commits_below(operation.layout.steps)
    assert {**aside, **left} == before
    assert not aside.keys() & left.keys()
    assert sorted(name.rpartition("-")[0] for name in aside) == AGAIN[place]
    assert (attic / "result.json").read_bytes() == result
    assert not operation.layout.result.exists()


@pytest.mark.parametrize("name", ["0003", "0003-join", "join"])
def test_a_step_is_named_by_its_path_its_label_or_its_name(bench: Bench, name: str) -> None:
    operation, worker = succeeded(bench)
    operation.rewind(name)
    assert worker.run() == ["0003", "0004"]


def test_a_name_that_several_steps_have_is_refused_and_they_are_named(bench: Bench) -> None:
    operation, _ = succeeded(bench, task("a"), task("b"), task("a"))
    before = snapshot(operation.path)
    with pytest.raises(Refused, match="at 'a': 2 steps are called so") as caught:
        operation.rewind("a")
    assert (caught.value.hint or "").startswith("name one: 0001-a, 0003-a")
    with pytest.raises(Refused, match="at '0009': its plan has no such step") as caught:
        operation.rewind("0009")
    assert (caught.value.hint or "").startswith("there are: 0001-a, 0002-b, 0003-a")
    assert snapshot(operation.path) == before


def test_a_place_that_it_has_not_come_to_is_refused(bench: Bench) -> None:
    operation = start(bench, *TREE)
    Worker(bench, operation).run(until={"0003"})
    operation.pause()
    before = without(snapshot(operation.path), "lock")
    with pytest.raises(Refused, match="to 0004: it has not come that far"):
        operation.rewind("0004")
    assert without(snapshot(operation.path), "lock") == before


@pytest.mark.parametrize("state", ["queued", "running", "pausing", "interrupted", "cancelling"])
def test_what_is_not_at_rest_refuses_to_be_rewound_and_stays_as_it_is(bench: Bench, state: str) -> None:
    """B82."""
    operation, held = bench.in_state(state)
    operation.reconcile()
    before = without(snapshot(operation.path), "lock", ".state.json")
    with pytest.raises(Refused, match=f"cannot rewind operation '{operation.id}': it is {state}") as caught:
        operation.rewind("0001")
    assert "pause it first" in (caught.value.hint or "")
    assert without(snapshot(operation.path), "lock", ".state.json") == before
    del held


@pytest.mark.parametrize("state", ["failed", "cancelled", "succeeded"])
def test_what_has_ended_can_be_rewound(bench: Bench, state: str) -> None:
    operation = bench.start(3)
    bench.step(operation)
    if state == "failed":
        bench.fail(operation)
    elif state == "cancelled":
        operation.cancel()
    else:
        bench.finish(operation)
    answer = operation.rewind("0001")
    assert answer.state == "running"
    assert [one.step.path for one in bench.published][-1] == "0001"
    assert not operation.layout.error.exists()
    bench.finish(operation)
    assert operation.state is State.SUCCEEDED


def test_a_paused_operation_runs_when_it_is_rewound(bench: Bench) -> None:
    """B81."""
    operation = start(bench, *TREE)
    worker = Worker(bench, operation)
    worker.run(until={"0003"})
    operation.pause("lunch")
    (operation.path / "PAUSE").touch()
    answer = operation.rewind("0002", "the list was wrong")
    assert (answer.state, operation.state, operation.view().want) == ("running", State.RUNNING, "run")
    assert not (operation.path / "PAUSE").exists()
    assert sorted(worker.run()) == ALL[1:]
    assert operation.state is State.SUCCEEDED


def test_a_rewound_operation_that_is_held_from_above_says_what_holds_it(bench: Bench) -> None:
    """B81, B15."""
    operation, worker = succeeded(bench)
    (bench.path / "PAUSE").write_text("maintenance")
    answer = operation.rewind("0003")
    assert answer.message == "rewound to 0003; it goes on as soon as 'control/PAUSE' (maintenance) is gone"
    assert (answer.state, worker.run()) == ("paused", [])
    assert [path.name for path in (operation.layout.attic / "epoch-1" / "steps").iterdir()]
    (bench.path / "PAUSE").unlink()
    operation.reconcile()
    assert worker.run() == ["0003", "0004"]


def test_another_process_that_knew_the_operation_sees_what_was_put_aside_within_the_same_epoch(bench: Bench) -> None:
    """What a process remembers of a group must not make it think that all is done."""
    operation, worker = succeeded(bench)
    other = bench.other(operation)
    other.reconcile()
    other.progress(other.plan(), 1).look()
    (bench.path / "PAUSE").touch()
    operation.rewind("0002/0001")
    assert other.reconcile().state is State.PAUSED
    assert (other.view().steps_done, other.view().steps_total) == (5, 8)
    (bench.path / "PAUSE").unlink()
    other.reconcile()
    assert worker.run() == ["0002/0001", "0003", "0004"]


def test_rewinding_again_in_the_same_epoch_overwrites_nothing_in_the_attic(bench: Bench) -> None:
    operation, worker = succeeded(bench)
    before = commits_below(operation.layout.steps)
    (bench.path / "PAUSE").touch()
    for place in ("0002/0002/0002", "0002/0003", "0002", "0001"):
        assert operation.rewind(place).state == "paused"
    aside = commits_below(operation.layout.attic / "epoch-1" / "steps")
    assert sorted(aside.values()) == sorted(before.values())
    (bench.path / "PAUSE").unlink()
    operation.reconcile()
    assert sorted(worker.run()) == ALL
    assert operation.state is State.SUCCEEDED


def test_each_rewind_has_its_epoch_in_the_attic(bench: Bench) -> None:
    operation, worker = succeeded(bench)
    for epoch in (1, 2, 3):
        assert operation.epoch() == epoch
        operation.rewind("0003")
        worker.run()
        assert (operation.layout.attic / f"epoch-{epoch}" / "steps" / "0003-join.json").exists()
        assert Commit.read(operation.layout.steps / "0003-join.json").epoch == epoch + 1


def test_a_checkpoint_is_put_aside_with_its_step_which_starts_anew(bench: Bench) -> None:
    operation = bench.start(3)
    bench.step(operation)
    held = bench.claim(operation)
    assert write_checkpoint(operation, held, Checkpoint(done=7.0, epoch=1, attempt=1))
    operation.pause()
    assert isinstance(retry_step(operation, held, None, 3), object)
    assert operation.state is State.PAUSED
    operation.rewind("0002")
    assert not operation.layout.checkpoint(held.step).exists()
    assert (operation.layout.attic / "epoch-1" / "steps" / "0002-one.checkpoint.json").exists()
    last = bench.published[-1]
    assert (last.step.path, last.epoch, last.attempt, last.retries) == ("0002", 2, 1, 0), "it counts its retries anew"


def test_who_asked_and_why_is_in_the_journal(bench: Bench) -> None:
    operation, _ = succeeded(bench)
    operation.rewind("0003-join", "wrong total")
    (line,) = events(operation, "rewound")
    assert (line["by"], line["step"], line["reason"], line["epoch"]) == ("test", "0003", "wrong total", 1)
    assert history(operation)[-2:] == ["succeeded", "running"]


def test_a_message_of_the_run_before_has_no_effect(bench: Bench) -> None:
    operation, _ = succeeded(bench)
    count = len(bench.published)
    operation.rewind("0001")
    for number in range(count):
        assert "epoch" in bench.drop(operation, number)


# ---- what steps have put in


def test_a_rewind_of_the_step_that_put_parts_in_takes_them_out_of_the_plan(bench: Bench) -> None:
    operation = start(bench, task("read"), task("split"), task("join"))
    worker = Worker(bench, operation)
    worker.puts_in = {"0002": (task("x"), group(task("y"), task("z")))}
    worker.run()
    assert worker.ran == ["0001", "0002", "0002.0001", "0002.0002/0001", "0002.0002/0002", "0003"]
    first = operation.result
    operation.rewind("0002")
    assert [step.label for step in operation.plan().steps] == ["0001-read", "0002-split", "0003-join"]
    assert misfits(operation.layout, operation.plan()) == []
    assert worker.run() == ["0002", "0002.0001", "0002.0002/0001", "0002.0002/0002", "0003"]
    assert (operation.state, operation.result) == (State.SUCCEEDED, first)


def test_a_rewind_behind_the_step_that_put_parts_in_leaves_them(bench: Bench) -> None:
    operation = start(bench, task("split"), task("join"))
    worker = Worker(bench, operation)
    worker.puts_in = {"0001": (task("x"), task("y"))}
    worker.run()
    operation.rewind("0001.0002")
    assert worker.run() == ["0001.0002", "0002"]
    assert operation.state is State.SUCCEEDED


def test_other_parts_may_be_put_in_the_second_time(bench: Bench) -> None:
    operation = start(bench, task("split"), task("join"))
    worker = Worker(bench, operation)
    worker.puts_in = {"0001": (task("x"), task("y"))}
    worker.run()
    operation.rewind("0001")
    worker.puts_in = {"0001": (task("w"),)}
    assert worker.run() == ["0001", "0001.0001", "0002"]
    assert operation.result == 'join("w(\\"split()\\")")'


def test_members_that_a_step_added_go_with_it(bench: Bench) -> None:
    """They stand beside the step, and do not wait for it; done again, it may add others."""
    operation = start(bench, group(task("a"), task("b")), task("join"))
    worker = Worker(bench, operation)
    worker.members = {"0001/0001": (task("x"), chain("y", "z"))}
    worker.run()
    assert operation.state is State.SUCCEEDED
    operation.rewind("0001/0001")
    assert [step.path for step in operation.plan().steps] == ["0001/0001", "0001/0002", "0002"]
    assert misfits(operation.layout, operation.plan()) == []
    worker.members = {"0001/0001": (task("x"),)}
    assert sorted(worker.run()) == ["0001/0001", "0001/0003", "0002"]
    assert operation.state is State.SUCCEEDED
    assert json.loads(operation.result[5:-1]) == ["a()", "b()", "x()"]


# ---- death in between


def scene(bench: Bench, kind: str) -> Operation:
    if kind == "tree":
        return succeeded(bench)[0]
    operation = start(bench, task("read"), group(task("a"), task("b"), on_error=CONTINUE), task("join"))
    worker = Worker(bench, operation)
    worker.members = {"0002/0001": (task("x"),)}
    worker.puts_in = {"0002/0002": (task("y"), task("z"))}
    worker.failing = {"0002/0002.0002"}
    worker.run()
    assert operation.state is State.SUCCEEDED
    return operation


PLACES = [("tree", "0002/0002/0002"), ("spliced", "0002"), ("spliced", "0002/0001")]


@pytest.mark.parametrize(("kind", "place"), PLACES)
def test_a_death_at_any_write_of_a_rewind_leaves_it_asked_and_completed_or_not_asked(
    bench: Bench, kind: str, place: str
) -> None:
    for operation in deaths(lambda: scene(bench, kind), lambda operation: bench.other(operation).rewind(place)):
        other = bench.other(operation)
        state = other.reconcile().state
        run = other.layout.run.read_text()
        assert '"rewind_to": null' in run
        assert misfits(other.layout, other.plan()) == []
        if state is State.SUCCEEDED:
            assert not (other.layout.attic / "epoch-1" / "steps").exists(), "it was not asked yet"
        else:
            assert state in (State.RUNNING, State.PAUSED)
            other.resume()
        Worker(bench, other).finish()
        assert other.state is State.SUCCEEDED
        assert not list(other.layout.steps.rglob(".tmp-*"))


class _Broken(OSError):
    pass


@pytest.mark.parametrize(("kind", "place"), PLACES)
def test_an_error_at_any_call_of_a_rewind_is_completed_by_whoever_settles_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    """The process lives on, and so does what it remembers."""
    calls = ("put_aside", "replace", "make_dirs", "replace_own", "append_line")
    whole = {name: getattr(files, name) for name in calls}
    for number in range(400):
        operation = scene(bench, kind)
        before = sorted(commits_below(operation.layout.steps).values())
        left = [number]

        def broken(name: str, left: list[int] = left) -> Any:
            def call(*args: Any, **options: Any) -> Any:
                if left[0] == 0:
                    left[0] = -1
                    raise _Broken(5, "input/output error", str(args[0]))
                left[0] -= left[0] > 0
                return whole[name](*args, **options)

            return call

        for name in calls:
            monkeypatch.setattr(files, name, broken(name))
        try:
            operation.rewind(place)
            is_through = left[0] != -1
        except _Broken:
            is_through = False
        for name in calls:
            monkeypatch.setattr(files, name, whole[name])
        state = operation.reconcile().state
        assert '"rewind_to": null' in operation.layout.run.read_text()
        assert misfits(operation.layout, operation.plan()) == []
        aside = operation.layout.attic / "epoch-1" / "steps"
        moved = commits_below(aside) if aside.exists() else {}
        assert sorted([*moved.values(), *commits_below(operation.layout.steps).values()]) == before
        if state is not State.SUCCEEDED:
            operation.resume()
            Worker(bench, operation).finish()
            assert operation.state is State.SUCCEEDED
        if is_through:
            return
    raise AssertionError("there is no end of calls")


def test_two_rewinds_at_once_are_one(bench: Bench) -> None:
    operation, _ = succeeded(bench)
    outcomes: list[str] = []

    def rewind() -> None:
        try:
            outcomes.append(bench.other(operation).rewind("0003").message)
        except Refused as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=rewind) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum("rewound to 0003" in one for one in outcomes) == 1, outcomes
    assert sum("it is running" in one for one in outcomes) == 3, outcomes
    assert operation.epoch() == 2


def test_a_plan_that_does_not_fit_what_is_done_is_refused_with_the_steps(bench: Bench) -> None:
    """B35."""
    operation, _ = succeeded(bench, task("a"), task("b"), task("c"))
    other = start(bench, task("a"), task("x"), task("c"))
    operation.layout.plan.write_bytes(encode_plan(other.plan()))
    with pytest.raises(Refused, match=r"cannot rewind .* step 0002-b is done, but the plan has no such step"):
        operation.rewind("0003")


def test_a_rewind_takes_no_claim_from_anybody(bench: Bench) -> None:
    operation = bench.start(3)
    held = bench.claim(operation)
    assert isinstance(held, HeldClaim)
    with pytest.raises(Refused):
        operation.rewind("0001")
    assert held.is_ours()


# ---- random trees


def waits_for(plan: Plan, place: Part) -> set[str]:
    """The steps at a place, and those that take a result which any of them has gone into, or that those have put in."""
    redone = {step.path for step in leaves(place)}
    size = 0
    while size != len(redone):
        size = len(redone)
        for step in plan.steps:
            before = plan.before(step)
            if before is not None and any(one.path in redone for one in leaves(before)):
                redone.add(step.path)
            if any(part.by in redone for part, _ in _parts_around(plan, step) if part.by is not None):
                redone.add(step.path)
    return redone


def _parts_around(plan: Plan, step: Step) -> list[tuple[Part, int]]:
    return [(step, 0), *plan.way_to(step)]


@pytest.mark.parametrize("seed", range(30))
def test_a_rewind_in_a_random_tree_does_again_exactly_what_waits_for_that_place(bench: Bench, seed: int) -> None:
    dice = random.Random(seed)
    operation = start(bench, *(random_part(dice, 3) for _ in range(dice.randint(1, 3))))
    worker = Worker(bench, operation)
    steps = [step.path for step in operation.plan().steps]
    worker.puts_in = {path: (random_part(dice, 1),) for path in dice.sample(steps, len(steps) // 3)}
    worker.run()
    assert operation.state is State.SUCCEEDED
    result = operation.result
    for _ in range(3):
        plan = operation.plan()
        place = dice.choice([part for home in plan.homes for part in parts_of(home)])
        print("rewound to", place.path, "of", [step.label for step in plan.steps])
        operation.rewind(place.path)
        assert misfits(operation.layout, operation.plan()) == []
        ran = worker.run()
        assert set(ran) == waits_for(plan, plan.part(place.path))
        assert len(ran) == len(set(ran))
        assert (operation.state, operation.result) == (State.SUCCEEDED, result)
        assert [step.label for step in operation.plan().steps] == [step.label for step in plan.steps]
