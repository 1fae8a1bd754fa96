"""How far a plan has come: which steps may run now, from what is in `steps/`."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.bench import plan_of
from support.trees import PAIR, STEP, group_of, groups_in, plans, tree_of, wide
from tapfs.bus.layout import OperationLayout
from tapfs.bus.plan import CONTINUE, Group, Part, Plan, Sequence, Step, leaves, parts_of
from tapfs.bus.progress import Progress, Standing
from tapfs.bus.splice import spliced


@pytest.fixture
def layout(tmp_path: Path) -> OperationLayout:
    (tmp_path / "steps").mkdir()
    return OperationLayout(tmp_path)


def commit(layout: OperationLayout, plan: Plan, *paths: str) -> None:
    for path in paths:
        target = layout.commit(plan.step(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def give_up(layout: OperationLayout, plan: Plan, path: str) -> None:
    target = layout.given_up(plan.part(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()


def open_paths(standing: Standing) -> list[str]:
    return [step.path for step in standing.open]


# ---- against the definition


def is_over(part: Part, done: set[str], given_up: set[str]) -> bool:
    """The definition: what is done, and that a group is over when each member is, or was given up."""
    if isinstance(part, Step):
        return part.path in done
    is_group = isinstance(part, Group)
    return all(is_over(one, done, given_up) or (is_group and one.path in given_up) for one in parts_of(part))


def may_run(part: Part, done: set[str], given_up: set[str], concurrency: int) -> Iterator[str]:
    """The definition: the first of a sequence that is not over; of a group, so many as may be under way."""
    left = [one for one in parts_of(part) if not is_over(one, done, given_up)]
    if isinstance(part, Step):
        yield part.path
    elif isinstance(part, Sequence):
        yield from may_run(left[0], done, given_up, concurrency)
    else:
        left = [one for one in left if one.path not in given_up]
        for member in left[: part.concurrency or concurrency]:
            yield from may_run(member, done, given_up, concurrency)


@settings(deadline=None)
@given(plans(is_plain=True), st.data())
def test_what_may_run_is_always_what_the_definition_says_and_what_a_fresh_look_says(
    plan: Plan, data: st.DataObject
) -> None:
    """Steps are committed in every order that is possible, and members are given up in between."""
    with tempfile.TemporaryDirectory() as folder:
        layout = OperationLayout(Path(folder))
        layout.steps.mkdir()
        progress = Progress(plan, layout)
        done: set[str] = set()
        given_up: set[str] = set()
        while not is_over(plan.root, done, given_up):
            standing = progress.look()
            assert open_paths(standing) == list(may_run(plan.root, done, given_up, plan.concurrency))
            assert standing == Progress(plan, layout).look()
            assert (standing.done, standing.is_complete) == (len(done), False)
            outermost = [path for path in given_up if not any(path.startswith(f"{one}/") for one in given_up)]
            assert list(standing.given_up) == sorted(outermost)
            for step in plan.steps:
                assert progress.is_open(step) == _is_open(plan, step, done, given_up)
            path = data.draw(st.sampled_from(open_paths(standing)))
            members = [
                member.path for group, member in plan.members_around(plan.step(path)) if group.on_error == CONTINUE
            ]
            if members and data.draw(st.integers(0, 3)) == 0:
                given_up.add(members[0])
                give_up(layout, plan, members[0])
            else:
                done.add(path)
                commit(layout, plan, path)
        assert progress.look() == Progress(plan, layout).look()
        assert (progress.look().is_complete, progress.look().open) == (True, ())


def _is_open(plan: Plan, step: Step, done: set[str], given_up: set[str]) -> bool:
    """The definition: it is not done, all before it is over, and no member around it was given up."""
    if step.path in done or any(member.path in given_up for _, member in plan.members_around(step)):
        return False
    before = (one for home, number in plan.way_to(step) if isinstance(home, Sequence) for one in home.parts[:number])
    return all(is_over(one, done, given_up) for one in before)


# ---- case by case


def test_a_chain_is_open_at_the_first_step_that_is_not_done(layout: OperationLayout) -> None:
    plan = plan_of(3)
    progress = Progress(plan, layout)
    for number in (1, 2, 3):
        standing = progress.look()
        assert (standing.done, open_paths(standing), standing.is_complete) == (number - 1, [f"000{number}"], False)
        commit(layout, plan, f"000{number}")
    assert progress.look() == Standing(3, (), (), True)


def test_of_a_group_as_many_members_are_open_as_may_be_under_way_and_one_that_ends_makes_room(
    layout: OperationLayout,
) -> None:
    plan = tree_of(wide(5, concurrency=2), STEP)
    progress = Progress(plan, layout)
    assert open_paths(progress.look()) == ["0001/0001", "0001/0002"]
    commit(layout, plan, "0001/0002")
    assert open_paths(progress.look()) == ["0001/0001", "0001/0003"]
    commit(layout, plan, "0001/0001", "0001/0003", "0001/0004")
    assert open_paths(progress.look()) == ["0001/0005"]
    commit(layout, plan, "0001/0005")
    assert open_paths(progress.look()) == ["0002"]


def test_a_group_that_says_nothing_has_as_many_under_way_as_the_operation_may_have_out(layout: OperationLayout) -> None:
    assert len(Progress(tree_of(wide(50)), layout).look().open) == 16
    assert len(Progress(tree_of(wide(50), concurrency=3), layout).look().open) == 3


def test_a_member_that_is_a_chain_is_under_way_from_its_first_step_to_its_last(layout: OperationLayout) -> None:
    plan = tree_of(group_of(PAIR, PAIR, PAIR, concurrency=2))
    progress = Progress(plan, layout)
    progress.look()
    commit(layout, plan, "0001/0002/0001")
    assert open_paths(progress.look()) == ["0001/0001/0001", "0001/0002/0002"]
    commit(layout, plan, "0001/0002/0002")
    assert open_paths(progress.look()) == ["0001/0001/0001", "0001/0003/0001"]


def test_a_member_that_was_given_up_counts_as_over_and_what_of_it_is_done_stays_counted(
    layout: OperationLayout,
) -> None:
    plan = tree_of(group_of(PAIR, PAIR, concurrency=1, on_error=CONTINUE), STEP)
    progress = Progress(plan, layout)
    commit(layout, plan, "0001/0001/0001")
    assert open_paths(progress.look()) == ["0001/0001/0002"]
    give_up(layout, plan, "0001/0001")
    standing = progress.look()
    assert (standing.done, standing.given_up, open_paths(standing)) == (1, ("0001/0001",), ["0001/0002/0001"])
    assert not progress.is_open(plan.step("0001/0001/0002"))


def test_of_members_that_were_given_up_inside_one_another_the_outermost_is_told(layout: OperationLayout) -> None:
    inner = Sequence((wide(2, on_error=CONTINUE), STEP))
    plan = tree_of(group_of(inner, STEP, on_error=CONTINUE))
    progress = Progress(plan, layout)
    give_up(layout, plan, "0001/0001/0001/0002")
    commit(layout, plan, "0001/0001/0001/0001")
    assert progress.look().given_up == ("0001/0001/0001/0002",)
    give_up(layout, plan, "0001/0001")
    assert progress.look() == Progress(plan, layout).look()
    assert (progress.look().given_up, progress.look().done) == (("0001/0001",), 1)


def test_a_group_whose_every_member_was_given_up_is_over(layout: OperationLayout) -> None:
    plan = tree_of(wide(2, on_error=CONTINUE), STEP)
    for path in ("0001/0001", "0001/0002"):
        give_up(layout, plan, path)
    standing = Progress(plan, layout).look()
    assert (standing.done, open_paths(standing), len(standing.given_up)) == (0, ["0002"], 2)


def test_a_step_is_open_beyond_the_limit_where_it_was_put_out_under_a_higher_one(layout: OperationLayout) -> None:
    """So that a worker that has it may end it: the limit was lowered meanwhile."""
    plan = tree_of(group_of(PAIR, PAIR, PAIR, concurrency=1))
    progress = Progress(plan, layout)
    assert open_paths(progress.look()) == ["0001/0001/0001"]
    assert progress.is_open(plan.step("0001/0003/0001"))
    assert not progress.is_open(plan.step("0001/0003/0002"))
    commit(layout, plan, "0001/0003/0001")
    assert progress.is_open(plan.step("0001/0003/0002"))


# ---- members that a step added


def test_members_that_a_step_added_wait_for_its_commit(layout: OperationLayout) -> None:
    plan = spliced(tree_of(wide(2), STEP), "0001/0001", members=(STEP, PAIR))
    progress = Progress(plan, layout)
    assert open_paths(progress.look()) == ["0001/0001", "0001/0002"]
    assert not progress.is_open(plan.step("0001/0003"))
    commit(layout, plan, "0001/0001")
    assert open_paths(progress.look()) == ["0001/0002", "0001/0003", "0001/0004/0001"]
    commit(layout, plan, "0001/0002", "0001/0003", "0001/0004/0001", "0001/0004/0002")
    assert open_paths(progress.look()) == ["0002"]


def test_a_group_is_not_over_while_members_may_still_be_added(layout: OperationLayout) -> None:
    """The plan is written before the adder's commit: seen in between, the others must not make the group complete."""
    plan = spliced(tree_of(wide(2), STEP), "0001/0001", members=(STEP,))
    commit(layout, plan, "0001/0002")
    standing = Progress(plan, layout).look()
    assert (open_paths(standing), standing.is_complete) == (["0001/0001"], False)


