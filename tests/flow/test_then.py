"""What a running step says that comes next: `self.replace`, `tapfs.then`, `self.add_to_chord`."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature
from celery.canvas import Signature

from support.canvas_plain import define_tasks
from support.dynamic_app import CASES, PLACES, PUT_IN
from support.flows import Post, claim_of, drops_of, failure_of, finish, touch
from support.mortal import deaths
from tapfs import Bus, Operation, State, fan_out, gate, tappable, then
from tapfs.bus.answering import answer
from tapfs.bus.findings import Remedy, Severity
from tapfs.bus.inspection import inspect
from tapfs.bus.losses import give_away
from tapfs.bus.plan import parts_of
from tapfs.bus.planfile import decode_plan

Build = Callable[[], Signature]


class Shop:
    """Tasks that put others in, given to them as JSON, and `c`, which tells what it was called with."""

    def __init__(self, app: Celery, runs: list[Any]) -> None:
        define_tasks(app)
        self.c = app.tasks["canvas.collect"].s

        @app.task(name="becomes", bind=True)
        def becomes(self: Any, *args: Any) -> Any:
            runs.append(args[:-1])
            return self.replace(signature(args[-1], app=app))

        @app.task(name="says")
        def says(*args: Any) -> Any:
            runs.append(args[:-1])
            return then(signature(args[-1], app=app))

        @app.task(name="adds", bind=True)
        def adds(self: Any, value: Any, *more: Any) -> Any:
            for one in more:
                self.add_to_chord(signature(one, app=app))
            return value

        @app.task(name="fails")
        def fails(*args: Any) -> None:
            raise ValueError("no such price")

        self.says, self.adds, self.fails = says.s, adds.s, fails.s
        self.both = {"replace": becomes.s, "then": says.s}


@pytest.fixture
def shop(app: Celery, runs: list[Any]) -> Shop:
    return Shop(app, runs)


@pytest.fixture
def do(bus: Bus, post: Post) -> Callable[..., Operation]:
    """Run a workflow to its end; `workflow.json` is a plan after each step."""

    def run(workflow: Signature, **options: Any) -> Operation:
        operation = tappable(workflow, bus=bus, **options).delay()
        while True:
            decode_plan(operation.layout.plan.read_bytes())
            if not post.waiting:
                break
            post.deliver_next()
        check(operation)
        return operation

    return run


def check(operation: Operation) -> None:
    """`workflow.json` is a plan, and `tapfs verify` finds no fault but what any supervisor sees to after a death."""
    decode_plan(operation.layout.plan.read_bytes())
    faults = [one for one in inspect(operation) if one.severity is Severity.FAULT]
    assert [one for one in faults if one.remedy is not Remedy.RECONCILE] == []


def paths(operation: Operation) -> list[str]:
    return [step.path for step in operation.plan().steps]


def put_in_by(operation: Operation, path: str) -> list[str]:
    """The paths of the parts that a step has put in."""
    return [part.path for home in operation.plan().homes for part in parts_of(home) if part.by == path]


# What takes the place of a step


@pytest.fixture(params=["replace", "then"])
def puts(request: pytest.FixtureRequest, shop: Shop) -> Callable[[Signature], Signature]:
    """A step that puts a workflow in, in either way."""
    return shop.both[request.param]


@pytest.mark.parametrize(("kind", "place"), CASES)
def test_what_takes_a_steps_place_gets_its_own_arguments_and_what_follows_gets_its_result(
    kind: str, place: str, puts: Any, shop: Shop, do: Callable[..., Operation]
) -> None:
    """B20: as Celery's `replace`; tests/system/test_dynamic.py compares with that."""
    build, value = PUT_IN[kind]
    surroundings, result_of = PLACES[place]
    operation = do(surroundings(shop.c, puts(build(shop.c))))
    assert operation.state is State.SUCCEEDED, operation.view()
    assert operation.result == result_of(value)
    assert operation.view().steps_done == operation.view().steps_total == len(operation.plan().steps)


def test_the_step_itself_is_committed_without_a_result_and_says_who_put_in_what(
    shop: Shop, do: Callable[..., Operation], runs: list[Any]
) -> None:
    operation = do(shop.c(1) | shop.says(shop.c(2) | shop.c(3)) | shop.c(4))
    assert paths(operation) == ["0001", "0002", "0002.0001", "0002.0002", "0003"]
    assert [step.by for step in operation.plan().steps] == [None, None, "0002", "0002", None]
    assert operation.result_of(operation.plan().step("0002")) is None
    assert runs == [([1],)], "it got the result before it, and ran once"


