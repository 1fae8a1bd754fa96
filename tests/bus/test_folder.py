"""One operation's folder: what this process remembers of it, and what it does not."""

import os
import shutil
from typing import Any

import pytest

from support.bench import Bench
from tapfs.bus.control import Control
from tapfs.bus.records import Commit
from tapfs.errors import OperationUnknown, RecordInvalid


def test_it_goes_by_its_id(bench: Bench) -> None:
    operation = bench.start()
    assert (operation.id, repr(operation)) == (operation.path.name, f"<Operation {operation.path.name}>")


def test_its_identity_is_what_it_was_started_with(bench: Bench) -> None:
    identity = bench.start().identity()
    assert (identity.operation, identity.arguments, identity.created_at) == ("tally", {}, "2027-01-15T08:00:00.000Z")


def test_an_operation_that_is_gone_is_unknown_and_a_spoilt_one_is_invalid(bench: Bench) -> None:
    operation = bench.start()
    operation.layout.identity.write_text("{")
    with pytest.raises(RecordInvalid, match=r"operation\.json"):
        operation.identity()
    shutil.rmtree(operation.path)
    with pytest.raises(OperationUnknown, match="is not there any more"):
        operation.identity()
    with pytest.raises(OperationUnknown, match="is not there any more"):
        operation.reconcile()
    assert not operation.path.exists()


def test_a_commit_costs_the_same_however_many_steps_are_done(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: what was seen done is not asked for again. Counted, not timed; `progress` has more of it."""
    operation = bench.start(60)
    asked: list[object] = []
    lstat = os.lstat

    def counting(path: Any, **options: Any) -> os.stat_result:
        asked.append(path)
        return lstat(path, **options)

    monkeypatch.setattr(os, "lstat", counting)
    costs = []
    for _ in range(60):
        asked.clear()
        bench.step(operation)
        costs.append(len([path for path in asked if "/steps/" in str(path)]))
    # Not always the same: an edit of `state.json` that may be in the making is looked at again.
    assert max(costs[30:]) <= max(costs[:30]) < 20, costs
    assert min(costs) > 0


def test_what_was_remembered_is_forgotten_when_a_commit_was_put_aside(bench: Bench) -> None:
    operation = bench.start(4)
    for _ in range(3):
        bench.step(operation)
    plan = operation.plan()
    for step in plan.steps[1:3]:
        operation.layout.commit(step).unlink()
    standing = operation.progress(plan, 1).look()
    assert (standing.done, [step.path for step in standing.open], standing.is_complete) == (1, ["0002"], False)


def test_a_fresh_object_finds_the_same_progress(bench: Bench) -> None:
    operation = bench.start(5)
    for _ in range(3):
        bench.step(operation)
    fresh = Control(bench.path).operation(operation.id)
    assert fresh.progress(fresh.plan(), 1).look() == operation.progress(operation.plan(), 1).look()


def test_a_result_is_read_back_as_it_was_committed(bench: Bench) -> None:
    operation = bench.start()
    bench.step(operation, {"Ünïcode": [1, 2.5, None, True]})
    step = operation.plan().steps[0]
    assert operation.is_committed(step)
    assert operation.result_of(step) == {"Ünïcode": [1, 2.5, None, True]}
    assert Commit.read(operation.layout.commit(step)).attempt == 1


def test_the_index_holds_it_once_and_can_be_rebuilt(bench: Bench) -> None:
    operation = bench.start()
    operation.leave_active()
    operation.leave_active()
    assert bench.control.active_ids() == []
    operation.reconcile()
    operation.join_active()
    assert bench.control.active_ids() == [operation.id]
