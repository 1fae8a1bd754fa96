"""What canvases give, without a broker: the plain evaluation that other tests compare with, and canvases at random."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature, _chain

from support.canvas_plain import define_tasks, evaluate, is_beyond_celery, random_canvas
from support.canvas_shapes import ODD_SHAPES, SHAPES
from tapfs.bus.plan import Group, Part, Plan, leaves, parts_of
from tapfs.bus.planfile import decode_plan, encode_plan
from tapfs.flow.fan_out import fan_out
from tapfs.flow.plans import parts_for, plan_for

SEEDS = range(20261122, 20261122 + 60)


@pytest.fixture
def canvas_app(app: Celery) -> Celery:
    define_tasks(app)
    return app


@pytest.fixture
def current(canvas_app: Celery) -> Iterator[Celery]:
    """The app of what says none, such as an empty group."""
    from celery import _state

    before = _state._tls.current_app
    canvas_app.set_current()
    yield canvas_app
    _state._tls.current_app = before


def depth_of(part: Part) -> int:
    return 1 + max((depth_of(one) for one in parts_of(part)), default=0)


def size_of(canvas: Signature) -> tuple[int, int]:
    """How deep a canvas is, and how many members or links its widest part has."""
    if isinstance(canvas, chord):
        inner = [*canvas.tasks, canvas.body]
    elif isinstance(canvas, (_chain, group)):
        inner = list(canvas.tasks)
    else:
        return 0, 0
    sizes = [size_of(one) for one in inner]
    return 1 + max(depth for depth, _ in sizes), max(len(inner), *(width for _, width in sizes))


def test_a_plan_is_evaluated_as_its_tree_says(canvas_app: Celery) -> None:
    c = canvas_app.tasks["canvas.collect"].s
    plan = plan_for(c(1) | group(c(2, k=3), c(4).set(immutable=True), c(5) | c(6)) | c(7))
    assert evaluate(plan, canvas_app) == [[[[[1], 2], {"k": 3}], [4], [[[1], 5], 6]], 7]
    assert evaluate(plan.part("0002/0002"), canvas_app) == [4]


def test_a_member_that_fails_stands_in_its_place_where_the_group_goes_on(canvas_app: Celery) -> None:
    @canvas_app.task(name="canvas.fail")
    def fail(*values: Any) -> None:
        raise ValueError("no good")

    c = canvas_app.tasks["canvas.collect"].s
    plan = plan_for(fan_out(c(1), c(2) | fail.s() | c(3), on_error="continue") | c(4))
    error = {"type": "ValueError", "message": "no good", "step": "0001/0002/0002-fail"}
    assert evaluate(plan, canvas_app) == [[[1], {"error": error}], 4]
    with pytest.raises(ValueError, match="no good"):
        evaluate(plan_for(group(c(1), fail.s()) | c(4)), canvas_app)


@pytest.mark.parametrize(
    "shape", [name for name in SHAPES if not {"group", "groups", "empty", "header"} & set(name.split())]
)
def test_what_celery_gives_eagerly_is_what_the_plan_gives(current: Celery, shape: str) -> None:
    """Where Celery's eager mode is like its workers; tests/system has them all."""
    current.conf.task_always_eager = True
    canvas = SHAPES[shape](current)
    expected = json.loads(json.dumps(SHAPES[shape](current).apply_async().get()))
    assert evaluate(plan_for(canvas), current) == expected


@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_what_celery_cannot_do_gives_what_one_would_expect(canvas_app: Celery, shape: str) -> None:
    build, expected = ODD_SHAPES[shape]
    assert evaluate(plan_for(build(canvas_app)), canvas_app) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_canvas_at_random_is_the_same_from_file_and_from_json_and_as_big_as_it_may_be(
    canvas_app: Celery, seed: int
) -> None:
    canvas = random_canvas(random.Random(seed), canvas_app)
    before = json.dumps(canvas)
    assert before == json.dumps(random_canvas(random.Random(seed), canvas_app))
    assert not is_beyond_celery(canvas)
    plan = plan_for(canvas)
    assert json.dumps(canvas) == before
    assert decode_plan(encode_plan(plan)) == plan
    value = evaluate(plan, canvas_app)
    assert evaluate(plan_for(json.loads(before)), canvas_app) == value
    assert evaluate(decode_plan(encode_plan(plan)), canvas_app) == value
    assert len({step.path for step in plan.steps}) == len(plan.steps)


def test_canvases_at_random_have_every_kind_of_part(canvas_app: Celery) -> None:
    plans: list[Plan] = []
    for seed in SEEDS:
        canvas = random_canvas(random.Random(seed), canvas_app, depth=4, width=8)
        plans.append(plan_for(canvas))
    steps = [step for plan in plans for step in plan.steps]
    assert max(depth_of(plan.root) for plan in plans) > 6
    assert any(step.immutable for step in steps)
    assert any(step.kwargs for step in steps)
    assert any(step.name == "empty" for step in steps)
    assert max(len(plan.steps) for plan in plans) < 100
    assert {"canvas.add", "canvas.mul", "canvas.concat", "canvas.collect"} <= {step.task for step in steps}


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_canvases_at_random_keep_to_their_limits(canvas_app: Celery, depth: int) -> None:
    for seed in SEEDS:
        plan = plan_for(random_canvas(random.Random(seed), canvas_app, depth=depth, width=3, size=6))
        groups = [one for one in walk(plan.root) if isinstance(one, Group)]
        assert all(len(one.members) <= 9 for one in groups)  # three groups of three in one
        assert depth > 0 or len(plan.steps) == 1


def walk(part: Part) -> Iterator[Part]:
    yield part
    for one in parts_of(part):
        yield from walk(one)


def test_what_celery_gives_now_this_and_now_that_is_seen(canvas_app: Celery) -> None:
    c = canvas_app.tasks["canvas.collect"].s
    body_is_group = chord([c(1)], group(c(2), c(3)))
    ends_in_chord = c(1) | group(c(2), chord([c(3)], c(4)))
    assert is_beyond_celery(chain(body_is_group, chord([c(4)], c(5))))
    assert is_beyond_celery(group(c(0), chain(c(0), body_is_group, chord([c(4)], c(5)))))
    assert is_beyond_celery(chord([ends_in_chord, c(5)], c(6)))
    assert not any(map(is_beyond_celery, (body_is_group, body_is_group | c(1), group(ends_in_chord, c(1)), c(1))))


def test_parts_for_a_running_workflow_are_those_of_the_plan(canvas_app: Celery) -> None:
    for seed in SEEDS:
        canvas = random_canvas(random.Random(seed), canvas_app, size=10)
        if isinstance(canvas, group):  # a group that stands alone has an order of its own
            continue
        tasks = [step.task for part in parts_for(canvas) for step in leaves(part)]
        assert tasks == [step.task for step in plan_for(canvas).steps]