def test_what_was_put_in_may_put_in_itself_again_and_again(puts: Any, shop: Shop, do: Callable[..., Operation]) -> None:
    workflow = shop.c(1)
    for _ in range(6):
        workflow = puts(workflow)
    operation = do(shop.c(0) | workflow | shop.c(9))
    assert operation.result == [[1], 9]
    assert paths(operation) == ["0001", "0002", *(f"0002.{number:04d}" for number in range(1, 7)), "0003"]


def test_what_was_put_in_may_put_in_groups_in_groups(puts: Any, shop: Shop, do: Callable[..., Operation]) -> None:
    c = shop.c
    inner = group(c(1), puts(group(c(2), puts(c(3) | c(4)))))
    operation = do(puts(chord([puts(inner), c(5)], puts(c(6)))) | c(7))
    assert operation.result == [[6], 7]
    operation = do(puts(puts(inner) | c(6)) | c(7))
    assert operation.result == [[[[1], [[2], [[3], 4]]], 6], 7]


@pytest.mark.parametrize("where", ["chain", "member"])
def test_a_loop_of_fifty_rounds_is_flat(where: str, app: Celery, shop: Shop, do: Callable[..., Operation]) -> None:
    @app.task(name="read")
    def read(offset: int, rows: list[int]) -> Any:
        if offset < 50:
            return then(read.s(offset + 1, [*rows, offset]))
        return then(group(shop.c(row) for row in rows) | shop.c())

    loop = read.s(0, [])
    operation = do(loop | shop.c("end") if where == "chain" else group(loop, shop.c("end")))
    expected = [[[row] for row in range(50)]]
    assert operation.result == ([expected, "end"] if where == "chain" else [expected, ["end"]])
    stem = "0001" if where == "chain" else "0001/0001"
    rounds = [path for path in paths(operation) if path.startswith(f"{stem}.") and path.count("/") == stem.count("/")]
    assert rounds == [f"{stem}.{number:04d}" for number in range(1, 51)] + [f"{stem}.0052"]
    sequence = operation.plan().way_to(operation.plan().step(f"{stem}.0050"))[-1][0]
    assert len(sequence.parts) == 53 + (where == "chain")  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["chain", "group"])
def test_a_recursion_goes_as_deep_as_files_allow_and_says_where_that_ends(
    kind: str, app: Celery, shop: Shop, bus: Bus, post: Post
) -> None:
    """Whatever a step puts in, the plan that it writes can be read: a step that cannot, fails, and puts in nothing."""

    @app.task(name="count")
    def count(number: int) -> Any:
        if number == 0:
            return 0
        return then(count.s(number - 1) | shop.c() if kind == "chain" else group([count.s(number - 1)]))

    def depth(value: Any) -> int:
        found = 0
        while isinstance(value, list):
            [value], found = value, found + 1
        return found

    for number in (10, 60):
        operation = tappable(count.s(number), bus=bus).delay()
        for _ in range(3 * number + 10):
            decode_plan(operation.layout.plan.read_bytes())
            if not post.waiting:
                break
            post.deliver_next()
        if operation.state is State.SUCCEEDED:
            assert depth(operation.result) == number
            continue
        assert number > 10
        assert failure_of(operation).type == "NotTappable"
    check(operation)


def test_a_loop_in_the_middle_of_what_was_put_in_ends_before_what_stands_behind_it(
    app: Celery, shop: Shop, do: Callable[..., Operation]
) -> None:
    @app.task(name="loop")
    def loop(left: int) -> Any:
        return then(loop.s(left - 1)) if left else "done"

    operation = do(shop.says(shop.c(1) | loop.si(5) | shop.c(2)) | shop.c(3))
    assert operation.result == [["done", 2], 3]


def test_the_last_of_two_replacements_counts_where_the_task_swallows_the_first(
    app: Celery, shop: Shop, do: Callable[..., Operation]
) -> None:
    @app.task(name="swallows", bind=True)
    def swallows(self: Any) -> str:
        for number in (1, 2):
            with suppress(Exception):
                self.replace(shop.c(number))
        return "swallowed"

    operation = do(swallows.s() | shop.c(3))
    assert operation.result == [[2], 3]
    assert paths(operation) == ["0001", "0001.0001", "0002"]


