"""Publishing through a Celery app: what is sent, when a repeat is, and what becomes of a broker that is away."""

import base64
import json
import socket
import threading
from typing import Any

import pytest
import redis
from celery import Celery
from celery.signals import after_task_publish, before_task_publish

from support import RedisServer
from support.flows import LONG_NAME, Clock, Post, journal_of, publication, queued
from tapfs import Bus, State, tappable
from tapfs.bus.plan import Step
from tapfs.bus.publication import Publication
from tapfs.errors import PublishFailed
from tapfs.flow import publisher
from tapfs.flow.message import HEADER, header_for, task_id_of
from tapfs.flow.publisher import CeleryPublisher

QUEUE = "celery"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(publisher, "time", clock)
    return clock


def numbers(client: redis.Redis, queue: str = QUEUE) -> list[int]:
    """Which publishing each of the waiting messages is, oldest first."""
    return [int(one["headers"]["id"].rpartition(".")[2]) for one in reversed(queued(client, queue))]


# What is sent


def test_the_message_is_celerys_own_without_arguments(on_redis: Celery, noted: Any, client: redis.Redis) -> None:
    CeleryPublisher(on_redis)(publication(step=Step("0003", "save", LONG_NAME, [1], {"a": 2})))
    [message] = queued(client)
    headers = message["headers"]
    assert headers[HEADER] == header_for(publication())
    assert headers["task"] == LONG_NAME
    assert headers["id"] == task_id_of(publication())
    assert headers["root_id"] == "20261122-101502-tally-k7f3q2"
    assert headers["retries"] == 1
    assert sorted(headers) == ["id", "lang", "retries", "root_id", "tapfs", "task"]
    assert json.loads(base64.b64decode(message["body"]))[:2] == [[], {}]
    assert message["content-type"] == "application/json"


def test_options_of_the_signature_are_used_at_publishing(on_redis: Celery, noted: Any, client: redis.Redis) -> None:
    options = {
        "queue": "slow",
        "priority": 3,
        "countdown": 99,
        "expires": 60,
        "time_limit": 10,
        "soft_time_limit": 5,
        "headers": {"tenant": "acme"},
        "shadow": "nice name",
        "ignore_result": True,
    }
    due = "2126-01-01T00:00:00.000Z"
    CeleryPublisher(on_redis)(publication(step=Step("0003", "save", LONG_NAME, options=options), not_before=due))
    [name] = [name.decode() for name in client.scan_iter() if name.startswith(b"slow")]
    assert name.startswith("slow")
    [message] = queued(client, name)
    headers = message["headers"]
    assert headers["tenant"] == "acme"
    assert headers[HEADER]["step"] == "0003"
    assert headers["timelimit"] == [10, 5]
    assert headers["eta"] == due
    assert headers["expires"] is not None
    assert headers["shadow"] == "nice name"
    assert headers["ignore_result"] is True
    assert message["properties"]["priority"] == 3
    assert len(client.lrange(name, 0, -1)[0]) < 1024


def test_what_is_said_is_not_left_out_though_it_be_little(on_redis: Celery, noted: Any, client: redis.Redis) -> None:
    options = {"headers": {"empty": None, "zero": 0}, "ignore_result": False}
    CeleryPublisher(on_redis)(publication(step=Step("0003", "save", LONG_NAME, options=options), retries=0))
    headers = queued(client)[0]["headers"]
    assert {name: headers[name] for name in ("empty", "zero", "ignore_result")} == {
        "empty": None,
        "zero": 0,
        "ignore_result": False,
    }


def test_handlers_of_celerys_signals_see_the_message_whole(on_redis: Celery, noted: Any, client: redis.Redis) -> None:
    seen = []

    def note(headers: Any, properties: Any = None, **_: Any) -> None:
        seen.append((headers["argsrepr"], headers["origin"], headers[HEADER]["step"]))

    for told in (before_task_publish, after_task_publish):
        told.connect(note)
    try:
        CeleryPublisher(on_redis)(publication(step=Step("0003", "save", LONG_NAME)))
    finally:
        for told in (before_task_publish, after_task_publish):
            told.disconnect(note)
    assert len(seen) == 2
    assert {(arguments, step) for arguments, _, step in seen} == {("()", "0003")}


