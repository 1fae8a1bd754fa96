"""Canvases of every shape and at random: a plan, and an operation, give what Celery itself gives on Redis.

Celery runs each canvas plainly on a real worker. The same canvas as a plan, evaluated in this process, and as an
operation on another real worker, must have that result, in that order.
"""

from __future__ import annotations

import gc
import json
import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, chain, group

from support import Processes, RedisServer, wait_for
from support.canvas_app import canvas_app
from support.canvas_plain import evaluate, random_canvas
from support.canvas_shapes import ODD_SHAPES, SHAPES
from tapfs import Bus, tappable
from tapfs.bus.planfile import decode_plan, encode_plan
from tapfs.flow.plans import plan_for

TESTS = Path(__file__).parents[1]
#: Seconds for one canvas; only a bug, or a shape that Celery cannot do, needs more.
LONG_S = 30.0
SEEDS = range(15)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Callable[..., None]]:
    """Start a worker of one of the two apps, which runs until the last test of this module."""
    folder = tmp_path_factory.mktemp("canvas")
    processes = Processes(folder)

    def begin(app: str, url: str, **variables: str) -> None:
        env = {"CANVAS_URL": url, "PYTHONPATH": str(TESTS), **variables}
        words = ("-m", "celery", "-A", f"support.canvas_app:{app}", "worker", "--concurrency", "2", "--loglevel=INFO")
        processes.python(*words, name=app, env=env).wait_for_output("ready.", 60)

    yield begin
    processes.close()


def _database(redis_server: RedisServer, next_redis_db: Callable[[], int]) -> str:
    db = next_redis_db()
    with redis_server.client(db) as client:
        client.flushdb()
    return redis_server.url(db)


@pytest.fixture(scope="module")
def plain(start: Callable[..., None], redis_server: RedisServer, next_redis_db: Callable[[], int]) -> Iterator[Celery]:
    """An app without tapfs, and its worker."""
    url = _database(redis_server, next_redis_db)
    start("plain", url)
    app = canvas_app("plain", url)
    yield app
    app.backend._pending_results.concrete.clear()  # results unsubscribe when they go, and Redis must still be there
    gc.collect()
    app.close()


@pytest.fixture(scope="module")
def tapped(
    start: Callable[..., None],
    redis_server: RedisServer,
    next_redis_db: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bus]:
    """The bus of an app whose tasks can be steps, and its worker."""
    url, control = _database(redis_server, next_redis_db), tmp_path_factory.mktemp("control")
    start("tappable", url, TAPFS_CONTROL=str(control))
    app = canvas_app("tappable", url, "tapfs.flow:TappableTask")
    yield Bus(control, app=app)
    app.close()


def given_by_celery(canvas: Any) -> Any:
    """What Celery gives, as JSON: Redis has made lists of tuples."""
    return json.loads(json.dumps(canvas.apply_async().get(timeout=LONG_S)))


def given_by_operation(canvas: Any, bus: Bus) -> Any:
    return tappable(canvas, bus=bus).delay().get(LONG_S)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plan_gives_what_celery_gives(plain: Celery, shape: str) -> None:
    build = SHAPES[shape]
    expected = given_by_celery(build(plain))
    plan = plan_for(build(plain))
    assert evaluate(plan, plain) == expected
    assert decode_plan(encode_plan(plan)) == plan


@pytest.mark.parametrize("shape", SHAPES)
def test_an_operation_gives_what_its_plan_gives(tapped: Bus, shape: str) -> None:
    canvas = SHAPES[shape](tapped.app)
    assert given_by_operation(canvas, tapped) == evaluate(plan_for(canvas), tapped.app)


@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_what_celery_cannot_do_gives_what_one_would_expect(tapped: Bus, shape: str) -> None:
    build, expected = ODD_SHAPES[shape]
    assert evaluate(plan_for(build(tapped.app)), tapped.app) == expected
    assert given_by_operation(build(tapped.app), tapped) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_canvas_at_random_gives_what_celery_gives(plain: Celery, tapped: Bus, seed: int) -> None:
    """`TEST_SEED` is added to the seed: another one, other canvases."""
    seed += int(os.environ.get("TEST_SEED") or 20261122)
    print(f"seed: {seed}")
    expected = given_by_celery(random_canvas(random.Random(seed), plain))
    assert evaluate(plan_for(random_canvas(random.Random(seed), plain)), plain) == expected
    assert given_by_operation(random_canvas(random.Random(seed), tapped.app), tapped) == expected