# What cannot be put in


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda c: c(1).set(serializer="pickle"), "serializer"),
        (lambda c: c(1) | c(object()), "argument"),
        (lambda c: chain(), "empty"),
        (lambda c: chord([c(1)]), "body"),
        (lambda c: "no workflow", "signature"),
        (lambda c: None, "signature"),
    ],
    ids=["pickle", "argument", "empty chain", "chord without body", "text", "none"],
)
@pytest.mark.parametrize("way", ["replace", "then", "add_to_chord"])
def test_what_cannot_be_kept_fails_the_step_and_says_why(
    build: Build, reason: str, way: str, app: Celery, shop: Shop, do: Callable[..., Operation]
) -> None:
    @app.task(name="puts", bind=True)
    def puts(self: Any) -> Any:
        workflow = build(shop.c)  # type: ignore[call-arg]
        if way == "then":
            return then(workflow)
        return self.replace(workflow) if way == "replace" else self.add_to_chord(workflow)

    operation = do(group(puts.s(), shop.c(1)) | shop.c(2))
    assert operation.state is State.FAILED
    failure = failure_of(operation)
    assert failure.type in ("NotTappable", "ResultUnstorable"), failure
    assert reason in failure.message
    assert failure.step == "0001/0001-puts"
    assert put_in_by(operation, "0001/0001") == []


def test_a_failed_step_may_put_in_when_it_is_resumed(
    app: Celery, shop: Shop, bus: Bus, post: Post, do: Callable[..., Operation]
) -> None:
    workflows = [shop.c(1).set(serializer="pickle"), shop.c(2)]

    @app.task(name="puts")
    def puts() -> Any:
        return then(workflows.pop(0))

    operation = do(puts.s() | shop.c(3))
    operation.resume()
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == [[2], 3]


# Members


def test_a_member_adds_members_whose_results_stand_at_the_end_of_the_list(
    shop: Shop, do: Callable[..., Operation]
) -> None:
    c = shop.c
    operation = do(group(shop.adds("a", c(1), c(2) | c(3)), c(4)) | c(5))
    assert operation.result == [["a", [4], [1], [[2], 3]], 5]
    assert put_in_by(operation, "0001/0001") == ["0001/0003", "0001/0004"]


def test_an_added_member_gets_its_own_arguments_only_as_with_celery(shop: Shop, do: Callable[..., Operation]) -> None:
    """Celery's `add_to_chord` sends it by `sig.delay()`; the other members get the result before the group."""
    c = shop.c
    operation = do(chain(c(1), group(chain(c(2), shop.adds(c(5), c(6) | c(7))), c(3)), c(4)))
    assert operation.result == [[[[1], 2], [[1], 3], [5], [[6], 7]], 4]


def test_added_members_may_add_members_and_put_in_what_comes_next(shop: Shop, do: Callable[..., Operation]) -> None:
    c = shop.c
    operation = do(group(shop.adds(0, shop.adds(1, shop.adds(2, c(3)))), c(4), shop.says(c(5))) | c(6))
    assert operation.result == [[0, [4], [5], 1, 2, [3]], 6]
    operation = do(group(shop.adds(0, shop.says(c(1) | shop.says(c(2)))), c(3)))
    assert operation.result == [0, [3], [2]]


def test_a_group_or_chord_may_be_added_as_one_member(shop: Shop, do: Callable[..., Operation]) -> None:
    c = shop.c
    operation = do(group(shop.adds(0, group(c(1), c(2)), chord([c(3)], c(4))), c(6)) | c(5))
    assert operation.result == [[0, [6], [[1], [2]], [[[3]], 4]], 5]


def test_a_step_in_the_middle_of_a_member_adds_to_the_innermost_group_around_it(
    shop: Shop, do: Callable[..., Operation]
) -> None:
    c = shop.c
    inner = group(shop.adds("a", c(1)) | c(2), c(3)) | c(4)
    operation = do(group(inner, c(5)) | c(6))
    assert operation.result == [[[[["a", 2], [3], [1]], 4], [5]], 6]


