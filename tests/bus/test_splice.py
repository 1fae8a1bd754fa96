"""What a running step puts into the plan: behind itself, or into the group around it; once, however often it ran."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.bench import Bench, plan_of
from support.mortal import deaths
from support.trees import PAIR, STEP, group_of, plans, tree_of, wide
from tapfs.bus.begin import Dropped
from tapfs.bus.clock import timestamp
from tapfs.bus.losses import give_away
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Group, Part, Plan, Sequence, leaves
from tapfs.bus.planfile import decode_plan, encode_plan
from tapfs.bus.reconcile import Settled
from tapfs.bus.splice import spliced, without_parts_of
from tapfs.bus.states import State
from tapfs.bus.steps import commit_step
from tapfs.bus.values import value_of


def paths(plan: Plan) -> list[str]:
    return [step.path for step in plan.steps]


def before(plan: Plan, path: str) -> str | None:
    part = plan.before(plan.step(path))
    return None if part is None else part.path


# ---- behind a step


def test_what_a_step_puts_in_runs_behind_it_and_before_what_stood_behind_it() -> None:
    plan = spliced(plan_of(2), "0001", (STEP, STEP))
    assert paths(plan) == ["0001", "0001.0001", "0001.0002", "0002"]
    assert [before(plan, path) for path in paths(plan)] == [None, "0001", "0001.0001", "0001.0002"]
    assert [step.by for step in plan.steps] == [None, "0001", "0001", None]


def test_what_the_last_step_puts_in_gives_the_result() -> None:
    plan = spliced(plan_of(2), "0002", (STEP,))
    assert plan.root.parts[-1].path == "0002.0001"


def test_a_loop_stays_flat_each_round_is_numbered_after_the_one_before() -> None:
    """The last of what was put in puts in the next: ten thousand rounds are not nested ten thousand deep."""
    plan, last = plan_of(2), "0001"
    for _ in range(30):
        plan = spliced(plan, last, (STEP,))
        last = paths(plan)[-2]
    assert paths(plan) == ["0001", *(f"0001.{number:04d}" for number in range(1, 31)), "0002"]
    assert len(plan.root.parts) == 32


def test_one_in_the_middle_of_what_was_put_in_puts_its_own_behind_itself_with_the_next_free_numbers() -> None:
    plan = spliced(plan_of(2), "0001", (STEP, STEP))
    plan = spliced(plan, "0001.0001", (STEP, PAIR))
    assert paths(plan) == [
        "0001",
        "0001.0001",
        "0001.0003",
        "0001.0004/0001",
        "0001.0004/0002",
        "0001.0002",
        "0002",
    ]


def test_a_step_that_is_done_again_takes_out_what_its_first_try_put_in() -> None:
    once = spliced(plan_of(3), "0002", (STEP, PAIR))
    assert spliced(once, "0002", (STEP, PAIR)) == once
    assert paths(spliced(once, "0002", (STEP,))) == ["0001", "0002", "0002.0001", "0003"]
    assert spliced(once, "0002") == plan_of(3)


def test_what_that_has_put_in_goes_with_it() -> None:
    plan = plan_of(2)
    for path in ("0001", "0001.0001", "0001.0002"):
        plan = spliced(plan, path, (STEP,))
    assert paths(without_parts_of(plan, {"0001.0001"})) == ["0001", "0001.0001", "0002"]
    assert paths(spliced(plan, "0001", (STEP,))) == ["0001", "0001.0001", "0002"]


def test_nothing_put_in_and_nothing_to_take_out_changes_nothing() -> None:
    plan = plan_of(3)
    assert spliced(plan, "0002") is plan


def test_a_group_can_be_put_in_and_the_next_step_takes_its_list() -> None:
    plan = spliced(plan_of(2), "0001", (wide(3, concurrency=2, on_error="continue"),))
    group = plan.part("0001.0001")
    assert isinstance(group, Group)
    assert (group.concurrency, group.on_error, group.by) == (2, "continue", "0001")
    assert before(plan, "0001.0001/0002") == "0001"
    assert before(plan, "0002") == "0001.0001"


def test_a_member_that_puts_something_in_becomes_a_chain_in_its_own_place() -> None:
    plan = spliced(tree_of(STEP, wide(3), STEP), "0002/0002", (STEP,))
    group = plan.part("0002")
    assert isinstance(group, Group)
    assert [member.path for member in group.members] == ["0002/0001", "0002/0002", "0002/0003"]
    assert isinstance(group.members[1], Sequence)
    assert paths(plan) == ["0001", "0002/0001", "0002/0002", "0002/0002.0001", "0002/0003", "0003"]
    assert [before(plan, path) for path in paths(plan)] == [None, "0001", "0001", "0002/0002", "0001", "0002"]


def test_a_member_that_is_done_again_puts_in_again_in_the_same_place() -> None:
    plan = tree_of(wide(2))
    once = spliced(plan, "0001/0002", (STEP, STEP))
    again = spliced(once, "0001/0002", (STEP,))
    assert paths(again) == ["0001/0001", "0001/0002", "0001/0002.0001"]
    assert paths(spliced(again, "0001/0002")) == paths(plan)
    loop = spliced(once, "0001/0002.0002", (STEP,))
    assert paths(loop)[-1] == "0001/0002.0003"


def test_a_step_in_a_chain_in_a_group_puts_in_where_it_stands() -> None:
    plan = spliced(tree_of(group_of(PAIR, PAIR)), "0001/0002/0001", (STEP,))
    assert paths(plan) == [
        "0001/0001/0001",
        "0001/0001/0002",
        "0001/0002/0001",
        "0001/0002/0001.0001",
        "0001/0002/0002",
    ]


# ---- into the group around it


def test_members_are_added_behind_the_last_one_of_the_innermost_group() -> None:
    plan = spliced(tree_of(group_of(wide(2), STEP), STEP), "0001/0001/0002", members=(STEP, PAIR))
    assert paths(plan) == [
        "0001/0001/0001",
        "0001/0001/0002",
        "0001/0001/0003",
        "0001/0001/0004/0001",
        "0001/0001/0004/0002",
        "0001/0002",
        "0002",
    ]
    assert before(plan, "0001/0001/0003") is None
    assert [member.by for member in plan.part("0001/0001").members[2:]] == ["0001/0001/0002"] * 2  # type: ignore[union-attr]


def test_members_of_two_steps_stand_side_by_side_and_each_replaces_only_its_own() -> None:
    plan = spliced(tree_of(wide(2), STEP), "0001/0001", members=(STEP,))
    plan = spliced(plan, "0001/0002", members=(STEP, STEP))
    assert paths(plan)[:-1] == [f"0001/000{number}" for number in (1, 2, 3, 4, 5)]
    plan = spliced(plan, "0001/0001", members=(PAIR,))
    assert plan.part("0001/0006").by == "0001/0001"
    assert "0001/0003" not in paths(plan), "the first try's"
    assert [path for path in paths(plan) if plan.step(path).by == "0001/0002"] == ["0001/0004", "0001/0005"]


def test_a_step_may_put_in_members_and_what_follows_at_once() -> None:
    plan = spliced(tree_of(wide(1), STEP), "0001/0001", (STEP,), (STEP,))
    assert paths(plan) == ["0001/0001", "0001/0001.0001", "0001/0002", "0002"]
    assert spliced(plan, "0001/0001", (STEP,), (STEP,)) == plan


@settings(deadline=None)
@given(plans(is_plain=True), st.data())
def test_whatever_is_put_in_wherever_no_two_steps_share_a_path_and_taking_it_out_gives_the_plan_back(
    plan: Plan, data: st.DataObject
) -> None:
    some: st.SearchStrategy[tuple[Part, ...]] = st.lists(st.sampled_from([STEP, PAIR, wide(2)]), max_size=2).map(tuple)
    now = plan
    for _ in range(data.draw(st.integers(1, 5))):
        path = data.draw(st.sampled_from(paths(now)))
        is_in_group = any(True for _ in now.members_around(now.step(path)))
        then, members = data.draw(some), data.draw(some) if is_in_group else ()
        now = spliced(now, path, then, members)
        assert len(set(paths(now))) == len(paths(now))
        assert decode_plan(encode_plan(now)) == now
        assert spliced(now, path, then, members) == now or members, "members may get further numbers"
    kept = without_parts_of(now, paths(plan))
    assert paths(kept) == paths(plan)
    assert [kept.before(step) is None for step in kept.steps] == [plan.before(step) is None for step in plan.steps]


# ---- durably, once


def put_in(bench: Bench, operation: Operation, path: str, *then: Part, members: tuple[Part, ...] = ()) -> Settled:
    held = bench.claim_at(operation, path)
    settled = commit_step(operation, held, path, timestamp(bench.now), then=then, members=members)
    assert isinstance(settled, Settled), settled
    return settled


def test_what_a_step_puts_in_is_run_next_and_its_result_counts(bench: Bench) -> None:
    """B20: a step that replaces itself."""
    operation = bench.start(2)
    put_in(bench, operation, "0001", STEP, wide(2))
    bench.do(operation, "0001.0001")
    for path in ("0001.0002/0002", "0001.0002/0001", "0002"):
        bench.do(operation, path)
    assert operation.result == "0002"
    assert operation.view().steps_done == operation.view().steps_total == 5


def test_a_loop_runs_until_it_puts_nothing_in_any_more(bench: Bench) -> None:
    operation = bench.start(2)
    put_in(bench, operation, "0001", STEP)
    for number in range(1, 6):
        put_in(bench, operation, f"0001.{number:04d}", *([STEP] if number < 5 else []))
    bench.do(operation, "0002")
    assert operation.state is State.SUCCEEDED
    assert [one.step.path for one in bench.published] == ["0001", *(f"0001.{n:04d}" for n in range(1, 6)), "0002"]


def test_members_that_a_step_adds_run_and_stand_in_the_list(bench: Bench) -> None:
    """`self.add_to_chord`."""
    operation = bench.start_tree(wide(2), STEP)
    put_in(bench, operation, "0001/0001", members=(STEP,))
    bench.do(operation, "0001/0002")
    assert bench.out(operation) == ["0001/0003"]
    bench.do(operation, "0001/0003")
    assert value_of(operation, operation.plan().part("0001")) == ["0001/0001", "0001/0002", "0001/0003"]
    bench.do(operation, "0002")
    assert operation.state is State.SUCCEEDED


def test_a_step_whose_commit_does_not_count_puts_nothing_in(bench: Bench) -> None:
    """Its claim was given to another, which has put in something else."""
    operation = bench.start(2)
    held = bench.claim(operation)
    give_away(bench.other(operation), "0001", 1, 1, "no sign of life")
    before = operation.layout.plan.read_bytes()
    assert isinstance(commit_step(operation, held, None, timestamp(bench.now), then=(STEP,)), Dropped)
    assert operation.layout.plan.read_bytes() == before


@pytest.mark.parametrize("kind", ["behind", "behind a member", "members"])
def test_a_step_killed_at_any_write_while_it_puts_something_in_has_put_it_in_once(tmp_path: Path, kind: str) -> None:
    """It is done again, and puts in what it finds then: here, other parts than the first time."""
    count = iter(range(1000))
    path = "0001" if kind == "behind" else "0001/0001"

    def scene() -> tuple[Bench, Operation]:
        bench = Bench(tmp_path / str(next(count)))
        return bench, bench.start(2) if kind == "behind" else bench.start_tree(wide(2), STEP)

    def act(made: tuple[Bench, Operation], *parts: Part) -> None:
        bench, operation = made
        put_in(
            bench, operation, path, *(() if kind == "members" else parts), members=parts if kind == "members" else ()
        )

    tried = 0
    for bench, operation in deaths(scene, lambda made: act(made, STEP, PAIR)):
        tried += 1
        again = bench.other(operation)
        was_done = operation.is_committed(operation.plan().step(path))
        for _ in range(40):
            if again.ready():
                break
            bench.now += 60
            again.reconcile()
            due = [one for one in bench.published if again.layout.claim(one.step.path).exists()]
            message = due[-1]
            if message.step.path == path:
                act((bench, again), PAIR)
            else:
                bench.do(again, message.step.path)
        assert again.state is State.SUCCEEDED, again.view()
        put = [step for part in again.plan().homes for one in _held(part) if one.by == path for step in leaves(one)]
        assert len(put) == (3 if was_done else 2), [step.path for step in put]
        assert all(again.is_committed(step) for step in again.plan().steps)
    print(tried, "points of death")
    assert tried > 5


def _held(part: Sequence | Group) -> tuple[Part, ...]:
    return part.parts if isinstance(part, Sequence) else part.members
