"""Whether a plan still fits what is done, and what becomes of an operation whose plan does not (B35)."""

import json
import random
from typing import Any

import pytest

from support.bench import Bench, events, plan_of, snapshot
from support.trees import PAIR, STEP, group_of, wide
from tapfs.bus.fit import misfits
from tapfs.bus.layout import OperationLayout
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Part, Plan, Sequence, Step
from tapfs.bus.planfile import encode_plan
from tapfs.bus.progress import Progress
from tapfs.bus.splice import spliced
from tapfs.bus.states import State
from tapfs.errors import Refused


def plan(*steps: Step) -> Plan:
    return Plan(Sequence(steps))


def step(path: str, name: str = "one") -> Step:
    return Step(path, name, f"test.{name}")


def held(bench: Bench, done: int = 2) -> Operation:
    """A paused operation of four steps, some of them done."""
    operation = bench.start(4)
    for _ in range(done):
        bench.step(operation)
    operation.pause()
    assert operation.state is State.PAUSED
    return operation


#: What somebody did to the plan of a paused operation with 0001 and 0002 done, and what is said of it.
CHANGES: dict[str, tuple[Plan, str]] = {
    "unknown step": (plan(step("0001"), step("0003"), step("0004")), "step 0002-one is done, but the plan has no such"),
    "renamed step": (plan(step("0001", "read"), *plan_of(4).steps[1:]), "step 0001-one is done, but the plan has no"),
    "changed order": (
        plan(step("0003"), step("0001"), step("0002"), step("0004")),
        "step 0001-one is done, but step 0003-one before it is not",
    ),
    "new first step": (plan(step("0000"), *plan_of(4).steps), "step 0001-one is done, but step 0000-one before it is"),
    "new step in between": (
        plan(step("0001"), step("0099"), *plan_of(4).steps[1:]),
        "step 0002-one is done, but step 0099-one before it is not",
    ),
}


def put_plan(operation: Operation, changed: Plan) -> None:
    operation.layout.plan.write_bytes(encode_plan(changed))


def put_duplicate(operation: Operation) -> None:
    """The same step twice in the plan, as an editor's paste leaves it."""
    document = json.loads(operation.layout.plan.read_bytes())
    parts = document["workflow"]["parts"]
    parts.insert(2, parts[1])
    operation.layout.plan.write_text(json.dumps(document))


# ---- misfits


@pytest.mark.parametrize("done", range(5))
def test_a_plan_fits_whatever_was_done_of_it_in_its_order(bench: Bench, done: int) -> None:
    operation = bench.start(4)
    for _ in range(done):
        bench.step(operation)
    assert misfits(operation.layout, operation.plan()) == []


def test_what_is_not_done_may_be_changed(bench: Bench) -> None:
    operation = held(bench)
    changed = plan(step("0001"), step("0002"), step("0005", "new"))
    assert misfits(operation.layout, changed) == []
    put_plan(operation, changed)
    operation.resume()
    bench.finish(operation)
    assert operation.is_committed(step("0005", "new"))


def test_checkpoints_notes_and_files_being_written_are_no_done_steps(bench: Bench) -> None:
    operation = held(bench)
    for name in ("0003-one.checkpoint.json", "0003-one.once.jsonl", ".tmp-1-2-abcd.json", "README"):
        (operation.layout.steps / name).touch()
    assert misfits(operation.layout, operation.plan()) == []


def test_members_in_folders_of_their_own_are_done_steps_too(bench: Bench) -> None:
    operation = bench.start()
    (operation.layout.steps / "0001").mkdir()
    (operation.layout.steps / "0001" / "0017-resize.json").touch()
    assert misfits(operation.layout, plan(step("0001/0017", "resize"), step("0002"))) == []
    assert misfits(operation.layout, plan(step("0002"))) == [
        "step 0001/0017-resize is done, but the plan has no such step"
    ]


def test_of_very_many_misfits_some_are_named(bench: Bench) -> None:
    layout: OperationLayout = bench.start(1).layout
    for number in range(100):
        (layout.steps / f"9{number:03}-one.json").touch()
    found = misfits(layout, plan_of(1))
    assert len(found) == 6
    assert found[5] == "and 95 more"
    assert found[0] == "step 9000-one is done, but the plan has no such step"


