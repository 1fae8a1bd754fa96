"""One connection to the embedded broker, as kombu's transport.

Owns the connection's life: when it registers as a consumer, when it waits, when it looks after the dead and after its
own folder. A connection that only sends registers nothing and watches nothing.
"""

import time
import weakref
from pathlib import Path
from queue import Empty
from typing import Any

from celery import signals
from kombu.transport import virtual

from tapfs.flow.broker.channel import Channel
from tapfs.flow.broker.consumers import Consumer, bury_the_dead, remove_stale
from tapfs.flow.broker.doorbell import Doorbell
from tapfs.flow.broker.exchanges import Exchanges
from tapfs.flow.broker.files import ATTEMPTS, explained
from tapfs.flow.broker.hub import Attendance
from tapfs.flow.broker.layout import Layout, broker_dir, make_dir
from tapfs.flow.broker.locks import SectionLock
from tapfs.flow.broker.queues import ConsumerLost, Queues

#: How often a consuming connection looks for dead consumers and whether its own folder still stands, in seconds.
CARE_S = 3.0

#: How often it removes stale messages, in seconds.
STALE_CARE_S = 60.0

#: Time after which a worker's event loop gets a turn at other things while there are still messages, in seconds.
TURN_S = 0.005


class Transport(virtual.Transport):
    """One connection to the broker in the folder that the URL names."""

    Channel = Channel
    driver_type = "tapfs"
    driver_name = "tapfs"
    default_port = 0
    can_parse_url = True
    connection_errors = (*virtual.Transport.connection_errors, OSError)
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.layout = Layout(broker_dir(client.hostname))
        self.queues = Queues(self.layout)
        self.exchanges = Exchanges(self.layout, SectionLock(self.layout.lock_path))
        self._doorbell: Doorbell | None = None
        self._attendance: Attendance | None = None
        self._consumer: Consumer | None = None
        self._consumed: list[str] = []
        self._care_at_s = self._stale_care_at_s = 0.0
        self._is_hurried = False
        _transports.add(self)

    @property
    def consumer(self) -> Consumer:
        """This connection's registration, made on the first need. Locks and writes then."""
        if self._consumer is None:
            bury_the_dead(self.layout, self.queues, self.exchanges)
            self._consumer = Consumer(self.layout, self.queues, self.exchanges)
        return self._consumer

    @property
    def doorbell(self) -> Doorbell:
        """What this connection waits on, made on the first need."""
        if self._doorbell is None:
            self._doorbell = Doorbell()
        return self._doorbell

    @property
    def registered(self) -> Consumer | None:
        """The registration if there is one, and it is this process's and not that of its parent."""
        return self._consumer if self._consumer is not None and self._consumer.is_ours() else None

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        return uri

    def driver_version(self) -> str:
        return "1"

    def establish_connection(self) -> Any:
        with explained("make the broker's folder", self.layout.root, "nothing can be sent or received"):
            make_dir(self.layout.queues_dir)
            make_dir(self.layout.tmp_dir)
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        self._consumed.clear()
        self._leave_event_loop()
        if self._doorbell is not None:
            self._doorbell.close()
            self._doorbell = None
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Deliver from kombu's hub from now on; the worker then does not call `drain_events`."""
        self._leave_event_loop()
        self._attendance = Attendance(loop, self.doorbell, self._take_turn)

    def consume(self, folder: str) -> None:
        """Begin to listen for a queue, which is made when absent."""
        self._consumed.append(folder)
        self._listen(folder)
        self.ring()  # for what was put before

    def cancel(self, folder: str) -> None:
        """Listen for a queue no longer."""
        self._consumed.remove(folder)
        if folder not in self._consumed:
            self.doorbell.unwatch(self.layout.queue_dir(folder))

    def take(self, folder: str) -> Path:
        """Take the first message of a queue; return where it is now.

        Raises:
            Empty: there is none.
            BrokerError: the folder cannot be used.
        """
        with explained("take a message from", self.layout.queue_dir(folder), "it is still there"):
            for _ in range(ATTEMPTS):
                try:
                    path = self.queues.take(folder, self.consumer.unacked_path(folder))
                except ConsumerLost:
                    self._mend()
                    make_dir(self.consumer.unacked_path(folder))
                except FileNotFoundError:
                    self._mend()
                    break
                else:
                    if path is not None:
                        return path
                    break
        raise Empty

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._care()
            try:
                self.cycle.get(self._deliver, timeout=timeout)
                return
            except Empty:
                left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and (left_s <= 0 or self._is_hurried):
                raise TimeoutError  # by its old name, socket.timeout, the one kombu and Celery wait for
            self.doorbell.wait(left_s)

    def ring(self) -> None:
        """Have the waiting thread look now."""
        if self._doorbell is not None:
            self._doorbell.ring()

    def hurry(self) -> None:
        """Wait no more, now or later: the worker is shutting down, and its loop does so between two waits only."""
        self._is_hurried = True
        self.ring()

    def _leave_event_loop(self) -> None:
        if self._attendance is not None:
            self._attendance.close()
            self._attendance = None

    def _take_turn(self) -> None:
        """Deliver what there is and the channels have room for, one message of each channel in turn."""
        self._care()
        end_s = time.monotonic() + TURN_S
        try:
            while not self._is_hurried:
                self.cycle.get(self._deliver)
                if time.monotonic() >= end_s:
                    self.ring()
                    return
        except Empty:
            return

    def _deliver(self, message: dict[str, Any], queue: str) -> None:
        self.doorbell.tell_arrival()
        super()._deliver(message, queue)

    def _listen(self, folder: str) -> None:
        self.queues.create(folder)
        with explained("register in", self.consumer.path, "nothing was taken"):
            make_dir(self.consumer.unacked_path(folder))
        self.doorbell.watch(self.layout.queue_dir(folder))

    def _care(self) -> None:
        """Now and then: mend the own folder, put back what the dead took, remove what is stale."""
        now_s = time.monotonic()
        if not self._consumed:
            return
        if now_s >= self._care_at_s or self.doorbell.has_lost_watch:
            self.doorbell.has_lost_watch = False
            self._mend()
        if now_s >= self._care_at_s:
            self._care_at_s = now_s + CARE_S
            bury_the_dead(self.layout, self.queues, self.exchanges)
        if now_s >= self._stale_care_at_s:
            self._stale_care_at_s = now_s + STALE_CARE_S
            remove_stale(self.layout, self.queues)

    def _mend(self) -> None:
        """Make again what somebody deleted or moved while it was in use."""
        if not self.consumer.is_registered():
            self.consumer.register_again()
        for folder in self._consumed:
            self._listen(folder)
        self.exchanges.rebind()


_transports: "weakref.WeakSet[Transport]" = weakref.WeakSet()


@signals.worker_shutting_down.connect
def _hurry_all(**_: Any) -> None:
    # Celery's loops look for it between two waits only, of up to two seconds each.
    for transport in list(_transports):
        transport.hurry()
