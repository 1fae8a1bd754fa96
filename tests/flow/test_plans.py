"""From Celery's canvas to a plan."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, chunks, group, signature

from tapfs.bus.plan import Plan
from tapfs.errors import ResultUnstorable
from tapfs.flow.plans import KEPT_OPTIONS, NotTappable, plan_for


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="shop.tasks.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


def shape(plan: Plan) -> list[tuple[str, list[Any], dict[str, Any], bool]]:
    return [(step.label, step.args, step.kwargs, step.immutable) for step in plan.steps]


def test_a_single_signature_is_a_plan_of_one_step(add: Any) -> None:
    plan = plan_for(add.s(1, y=2))
    assert shape(plan) == [("0001-add", [1], {"y": 2}, False)]
    assert plan.steps[0].task == "shop.tasks.add"
    assert (plan.nth, plan.clause, plan.callback) == (1, None, None)


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


def test_map_and_starmap_are_steps_of_their_own(add: Any) -> None:
    plan = plan_for(add.map([1, 2]) | add.starmap([[1, 2]]))
    assert [step.task for step in plan.steps] == ["celery.map", "celery.starmap"]
    assert plan.steps[0].kwargs["it"] == [1, 2]


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


@pytest.mark.parametrize(
    ("build", "why"),
    [
        pytest.param(lambda add: group(add.s(1), add.s(2)), "a group cannot be made tappable", id="group"),
        pytest.param(lambda add: chord([add.s(1)], add.s(2)), "a chord cannot be made tappable", id="chord"),
        pytest.param(lambda add: chunks(add.s(), [[1]], 1), "a chunks cannot be made tappable", id="chunks"),
        pytest.param(lambda add: add.chunks([[1, 2]], 1), "a chunks cannot be made tappable", id="task.chunks"),
        pytest.param(lambda add: add.s(1) | group(add.s(1), add.s(2)), "a group cannot", id="group in a chain"),
        pytest.param(lambda add: group(add.s(1), add.s(2)) | add.s(3), "a chord cannot", id="group before a task"),
        pytest.param(lambda add: chain(), "the workflow is empty", id="empty chain"),
        pytest.param(lambda add: None, "None is no signature", id="None"),
        pytest.param(lambda add: add, "is no signature", id="a task"),
        pytest.param(
            lambda add: add.s(1) | add.s(2).set(link_error=add.s()), "step 0002 (shop.tasks.add) has", id="link_error"
        ),
        pytest.param(lambda add: add.s(1).set(link=add.s()), "has the option 'link'", id="link"),
        pytest.param(lambda add: add.s(1).set(colour="red"), "has the option 'colour'", id="unknown option"),
        pytest.param(lambda add: add.s(1).set(serializer="pickle"), "has the option 'serializer'", id="pickle"),
        pytest.param(
            lambda add: chain(add.s(1), add.s(2)).set(queue="x"), "the chain itself has the option 'queue'", id="chain"
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_reason(add: Any, build: Any, why: str) -> None:
    with pytest.raises(NotTappable) as caught:
        plan_for(build(add))
    assert why in str(caught.value)


def test_the_one_serializer_that_is_used_anyway_may_be_named(add: Any) -> None:
    assert plan_for(add.s(1).set(serializer="json")).steps[0].options == {}


@pytest.mark.parametrize("nth", [0, -1, 1.5, "2", None, True])
def test_nth_must_be_a_whole_number_from_one(add: Any, nth: Any) -> None:
    with pytest.raises(NotTappable, match="it must be a whole number from 1"):
        plan_for(add.s(1), nth=nth)


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
    assert Plan.decode(plan.encode()) == plan


def test_arguments_that_cannot_be_stored_are_refused_and_name_the_step(add: Any) -> None:
    with pytest.raises(ResultUnstorable, match=r"the arguments of step 0002 \(shop.tasks.add\)"):
        plan_for(add.s(1) | add.s({1}))
    with pytest.raises(ResultUnstorable, match=r"the options of step 0001 \(shop.tasks.add\)"):
        plan_for(add.s(1).set(headers={"a": {1}}))


def test_a_plan_comes_back_from_its_file(add: Any) -> None:
    plan = plan_for(add.s(date(2026, 1, 1), y=b"\xff") | add.si(2).set(queue="q"), nth=3)
    assert Plan.decode(plan.encode()) == plan