def test_a_step_in_no_group_can_add_no_member(shop: Shop, do: Callable[..., Operation]) -> None:
    """As Celery says it."""
    operation = do(shop.c(1) | shop.adds(2, shop.c(3)).set(immutable=True) | group(shop.c(4), shop.c(5)))
    assert operation.state is State.FAILED
    failure = failure_of(operation)
    assert (failure.type, failure.message) == ("ValueError", "Current task is not member of any chord")
    assert len(operation.plan().steps) == 4


def test_a_member_that_adds_and_then_fails_has_added_nothing(
    app: Celery, shop: Shop, bus: Bus, post: Post, do: Callable[..., Operation]
) -> None:
    is_broken = True

    @app.task(name="breaks", bind=True)
    def breaks(self: Any) -> str:
        self.add_to_chord(shop.c(1))
        if is_broken:
            raise ValueError("broken")
        return "mended"

    workflow = group(breaks.s(), shop.c(2))
    operation = do(workflow | shop.c(3))
    assert operation.state is State.FAILED
    assert len(operation.plan().steps) == 3
    is_broken = False
    operation.retry()
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == [["mended", [2], [1]], 3]
    is_broken = True
    operation = do(fan_out(workflow, on_error="continue") | shop.c(3))
    [[error, other], last] = operation.result
    assert (error["error"]["type"], other, last) == ("ValueError", [2], 3)
    assert len(operation.plan().steps) == 3


def test_no_more_of_what_was_put_in_is_out_than_the_group_or_the_operation_may_have(
    shop: Shop, bus: Bus, post: Post
) -> None:
    c = shop.c
    workflow = shop.says(fan_out([c(number) for number in range(9)], concurrency=2) | c())
    adding = group(shop.adds(1, *(c(number) for number in range(9))).set(immutable=True), c(0))
    operation = tappable(workflow | adding, bus=bus, concurrency=3).delay()
    most: dict[str, int] = {}
    while post.waiting:
        outs = [one.step.path for one in post.waiting]
        group_path = outs[0].rpartition("/")[0]
        most[group_path] = max(most.get(group_path, 0), len(outs))
        post.deliver_next()
    assert operation.state is State.SUCCEEDED, operation.view()
    assert {path: count for path, count in most.items() if path} == {"0001.0001": 2, "0002": 3}


# Failures, retries


@pytest.mark.parametrize("workflow", ["task", "chain", "group"])
def test_what_was_put_in_by_a_member_and_fails_gives_that_member_up_where_the_group_goes_on(
    workflow: str, shop: Shop, do: Callable[..., Operation]
) -> None:
    c, fails = shop.c, shop.fails
    bad = {"task": fails(), "chain": c(1) | fails() | c(2), "group": group(c(1), fails())}[workflow]
    operation = do(fan_out([shop.says(bad), c(3)], on_error="continue") | c(4))
    assert operation.state is State.SUCCEEDED, operation.view()
    [[error, other], last] = operation.result
    assert (error["error"]["type"], error["error"]["message"]) == ("ValueError", "no such price")
    assert error["error"]["step"].startswith("0001/0001.000")
    assert (other, last) == ([3], 4)
    assert (operation.layout.steps / "0001" / "0001.error.json").exists()


def test_what_was_put_in_and_fails_fails_the_operation_and_a_retry_goes_on_there(
    app: Celery, shop: Shop, bus: Bus, post: Post, do: Callable[..., Operation], runs: list[Any]
) -> None:
    is_broken = True

    @app.task(name="fragile")
    def fragile() -> str:
        if is_broken:
            raise ValueError("broken")
        return "whole"

    operation = do(shop.says(shop.c(1) | fragile.si()) | shop.c(2))
    assert operation.state is State.FAILED
    assert failure_of(operation).step == "0001.0002-fragile"
    is_broken = False
    operation.retry()
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == ["whole", 2]
    assert runs == [()], "what put it in is not done again"


