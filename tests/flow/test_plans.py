"""From Celery's canvas to a plan."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature
from celery.canvas import xmap

from tapfs.bus.plan import Group, Part, Plan, Sequence, Step, leaves
from tapfs.bus.planfile import decode_plan, encode_plan
from tapfs.errors import ResultUnstorable
from tapfs.flow.plans import KEPT_OPTIONS, NotTappable, detached, given, parts_for, plan_for


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="shop.tasks.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


def shape(plan: Plan) -> list[tuple[str, list[Any], dict[str, Any], bool]]:
    return [(step.label, step.args, step.kwargs, step.immutable) for step in plan.steps]


def tree(part: Part | Plan) -> Any:
    """A list for a sequence, a tuple for a group, the own arguments for a step, with a dash where it is immutable."""
    if isinstance(part, Plan):
        return tree(part.root)
    if isinstance(part, Step):
        return ("-" if part.immutable else "") + ",".join(map(str, part.args))
    if isinstance(part, Group):
        return tuple(tree(member) for member in part.members)
    return [tree(one) for one in part.parts]


def group_of(plan: Plan, path: str = "0001") -> Group:
    part = plan.part(path)
    assert isinstance(part, Group)
    return part


def test_a_single_signature_is_a_plan_of_one_step(add: Any) -> None:
    plan = plan_for(add.s(1, y=2))
    assert shape(plan) == [("0001-add", [1], {"y": 2}, False)]
    assert plan.steps[0].task == "shop.tasks.add"
    assert (plan.nth, plan.clause, plan.callback, plan.concurrency) == (1, None, None, 16)


def test_a_chain_is_a_sequence_in_its_order_and_immutable_signatures_stay_so(add: Any) -> None:
    plan = plan_for(add.s(1) | add.si(2, 3) | add.s(y=4))
    assert shape(plan) == [
        ("0001-add", [1], {}, False),
        ("0002-add", [2, 3], {}, True),
        ("0003-add", [], {"y": 4}, False),
    ]


def test_chains_in_chains_are_one_sequence(add: Any) -> None:
    nested = chain(add.s(1), chain(add.s(2), chain(add.s(3), add.s(4))), add.s(5))
    assert [step.args for step in plan_for(nested).steps] == [[1], [2], [3], [4], [5]]


def test_paths_are_as_wide_as_the_last_needs(app: Celery, add: Any) -> None:
    assert plan_for(chain(*(add.si(1) for _ in range(10_000)))).steps[0].path == "00001"


def test_a_task_that_this_program_does_not_know_can_be_a_step(app: Celery) -> None:
    assert shape(plan_for(signature("elsewhere.run", args=(1,), app=app))) == [("0001-run", [1], {}, False)]


def test_a_group_is_members_that_have_paths_below_its_own(add: Any) -> None:
    plan = plan_for(add.s(1) | group(add.s(2), add.s(3) | add.s(4)))
    assert tree(plan) == ["1", ("2", ["3", "4"])]
    assert [step.label for step in plan.steps] == [
        "0001-add",
        "0002/0001-add",
        "0002/0002/0001-add",
        "0002/0002/0002-add",
    ]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        pytest.param(lambda s: group(s(1), s(2)) | s(3), [("1", "2"), "3"], id="group before a task"),
        pytest.param(lambda s: chord([s(1), s(2)], s(3)), [("1", "2"), "3"], id="chord"),
        pytest.param(lambda s: chord(s(1), s(3)), [("1",), "3"], id="chord of one signature"),
        pytest.param(lambda s: chord([s(1)], s(2) | s(3)), [("1",), "2", "3"], id="chord with a chain"),
        pytest.param(lambda s: chord([s(1)], group(s(2), s(3))), [("1",), ("2", "3")], id="chord with a group"),
        pytest.param(lambda s: chord([chord([s(1)], s(2)), s(3)], s(4)), [([("1",), "2"], "3"), "4"], id="two chords"),
        pytest.param(lambda s: chord([s(1)], chord([s(2)], s(3))), [("1",), ("2",), "3"], id="chord for a body"),
        pytest.param(lambda s: group(s(1), group(s(2), group(s(3), s(4)))), [("1", "2", "3", "4")], id="groups alone"),
        pytest.param(
            lambda s: s(0) | group(s(1), group(s(2), group(s(3), s(4)), s(5))) | s(6),
            ["0", ("1", "5", "4", "3", "2"), "6"],
            id="groups in a chain",
        ),
        pytest.param(lambda s: chain(s(1), group([s(2)]), s(3)), ["1", "2", "3"], id="group of one in a chain"),
        pytest.param(lambda s: group([s(2)]) | s(3), [("2",), "3"], id="group of one before a task"),
        pytest.param(lambda s: group([s(1) | group(s(2), s(3))]), ["1", ("2", "3")], id="only member ends in a group"),
        pytest.param(
            lambda s: group(s(1) | group(s(2), s(3)), s(4)), [(["1", ("2", "3")], "4")], id="member ends in a group"
        ),
        pytest.param(lambda s: group(chain(group(s(1), s(2))), s(3)), [(("1", "2"), "3")], id="member that is a group"),
        pytest.param(lambda s: chain(s(1), chain(), group([]), s(2)), ["1", "2"], id="empty ones in a chain"),
        pytest.param(lambda s: group(chain(), s(1), group([])), [("1",)], id="empty ones in a group"),
        pytest.param(lambda s: group([]), ["-"], id="empty group"),
        pytest.param(lambda s: chord([], s(1)), ["-", "1"], id="empty header"),
        pytest.param(lambda s: group(s(i) for i in range(3)), [("0", "1", "2")], id="generator"),
        pytest.param(lambda s: group(dict(s(1)), dict(s(2) | s(3))), [("1", ["2", "3"])], id="dicts"),
        pytest.param(
            lambda s: chord([s(1), s(2).set(immutable=True)], s(3)).clone((9,)), [("9,1", "-2"), "3"], id="args"
        ),
    ],
)
def test_every_canvas_is_a_tree(add: Any, build: Any, expected: Any) -> None:
    for canvas in (build(add.s), signature(json.loads(json.dumps(build(add.s))), app=add.app)):
        plan = plan_for(canvas)
        assert tree(plan) == expected
        assert decode_plan(encode_plan(plan)) == plan


def test_a_workflow_may_come_as_json(add: Any) -> None:
    canvas = json.loads(json.dumps(chord([add.s(1), add.s(2) | add.s(3)], add.s(4))))
    before = json.dumps(canvas)
    assert tree(plan_for(canvas)) == [("1", ["2", "3"]), "4"]
    assert json.dumps(canvas) == before


def test_a_map_has_a_member_for_each_item_that_takes_nothing_else(add: Any) -> None:
    for canvas in (add.map([1, [2]]), add.map(i for i in (1, [2])), add.s(0) | add.map([1, [2]]).set(queue="q")):
        group = plan_for(canvas).root.parts[-1]
        assert [(step.task, step.args, step.immutable) for step in leaves(group)] == [
            ("shop.tasks.add", [1], True),
            ("shop.tasks.add", [[2]], True),
        ]
    assert all(step.options == {"queue": "q"} for step in leaves(group))
    assert [step.args for step in plan_for(add.starmap([(1, 2), [3]])).steps] == [[1, 2], [3]]
    assert [step.kwargs for step in plan_for(xmap(add.s(7, y=8), [1], app=add.app)).steps] == [{}]


def test_a_map_of_nothing_is_a_step_that_gives_the_empty_list(app: Celery, add: Any) -> None:
    (step,) = plan_for(add.map([])).steps
    assert (step.name, step.args, step.immutable) == ("empty", [], True)
    assert app.tasks[step.task]() == ()
    assert [step.name for step in plan_for(add.chunks([], 2) | add.s(1)).steps] == ["empty", "add"]


def test_a_map_with_a_link_stays_one_step_for_the_link_is_told_of_all(add: Any) -> None:
    canvas = add.map([1, 2])
    canvas.link(add.s(3))
    (step,) = plan_for(canvas).steps
    assert (step.task, step.name, step.kwargs["it"]) == ("celery.map", "add", [1, 2])


def test_chunks_are_members_as_celery_sends_them(add: Any) -> None:
    task = {"task": "shop.tasks.add", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
    for canvas in (add.chunks([(1, 2), (3, 4), (5, 6)], 2), add.s(1) | add.chunks([(1, 2), (3, 4), (5, 6)], 2)):
        members = list(leaves(plan_for(canvas).root.parts[-1]))
        assert [member.kwargs for member in members] == [
            {"task": task, "it": [[1, 2], [3, 4]]},
            {"task": task, "it": [[5, 6]]},
        ]
        assert {(one.task, one.name, one.immutable) for one in members} == {("celery.starmap", "add", True)}
        assert members[0].options == {"route_name": "shop.tasks.add"}
    assert len(plan_for(add.chunks([(1, 2), (3, 4), (5, 6)], 2).group()).steps) == 2


def test_paths_are_as_wide_as_the_largest_group_needs(add: Any) -> None:
    assert plan_for(add.map(range(10_000))).steps[0].path == "0001/00001"


def test_options_are_kept_with_the_step(add: Any) -> None:
    eta = datetime.now(UTC) + timedelta(hours=1)
    options: dict[str, Any] = {
        "queue": "slow",
        "priority": 7,
        "countdown": 1.5,
        "expires": 60,
        "time_limit": 10,
        "soft_time_limit": 5,
        "headers": {"tenant": "acme"},
        "ignore_result": True,
        "shadow": "nice name",
    }
    plan = plan_for(add.s(1).set(**options) | add.s(2).set(eta=eta, expires=eta) | add.s(3))
    assert plan.steps[0].options == options
    assert plan.steps[1].options == {"eta": eta.isoformat(), "expires": eta.isoformat()}
    assert plan.steps[2].options == {}
    assert set(options) <= KEPT_OPTIONS


def test_what_celery_itself_puts_into_a_signature_is_left_out(add: Any) -> None:
    frozen = add.s(1).set(root_id="r", parent_id="p", queue=None)
    frozen.freeze()
    assert plan_for(frozen).steps[0].options == {}


def test_times_have_a_zone_and_naive_ones_are_utc_as_for_celery(add: Any) -> None:
    naive = datetime.fromisoformat("2026-11-22T10:15")
    plan = plan_for(
        add.s(1).set(eta=naive, expires="2026-11-22T10:15:00Z") | add.s(2).set(eta="2026-11-22T10:15:00+02:00")
    )
    assert plan.steps[0].options == {"eta": "2026-11-22T10:15:00+00:00", "expires": "2026-11-22T10:15:00+00:00"}
    assert plan.steps[1].options == {"eta": "2026-11-22T10:15:00+02:00"}


def test_callbacks_are_kept_as_celery_writes_them(add: Any) -> None:
    canvas = add.s(1).set(link=add.s(date(2026, 1, 1)))
    canvas.link(add.si(2).set(queue="q"))
    canvas.on_error(add.s(3))
    options = plan_for(canvas).steps[0].options
    bare = {"task": "shop.tasks.add", "kwargs": {}, "subtask_type": None}
    assert options["link"] == [
        bare | {"args": [{"__type__": "date", "__value__": "2026-01-01"}], "options": {}, "immutable": False},
        bare | {"args": [2], "options": {"queue": "q"}, "immutable": True},
    ]
    assert options["link_error"] == [bare | {"args": [3], "options": {}, "immutable": False}]


def test_stamps_are_kept(add: Any) -> None:
    canvas = group(add.s(1), add.s(2)) | add.s(3)
    canvas.stamp(tenant="acme", level=3)
    for step in plan_for(canvas).steps[:2]:
        assert step.options == {"tenant": "acme", "level": 3, "stamped_headers": ["level", "tenant"]}


def links(step: Step, name: str) -> list[Any]:
    return [one["args"] for one in step.options.get(name, [])]


def test_options_of_a_chain_go_to_its_first_task_its_links_to_the_last_and_its_errbacks_to_all(add: Any) -> None:
    canvas = chain(add.s(1), add.s(2).on_error(add.s("own")), group(add.s(3), add.s(4) | add.s(5)))
    canvas.set(queue="q", countdown=2)
    canvas.link(add.s("done"))
    canvas.link_error(add.s("failed"))
    steps = plan_for(canvas).steps
    assert [(step.options.get("queue"), step.options.get("countdown")) for step in steps] == [("q", 2)] + 4 * [
        (None, None)
    ]
    assert [links(step, "link") for step in steps] == [[], [], [["done"]], [], [["done"]]]
    assert [links(step, "link_error") for step in steps] == [
        [["failed"]],
        [["own"], ["failed"]],
        [["failed"]],
        [["failed"]],
        [["failed"]],
    ]


def test_options_of_a_group_go_to_each_member_over_its_own(add: Any) -> None:
    canvas = group(add.s(1).set(queue="own", priority=1), add.s(2) | add.s(3), group(add.s(4))).set(queue="q")
    assert [step.options for step in plan_for(canvas).steps] == [
        {"queue": "q", "priority": 1},
        {"queue": "q"},
        {},
        {"queue": "q"},
    ]


def test_options_of_a_chord_go_to_header_and_body_but_a_delay_to_the_header_only(add: Any) -> None:
    canvas = chord([add.s(1), add.s(2)], add.s(3) | add.s(4), queue="q", countdown=5, interval=1, max_retries=2)
    assert [step.options for step in plan_for(canvas).steps] == [
        {"queue": "q", "countdown": 5},
        {"queue": "q", "countdown": 5},
        {"queue": "q"},
        {},
    ]


def test_errbacks_of_a_body_are_told_of_a_failing_member_too_as_celery_does(add: Any) -> None:
    told = add.si("told")
    for canvas in (
        group(add.s(1), add.s(2)) | add.s(3).on_error(told),
        chord([add.s(1), add.s(2)], add.s(3).on_error(told) | add.s(4)),
        chord([add.s(1), add.s(2)], group(add.s(3).on_error(told), add.s(4))),
        chord([add.s(1), add.s(2)], add.s(3), link_error=told),
    ):
        assert [links(step, "link_error") for step in plan_for(canvas).steps[:3]] == 3 * [[["told"]]]


@pytest.mark.parametrize(
    ("build", "why"),
    [
        pytest.param(lambda add: chain(), "the workflow is empty", id="empty chain"),
        pytest.param(lambda add: chain(group([]), group([])), "the workflow is empty", id="chain of empty groups"),
        pytest.param(lambda add: None, "None is no signature", id="None"),
        pytest.param(lambda add: add, "is no signature", id="a task"),
        pytest.param(lambda add: group(add.s(1), 5), "5 is no signature", id="a number in a group"),
        pytest.param(
            lambda add: {"task": "x", "subtask_type": "chain", "kwargs": {}}, "is no signature", id="no tasks"
        ),
        pytest.param(lambda add: chord([add.s(1)]), "a chord in the workflow has no body", id="no body"),
        pytest.param(lambda add: chord([add.s(1)], chain()), "has an empty chain for its body", id="empty body"),
        pytest.param(lambda add: add.chunks([[1]], 0), "the size of chunks is 0", id="chunks of none"),
        pytest.param(lambda add: nested(add, 25), "is in groups nested more than 20 deep", id="too deep"),
        pytest.param(
            lambda add: add.s(1).set(colour="red"), "step 0001 (shop.tasks.add) has the option 'colour'", id="1"
        ),
        pytest.param(
            lambda add: add.s(1) | group(add.s(2), add.s(3) | add.s(4).set(colour="red")),
            "step 0002/0002/0002 (shop.tasks.add) has the option 'colour'",
            id="unknown option in a group",
        ),
        pytest.param(
            lambda add: add.s(1).set(serializer="pickle"), "the option 'serializer' with 'pickle'", id="pickle"
        ),
        pytest.param(lambda add: add.s(1).set(link="tell"), "the option 'link' with 'tell': it is no sig", id="link"),
        pytest.param(lambda add: add.s(1).set(link_error=[add]), "the option 'link_error' with", id="link_error"),
        pytest.param(lambda add: add.s(1).set(eta="soon"), "the option 'eta' with 'soon': it is no time", id="eta"),
        pytest.param(
            lambda add: add.s(1).set(eta=5), "the option 'eta' with 5: it must be a datetime", id="eta number"
        ),
        pytest.param(
            lambda add: add.s(1).set(countdown="5"), "'countdown' with '5': it must be a number", id="countdown"
        ),
        pytest.param(lambda add: add.s(1).set(expires=True), "'expires' with True: it must be a number", id="expires"),
        pytest.param(lambda add: add.s(1).set(headers=[1]), "'headers' with [1]: it must be a dict", id="headers"),
        pytest.param(lambda add: add.s(1).set(stamped_headers=["a"]), "names the stamp 'a' in its", id="no stamp"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_reason(add: Any, build: Any, why: str) -> None:
    with pytest.raises(NotTappable) as caught:
        plan_for(build(add))
    assert why in str(caught.value)


def nested(add: Any, depth: int) -> Any:
    canvas = add.s(1)
    for _ in range(depth):
        canvas = chord([canvas, add.s(2)], add.s(3))
    return canvas


@pytest.mark.parametrize("setting", ["nth", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_what_counts_must_be_a_whole_number_from_one(add: Any, setting: str, value: Any) -> None:
    with pytest.raises(NotTappable, match=f"{setting} is .*: it must be a whole number from 1"):
        plan_for(add.s(1), **{setting: value})


@pytest.mark.parametrize("value", [None, "ignore", True])
def test_on_error_is_one_of_two_words(add: Any, value: Any) -> None:
    for build in (plan_for, parts_for):
        with pytest.raises(NotTappable, match=r"on_error is .*: it must be 'fail' or 'continue'"):
            build(add.s(1), on_error=value)


def test_on_error_and_concurrency_are_the_default_of_the_groups_and_the_operations_limit(add: Any) -> None:
    plan = plan_for(add.s(1) | group(add.s(2), add.s(3)) | add.map([1]), on_error="continue", concurrency=3)
    assert plan.concurrency == 3
    assert [(one.on_error, one.concurrency) for one in (group_of(plan, "0002"), group_of(plan, "0003"))] == [
        ("continue", None),
        ("continue", None),
    ]


def test_parts_for_have_no_paths_and_can_be_detached_from_what_came_before(add: Any) -> None:
    parts = parts_for(group(add.s(1), add.s(2) | add.s(3)) | add.s(4))
    assert {step.path for part in parts for step in leaves(part)} == {""}
    assert tree(Sequence(parts)) == [("1", ["2", "3"]), "4"]
    assert tree(Sequence(detached(parts))) == [("-1", ["-2", "3"]), "4"]
    with pytest.raises(NotTappable, match="the workflow is empty"):
        parts_for(chain())


def test_arguments_at_the_start_go_to_all_that_comes_first_but_immutable_steps(add: Any) -> None:
    parts = parts_for(group(add.s(1), add.s(2, y=5) | add.s(3), add.si(4)) | add.s(6))
    first = given(parts, (date(2026, 1, 1),), {"y": 7})
    day = {"__type__": "date", "__value__": "2026-01-01"}
    assert [(step.args, step.kwargs) for part in first for step in leaves(part)] == [
        ([day, 1], {"y": 7}),
        ([day, 2], {"y": 7}),
        ([3], {}),
        ([4], {}),
        ([6], {}),
    ]
    assert given(parts, (), {}) == parts


@pytest.mark.parametrize("limit", [0, 0.0, -1, float("inf"), float("nan")])
def test_a_maximum_running_time_must_be_a_time(add: Any, limit: float) -> None:
    """B62."""
    with pytest.raises(NotTappable, match=r"max_running_s is .*: it must be a number of seconds above 0, or None"):
        plan_for(add.s(1), max_running_s=limit)


def test_a_maximum_running_time_is_kept_with_the_plan(add: Any) -> None:
    assert plan_for(add.s(1)).max_running_s is None
    assert plan_for(add.s(1), max_running_s=2.5).max_running_s == 2.5


def test_one_task_may_be_many_steps_of_a_workflow_and_each_has_a_path_of_its_own(add: Any) -> None:
    """B35: only what people paste into the file can stand there twice."""
    plan = plan_for(chain(*(add.s(1) for _ in range(12))))
    assert len({step.path for step in plan.steps}) == 12
    assert decode_plan(encode_plan(plan)) == plan


def test_arguments_that_cannot_be_stored_are_refused_and_name_the_step(add: Any) -> None:
    with pytest.raises(ResultUnstorable, match=r"the arguments of step 0002 \(shop.tasks.add\)"):
        plan_for(add.s(1) | add.s({1}))
    with pytest.raises(ResultUnstorable, match=r"the options of step 0001 \(shop.tasks.add\)"):
        plan_for(add.s(1).set(headers={"a": {1}}))


def test_a_plan_comes_back_from_its_file(add: Any) -> None:
    plan = plan_for(add.s(date(2026, 1, 1), y=b"\xff") | add.si(2).set(queue="q"), nth=3)
    assert decode_plan(encode_plan(plan)) == plan
