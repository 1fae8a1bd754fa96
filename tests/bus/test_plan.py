"""The plan: a tree, and who stands where in it."""

import pytest
from hypothesis import given, settings

from support.bench import plan_of
from support.trees import PAIR, STEP, group_of, plans, tree_of, wide
from tapfs.bus.plan import (
    Group,
    Part,
    Plan,
    Sequence,
    Step,
    leaves,
    parts_of,
    path_of,
    placed,
    placed_in,
    short_name,
)

#: A step, a group of a step, a chain of two and a group of two, and a step.
TREE = tree_of(STEP, group_of(STEP, PAIR, wide(2)), STEP)


def label(part: Part | None) -> str | None:
    return None if part is None else part.path


def test_every_part_has_its_place_for_a_path() -> None:
    assert [step.path for step in TREE.steps] == [
        "0001",
        "0002/0001",
        "0002/0002/0001",
        "0002/0002/0002",
        "0002/0003/0001",
        "0002/0003/0002",
        "0003",
    ]
    assert [home.path for home in TREE.homes] == ["", "0002", "0002/0002", "0002/0003"]


@settings(deadline=None)
@given(plans(is_plain=True))
def test_no_two_steps_have_the_same_path_and_paths_sort_as_the_steps_stand(plan: Plan) -> None:
    paths = [step.path for step in plan.steps]
    assert len(set(paths)) == len(paths)
    assert paths == sorted(paths)
    assert [plan.step(path) for path in paths] == list(plan.steps)
    assert [plan.place(path) for path in paths] == list(range(len(paths)))
    assert all(plan.has(path) and plan.has_part(path) for path in paths)


def test_each_step_takes_the_result_of_the_one_before() -> None:
    inner = Sequence((Step("0002", "b", "t.b"), Step("0003", "c", "t.c")))
    plan = Plan(Sequence((Step("0001", "a", "t.a"), inner, Step("0004", "d", "t.d"))))
    assert [label(plan.before(step)) for step in plan.steps] == [None, "0001", "0002", ""]
    assert plan.before(plan.steps[-1]) is inner
    assert [plan.place(step.path) for step in plan.steps] == [0, 1, 2, 3]
    with pytest.raises(KeyError):
        plan.step("0005")


def test_each_member_takes_what_came_before_the_group_and_what_follows_takes_the_group() -> None:
    assert [label(TREE.before(step)) for step in TREE.steps] == [
        None,
        "0001",
        "0001",
        "0002/0002/0001",
        "0001",
        "0001",
        "0002",
    ]


def test_the_members_of_a_first_group_take_nothing() -> None:
    plan = tree_of(group_of(STEP, PAIR), STEP)
    assert [label(plan.before(step)) for step in plan.steps] == [None, None, "0001/0002/0001", "0001"]


def test_what_waits_for_a_part_is_what_stands_behind_it_and_behind_what_holds_it() -> None:
    assert [part.path for part in TREE.after(TREE.step("0002/0002/0001"))] == ["0002/0002/0002", "0003"]
    assert [part.path for part in TREE.after(TREE.step("0002/0001"))] == ["0003"], "other members do not wait for it"
    assert [part.path for part in TREE.after(TREE.part("0002"))] == ["0003"]
    assert list(TREE.after(TREE.step("0003"))) == []


@settings(deadline=None)
@given(plans(is_plain=True))
def test_what_a_step_takes_from_waits_for_nothing_that_the_step_comes_before(plan: Plan) -> None:
    for step in plan.steps:
        before = plan.before(step)
        if before is not None:
            assert step in [one for part in plan.after(before) for one in leaves(part)]


def test_the_groups_around_a_step_are_told_from_the_inside_out_with_its_member_in_each() -> None:
    around = list(TREE.members_around(TREE.step("0002/0003/0002")))
    assert [(group.path, member.path) for group, member in around] == [
        ("0002/0003", "0002/0003/0002"),
        ("0002", "0002/0003"),
    ]
    assert [member.path for _, member in TREE.members_around(TREE.step("0002/0002/0001"))] == ["0002/0002"]
    assert list(TREE.members_around(TREE.step("0003"))) == []


def test_a_member_is_a_part_with_a_path_and_so_is_a_group() -> None:
    assert isinstance(TREE.part("0002"), Group)
    assert isinstance(TREE.part("0002/0002"), Sequence)
    assert TREE.part("0002/0001") is TREE.step("0002/0001")
    assert not TREE.has("0002/0002")
    assert TREE.has_part("0002/0002")
    assert not TREE.has_part("0004")
    assert not TREE.has_part(""), "the whole is none of its parts"