@pytest.mark.parametrize("way", ["replace", "add_to_chord", "throw=False"])
def test_a_retry_in_the_same_run_wins_and_nothing_is_put_in(
    way: str, app: Celery, shop: Shop, bus: Bus, post: Post, runs: list[Any]
) -> None:
    @app.task(name="wavers", bind=True)
    def wavers(self: Any) -> Any:
        runs.append(self.request.retries)
        if self.request.retries:
            return "second"
        if way == "add_to_chord":
            self.add_to_chord(shop.c(1))
        else:
            with suppress(Exception):
                self.replace(shop.c(1))
        if way == "throw=False":
            self.retry(countdown=0, throw=False)
            return "first"
        raise self.retry(countdown=0)

    operation = tappable(group(wavers.s(), shop.c(2)) | shop.c(3), bus=bus).delay()
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert runs == [0, 1]
    assert operation.result == [["second", [2]], 3]
    assert len(operation.plan().steps) == 3


def test_a_step_that_was_retried_may_put_in_then(app: Celery, shop: Shop, do: Callable[..., Operation]) -> None:
    @app.task(name="late", bind=True, autoretry_for=(OSError,), default_retry_delay=0)
    def late(self: Any) -> Any:
        if not self.request.retries:
            raise OSError("not yet")
        raise self.replace(shop.c(1))

    operation = do(late.s() | shop.c(2))
    assert operation.result == [[1], 2]
    assert paths(operation) == ["0001", "0001.0001", "0002"]


def test_a_failed_try_that_had_put_in_leaves_nothing_of_it(
    app: Celery, shop: Shop, do: Callable[..., Operation]
) -> None:
    @app.task(name="breaks", bind=True)
    def breaks(self: Any) -> None:
        try:
            self.replace(shop.c(1))
        finally:
            raise ValueError("on its way out")

    operation = do(breaks.s() | shop.c(2))
    assert operation.state is State.FAILED
    assert failure_of(operation).message == "on its way out"
    assert paths(operation) == ["0001", "0002"]


# Pauses, clauses


