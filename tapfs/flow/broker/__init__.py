"""The embedded broker: Celery's messages as files, for one machine and no other broker.

Owns the folder below. By law 1 it is only a doorbell: it may be emptied, moved or deleted at any time, also under
running workers, which make it again. Nothing here is synced to disk: a power cut may lose messages, a killed process
does not. What `ls -R control/broker` shows::

    lock                              locked while bindings, or who owns a queue, change
    queues/<queue>/<message>          messages that wait, first to be delivered first in `ls`
    consumers/<id>/                   one consuming connection; <id> is <pid>-<random>
        lock                          locked (flock) as long as its process lives
        unacked/<queue>/<message>     messages it took and has not acknowledged
        owns/<queue>                  empty; a queue that goes away with this consumer
    exchanges/<exchange>.json         bindings, one a line: [routing key, pattern, queue]
    broken/<queue>/<message>          what could not be read as a message; nobody reads or removes it
    tmp/                              files being written

<queue> and <exchange>   the name with all but letters, digits and `_.-~@` percent-encoded, as is a leading dot; `%` for
                         the empty name; over 150 characters cut and closed with `%-` and a digest.
<message>                `<rank>-<nanoseconds>-<count>-<pid>-<random>[.<redeliveries>].json`, for instance
                         `9-01795334107120000000-00000001-4711-1f3a9c2e.json`. The rank is 9 less the priority: as
                         kombu's virtual channel and RabbitMQ have it (and Redis has not), 9 is the most urgent and 0
                         the default. Any other name without a leading dot is read as well, in its place in the order.
                         The text is kombu's message: an object of body, headers, properties, content-type and
                         content-encoding; at most 16 MiB.

A message is taken by renaming it into `unacked`, acknowledged by removing it there, and put back under its old time, so
in front of the later ones, when it is requeued, when the channel is closed, or by any other consumer once the lock of
the one that took it is free. Not promised: exactly one delivery of a message whose consumer died, and any order
between queues.
"""

from kombu.transport import TRANSPORT_ALIASES

from tapfs.flow.broker.channel import Channel
from tapfs.flow.broker.files import BrokerError
from tapfs.flow.broker.layout import SCHEME, broker_url
from tapfs.flow.broker.transport import Transport

__all__ = ["BrokerError", "Channel", "Transport", "broker_url"]

TRANSPORT_ALIASES[SCHEME] = "tapfs.flow.broker.transport:Transport"