def test_the_way_to_a_step_of_an_earlier_plan_is_that_of_its_path() -> None:
    """Something was put in behind it meanwhile: its place holds another object."""
    again = tree_of(STEP, group_of(STEP, PAIR, wide(2)), STEP)
    assert [number for _, number in again.way_to(TREE.step("0002/0003/0002"))] == [1, 2, 1]


def test_there_is_a_tap_before_the_first_step_and_after_every_nth() -> None:
    plan = plan_of(7, nth=3)
    assert [step.path for step in plan.steps if plan.has_tap_before(step)] == ["0001", "0004", "0007"]
    assert all(plan_of(4).has_tap_before(step) for step in plan_of(4).steps)


def test_nth_counts_members_too_and_the_first_step_of_a_member_stands_where_the_member_does() -> None:
    plan = tree_of(STEP, group_of(*[PAIR] * 4), STEP, STEP, nth=2)
    assert [step.path for step in plan.steps if plan.has_tap_before(step)] == [
        "0001",
        "0002/0003/0001",
        "0003",
    ]


@settings(deadline=None)
@given(plans(is_plain=True))
def test_with_nth_1_there_is_a_tap_before_every_step(plan: Plan) -> None:
    assert all(plan.has_tap_before(step) for step in plan.steps)


def test_paths_sort_by_name_however_many_there_are() -> None:
    for total in (3, 9_999, 12_000):
        paths = [path_of(number, total) for number in (1, 2, 10, 999, total)]
        assert paths[0].lstrip("0") == "1"
        assert len({len(path) for path in paths}) == 1
    assert [path_of(3, 9), path_of(3, 10_000)] == ["0003", "00003"]


def test_a_part_is_placed_with_all_that_is_in_it_and_keeps_what_it_says() -> None:
    part = placed(group_of(STEP, PAIR, concurrency=3, on_error="continue"), "0007.0001", "0007")
    assert isinstance(part, Group)
    assert (part.path, part.by, part.concurrency, part.on_error) == ("0007.0001", "0007", 3, "continue")
    assert [step.path for step in leaves(part)] == ["0007.0001/0001", "0007.0001/0002/0001", "0007.0001/0002/0002"]
    assert [step.by for step in leaves(part)] == [None] * 3, "the outermost part says who put it in"
    assert [one.path for one in placed_in([STEP] * 2, "0003")] == ["0003/0001", "0003/0002"]


def test_a_plan_knows_who_put_something_in() -> None:
    plan = Plan(Sequence((placed(STEP, "0001"), placed(PAIR, "0001.0001", "0001"), placed(STEP, "0002"))))
    assert plan.putters == {"0001"}
    assert TREE.putters == frozenset()


def test_a_step_that_runs_something_else_has_another_checksum() -> None:
    """B35."""
    step = Step("0001", "one", "test.one", args=[1], kwargs={"a": 2})
    same = Step("0007", "two", "test.one", args=[1], kwargs={"a": 2}, options={"queue": "fast"})
    assert same.checksum == step.checksum, "where it stands, how it is called and how it is sent is not what it runs"
    others = [
        Step("0001", "one", "test.two", args=[1], kwargs={"a": 2}),
        Step("0001", "one", "test.one", args=[2], kwargs={"a": 2}),
        Step("0001", "one", "test.one", args=[1], kwargs={"a": 3}),
        Step("0001", "one", "test.one", args=[1], kwargs={"a": 2}, immutable=True),
    ]
    assert step.checksum not in {other.checksum for other in others}


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("tapfs.tally.check", "check"),
        ("check", "check"),
        ("shop.tasks.send mail/../x", "x"),
        ("a.b c/d", "b-c-d"),
        ("t." + "x" * 100, "x" * 40),
        ("t.äöü", "step"),
        ("", "step"),
    ],
)
def test_a_short_name_is_fit_for_a_file_name(task: str, name: str) -> None:
    assert short_name(task) == name


def test_a_sequence_in_a_sequence_is_a_sequence() -> None:
    inner = Sequence((Step("0001", "a", "t.a"),))
    assert [step.label for step in Plan(Sequence((inner, Sequence(()), inner))).steps] == ["0001-a", "0001-a"]
    assert parts_of(inner) == inner.parts
    assert parts_of(inner.parts[0]) == ()