def test_it_can_be_paused_between_a_step_and_what_it_put_in(
    app: Celery, shop: Shop, bus: Bus, post: Post, runs: list[Any]
) -> None:
    @app.task(name="puts")
    def puts() -> Any:
        runs.append("puts")
        touch(operation.path / "PAUSE")
        return then(group(shop.c(1), shop.c(2)) | shop.c(3))

    operation = tappable(puts.s() | shop.c(4), bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert (operation.view().steps_done, operation.view().steps_total) == (1, 5)
    check(operation)
    (operation.path / "PAUSE").unlink()
    bus.reconcile(operation)
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == [[[[1], [2]], 3], 4]
    assert runs == ["puts"]


@pytest.mark.parametrize("nth", [1, 2, 3, 10])
def test_a_pause_at_any_time_of_a_loop_holds_at_its_next_tap_and_repeats_no_round(
    nth: int, app: Celery, shop: Shop, bus: Bus, post: Post, runs: list[Any]
) -> None:
    @app.task(name="loop")
    def loop(left: int) -> Any:
        runs.append(left)
        return then(loop.s(left - 1)) if left else "done"

    operation = tappable(loop.s(12) | shop.c(1), bus=bus, nth=nth).apply_async(is_paused=True)
    held_at = []
    for _ in range(30):
        if operation.state is State.PAUSED:
            held_at.append(operation.view().steps_done)
            operation.resume()
            post.deliver_next()
        if operation.ready():
            break
        operation.pause()
        post.deliver_all()
    assert operation.result == ["done", 1]
    assert held_at == [done for done in range(14) if done % nth == 0]
    assert runs == list(range(12, -1, -1))


def test_a_clause_is_asked_between_a_step_and_what_it_put_in_and_holds_there(shop: Shop, bus: Bus, post: Post) -> None:
    CLAUSE.update(asked=[], says=lambda last: last is None)
    operation = tappable(shop.says(shop.c(1)) | shop.c(2), clause=clause, bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.PAUSED
    assert paths(operation) == ["0001", "0001.0001", "0002"]
    assert operation.view().steps_done == 1
    operation.resume()
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert (operation.result, CLAUSE["asked"]) == ([[1], 2], [None, [1]])


def test_a_clause_is_asked_where_there_is_a_tap_only_also_behind_what_was_put_in(
    app: Celery, shop: Shop, bus: Bus, post: Post
) -> None:
    CLAUSE.update(asked=[], says=lambda last: False)
    workflow = shop.c(1) | shop.says(shop.c(2) | shop.c(3) | shop.c(4)) | shop.c(5)
    operation = tappable(workflow, clause=clause, nth=2, bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    # Taps before the 1st, 3rd and 5th of: 0001, 0002, 0002.0001, 0002.0002, 0002.0003, 0003.
    assert CLAUSE["asked"] == [None, [[2], 3]]


def test_a_clause_is_not_asked_behind_a_step_where_there_is_no_tap_before_what_it_put_in(
    shop: Shop, bus: Bus, post: Post
) -> None:
    CLAUSE.update(asked=[], says=lambda last: False)
    operation = tappable(shop.says(shop.c(1)) | shop.c(2), clause=clause, nth=2, bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED
    assert CLAUSE["asked"] == [[1]]


CLAUSE: dict[str, Any] = {}


def clause(last: Any) -> bool:
    CLAUSE["asked"].append(last)
    return bool(CLAUSE["says"](last))


# Callbacks of a step that puts something in


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def tell(app: Celery, told: list[Any]) -> Any:
    app.conf.task_always_eager = True  # so that callbacks are called here and now

    @app.task(name="tell")
    def tell(*args: Any) -> None:
        told.append(args)

    return tell


@pytest.fixture
def eager(app: Celery, tell: Any, tmp_path: Path) -> Bus:
    """A bus that runs what it starts here, and callbacks as a worker does."""
    return Bus(tmp_path / "eager", app=app)


LINKED = [kind for kind in PUT_IN if kind not in ("map", "starmap", "chunks", "chord with a group for its body")]


@pytest.mark.parametrize("kind", LINKED)
@pytest.mark.parametrize("where", ["alone", "in the middle", "member"])
def test_a_link_is_told_once_of_the_result_of_what_took_the_steps_place(
    kind: str, where: str, puts: Any, shop: Shop, eager: Bus, tell: Any, told: list[Any]
) -> None:
    build, value = PUT_IN[kind]
    surroundings, result_of = PLACES[where]
    linked = puts(build(shop.c)).set(link=tell.s("linked"))
    operation = tappable(surroundings(shop.c, linked), bus=eager).delay()
    assert operation.result == result_of(value)
    assert told == [(value, "linked")]


@pytest.mark.parametrize(
    ("build", "value"),
    [
        PUT_IN["map"],
        PUT_IN["starmap"],
        PUT_IN["chunks"],
        (lambda c: c(1) | chord([c(2), c(3)], group(c(4), c(5))), None),
    ],
    ids=["map", "starmap", "chunks", "chain that ends in a chord with a group for its body"],
)
def test_a_link_is_told_once_also_where_what_was_put_in_is_a_group_by_another_name(
    build: Any, value: Any, shop: Shop, eager: Bus, tell: Any, told: list[Any]
) -> None:
    operation = tappable(shop.says(build(shop.c)).set(link=tell.s("linked")), bus=eager).delay()
    assert operation.state is State.SUCCEEDED
    assert told == [(operation.result, "linked")]
    assert value is None or operation.result == value


def test_a_link_goes_on_from_one_replacement_to_the_next(
    puts: Any, shop: Shop, eager: Bus, tell: Any, told: list[Any]
) -> None:
    own = shop.c(2).set(link=tell.s("own"))
    workflow = puts(puts(shop.c(1) | puts(own)).set(link=tell.s("middle"))).set(link=tell.s("outer"))
    operation = tappable(workflow | shop.c(3), bus=eager).delay()
    assert operation.result == [[2], 3]
    assert sorted(told) == [([2], "middle"), ([2], "outer"), ([2], "own")]


@pytest.mark.parametrize("kind", ["task", "chain", "group"])
def test_a_link_error_is_told_of_the_failure_of_what_took_the_steps_place(
    kind: str, puts: Any, shop: Shop, eager: Bus, tell: Any, told: list[Any]
) -> None:
    bad = {
        "task": shop.fails(),
        "chain": shop.c(1) | shop.fails() | shop.c(2),
        "group": group(shop.c(1), shop.fails(), shop.c(2)),
    }[kind]
    operation = tappable(puts(bad).set(link_error=tell.si("failed")) | shop.c(3), bus=eager).delay()
    assert operation.state is State.FAILED
    assert told == [("failed",)]


@pytest.mark.parametrize("end", ["returns", "replaces", "fails"])
def test_a_step_that_was_given_to_another_before_it_ended_tells_nobody(
    end: str, app: Celery, shop: Shop, eager: Bus, tell: Any, told: list[Any], runs: list[Any]
) -> None:
    """What it brings does not count: neither its result, nor what it puts in, nor its failure."""

    @app.task(name="lost", bind=True)
    def lost(self: Any) -> Any:
        runs.append("lost")
        if len(runs) > 1:
            return "second"
        operation = eager.find(self.request.tapfs_place.operation_id)
        claim = claim_of(operation)
        assert give_away(operation, "0001", claim.epoch, claim.attempt, "no sign of life")
        if end == "fails":
            raise ValueError("too late")
        if end == "replaces":
            raise self.replace(shop.c(1))
        return "first"

    linked = lost.s().set(link=tell.s("linked"), link_error=tell.si("failed"))
    operation = tappable(linked | shop.c(2), bus=eager).delay()
    assert operation.result == ["second", 2]
    assert told == [("second", "linked")]
    assert paths(operation) == ["0001", "0002"]
    assert len([line for line in drops_of(operation) if "given to another" in line]) == 1


# Deaths


@pytest.mark.parametrize(
    ("way", "again"),
    [
        ("then", "the same"),
        ("then", "another"),
        ("then", "nothing"),
        ("add_to_chord", "another"),
        ("add_to_chord", "a failure"),
    ],
)
def test_a_step_that_dies_at_any_write_of_its_end_and_is_done_again_has_put_in_what_the_last_run_did(
    way: str, again: str, app: Celery, shop: Shop, bus: Bus, post: Post
) -> None:
    """Law 3: the plan first, then the commit, which alone makes it count."""
    main, clock, c = os.getpid(), [time.time()], shop.c
    bus.control.now = lambda: clock[0]

    @app.task(name="dies", bind=True)
    def dies(self: Any) -> Any:
        if os.getpid() == main and again == "a failure":
            raise ValueError("not this time")
        numbers = (1, 2) if os.getpid() != main else {"the same": (1, 2), "another": (3, 4, 5)}.get(again, ())
        if way == "then" and numbers:
            return then(chain(*map(c, numbers)))
        for number in numbers:
            self.add_to_chord(c(number))
        return "nothing"

    def scene() -> Operation:
        post.waiting.clear()
        return tappable(fan_out([dies.s(), c(6)], on_error="continue") | c(7), bus=bus).delay()

    seen = set()
    for operation in deaths(scene, lambda _: post.deliver(post.waiting[0])):
        check(operation)
        is_done, is_put_in = operation.is_committed(operation.plan().step("0001/0001")), len(operation.plan().steps) > 3
        seen.add((is_put_in, is_done))
        for _ in range(20):
            post.deliver_all()
            if operation.ready():
                break
            clock[0] += 60
            bus.reconcile(operation)
        assert operation.state is State.SUCCEEDED, operation.view()
        check(operation)
        [members, last] = operation.result
        assert last == 7
        if again == "a failure" and not is_done:
            error = members.pop(0)["error"]
            assert (error["message"], members) == ("not this time", [[6]])
            continue
        numbers = [1, 2] if is_done else {"the same": [1, 2], "another": [3, 4, 5]}.get(again, [])
        steps = [operation.plan().step(path) for path in put_in_by(operation, "0001/0001")]
        assert [step.args for step in steps] == [[number] for number in numbers]
        assert all(operation.is_committed(step) for step in operation.plan().steps)
        if way == "then":
            assert members == [chained(numbers) if numbers else "nothing", [6]]
        else:
            assert members == ["nothing", [6], *([number] for number in numbers)]
    assert seen >= {(False, False), (True, False), (True, True)}


def chained(numbers: list[int]) -> Any:
    """What a chain of tasks gives, each of which tells what it was called with."""
    value: Any = [numbers[0]]
    for number in numbers[1:]:
        value = [value, number]
    return value


def test_every_message_of_a_dynamic_workflow_doubled_and_late_changes_nothing(
    shop: Shop, bus: Bus, post: Post, runs: list[Any]
) -> None:
    """Law 1."""
    c = shop.c
    workflow = shop.says(group(shop.adds(0, c(1), shop.says(c(2))), shop.says(c(3) | c(4))) | shop.says(c(5))) | c(6)
    operation = tappable(workflow, bus=bus).delay()
    done: list[Any] = []
    while post.waiting:
        message = post.waiting.pop(0)
        post.deliver(message)
        for earlier in [*done, message]:
            post.deliver(earlier)
        done.append(message)
    assert operation.result == [[5], 6]
    assert len(runs) == 4
    assert len(done) == len(operation.plan().steps)
    check(operation)


# Rewinding, cancelling, gates


def test_a_step_that_is_done_again_by_a_person_may_put_in_something_else_each_time(
    app: Celery, shop: Shop, bus: Bus, post: Post, do: Callable[..., Operation]
) -> None:
    c, which = shop.c, ["large"]

    @app.task(name="puts")
    def puts() -> Any:
        large = group(c(1), shop.says(c(2))) | shop.says(c(3))
        return {"large": then(large), "small": then(c(4) | c(5)), "none": "none"}[which[0]]

    operation = do(c(0) | puts.si() | c(6))
    large = sorted(paths(operation))
    for path in reversed(large):
        operation.rewind(path)
        assert finish(bus, post, operation) is State.SUCCEEDED
        assert operation.result == [[3], 6]
        assert sorted(paths(operation)) == large
        check(operation)
    for kind, value in [("small", [[4], 5]), ("none", "none"), ("large", [3]), ("none", "none")]:
        which[0] = kind
        operation.rewind("0002")
        assert finish(bus, post, operation) is State.SUCCEEDED
        assert operation.result == [value, 6]
        check(operation)
    assert paths(operation) == ["0001", "0002", "0003"]


def test_a_member_that_is_done_again_by_a_person_adds_what_it_adds_then(
    app: Celery, shop: Shop, bus: Bus, post: Post, do: Callable[..., Operation]
) -> None:
    many = [2]

    @app.task(name="puts", bind=True)
    def puts(self: Any, name: str) -> str:
        for number in range(many[0]):
            self.add_to_chord(shop.c(name, number) | shop.says(shop.c(name, number)))
        return name

    operation = do(shop.c(0) | group(puts.si("a"), puts.si("b")) | shop.c(9))
    added = {"a": 2, "b": 2}
    for name, count, path in [("a", 1, "0002/0001"), ("b", 0, "0002/0002"), ("a", 2, "0002/0001")]:
        many[0] = added[name] = count
        operation.rewind(path)
        assert finish(bus, post, operation) is State.SUCCEEDED
        [members, last] = operation.result
        assert (members[:2], last) == (["a", "b"], 9)
        assert sorted(members[2:]) == [[one, number] for one in "ab" for number in range(added[one])]
        check(operation)


def test_a_member_can_be_cancelled_while_what_it_put_in_runs(shop: Shop, bus: Bus, post: Post) -> None:
    c = shop.c
    workflow = group(shop.says(c(1) | c(2)), shop.adds("a", c(3)) | c(4), c(5)) | c(6)
    operation = tappable(workflow, bus=bus).delay()
    for _ in range(2):
        post.deliver_next()
    for path in ("0001/0001", "0001/0002"):
        operation.cancel_member(path)
    assert finish(bus, post, operation) is State.SUCCEEDED
    [[first, second, *others], last] = operation.result
    assert [one["error"]["step"] for one in (first, second)] == ["0001/0001.0001-collect", "0001/0002/0002-collect"]
    assert (others, last) == ([[5], [3]], 6), "what it had added stays: that step is done"
    check(operation)


def test_a_gate_may_be_put_in(app: Celery, shop: Shop, bus: Bus, post: Post) -> None:
    @app.task(name="puts")
    def puts() -> Any:
        return then(shop.c(1) | gate("approve") | shop.c(2))

    operation = tappable(puts.s() | shop.c(3), bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.WAITING
    assert answer(operation, {}).changed
    assert finish(bus, post, operation) is State.SUCCEEDED
    assert operation.result == [[[1], 2], 3]
    check(operation)


# Without an operation


def test_without_an_operation_it_is_celerys_own_replace(app: Celery, shop: Shop) -> None:
    app.conf.task_always_eager = True
    for puts in shop.both.values():
        assert puts(shop.c(1) | shop.c(2)).delay().get() == [[1], 2]
        assert puts(shop.c(1) | shop.c(2))() == [[1], 2]