# ---- an operation with such a plan


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_resume_of_a_plan_that_was_changed_since_the_pause_is_refused_with_the_names_and_changes_nothing(
    bench: Bench, change: str
) -> None:
    """B35."""
    operation = held(bench)
    (operation.path / "PAUSE").write_text("lunch")
    operation.reconcile()
    put_plan(operation, CHANGES[change][0])
    operation.reconcile()
    before, count = snapshot(operation.path), len(bench.published)
    with pytest.raises(Refused, match="its plan does not fit what is done: .*" + CHANGES[change][1]) as caught:
        operation.resume()
    assert "workflow.json' back as it was" in (caught.value.hint or "")
    assert snapshot(operation.path) == before
    assert (operation.state, len(bench.published)) == (State.PAUSED, count)


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_taking_pause_away_keeps_an_operation_paused_whose_plan_was_changed_and_says_so(
    bench: Bench, change: str
) -> None:
    """B35: nobody is there to be refused, so the message says it; the plan put back, it goes on."""
    operation = held(bench, 0)
    operation.resume()
    for _ in range(2):
        bench.step(operation)
    (operation.path / "PAUSE").touch()
    operation.reconcile()
    original, epoch, count = operation.layout.plan.read_bytes(), operation.epoch(), len(bench.published)
    put_plan(operation, CHANGES[change][0])
    (operation.path / "PAUSE").unlink()
    for _ in range(3):
        assert operation.reconcile().state is State.PAUSED
    view = operation.view()
    assert "it cannot go on: workflow.json does not fit what is done" in (view.message or "")
    assert CHANGES[change][1] in (view.message or "")
    assert (view.epoch, len(bench.published)) == (epoch, count)
    assert operation.id in bench.control.active_ids()
    operation.layout.plan.write_bytes(original)
    assert operation.reconcile().state is State.RUNNING
    assert operation.view().message is None
    bench.finish(operation)
    assert [one.step.path for one in bench.published].count("0001") == 2, "nothing that was done is done again"


@pytest.mark.parametrize("way", ["resume", "rm PAUSE"])
def test_a_step_that_stands_twice_in_the_plan_keeps_the_operation_paused_and_is_named(bench: Bench, way: str) -> None:
    """B35."""
    operation = held(bench, 0)
    operation.resume()
    for _ in range(2):
        bench.step(operation)
    (operation.path / "PAUSE").touch()
    operation.reconcile()
    original, epoch = operation.layout.plan.read_bytes(), operation.epoch()
    put_duplicate(operation)
    operation.reconcile()
    if way == "resume":
        before = snapshot(operation.path)
        with pytest.raises(Refused, match="step 0002 stands there 2 times"):
            operation.resume()
        assert snapshot(operation.path) == before
        (operation.path / "PAUSE").unlink()
    else:
        (operation.path / "PAUSE").unlink()
        assert operation.reconcile().state is State.PAUSED
        assert "step 0002 stands there 2 times" in (operation.view().message or "")
    assert (operation.state, operation.epoch()) == (State.PAUSED, epoch)
    operation.layout.plan.write_bytes(original)
    operation.reconcile()
    bench.finish(operation)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_resume_of_an_ended_operation_whose_plan_was_changed_is_refused_too(bench: Bench, state: str) -> None:
    """B35: the error of a failed one stays where it is."""
    operation = bench.start(3)
    bench.step(operation)
    bench.fail(operation) if state == "failed" else operation.cancel()
    put_plan(operation, plan(step("0002"), step("0003")))
    operation.reconcile()
    before = snapshot(operation.path)
    with pytest.raises(Refused, match="step 0001-one is done"):
        operation.resume()
    assert snapshot(operation.path) == before
    assert operation.state == state


def test_an_operation_that_is_kept_paused_by_its_plan_can_be_cancelled(bench: Bench) -> None:
    """Law 10."""
    operation = held(bench)
    put_plan(operation, CHANGES["unknown step"][0])
    operation.cancel()
    assert operation.state is State.CANCELLED


def test_asking_by_state_json_is_no_way_around(bench: Bench) -> None:
    operation = held(bench)
    put_plan(operation, CHANGES["unknown step"][0])
    view: dict[str, Any] = json.loads(operation.layout.state.read_bytes())
    operation.layout.state.write_text(json.dumps(view | {"want": "run"}))
    operation.reconcile()
    assert operation.state is State.PAUSED
    assert "does not fit what is done" in (operation.view().message or "")
    assert events(operation, "asked")[-1]["want"] == "run"


def edit_step(operation: Operation, path: str, **changes: Any) -> None:
    """Change what the plan says of a step, as an editor does."""

    def edited(part: Any) -> Any:
        if isinstance(part, list):
            return [edited(one) for one in part]
        if isinstance(part, dict) and part.get("path") == path and part.get("kind") == "step":
            return part | changes
        return {name: edited(value) if name in ("parts", "members") else value for name, value in part.items()}

    document = json.loads(operation.layout.plan.read_bytes())
    operation.layout.plan.write_text(json.dumps(document | {"workflow": edited(document["workflow"])}))


@pytest.mark.parametrize(
    "changes",
    [{"args": [5]}, {"kwargs": {"by": "name"}}, {"task": "test.two"}, {"immutable": True}],
    ids=["args", "kwargs", "task", "immutable"],
)
def test_a_step_that_was_done_with_another_task_or_other_arguments_keeps_the_operation_paused_and_is_named(
    bench: Bench, changes: dict[str, Any]
) -> None:
    """B35."""
    operation = held(bench)
    original = operation.layout.plan.read_bytes()
    edit_step(operation, "0002", **changes)
    fault = "step 0002-one was done with another task or other arguments than the plan has now"
    assert misfits(operation.layout, operation.plan()) == [fault]
    with pytest.raises(Refused, match=fault):
        operation.resume()
    assert operation.state is State.PAUSED
    operation.layout.plan.write_bytes(original)
    operation.resume()
    bench.finish(operation)


