"""`fan_out`: limits of a group that outlive what Celery makes of it."""

import json
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature

from tapfs.bus.plan import Group, leaves
from tapfs.flow.fan_out import fan_out
from tapfs.flow.plans import NotTappable, plan_for


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="shop.tasks.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


def limits(canvas: Any) -> list[tuple[int, int | None, str]]:
    """How many members each outer group has, and its limits."""
    return [
        (len(part.members), part.concurrency, part.on_error)
        for part in plan_for(canvas).root.parts
        if isinstance(part, Group)
    ]


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda s, whole: whole, id="alone"),
        pytest.param(lambda s, whole: whole | s(5), id="before a task"),
        pytest.param(lambda s, whole: s(0) | whole | s(5) | s(6), id="in a chain"),
        pytest.param(lambda s, whole: chain(s(0), chain(whole, s(5))), id="in a chain in a chain"),
        pytest.param(lambda s, whole: chord(whole, s(5)), id="as a header"),
        pytest.param(lambda s, whole: whole.clone(), id="cloned"),
        pytest.param(lambda s, whole: signature(json.loads(json.dumps(whole | s(5)))), id="through JSON"),
    ],
)
def test_limits_outlive_what_celery_makes_of_a_group(add: Any, build: Any) -> None:
    whole = fan_out(add.s(1), add.s(2) | add.s(3), chord([add.s(4)], add.s(5)), concurrency=2, on_error="continue")
    canvas = build(add.s, whole)
    assert (3, 2, "continue") in limits(canvas)
    assert all("tapfs_fan_out" not in step.options for step in plan_for(canvas).steps)


def test_a_group_inside_has_limits_of_its_own(add: Any) -> None:
    plan = plan_for(fan_out(add.s(1) | fan_out(add.s(2), add.s(3), concurrency=1), add.s(4), concurrency=5))
    outer = plan.part("0001")
    inner = plan.part("0001/0001/0002")
    assert isinstance(outer, Group)
    assert isinstance(inner, Group)
    assert (outer.concurrency, inner.concurrency) == (5, 1)


def test_limits_of_a_group_around_groups_are_those_of_all_members(add: Any) -> None:
    whole = fan_out(add.s(1), group(add.s(2), fan_out(add.s(3), add.s(4), concurrency=9)), concurrency=2)
    assert limits(whole) == [(4, 2, "fail")]


@pytest.mark.parametrize(
    ("build", "count"),
    [
        pytest.param(lambda add: [add.s(1), add.s(2)], 2, id="list"),
        pytest.param(lambda add: (add.s(i) for i in range(3)), 3, id="generator"),
        pytest.param(lambda add: group(add.s(1), add.s(2)), 2, id="group"),
        pytest.param(lambda add: add.s(1), 1, id="one"),
        pytest.param(lambda add: add.s(1) | add.s(2), 1, id="one chain"),
        pytest.param(lambda add: add.map([1, 2, 3]), 3, id="map"),
        pytest.param(lambda add: add.starmap([(1, 2), (3, 4)]), 2, id="starmap"),
        pytest.param(lambda add: add.chunks([(i,) for i in range(5)], 2), 3, id="chunks"),
    ],
)
def test_it_takes_what_a_group_takes_and_what_may_be_one(add: Any, build: Any, count: int) -> None:
    assert limits(fan_out(build(add), concurrency=2)) == [(count, 2, "fail")]
    assert all(step.args or step.kwargs for step in plan_for(fan_out(build(add))).steps)


def test_it_copies_what_it_is_given_and_keeps_a_groups_options(add: Any) -> None:
    first, second = add.s(1), add.s(2)
    before = group(first, second).set(queue="q")
    whole = fan_out(before, concurrency=2)
    assert first.options == second.options == {}
    assert [step.options for step in plan_for(whole).steps] == [{"queue": "q"}, {"queue": "q"}]


def test_what_it_does_not_say_is_as_the_workflow_says(add: Any) -> None:
    plan = plan_for(fan_out(add.s(1), add.s(2), concurrency=2), on_error="continue")
    assert [(part.concurrency, part.on_error) for part in plan.root.parts if isinstance(part, Group)] == [
        (2, "continue")
    ]


def test_a_group_of_one_in_a_chain_is_its_member(add: Any) -> None:
    plan = plan_for(chain(add.s(1), fan_out(add.s(2), concurrency=2), add.s(3)))
    assert [step.label for step in leaves(plan.root)] == ["0001-add", "0002-add", "0003-add"]


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_a_concurrency_is_a_whole_number_from_one(add: Any, value: Any) -> None:
    with pytest.raises(NotTappable, match=r"concurrency is .*: it must be a whole number from 1"):
        fan_out(add.s(1), concurrency=value)


def test_on_error_is_one_of_two_words_and_a_member_is_a_signature(add: Any) -> None:
    with pytest.raises(NotTappable, match=r"on_error is 'stop': it must be 'fail' or 'continue'"):
        fan_out(add.s(1), on_error="stop")
    with pytest.raises(NotTappable, match="5 is no signature"):
        fan_out(add.s(1), 5)
