"""Publishing steps through a Celery app; what keeps a message from being sent is said, and never ends anything.

A message may be lost, so a step that nobody takes is published again. Behind an honest backlog that would be a flood:
so a repeat is sent only into an empty queue, or as the second, fourth, eighth, ... time.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from tapfs.bus.publication import Publication
from tapfs.errors import PublishFailed
from tapfs.flow.message import HEADER, header_for, task_id_of

#: What Celery's worker takes for a header of its own that is absent.
_ABSENT: dict[str, Any] = {
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "argsrepr": "()",
    "kwargsrepr": "{}",
    "ignore_result": None,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
#: Seconds for which what was seen of a queue, or of a broker that is away, is believed.
_BELIEVED_S = 2.0


class _Brief:
    """A producer that leaves out of a message what says nothing: some 400 bytes of the kilobyte that it may have.

    Celery's signals still see everything.
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, *, headers: dict[str, Any], **options: Any) -> Any:
        """Publish with fewer headers; the correlation id is the task's id again, and who sent it is in the journal."""
        options.pop("correlation_id", None)
        brief = {
            name: value
            for name, value in headers.items()
            if name != "origin" and (name not in _ABSENT or value != _ABSENT[name])
        }
        return self._producer.publish(body, headers=brief, **options)


class CeleryPublisher:
    """Publishes steps through a Celery app.

    Attributes:
        returns: how often the broker took a message after it had refused one: what it held before may be gone.
    """

    def __init__(self, app: Celery) -> None:
        self.returns = 0
        self._app = app
        self._seen: dict[str, tuple[float, bool]] = {}
        self._trouble: tuple[float, str] | None = None

    def __call__(self, publication: Publication) -> None:
        """Publish a step; raises `PublishFailed`, whatever keeps it from being done."""
        if self._trouble is not None and time.monotonic() < self._trouble[0] + _BELIEVED_S:
            raise PublishFailed(self._trouble[1])  # a broker that is away answers slowly, and many may wait
        try:
            if self._is_needed(publication):
                self._send(publication)
        except Exception as error:  # of the broker, its client, or Celery's routing: the step stays out, and it is said
            reason = " ".join(str(error).split()) or type(error).__name__
            text = f"the broker did not take it: {reason}"
            if isinstance(error, (OperationalError, OSError)):
                self._trouble = (time.monotonic(), text)
            raise PublishFailed(text) from error
        if self._trouble is not None:
            self._trouble = None
            self.returns += 1

    def _is_needed(self, publication: Publication) -> bool:
        """Whether a message is to be sent: for a repeat, the one before may only be waiting its turn."""
        number = publication.number
        return number & (number - 1) == 0 or not self._has_waiting(self._queue_of(publication))

    def _queue_of(self, publication: Publication) -> str:
        options = publication.step.options
        queue = options.get("queue")
        if queue is None:
            told = {name: options[name] for name in ("exchange", "routing_key") if name in options}
            name = options.get("route_name") or publication.step.task
            queue = self._app.amqp.router.route(told, name).get("queue")
        return str(getattr(queue, "name", None) or queue or self._app.conf.task_default_queue)

    def _has_waiting(self, queue: str) -> bool:
        """Whether messages wait in a queue that nobody was given yet."""
        now = time.monotonic()
        at, answer = self._seen.get(queue, (float("-inf"), False))
        if now >= at + _BELIEVED_S:
            with self._app.producer_or_acquire() as producer:
                answer = _has_messages(producer.connection, queue)
            self._seen[queue] = (now, answer)
        return answer

    def _send(self, publication: Publication) -> None:
        options = dict(publication.step.options)
        for timed in ("countdown", "eta"):
            options.pop(timed, None)
        headers = {**(options.pop("headers", None) or {}), HEADER: header_for(publication)}
        with self._app.producer_or_acquire() as producer:
            self._app.send_task(
                publication.step.task,
                producer=_Brief(producer),
                task_id=task_id_of(publication),
                root_id=publication.operation_id,
                headers=headers,
                retries=publication.retries,
                eta=publication.not_before,
                serializer="json",  # never pickle, whatever the app's `task_serializer` is
                **options,
            )


def _has_messages(connection: Any, queue: str) -> bool:
    """Ask the broker for a queue's length; raises `OperationalError` where it is away, as sending does."""
    connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    try:
        with connection.channel() as channel:
            return bool(channel.queue_declare(queue=queue, passive=True).message_count)
    except connection.channel_errors:  # there is no such queue, or none for want of messages
        return False
    except connection.connection_errors as error:
        raise OperationalError(str(error)) from error