def test_a_change_of_how_a_step_is_sent_and_of_what_is_not_done_is_no_misfit(bench: Bench) -> None:
    operation = held(bench)
    edit_step(operation, "0001", options={"queue": "fast"})
    edit_step(operation, "0003", args=[5], options={"queue": "fast"})
    operation.resume()
    step = bench.published[-1].step
    assert (step.path, step.args, step.options) == ("0003", [5], {"queue": "fast"})
    bench.finish(operation)


def test_commits_of_an_earlier_version_say_nothing_of_what_was_run_and_fit(bench: Bench) -> None:
    """B76."""
    operation = held(bench)
    for one in operation.plan().steps[:2]:
        document = json.loads(operation.layout.commit(one).read_bytes())
        del document["of"]
        operation.layout.commit(one).write_text(json.dumps(document))
    edit_step(operation, "0001", args=[5])
    assert misfits(operation.layout, operation.plan()) == []


# ---- trees


#: A step, a group of a step, a chain of two and a group of two, and a step.
TREE: tuple[Part, ...] = (STEP, group_of(STEP, PAIR, wide(2)), STEP)


def done(operation: Operation, *paths: str) -> None:
    for path in paths:
        target = operation.layout.steps / f"{path}-one.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


@pytest.mark.parametrize("seed", range(30))
def test_a_tree_fits_whatever_was_done_of_it_in_any_order_that_may_be(bench: Bench, seed: int) -> None:
    """B35."""
    print("seed", seed)
    order = random.Random(seed)
    operation = bench.start_tree(*TREE)
    plan, fresh = operation.plan(), Progress(operation.plan(), operation.layout)
    while found := fresh.look().open:
        done(operation, order.choice(found).path)
        assert misfits(operation.layout, plan) == []


@pytest.mark.parametrize(
    ("paths", "fault"),
    [
        (["0002/0001"], "step 0002/0001-one is done, but step 0001-one before it is not"),
        (["0001", "0002/0002/0002"], "step 0002/0002/0002-one is done, but step 0002/0002/0001-one before it is not"),
        (
            ["0001", "0002/0001", "0002/0002/0001", "0002/0002/0002", "0002/0003/0002", "0003"],
            "step 0003-one is done, but step 0002/0003/0001-one before it is not",
        ),
        (["0001", "0002/0004"], "step 0002/0004-one is done, but the plan has no such step"),
    ],
    ids=["before the group", "in a member", "behind the group", "no such member"],
)
def test_in_a_tree_a_step_that_was_done_too_early_is_named_with_the_one_before_it(
    bench: Bench, paths: list[str], fault: str
) -> None:
    """B35."""
    operation = bench.start_tree(*TREE)
    done(operation, *paths)
    assert misfits(operation.layout, operation.plan()) == [fault]


def test_what_stands_behind_a_member_that_was_given_up_is_not_done_too_early(bench: Bench) -> None:
    operation = bench.start_tree(wide(2, on_error=CONTINUE), STEP)
    done(operation, "0001/0001", "0002")
    assert misfits(operation.layout, operation.plan()) == [
        "step 0002-one is done, but step 0001/0002-one before it is not"
    ]
    (operation.layout.steps / "0001" / "0002.error.json").touch()
    assert misfits(operation.layout, operation.plan()) == []


def test_a_member_that_was_given_up_and_that_the_plan_does_not_have_is_named(bench: Bench) -> None:
    operation = bench.start_tree(wide(2, on_error=CONTINUE), STEP)
    (operation.layout.steps / "0001").mkdir()
    (operation.layout.steps / "0001" / "0003.error.json").touch()
    (found,) = misfits(operation.layout, operation.plan())
    assert "0001/0003" in found


def test_members_that_an_undone_step_would_have_added_are_not_missed(bench: Bench) -> None:
    """Its plan was written, and it died before its commit; then it was given up."""
    operation = bench.start_tree(wide(2, on_error=CONTINUE), STEP)
    put_plan(operation, spliced(operation.plan(), "0001/0001", members=(STEP,)))
    done(operation, "0001/0002")
    (operation.layout.steps / "0001" / "0001.error.json").touch()
    done(operation, "0002")
    assert misfits(operation.layout, operation.plan()) == []


def test_a_paused_tree_that_lost_a_done_member_is_kept_paused_and_the_member_is_named(bench: Bench) -> None:
    """B35."""
    operation = bench.start_tree(*TREE)
    for path in ("0001", "0002/0001", "0002/0003/0001"):
        bench.do(operation, path)
    operation.pause()
    document = operation.layout.plan.read_text()
    line = next(one for one in document.splitlines() if '"path": "0002/0003/0001"' in one)
    operation.layout.plan.write_text(document.replace(f"{line}\n", ""))
    with pytest.raises(Refused, match="step 0002/0003/0001-one is done, but the plan has no such step"):
        operation.resume()
    operation.layout.plan.write_text(document)
    operation.resume()
    while not operation.ready():
        bench.do(operation, bench.out(operation)[0])
    assert operation.state is State.SUCCEEDED