def test_building_a_plan_leaves_the_canvas_as_it_was(plain: Celery) -> None:
    for name, build in SHAPES.items():
        canvas = build(plain)
        before = json.dumps(canvas)
        plan_for(canvas)
        assert json.dumps(canvas) == before, name
        assert evaluate(plan_for(canvas), plain) == evaluate(plan_for(build(plain)), plain), name


def test_arguments_at_the_start_reach_what_celery_gives_them_to(plain: Celery, tapped: Bus) -> None:
    def build(app: Celery) -> list[Any]:
        collect = app.tasks["canvas.collect"]
        members = group(collect.s(1), collect.si(2), chain(collect.s(3), collect.s(4)))
        return [collect.s(1, k=2) | collect.s(3), members, collect.s(1) | members, collect.si(1) | collect.s(2)]

    for canvas, same in zip(build(plain), build(tapped.app), strict=True):
        expected = json.loads(json.dumps(canvas.apply_async((8, 9), {"k": 7}).get(timeout=LONG_S)))
        assert tappable(same, bus=tapped).delay(8, 9, k=7).get(LONG_S) == expected


def told(bus: Bus, count: int) -> list[str]:
    """What callbacks have noted in Redis, in any order, once there are so many."""
    with redis.Redis.from_url(bus.app.conf.broker_url) as client:
        wait_for(lambda: client.llen("told") >= count, LONG_S, lambda: f"told: {client.lrange('told', 0, -1)}")
        found = sorted(text.decode() for text in client.lrange("told", 0, -1))
        client.delete("told")
    return found


def test_links_are_told_of_each_result(tapped: Bus) -> None:
    tasks = tapped.app.tasks
    collect, tell = tasks["canvas.collect"], tasks["canvas.tell"]
    first = collect.s(1)
    first.link(tell.s("first"))
    last = group(collect.s(2), collect.s(3))
    whole = chain(first, last)
    whole.link(tell.s("last"))
    assert given_by_operation(whole, tapped) == [[[1], 2], [[1], 3]]
    assert told(tapped, 3) == ["[[1], 'first']", "[[[1], 2], 'last']", "[[[1], 3], 'last']"]


def test_link_errors_are_told_of_a_failure_also_of_a_member_before_a_body(tapped: Bus) -> None:
    tasks = tapped.app.tasks
    collect, tell, fail = tasks["canvas.collect"], tasks["canvas.tell"], tasks["canvas.fail"]
    operation = tappable(chain(fail.s(1), collect.s()).on_error(tell.si("chain")), bus=tapped).delay()
    operation.wait("failed", LONG_S)
    assert told(tapped, 1) == ["['chain']"]
    operation = tappable(group(collect.s(1), fail.s(2)) | collect.s().on_error(tell.si("body")), bus=tapped).delay()
    operation.wait("failed", LONG_S)
    assert told(tapped, 1) == ["['body']"]


def test_options_reach_the_worker(tapped: Bus) -> None:
    seen = tapped.app.tasks["canvas.seen"].s()
    expires = datetime(2126, 11, 22, 10, 15, tzinfo=UTC)
    seen.set(headers={"tenant": "acme"}, time_limit=20, soft_time_limit=10, shadow="look", expires=expires, priority=3)
    seen.set(queue="celery", compression="gzip", delivery_mode=1, retry=True, retry_policy={"max_retries": 2})
    seen.stamp(batch=[1, 2])
    expected = {
        "stamps": {"batch": [1, 2]},
        "tenant": "acme",
        "time_limits": [20, 10],
        "shadow": "look",
        "expires": expires.isoformat(),
        "priority": 3,
        "routing_key": "celery",
    }
    assert given_by_operation(group(seen, seen) | tapped.app.tasks["canvas.collect"].s(), tapped) == [[expected] * 2]
