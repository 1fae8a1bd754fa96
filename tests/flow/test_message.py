"""The message of a step: what it says, and how large it is on a real Redis."""

import json
from typing import Any

import pytest
import redis
from celery import Celery, chain

from support.flows import Post, publication
from tapfs import Bus, State, tappable
from tapfs.bus.plan import Step
from tapfs.flow.message import HEADER, HeaderInvalid, StepHeader, header_for, header_of, task_id_of
from tapfs.flow.publisher import CeleryPublisher

QUEUE = "celery"


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