def test_a_header_of_the_users_cannot_take_the_place_of_ours(on_redis: Celery, noted: Any, client: redis.Redis) -> None:
    step = Step("0003", "save", LONG_NAME, options={"headers": {HEADER: "mine"}})
    CeleryPublisher(on_redis)(publication(step=step))
    assert queued(client)[0]["headers"][HEADER]["step"] == "0003"


@pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")
def test_the_queue_of_the_task_and_the_routes_of_the_app_are_used(on_redis: Celery, client: redis.Redis) -> None:
    @on_redis.task(name="own.queue", queue="reports")
    def own() -> None:
        pass

    on_redis.conf.task_routes = {"routed.*": {"queue": "routed"}}
    on_redis.finalize()
    publish = CeleryPublisher(on_redis)
    publish(publication(step=Step("0001", "queue", "own.queue")))
    publish(publication(step=Step("0001", "task", "routed.task")))
    found = {name.decode().split("\x06")[0] for name in client.scan_iter() if client.type(name) == b"list"}
    assert found == {"reports", "routed"}


def test_json_is_published_also_where_the_app_says_pickle(on_redis: Celery, noted: Any, client: redis.Redis) -> None:
    on_redis.conf.task_serializer = "pickle"
    CeleryPublisher(on_redis)(publication())
    assert queued(client)[0]["content-type"] == "application/json"


def test_two_apps_publish_to_the_broker_of_their_own(on_redis: Celery, client: redis.Redis, redis_url: str) -> None:
    other = Celery("other", broker="memory://", set_as_current=False)
    CeleryPublisher(other)(publication())
    assert client.dbsize() == 0


# What the broker does not take


