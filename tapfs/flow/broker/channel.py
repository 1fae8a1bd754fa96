"""One channel to the embedded broker, as kombu's virtual channel, and its acknowledgements.

Owns the translation of kombu's queue names, bindings and delivery tags; the files are moved by `queues`, `exchanges`
and `consumers`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kombu.transport import virtual

from tapfs.flow.broker.exchanges import Row
from tapfs.flow.broker.files import Unreadable, explained, remove
from tapfs.flow.broker.layout import encode_name
from tapfs.flow.broker.messages import read_message


class QoS(virtual.QoS):
    """Counts what a channel has taken; an acknowledgement removes the message's file."""

    def ack(self, delivery_tag: str) -> None:
        self.channel.settle(delivery_tag)
        self._end(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if requeue:
            self.channel.put_back(delivery_tag)
        else:
            self.channel.settle(delivery_tag)
        self._end(delivery_tag)

    def _end(self, delivery_tag: str) -> None:
        was_full = not self.can_consume()
        super().ack(delivery_tag)
        if was_full:  # the messages that waited for this room have rung long ago
            self.channel.ring()


class Channel(virtual.Channel):
    """One channel. A delivery tag is `<encoded queue>/<message>`, the message's place below `unacked`."""

    QoS = QoS
    supports_fanout = True

    #: Text stays text, so that `jq` can read a message.
    body_encoding = "utf-8"

    def ring(self) -> None:
        """Have the connection look for messages now. For any thread."""
        if self.connection is not None:
            self.connection.ring()

    def settle(self, delivery_tag: str) -> None:
        """Remove a taken message for good."""
        path = self._taken_path(delivery_tag)
        if path is not None:
            with explained("acknowledge", path, "it will be delivered again"):
                remove(path)

    def put_back(self, delivery_tag: str) -> None:
        """Put a taken message back into its queue, in its old place."""
        path = self._taken_path(delivery_tag)
        if path is not None:
            self.connection.queues.put_back(path.parent.name, path)

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], *args: Any, **kwargs: Any
    ) -> None:
        def settle_first(message: Any) -> Any:
            self.settle(message.delivery_tag)
            return callback(message)

        self.connection.consume(encode_name(queue))
        super().basic_consume(queue, no_ack, settle_first if no_ack else callback, *args, **kwargs)

    def basic_cancel(self, consumer_tag: str) -> None:
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is not None and queue not in self._active_queues:
            self.connection.cancel(encode_name(queue))

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if message is not None and no_ack:
            self.settle(message.delivery_tag)
        return message

    def basic_qos(self, *args: Any, **kwargs: Any) -> None:
        super().basic_qos(*args, **kwargs)
        self.ring()

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        if if_empty and self._size(queue):
            return
        folder = encode_name(queue)
        self.state.queue_bindings_delete(queue)
        self.connection.exchanges.unbind_queue(folder)
        self.connection.queues.delete(folder)

    def queue_unbind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **kwargs: Any
    ) -> None:
        self.state.binding_delete(queue, exchange, routing_key)
        meta = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
        self.connection.exchanges.unbind(exchange, _row(*meta))

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        self.state.exchanges.pop(exchange, None)
        self.connection.exchanges.delete(exchange)

    def get_table(self, exchange: str) -> list[Row]:
        return list(self.connection.exchanges.table(exchange))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> None:
        self.connection.exchanges.bind(exchange, _row(routing_key, pattern, queue))

    def _new_queue(self, queue: str, auto_delete: bool = False, exclusive: bool = False, **kwargs: Any) -> None:
        folder = encode_name(queue)
        if auto_delete or exclusive:
            self.connection.consumer.own(folder)
        self.connection.queues.create(folder)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return bool(self.connection.queues.has(encode_name(queue)))

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        self.connection.queues.put(encode_name(queue), message, self._get_message_priority(message))

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        for queue in {queue for _, _, queue in self.get_table(exchange)}:
            self._put(queue, message)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        folder = encode_name(queue)
        while True:
            path = self.connection.take(folder)
            try:
                message = read_message(path)
            except FileNotFoundError:
                continue  # the broker was deleted in between
            except Unreadable as exc:
                self.connection.queues.set_aside(folder, path, str(exc))
                continue
            message["properties"]["delivery_tag"] = f"{folder}/{path.name}"
            return message

    def _size(self, queue: str) -> int:
        return int(self.connection.queues.size(encode_name(queue)))

    def _purge(self, queue: str) -> int:
        return int(self.connection.queues.purge(encode_name(queue)))

    def _restore(self, message: Any) -> None:
        self.put_back(message.delivery_tag)

    def _taken_path(self, delivery_tag: str) -> Path | None:
        """Return where a taken message is; None when the connection is closed or a parent process's."""
        consumer = self.connection.registered if self.connection is not None else None
        return consumer.unacked_path(*delivery_tag.split("/")) if consumer is not None else None


def _row(routing_key: str | None, pattern: str | None, queue: str | None) -> Row:
    return routing_key or "", pattern or "", queue or ""
