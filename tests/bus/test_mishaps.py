"""Deaths between two writes, and edits at the worst instant, in operations that are trees."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from support.bench import Bench
from support.trees import STEP, wide
from tapfs.bus import claims, files, planfile
from tapfs.bus.begin import Dropped
from tapfs.bus.clock import timestamp
from tapfs.bus.fields import Json
from tapfs.bus.fork import fork_of
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Step
from tapfs.bus.reconcile import Settled
from tapfs.bus.records import Failure
from tapfs.bus.repair import repair
from tapfs.bus.runs import read_run
from tapfs.bus.states import State
from tapfs.bus.steps import commit_step, interrupt_step, release_step, retry_step, return_step
from tapfs.bus.verify import verify_operation
from tapfs.errors import Refused


def edit_plan(operation: Operation, change: Callable[[Json], None]) -> None:
    plan = json.loads(operation.layout.plan.read_text())
    change(plan["workflow"]["parts"])
    operation.layout.plan.write_text(json.dumps(plan))


def test_a_plan_that_names_an_unknown_putter_holds_the_operation_which_can_be_cancelled(bench: Bench) -> None:
    operation = bench.start_tree(wide(3), STEP)
    edit_plan(operation, lambda parts: parts[0]["members"][1].update(by="0009"))
    operation.reconcile()
    assert "0001/0002 was put in by 0009, and there is no such step" in str(operation.view().message)
    assert operation.pause().state == "paused"
    assert operation.cancel().state == "cancelled"


@pytest.mark.parametrize("hindrance", ["attic", "attic/epoch-1"])
def test_a_rewind_that_cannot_put_anything_aside_holds_the_operation_and_is_done_when_it_can(
    bench: Bench, hindrance: str
) -> None:
    operation = bench.start(2)
    bench.finish(operation)
    (operation.path / hindrance).parent.mkdir(exist_ok=True)
    (operation.path / hindrance).write_text("in the way")
    answer = operation.rewind("0001")
    assert (answer.success, answer.changed, answer.state, operation.state) == (False, True, "paused", State.PAUSED)
    assert "it cannot be rewound" in answer.message
    resumed = operation.resume()
    assert (resumed.success, "it cannot be rewound" in resumed.message) == (False, True)
    assert "it cannot be rewound" in str(operation.view().message)
    (operation.path / hindrance).unlink()
    operation.reconcile()
    assert (operation.view().steps_done, operation.epoch(), read_run(operation).rewind_to) == (0, 2, None)


def test_an_operation_that_cannot_be_rewound_can_be_cancelled(bench: Bench) -> None:
    operation = bench.start(2)
    bench.finish(operation)
    operation.layout.attic.write_text("in the way")
    operation.rewind("0001")
    assert operation.cancel().state == "cancelled"


def test_what_a_member_brings_whose_giving_up_was_cut_short_by_a_death_counts_no_more(bench: Bench) -> None:
    """The record is first, the claim after it: whoever dies in between leaves the rest to whoever looks next."""
    operation = bench.start_tree(wide(2), STEP)
    held = bench.claim_at(operation, "0001/0001")
    bench.do(operation, "0001/0002")
    member = operation.plan().part("0001/0001")
    failure = Failure(type="Cancelled", message="enough", step="0001/0001-one", epoch=1)
    files.make_dirs(operation.layout.given_up(member).parent, operation.path)
    files.replace(operation.layout.given_up(member), failure.encode())
    operation.reconcile()
    assert [out.path for out in claims.all_out(operation.layout)] == ["0002"]
    ended = commit_step(operation, held, "late", timestamp(bench.now))
    assert isinstance(ended, Dropped)
    bench.do(operation, "0002")
    assert operation.state is State.SUCCEEDED


def test_a_step_that_an_edit_took_out_of_the_plan_ends_without_effect_and_without_a_fault(bench: Bench) -> None:
    operation = bench.start_tree(wide(3), STEP)
    first, second = bench.claim_at(operation, "0001/0002"), bench.claim_at(operation, "0001/0003")
    edit_plan(operation, lambda parts: parts[0]["members"].__delitem__(slice(1, None)))
    assert isinstance(commit_step(operation, first, "x", timestamp(bench.now)), Dropped)
    assert isinstance(retry_step(operation, second, None, 1), Dropped)


def test_a_plan_that_cannot_be_read_for_an_instant_costs_no_retry_its_time_or_its_count(bench: Bench) -> None:
    operation = bench.start_tree(wide(2), STEP)
    held = bench.claim_at(operation, "0001/0001")
    retry_step(operation, held, timestamp(bench.now + 3600), 5)
    content = operation.layout.plan.read_bytes()
    operation.layout.plan.write_bytes(content[:100])
    operation.reconcile()
    operation.layout.plan.write_bytes(content)
    operation.reconcile()
    out = claims.find(operation.layout, "0001/0001")
    assert out is not None
    assert out.claim is not None
    assert (out.claim.attempt, out.claim.retries, out.claim.not_before) == (2, 5, timestamp(bench.now + 3600))


def test_while_the_plan_cannot_be_read_the_last_that_is_known_of_the_steps_is_told(bench: Bench) -> None:
    operation = bench.start_tree(wide(3), STEP)
    bench.do(operation, "0001/0001")
    bench.now += 2
    operation.reconcile()
    operation.layout.plan.unlink()
    operation.reconcile()
    view = operation.view()
    assert (view.steps_done, view.steps_total, view.step) == (1, 4, "0001/0002-one")
    assert "workflow.json is missing" in str(view.message)


def test_a_member_is_not_cancelled_while_a_step_has_failed(bench: Bench) -> None:
    operation = bench.start_tree(wide(3), STEP)
    held = bench.claim_at(operation, "0001/0001")
    bench.fail_at(operation, "0001/0002")
    with pytest.raises(Refused, match="a step has failed"):
        operation.cancel_member("0001/0003")
    bench.commit(operation, held, "x")
    assert operation.state is State.FAILED
    assert operation.resume().changed
    for path in ("0001/0002", "0001/0003", "0002"):
        bench.do(operation, path)
    assert operation.state is State.SUCCEEDED


def test_a_member_that_its_step_has_only_half_added_cannot_be_cancelled(bench: Bench) -> None:
    operation = bench.start_tree(wide(1, on_error=CONTINUE), STEP)
    held = bench.claim_at(operation, "0001/0001")

    def gone(*_: object) -> None:
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "create", gone)  # between the plan's write and the commit
        with pytest.raises(SystemExit):
            commit_step(operation, held, "x", timestamp(bench.now), members=(STEP,))
    with pytest.raises(Refused, match="not in the group yet"):
        operation.cancel_member("0001/0002")


def test_times_beyond_the_calendar_are_its_last_one() -> None:
    assert timestamp(1e300) == timestamp(1e12) == "9999-12-31T23:59:59.000Z"


def test_a_spoilt_request_of_a_gate_is_told_of(bench: Bench) -> None:
    kwargs = {"name": "ok", "question": "Go?", "fields": {}, "default": None, "timeout_s": 60.0, "passes": None}
    operation = bench.start_tree(Step("", "ok", "tapfs.gate", kwargs=kwargs), STEP)
    operation.reconcile()
    request = operation.layout.gates / "0001-ok" / "request.json"
    told = json.loads(request.read_text())
    request.write_text(json.dumps(told | {"expires_at": "banana"}))
    operation.reconcile()
    assert "request.json.rejected-1" in str(operation.view().message)
    assert any(line["event"] == "rejected" for line in operation.journal.entries())


@pytest.mark.parametrize("end", ["commit", "release", "retry", "interrupt", "fail"])
def test_what_a_step_has_done_counts_also_while_somebody_is_saving_the_plan(bench: Bench, end: str) -> None:
    operation = bench.start_tree(wide(2), STEP)
    held = bench.claim_at(operation, "0001/0001")
    content = operation.layout.plan.read_bytes()
    operation.layout.plan.write_bytes(content[:50])
    ended: object = None
    if end == "commit":
        ended = commit_step(operation, held, "a day of work", timestamp(bench.now))
    elif end == "release":
        ended = release_step(operation, held)
    elif end == "retry":
        ended = retry_step(operation, held, None, 1)
    elif end == "interrupt":
        ended = interrupt_step(operation, held, "the worker leaves")
    else:
        ended = bench.fail_held(operation, held)
    assert isinstance(ended, Settled)
    operation.layout.plan.write_bytes(content)
    operation.reconcile()
    if end == "commit":
        assert operation.result_of(held.step) == "a day of work"
    elif end == "fail":
        failure = operation.failure()
        assert failure is not None
        assert failure.type == "ValueError"
    else:
        out = claims.find(operation.layout, "0001/0001")
        assert out is not None
        assert out.claim is not None
        assert (out.claim.attempt, out.claim.crashes) == (2, 0)


def test_a_step_that_puts_something_in_while_somebody_is_saving_the_plan_waits_with_its_end(bench: Bench) -> None:
    operation = bench.start_tree(wide(2), STEP)
    held = bench.claim_at(operation, "0001/0001")
    content = operation.layout.plan.read_bytes()
    operation.layout.plan.write_bytes(content[:50])
    with pytest.raises(OSError, match=r"workflow\.json"):
        commit_step(operation, held, None, timestamp(bench.now), then=(STEP,))
    assert not held.is_released
    assert operation.layout.plan.read_bytes() == content[:50], "the edit is somebody's"
    return_step(operation, held, "it waits")
    operation.layout.plan.write_bytes(content)
    bench.now += 60
    operation.reconcile()
    again = bench.claim_at(operation, "0001/0001")
    assert isinstance(commit_step(operation, again, None, timestamp(bench.now), then=(STEP,)), Settled)


def test_a_commit_that_repair_puts_aside_is_done_again_also_where_others_have_seen_it_done(bench: Bench) -> None:
    operation = bench.start_tree(wide(3), STEP)
    other = bench.other(operation)
    bench.do(operation, "0001/0001")
    bench.do(operation, "0001/0002")
    other.reconcile()
    (operation.layout.steps / "0001/0001-one.json").write_text("{")
    repair(bench.control, lambda: (1, verify_operation(operation)))
    for _ in range(3):
        other.reconcile()
        bench.other(operation).reconcile()
    assert sorted(out.path for out in claims.all_out(operation.layout)) == ["0001/0001", "0001/0003"]
    for path in ("0001/0001", "0001/0003", "0002"):
        bench.do(other, path)
    assert other.state is State.SUCCEEDED


def test_a_pause_in_a_group_lets_only_those_end_that_began_behind_the_last_tap(bench: Bench) -> None:
    """`nth` for members: of each hundred either all go on or none."""
    operation = bench.start_tree(wide(300), nth=100, concurrency=4)
    bench.do(operation, "0001/0001")
    operation.pause()
    done = 1
    while operation.state is State.PAUSING:
        paths = sorted(out.path for out in claims.all_out(operation.layout))
        for path in paths:
            bench.do(operation, path)
            done += 1
    assert (operation.state, done) == (State.PAUSED, 100)


def test_many_operations_at_once_cost_no_reading_of_their_plans_at_each_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 8: what is active is looked at every two seconds."""
    operations = [bench.start_tree(wide(3)) for _ in range(60)]
    for operation in operations:
        operation.reconcile()
    read: list[int] = []
    decode = planfile.decode_plan
    monkeypatch.setattr(planfile, "decode_plan", lambda content: (read.append(1), decode(content))[1])
    for operation in operations:
        operation.reconcile()
    assert read == []


def test_a_fork_of_a_plan_that_was_edited_and_does_not_fit_is_refused(bench: Bench) -> None:
    operation = bench.start_tree(STEP, STEP, STEP)
    bench.do(operation, "0001")
    edit_plan(operation, lambda parts: parts[0].update(name="other"))
    with pytest.raises(Refused, match="step 0001-one is done, but the plan has no such step"):
        fork_of(operation, "0002")