def refuse_everything(app: Celery) -> None:
    """Let the app's broker be at a port where nobody listens, and have it known soon."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app.conf.update(
        broker_url=f"redis://127.0.0.1:{port}/0",
        broker_connection_timeout=0.2,
        broker_transport_options={"max_retries": 0, "socket_connect_timeout": 0.2, "retry_on_timeout": False},
        task_publish_retry=False,
    )


def test_a_broker_that_cannot_be_reached_is_a_publish_failed_in_words(app: Celery) -> None:
    refuse_everything(app)
    with pytest.raises(PublishFailed, match=r"^the broker did not take it: .*refused"):
        CeleryPublisher(app)(publication())


def test_a_broker_that_is_full_is_a_publish_failed_too(app: Celery, own_redis: RedisServer) -> None:
    app.conf.broker_url = own_redis.url()
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
    with pytest.raises(PublishFailed, match="used memory > 'maxmemory'"):
        CeleryPublisher(app)(publication())


@pytest.mark.parametrize(
    ("settings", "step_options", "why"),
    [
        ({"broker_url": "nosuch://host"}, {}, "nosuch"),
        ({"task_create_missing_queues": False}, {"queue": "nowhere"}, "nowhere"),
        ({}, {"compression": "nosuch"}, "nosuch"),
        ({}, {"expires": "not a time"}, "invalid literal"),
    ],
    ids=["transport", "queue", "compression", "expires"],
)
def test_whatever_keeps_celery_from_publishing_is_a_publish_failed(
    app: Celery, settings: dict[str, Any], step_options: dict[str, Any], why: str
) -> None:
    app.conf.update(settings)
    with pytest.raises(PublishFailed) as caught:
        CeleryPublisher(app)(publication(step=Step("0003", "save", "shop.save", options=step_options)))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_operation_whose_step_cannot_be_published_says_why_in_its_message(app: Celery, bus: Bus) -> None:
    """B93: not left queued without a word."""

    @app.task(name="lost")
    def lost() -> None:
        pass

    app.conf.task_create_missing_queues = False
    bus.control.publisher = CeleryPublisher(app)
    operation = tappable(lost.s().set(queue="nowhere"), bus=bus).delay()
    assert operation.state is State.QUEUED
    assert "step 0001 waits: the broker did not take it:" in (operation.view().message or "")
    assert "nowhere" in (operation.view().message or "")
    assert [line["event"] for line in journal_of(operation)] == ["created"]


# Repeats


def test_a_repeat_is_sent_into_an_empty_queue_each_time(on_redis: Celery, client: redis.Redis, clock: Clock) -> None:
    """A message that was lost: nothing waits."""
    publish = CeleryPublisher(on_redis)
    for number in range(1, 12):
        publish(publication(number=number))
        assert numbers(client) == [number]
        client.delete(QUEUE)
        clock.now += 30


def test_behind_an_honest_backlog_repeats_are_rare_and_never_cease(
    on_redis: Celery, client: redis.Redis, clock: Clock
) -> None:
    """No flood: of a hundred repeats those with a power of two; each is said to be published all the same."""
    publish = CeleryPublisher(on_redis)
    client.lpush(QUEUE, "somebody else's")
    for number in range(1, 101):
        publish(publication(number=number))
        clock.now += 30
    client.rpop(QUEUE)
    assert numbers(client) == [1, 2, 4, 8, 16, 32, 64]


def test_a_thousand_steps_that_wait_do_not_flood_the_queue_however_long_it_takes(
    on_redis: Celery, client: redis.Redis, clock: Clock
) -> None:
    publish = CeleryPublisher(on_redis)
    steps = [publication(operation_id=f"20261122-101502-tally-{number:06}") for number in range(100)]
    for turn in range(1, 61):  # half an hour in which no worker comes
        for one in steps:
            publish(Publication(**(one.__dict__ | {"number": turn})))
        clock.now += 30
    assert client.llen(QUEUE) == 100 * 6


def test_what_was_seen_of_a_queue_is_believed_for_a_moment_only(
    on_redis: Celery, client: redis.Redis, clock: Clock
) -> None:
    """Asking costs the broker a call, and many may be due at once."""
    publish = CeleryPublisher(on_redis)
    client.lpush(QUEUE, "somebody else's")
    publish(publication(number=3))
    client.delete(QUEUE)
    publish(publication(number=3))
    assert client.llen(QUEUE) == 0
    clock.now += 2.0
    publish(publication(number=3))
    assert numbers(client) == [3]


def test_the_backlog_of_another_queue_keeps_no_repeat_back(on_redis: Celery, client: redis.Redis, clock: Clock) -> None:
    publish = CeleryPublisher(on_redis)
    client.lpush(QUEUE, "somebody else's")
    publish(publication(number=3, step=Step("0003", "save", "shop.save", options={"queue": "slow"})))
    assert numbers(client, "slow") == [3]
    publish(publication(number=3, step=Step("0003", "save", "shop.save")))
    assert client.llen(QUEUE) == 1


@pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")
def test_the_backlog_is_looked_for_where_the_routes_of_the_app_lead(
    on_redis: Celery, client: redis.Redis, clock: Clock
) -> None:
    on_redis.conf.task_routes = {"routed.*": {"queue": "routed"}}
    publish = CeleryPublisher(on_redis)
    step = Step("0001", "task", "routed.task")
    client.lpush("routed", "somebody else's")
    publish(publication(number=3, step=step))
    assert client.llen("routed") == 1
    client.delete("routed")
    client.lpush(QUEUE, "somebody else's")
    clock.now += 2.0
    publish(publication(number=3, step=step))
    assert numbers(client, "routed") == [3]


def test_what_a_worker_has_and_has_not_acknowledged_is_no_backlog(
    on_redis: Celery, client: redis.Redis, clock: Clock
) -> None:
    """It may be frozen, or gone: its message is repeated."""
    publish = CeleryPublisher(on_redis)
    publish(publication(number=1))
    with on_redis.connection() as connection, connection.SimpleQueue(QUEUE) as queue:
        queue.get(timeout=5)
        publish(publication(number=3))
        assert numbers(client) == [3]


def test_a_repeat_through_a_broker_in_memory_needs_no_queue_that_is_there(app: Celery, clock: Clock) -> None:
    """The first look at a queue that nobody has made yet."""
    publish = CeleryPublisher(app)
    publish(publication(number=3, step=Step("0003", "save", "shop.save", options={"queue": "fresh"})))
    with app.connection() as connection, connection.SimpleQueue("fresh") as queue:
        assert queue.get(timeout=5).headers["id"].endswith(".3")


def test_an_operation_behind_a_backlog_is_published_again_when_the_backlog_is_gone(
    on_redis: Celery, noted: Any, bus: Bus, client: redis.Redis, clock: Clock
) -> None:
    """Law 1: its message may have been lost among the others."""
    start = bus.control.now()
    bus.control.now = lambda: start + clock.now
    bus.control.publisher = CeleryPublisher(on_redis)
    operation = tappable(noted.s(), bus=bus).delay()
    client.delete(QUEUE)
    client.lpush(QUEUE, "somebody else's")
    for _ in range(20):
        clock.now += 31
        bus.reconcile(operation)
    client.delete(QUEUE)
    clock.now += 31
    bus.reconcile(operation)
    [message] = queued(client)
    Post(on_redis).deliver_header(message["headers"]["task"], message["headers"][HEADER])
    assert operation.state is State.SUCCEEDED


# A broker that is away, and comes back


def test_a_broker_that_was_away_is_not_asked_again_for_a_moment_and_then_is(
    app: Celery, own_redis: RedisServer, clock: Clock
) -> None:
    """It answers slowly, and many steps may be waiting."""
    refuse_everything(app)
    publish = CeleryPublisher(app)
    with pytest.raises(PublishFailed) as first:
        publish(publication())
    app.conf.broker_url = own_redis.url()
    app.pool.force_close_all()
    app.set_default()
    for _ in range(3):
        clock.now += 0.6
        with pytest.raises(PublishFailed) as again:
            publish(publication())
        assert str(again.value) == str(first.value)
    assert publish.returns == 0


def test_each_return_of_the_broker_is_counted_once(app: Celery, own_redis: RedisServer, clock: Clock) -> None:
    """What it held before may be gone: whoever supervises publishes it all again."""
    app.conf.update(
        broker_url=own_redis.url(),
        broker_connection_timeout=0.5,
        broker_transport_options={"max_retries": 0, "socket_connect_timeout": 0.5, "retry_on_timeout": False},
        task_publish_retry=False,
    )
    publish = CeleryPublisher(app)
    publish(publication(number=1))
    assert publish.returns == 0, "it was not away"
    for turn in (1, 2):
        own_redis.stop()
        for _ in range(2):
            clock.now += 10
            with pytest.raises(PublishFailed, match=r"^the broker did not take it: "):
                publish(publication(number=1))
        own_redis.start()
        clock.now += 10
        for _ in range(3):
            publish(publication(number=1))
        assert publish.returns == turn


def test_a_broker_that_is_found_away_by_a_look_at_its_queue_is_away(
    app: Celery, own_redis: RedisServer, clock: Clock
) -> None:
    """A repeat looks before it sends."""
    app.conf.update(
        broker_url=own_redis.url(),
        broker_connection_timeout=0.5,
        broker_transport_options={"max_retries": 0, "socket_connect_timeout": 0.5, "retry_on_timeout": False},
        task_publish_retry=False,
    )
    publish = CeleryPublisher(app)
    publish(publication(number=1))
    own_redis.stop()
    clock.now += 10
    with pytest.raises(PublishFailed, match=r"^the broker did not take it: .*refused"):
        publish(publication(number=3))
    own_redis.start()
    clock.now += 10
    publish(publication(number=3))
    assert publish.returns == 1


def test_a_step_that_cannot_be_routed_keeps_no_other_from_being_published(
    on_redis: Celery, client: redis.Redis, clock: Clock
) -> None:
    """Only a broker that is away is not asked again; a fault of one step is its own."""
    on_redis.conf.task_create_missing_queues = False
    publish = CeleryPublisher(on_redis)
    with pytest.raises(PublishFailed, match="nowhere"):
        publish(publication(step=Step("0003", "save", "shop.save", options={"queue": "nowhere"})))
    publish(publication(number=1))
    assert numbers(client) == [1]
    assert publish.returns == 0


def test_steps_of_many_threads_are_published_by_one_publisher(on_redis: Celery, client: redis.Redis) -> None:
    """A worker with a pool of threads, and its supervisor."""
    publish = CeleryPublisher(on_redis)
    threads = [
        threading.Thread(target=lambda number=number: publish(publication(number=1, attempt=number)))
        for number in range(1, 21)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["headers"][HEADER]["attempt"] for one in queued(client)) == list(range(1, 21))