def test_members_of_a_step_that_was_given_up_do_not_count(layout: OperationLayout) -> None:
    plan = spliced(tree_of(wide(2, on_error=CONTINUE), STEP), "0001/0001", members=(STEP,))
    commit(layout, plan, "0001/0002")
    give_up(layout, plan, "0001/0001")
    standing = Progress(plan, layout).look()
    assert (open_paths(standing), standing.given_up) == (["0002"], ("0001/0001",))


def test_members_are_open_also_where_their_adder_waits_behind_them_for_room(layout: OperationLayout) -> None:
    """Law 10: under a limit of one, the adder's own member comes first, and what it added after it."""
    plan = spliced(tree_of(group_of(PAIR, STEP, concurrency=1)), "0001/0001/0001", members=(STEP,))
    progress = Progress(plan, layout)
    order = []
    while found := open_paths(progress.look()):
        order += found
        commit(layout, plan, found[0])
    assert order == ["0001/0001/0001", "0001/0001/0002", "0001/0002", "0001/0003"]
    assert progress.look().is_complete


# ---- what is remembered, and what it costs


def test_what_was_remembered_is_forgotten_when_the_last_commit_seen_is_gone(layout: OperationLayout) -> None:
    plan = tree_of(STEP, wide(3), STEP)
    progress = Progress(plan, layout)
    commit(layout, plan, "0001", "0002/0001")
    progress.look()
    layout.commit(plan.step("0002/0001")).unlink()
    layout.commit(plan.step("0001")).unlink()
    assert open_paths(progress.look()) == ["0001"]


