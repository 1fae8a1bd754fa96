"""A control directory of each format version, as it was written then, must load for ever (B76)."""

import shutil
from pathlib import Path

import pytest

from support.bench import history
from tapfs.bus.control import Control
from tapfs.bus.operation import Operation, OperationFailed
from tapfs.bus.publication import Publication
from tapfs.bus.records import LARGE, Checkpoint
from tapfs.bus.states import State

FROZEN = Path(__file__).parents[1] / "fixtures" / "control-1"
PEOPLE = {"Ünal & Söhne": {"F": 2, "M": 1}}


@pytest.fixture
def published() -> list[Publication]:
    return []


@pytest.fixture
def control(tmp_path: Path, published: list[Publication]) -> Control:
    """A copy; the frozen one itself is never touched."""
    shutil.copytree(FROZEN, tmp_path / "control")
    return Control(tmp_path / "control", publisher=published.append)


@pytest.fixture
def operations(control: Control) -> dict[str, Operation]:
    found = [control.find(one) for one in control.ids()]
    return {operation.state.value: operation for operation in found}


def test_all_its_operations_are_found_in_their_states(control: Control, operations: dict[str, Operation]) -> None:
    assert sorted(operations) == ["failed", "paused", "succeeded"]
    assert control.active_ids() == [operations["paused"].id]
    assert control.find(operations["failed"].id[-6:]).id == operations["failed"].id


def test_each_says_what_it_is(operations: dict[str, Operation]) -> None:
    for operation in operations.values():
        identity = operation.identity()
        assert (identity.id, identity.operation, identity.owner) == (operation.id, "tally", "ada")
        assert identity.arguments == {"path": "data/people.csv", "by": "company", "of": "gender", "token": "s3cr3t"}
        assert identity.masked == ["token"]


def test_each_has_its_plan(operations: dict[str, Operation]) -> None:
    for operation in operations.values():
        plan = operation.plan()
        assert [step.label for step in plan.steps] == ["0001-check", "0002-fold", "0003-save"]
        assert (plan.nth, plan.clause, plan.callback) == (1, "shop.clauses:is_night", None)
        assert plan.steps[0].kwargs == {"by": "company", "of": "gender"}
        assert plan.steps[1].options == {"queue": "long"}
        assert [step.immutable for step in plan.steps] == [False, False, True]


def test_each_has_its_history(operations: dict[str, Operation]) -> None:
    assert history(operations["paused"]) == ["queued", "running", "pausing", "paused"]
    assert history(operations["succeeded"]) == ["queued", "running", "succeeded"]
    assert history(operations["failed"]) == ["queued", "running", "failed"]


def test_the_paused_one_shows_why_and_goes_on_from_its_checkpoint(
    operations: dict[str, Operation], published: list[Publication]
) -> None:
    operation = operations["paused"]
    view = operation.view()
    assert (view.step, view.steps_done, view.steps_total) == ("0002-fold", 1, 3)
    assert view.message == "held by PAUSE: out for lunch"
    saved = Checkpoint.read(operation.layout.checkpoint(operation.plan().steps[1]), LARGE)
    assert (saved.done, saved.folds[0]["cursor"], saved.folds[0]["value"]) == (1048576.0, {"offset": 1048576}, PEOPLE)
    assert operation.resume().changed
    assert [(one.step.path, one.epoch) for one in published] == [("0002", 2)]


def test_the_ended_ones_give_their_result_and_their_failure(operations: dict[str, Operation]) -> None:
    assert operations["succeeded"].result == PEOPLE
    with pytest.raises(OperationFailed, match=r"ValueError: row 7 \(byte 211\)"):
        _ = operations["failed"].result


def test_reconciling_it_moves_nothing(operations: dict[str, Operation]) -> None:
    for state, operation in operations.items():
        before = operation.layout.journal.read_bytes()
        assert operation.reconcile().state is State(state)
        assert operation.layout.journal.read_bytes() == before
