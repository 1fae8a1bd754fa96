"""Forking: what a fork begins with, and that its source stays as it is."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from support.bench import Bench, events, snapshot
from support.forest import Worker, chain, group, plan, start, task
from tapfs.bus.fields import Json
from tapfs.bus.fit import misfits
from tapfs.bus.fork import fork_of, start_fork
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Plan, Sequence
from tapfs.bus.records import Commit
from tapfs.bus.states import State
from tapfs.bus.verify import verify_operation
from tapfs.errors import RecordInvalid, Refused

TREE = (task("read"), group(task("a"), chain("b", "c"), group(task("d"), task("e"))), task("join"), task("send"))
AGAIN = {
    "0001": 8,
    "0002": 7,
    "0002/0002": 4,
    "0002/0002/0002": 3,
    "0002/0003/0001": 3,
    "0003": 2,
    "send": 1,
}


def fork(bench: Bench, source: Operation, step: str, new: Plan | None = None, **arguments: Json) -> Operation:
    return start_fork(bench.control, source, step, new, arguments or source.identity().arguments, "ada")


def succeeded(bench: Bench, *parts: Any) -> Operation:
    operation = start(bench, *(parts or TREE))
    Worker(bench, operation).run()
    assert operation.state is State.SUCCEEDED
    return operation


@pytest.mark.parametrize("step", AGAIN)
def test_steps_before_the_fork_are_not_run_again_and_their_results_are_copied(bench: Bench, step: str) -> None:
    """B77."""
    source = succeeded(bench)
    before = snapshot(source.path)
    forked = fork(bench, source, step)
    for name, content in snapshot(forked.layout.steps).items():
        if content is not None:
            copy, original = json.loads(content), json.loads(before[f"steps/{name}"] or b"")
            assert copy == original | {"epoch": 0}
    worker = Worker(bench, forked)
    worker.finish()
    assert len(worker.ran) == AGAIN[step]
    assert (forked.state, forked.result) == (State.SUCCEEDED, source.result)
    assert snapshot(source.path) == before, "the source is untouched, byte for byte"
    assert [one for one in verify_operation(forked) if one.severity == "fault"] == []


def test_where_it_comes_from_is_stored(bench: Bench) -> None:
    """B77."""
    source = succeeded(bench)
    forked = fork(bench, source, "0003-join")
    identity = forked.identity()
    assert identity.forked_from == {"operation": source.id, "step": "0003"}
    assert (identity.operation, identity.owner) == ("tree", "ada")
    assert events(forked, "created")[0]["forked_from"] == identity.forked_from
    assert source.identity().forked_from is None


def test_the_source_may_run_and_be_changed_afterwards(bench: Bench) -> None:
    """A copy is a file of its own."""
    source = start(bench, *TREE)
    worker = Worker(bench, source)
    worker.run(until={"0003"})
    forked = fork(bench, source, "0003")
    worker.run()
    source.rewind("0001")
    assert forked.result_of(forked.plan().step("0001")) == "read()"
    Worker(bench, forked).finish()
    assert forked.state is State.SUCCEEDED


def test_a_fork_of_a_fork_names_the_fork(bench: Bench) -> None:
    one = succeeded(bench)
    two = fork(bench, one, "0003")
    Worker(bench, two).finish()
    three = fork(bench, two, "0004")
    assert three.identity().forked_from == {"operation": two.id, "step": "0004"}
    worker = Worker(bench, three)
    worker.finish()
    assert worker.ran == ["0004"]


@pytest.mark.parametrize("step", ["0003", "0004", "0002/0002/0002"])
def test_a_fork_from_where_the_source_has_not_come_to_is_refused_with_the_step(bench: Bench, step: str) -> None:
    source = start(bench, *TREE)
    Worker(bench, source).run(until={"0002/0001"})
    before, ids = snapshot(source.path), bench.control.ids()
    with pytest.raises(Refused, match=r"step 0002/0001-a before it is not done|step 0002/0002/0001-b before") as caught:
        fork(bench, source, step)
    assert "nothing was made" in (caught.value.hint or "")
    assert (snapshot(source.path), bench.control.ids()) == (before, ids)


def test_other_members_that_are_not_done_are_run_in_the_fork(bench: Bench) -> None:
    source = start(bench, task("read"), group(task("a"), task("b"), task("c")), task("join"))
    Worker(bench, source).run(until={"0002/0002"})
    forked = fork(bench, source, "0002/0003")
    worker = Worker(bench, forked)
    worker.finish()
    assert sorted(worker.ran) == ["0002/0002", "0002/0003", "0003"]


def test_a_member_that_was_given_up_is_so_in_the_fork_unless_it_is_forked_from(bench: Bench) -> None:
    source = start(bench, group(task("a"), chain("b", "c"), on_error=CONTINUE), task("join"))
    worker = Worker(bench, source)
    worker.failing = {"0001/0002/0002"}
    worker.run()
    behind, at, inside = fork(bench, source, "0002"), fork(bench, source, "0001/0002"), fork(bench, source, "c")
    for forked, ran in (
        (behind, ["0002"]),
        (at, ["0001/0002/0001", "0001/0002/0002", "0002"]),
        (inside, ["0001/0002/0002", "0002"]),
    ):
        worker = Worker(bench, forked)
        worker.finish()
        assert worker.ran == ran
        assert ("no paper" in forked.result) is (forked is behind)


@pytest.mark.parametrize("name", ["0001-read.json", "0002/0001.error.json"])
def test_what_cannot_be_read_is_not_copied_and_named(bench: Bench, name: str) -> None:
    source = start(bench, task("read"), group(task("a"), task("b"), on_error=CONTINUE), task("join"))
    worker = Worker(bench, source)
    worker.failing = {"0002/0001"}
    worker.run()
    (source.layout.steps / name).write_text("[]")
    ids = bench.control.ids()
    with pytest.raises(RecordInvalid, match=name):
        fork(bench, source, "0003")
    assert bench.control.ids() == ids


# ---- with other arguments


def chain_with(by: int, path: str = "a.csv") -> Plan:
    return plan(task("read", args=[path]), task("tally"), task("write", args=[by]))


def test_a_fork_with_other_arguments_uses_them(bench: Bench) -> None:
    """B80."""
    source = bench.control.start(_new(chain_with(1), by=1))
    Worker(bench, source).run()
    forked = fork(bench, source, "0003", chain_with(2), by=2)
    assert forked.identity().arguments == {"by": 2}
    assert forked.plan().step("0003").args == [2]
    worker = Worker(bench, forked)
    worker.finish()
    assert worker.ran == ["0003"]
    assert forked.plan().step("0001").checksum == Commit.read(forked.layout.steps / "0001-read.json").of


def test_what_would_be_copied_but_was_done_with_other_arguments_is_refused_by_name(bench: Bench) -> None:
    """B80."""
    source = bench.control.start(_new(chain_with(1), by=1))
    Worker(bench, source).run()
    before, ids = snapshot(source.path), bench.control.ids()
    with pytest.raises(Refused, match="step 0001-read would be copied, but was done with other arguments") as caught:
        fork(bench, source, "0002", chain_with(1, "b.csv"))
    assert "fork from an earlier step" in (caught.value.hint or "")
    shorter = plan(task("read", args=["a.csv"]), task("write", args=[1]))
    with pytest.raises(Refused, match="step 0002-tally would be copied, but there is no such step any more; there is"):
        fork(bench, source, "0003", shorter)
    assert (snapshot(source.path), bench.control.ids()) == (before, ids)


def test_all_that_cannot_be_copied_is_named(bench: Bench) -> None:
    source = succeeded(bench, task("a"), task("b"), task("c"))
    other = plan(task("a", args=[1]), task("b", args=[1]), task("c"))
    with pytest.raises(Refused, match=r"step 0001-a would be .*; step 0002-b would be"):
        fork_of(source, "0003", other)


def _new(made: Plan, **arguments: Json) -> Any:
    from tapfs.bus.control import NewOperation

    return NewOperation("tree", made, arguments)


# ---- what steps have put in


def spliced(bench: Bench) -> Operation:
    source = start(bench, task("read"), task("split"), task("join"), task("send"))
    worker = Worker(bench, source)
    worker.puts_in = {
        "0002": (task("x"), group(task("y"), task("z"))),
        "0002.0001": (task("w"),),
        "0002.0002/0001": (task("v"),),
    }
    worker.members = {"0002.0002/0002": (chain("s", "t"),)}
    worker.run()
    assert source.state is State.SUCCEEDED
    return source


@pytest.mark.parametrize("with_arguments", [False, True])
def test_a_fork_behind_what_a_step_put_in_has_it_too(bench: Bench, with_arguments: bool) -> None:
    source = spliced(bench)
    new = plan(task("read"), task("split"), task("join"), task("send", args=[5])) if with_arguments else None
    forked = fork(bench, source, "0004", new)
    assert [step.path for step in forked.plan().steps] == [step.path for step in source.plan().steps]
    assert misfits(forked.layout, forked.plan()) == []
    worker = Worker(bench, forked)
    worker.finish()
    assert worker.ran == ["0004"]
    assert (forked.state, forked.result) == (State.SUCCEEDED, source.result)


def test_a_fork_from_the_step_that_put_parts_in_is_without_them(bench: Bench) -> None:
    source = spliced(bench)
    forked = fork(bench, source, "0002")
    assert [step.label for step in forked.plan().steps] == ["0001-read", "0002-split", "0003-join", "0004-send"]
    worker = Worker(bench, forked)
    worker.finish()
    assert worker.ran == ["0002", "0003", "0004"]


def test_a_fork_from_a_member_that_added_others_is_without_those(bench: Bench) -> None:
    source = start(bench, group(task("a"), task("b")), task("join"))
    worker = Worker(bench, source)
    worker.members = {"0001/0001": (task("x"),)}
    worker.run()
    forked = fork(bench, source, "0001/0001")
    assert [step.path for step in forked.plan().steps] == ["0001/0001", "0001/0002", "0002"]
    assert misfits(forked.layout, forked.plan()) == []
    worker = Worker(bench, forked)
    worker.finish()
    assert worker.ran == ["0001/0001", "0002"]


def test_a_fork_of_a_source_that_splices_at_that_moment_has_a_plan_that_fits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is read first, and the step is committed before its commit is looked at."""
    source = start(bench, group(task("a"), task("b")), task("join"))
    worker = Worker(bench, source)
    worker.puts_in = {"0001/0001": (task("x"),)}
    whole = Operation.is_committed

    def late(self: Operation, step: Any) -> bool:
        if self is source:
            monkeypatch.setattr(Operation, "is_committed", whole)
            thread = threading.Thread(target=Worker.run, args=(worker,), kwargs={"until": {"0001/0001.0001"}})
            thread.start()
            thread.join(30)
        return whole(self, step)

    monkeypatch.setattr(Operation, "is_committed", late)
    forked = fork(bench, source, "0001/0002")
    assert worker.ran == ["0001/0001", "0001/0002"]
    worker = Worker(bench, forked)
    worker.finish()
    assert worker.ran == ["0001/0001.0001", "0001/0002", "0002"]


def test_an_edited_plan_stays_known_as_edited(bench: Bench) -> None:
    source = succeeded(bench, task("a"), task("b"))
    text = source.layout.plan.read_bytes().replace(b'"options": {}', b'"options": {"queue": "fast"}')
    source.layout.plan.write_bytes(text)
    assert fork(bench, source, "0002").plan().is_edited
    assert replace(source.plan(), root=Sequence(source.plan().root.parts)).is_edited