def test_files_that_are_no_commits_are_none(layout: OperationLayout) -> None:
    plan = tree_of(wide(2))
    (layout.steps / "0001").mkdir()
    for name in ("0001-one.checkpoint.json", "0001-one.once.jsonl", ".tmp-1-2-abc", "0001-two.json"):
        (layout.steps / "0001" / name).touch()
    assert len(Progress(plan, layout).look().open) == 2


def _calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count how often anything is asked of the file system; the result gives and forgets the count."""
    asked: list[object] = []

    for name in ("lstat", "stat", "listdir", "scandir", "open"):
        real = getattr(os, name)

        def counting(*args: object, real: Callable[..., object] = real, **options: object) -> object:
            asked.append(args[0] if args else None)
            return real(*args, **options)

        monkeypatch.setattr(os, name, counting)

    def count() -> int:
        number = len(asked)
        asked.clear()
        return number

    return count


def _cost_of_each_look(plan: Plan, layout: OperationLayout, count: Callable[[], int], looks: int) -> list[int]:
    """How much is asked at each look, with one more commit before each; the first look is not told."""
    progress = Progress(plan, layout)
    standing = progress.look()
    costs = []
    for _ in range(looks):
        commit(layout, plan, standing.open[0].path)
        count()
        standing = progress.look()
        costs.append(count())
    return costs


@pytest.mark.parametrize("kind", ["chain", "group", "group of chains", "groups in a group"])
def test_a_look_costs_the_same_in_a_small_plan_and_in_one_of_thousands(
    layout: OperationLayout, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Law 8. Counted, not timed."""
    shapes: dict[str, Callable[[int], Plan]] = {
        "chain": plan_of,
        "group": lambda n: tree_of(wide(n, concurrency=8)),
        "group of chains": lambda n: tree_of(group_of(*[PAIR] * (n // 2), concurrency=8)),
        "groups in a group": lambda n: tree_of(group_of(*[wide(n // 4, concurrency=4)] * 4, concurrency=2)),
    }
    count = _calls(monkeypatch)
    costs = {}
    for steps in (40, 4000):
        here = OperationLayout(layout.folder / str(steps))
        here.steps.mkdir(parents=True)
        costs[steps] = max(_cost_of_each_look(shapes[kind](steps), here, count, 16))
    print(kind, costs)
    assert costs[4000] == costs[40] < 60


def test_a_look_costs_the_same_at_the_beginning_of_a_group_and_near_its_end(
    layout: OperationLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = _calls(monkeypatch)
    costs = _cost_of_each_look(tree_of(wide(300, concurrency=4)), layout, count, 290)
    assert len(set(costs[1:-4])) == 1, costs


def test_the_first_look_at_a_plan_that_is_nearly_done_costs_one_listing_and_not_a_question_for_each_step(
    layout: OperationLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = _calls(monkeypatch)
    costs = {}
    for steps in (50, 1000):
        plan = tree_of(wide(steps), STEP)
        here = OperationLayout(layout.folder / str(steps))
        commit(here, plan, *(step.path for step in plan.steps[:-1]))
        count()
        assert open_paths(Progress(plan, here).look()) == ["0002"]
        costs[steps] = count()
    print(costs)
    assert costs[1000] == costs[50]


@settings(deadline=None)
@given(plans(is_plain=True))
def test_a_plan_of_which_nothing_is_done_is_open_and_one_of_which_all_is_done_is_complete(plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = OperationLayout(Path(folder))
        assert Progress(plan, layout).look().open
        commit(layout, plan, *(step.path for step in plan.steps))
        assert Progress(plan, layout).look() == Standing(len(plan.steps), (), (), True)


@settings(deadline=None)
@given(plans(is_plain=True))
def test_never_more_of_a_group_is_open_than_may_be_under_way(plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        standing = Progress(plan, OperationLayout(Path(folder))).look()
    for group in groups_in(plan.root):
        open_in = [
            member for member in group.members if {step.path for step in leaves(member)} & set(open_paths(standing))
        ]
        assert len(open_in) <= (group.concurrency or plan.concurrency)
