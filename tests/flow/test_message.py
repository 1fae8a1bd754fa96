"""The message of a step: how large it is, what it says, how it is published; on a real Redis where that matters."""

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery, chain
from celery.signals import after_task_publish, before_task_publish

from support import RedisServer
from support.flows import Post, journal_of
from tapfs import Bus, State, tappable
from tapfs.bus.plan import Step
from tapfs.bus.publication import Publication
from tapfs.errors import PublishFailed
from tapfs.flow.message import HEADER, HeaderInvalid, StepHeader, header_for, header_of, task_id_of
from tapfs.flow.publisher import CeleryPublisher

LONG_NAME = "warehouse.replenishment.tasks.recalculate_every_price_of_a_region_and_tell_the_shops"
QUEUE = "celery"


def publication(**changes: Any) -> Publication:
    values = {
        "operation_id": "20261122-101502-tally-k7f3q2",
        "step": Step("0003", "save", "shop.save"),
        "epoch": 2,
        "attempt": 3,
        "number": 4,
        "retries": 1,
        "not_before": None,
    }
    return Publication(**(values | changes))


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def on_redis(app: Celery, redis_url: str) -> Celery:
    app.conf.broker_url = redis_url
    return app


@pytest.fixture
def noted(on_redis: Celery) -> Any:
    @on_redis.task(name=LONG_NAME)
    def noted(*args: Any) -> int:
        return len(args)

    return noted


def queued(client: redis.Redis, queue: str = QUEUE) -> list[dict[str, Any]]:
    return [json.loads(text) for text in client.lrange(queue, 0, -1)]


# Headers


def test_a_header_says_operation_step_epoch_and_attempt_and_is_read_back() -> None:
    header = header_for(publication())
    assert header == {"operation": "20261122-101502-tally-k7f3q2", "step": "0003", "epoch": 2, "attempt": 3}

    class Request:
        headers = {HEADER: header}  # noqa: RUF012

    assert header_of(Request) == StepHeader(**header)


@pytest.mark.parametrize("headers", [None, {}, {"other": {}}])
def test_a_message_without_the_header_is_no_step(headers: Any) -> None:
    class Request:
        pass

    assert header_of(Request()) is None
    Request.headers = headers
    assert header_of(Request()) is None


def test_a_header_that_says_nothing_valid_is_refused_with_every_fault() -> None:
    class Request:
        headers = {HEADER: {"operation": 1, "step": "0001", "epoch": "x"}}  # noqa: RUF012

    with pytest.raises(HeaderInvalid) as caught:
        header_of(Request)
    for fault in ("field 'operation': 1 is a whole number", "field 'epoch'", "field 'attempt' is missing"):
        assert fault in str(caught.value)


def test_each_publishing_has_a_task_id_of_its_own_that_people_can_read() -> None:
    assert task_id_of(publication()) == "20261122-101502-tally-k7f3q2.0003.2.3.4"
    member = publication(step=Step("0003/0017", "resize", "shop.resize"))
    assert task_id_of(member) == "20261122-101502-tally-k7f3q2.0003.0017.2.3.4"


# On a real broker


def test_a_message_of_a_thousand_step_chain_is_under_one_kilobyte(
    on_redis: Celery, noted: Any, bus: Bus, client: redis.Redis
) -> None:
    """X08: whatever the length of the workflow, of its arguments and of its results."""
    bus.control.publisher = CeleryPublisher(on_redis)
    tappable(chain(*(noted.s("x" * 1000, key="y" * 1000) for _ in range(1000))), bus=bus).delay("z" * 100_000)
    assert client.llen(QUEUE) == 1
    [text] = client.lrange(QUEUE, 0, -1)
    assert len(text) < 1024, text
    assert b"xxx" not in text
    assert b"yyy" not in text
    assert b"zzz" not in text


def test_one_message_at_a_time_is_in_the_queue_of_a_thousand_step_chain(
    on_redis: Celery, noted: Any, bus: Bus, client: redis.Redis
) -> None:
    """Law 2, X08: never more than one, never more than a kilobyte, over the whole run."""
    bus.control.publisher = CeleryPublisher(on_redis)
    post = Post(on_redis)
    operation = tappable(chain(*(noted.s() for _ in range(1000))), bus=bus).delay()
    sizes = []
    while client.llen(QUEUE):
        assert client.llen(QUEUE) == 1
        text = client.rpop(QUEUE)
        sizes.append(len(text))
        message = json.loads(text)
        post.deliver_header(message["headers"]["task"], message["headers"][HEADER])
    assert len(sizes) == 1000
    assert max(sizes) < 1024
    assert operation.state is State.SUCCEEDED
    assert operation.result == 1


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
    assert "cannot publish step 0001: the broker did not take it:" in (operation.view().message or "")
    assert "nowhere" in (operation.view().message or "")
    assert [line["event"] for line in journal_of(operation)] == ["created"]
