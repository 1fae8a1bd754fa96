"""The embedded broker: its files, its kombu face, and real workers on it."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.asynchronous import Hub
from kombu.exceptions import EncodeError, OperationalError

from tapfs.flow.broker import BrokerError, broker_url, consumers
from tapfs.flow.broker.doorbell import Doorbell
from tapfs.flow.broker.layout import broker_dir, encode_name
from tapfs.flow.broker.messages import name_message, name_redelivery

DEADLINE_S = 30.0


def wait_until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Return the first true value of `condition`; fail when there is none in time."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)
    return value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "control" / "broker"


@pytest.fixture
def connection(root: Path) -> Iterator[Connection]:
    with Connection(broker_url(root)) as connection:
        yield connection


def put(connection: Connection, *bodies: Any, queue: str = "q", **options: Any) -> None:
    with connection.channel() as channel, connection.Producer(channel) as producer:
        for body in bodies:
            producer.publish(body, routing_key=queue, serializer="json", **options)


def get(channel: Any, queue: str = "q") -> Any:
    message = channel.basic_get(queue)
    return None if message is None else message.decode()


def get_all(connection: Connection, queue: str = "q") -> list[Any]:
    with connection.channel() as channel:
        bodies = []
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            bodies.append(message.decode())
        return bodies


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir() and path.name != "lock")


# Names


@pytest.mark.parametrize("name", ["control/broker", "a b%2F;x#?&=@:", "ü/日本", "a+b//c", "%41"])
def test_the_url_of_a_folder_names_that_folder(name: str, tmp_path: Path) -> None:
    connection = Connection(broker_url(tmp_path / name))
    assert broker_dir(broker_url(tmp_path / name)) == tmp_path / name
    assert connection.transport.layout.root == tmp_path / name
    assert connection.clone().transport.layout.root == tmp_path / name


@pytest.mark.parametrize("url", ["tapfs://", "tapfs:///", "tapfs://control/broker", "redis:///x"])
def test_a_url_without_an_absolute_path_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="names no absolute path"):
        broker_dir(url)


NAMES = [
    "",
    ".",
    "..",
    "a",
    "A",
    "a/b",
    "a%2Fb",
    "../../etc",
    ".hidden",
    "é",
    "a\nb",
    "x" * 300,
    "x" * 301,
    "\udc80",
    "%",
]


def test_names_of_queues_become_distinct_plain_file_names() -> None:
    encoded = [encode_name(name) for name in NAMES]
    assert len(set(encoded)) == len(NAMES)
    for name in encoded:
        assert "/" not in name
        assert not name.startswith(".")
        assert 0 < len(os.fsencode(name)) <= 150


@pytest.mark.parametrize("name", [name for name in NAMES if name and name != "\udc80"])
def test_a_queue_may_have_any_name(name: str, connection: Connection, root: Path) -> None:
    put(connection, 1, queue=name)
    assert [path.parent.parent for path in files(root / "queues")] == [root / "queues"]
    assert get_all(connection, name) == [1]


def test_a_redelivery_keeps_its_place_in_the_order() -> None:
    first, second = name_message(0), name_message(0)
    again = name_redelivery(name_redelivery(first))
    assert again == first.replace(".json", ".2.json")
    assert sorted([second, again]) == [again, second]


# Queues


def test_messages_are_delivered_first_in_first_out(connection: Connection) -> None:
    put(connection, *range(100))
    assert get_all(connection) == list(range(100))


def test_a_higher_priority_is_delivered_first(connection: Connection) -> None:
    for priority in (0, 5, 9, 3, 5):
        put(connection, priority, priority=priority)
    assert get_all(connection) == [9, 5, 5, 3, 0]


def test_a_message_is_readable_json_and_never_for_others(connection: Connection, root: Path) -> None:
    put(connection, {"who": "Zoë"})
    (path,) = files(root / "queues")
    assert json.loads(json.loads(path.read_text())["body"]) == {"who": "Zoë"}
    assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_every_serializer_arrives_whole(serializer: str, connection: Connection) -> None:
    with connection.channel() as channel, connection.Producer(channel) as producer:
        producer.publish({"a": ["é", 1]}, routing_key="q", serializer=serializer, compression="zlib")
        message = channel.basic_get("q")
        message.accept = {"application/json", "application/x-python-serialize"}
        assert message.decode() == {"a": ["é", 1]}


def test_size_purge_declare_and_delete_work(connection: Connection, root: Path) -> None:
    queue = Queue("q", channel=connection.default_channel)
    assert queue.queue_declare().message_count == 0
    put(connection, 1, 2, 3)
    assert queue.queue_declare(passive=True).message_count == 3
    assert queue.purge() == 3
    assert get_all(connection) == []
    queue.delete()
    assert not (root / "queues" / "q").exists()
    with pytest.raises(connection.channel_errors):
        queue.queue_declare(passive=True)


def test_a_topic_exchange_routes_by_pattern(connection: Connection) -> None:
    channel = connection.default_channel
    exchange = Exchange("logs", type="topic")
    for name, key in (("all", "#"), ("errors", "*.error")):
        Queue(name, exchange, routing_key=key, channel=channel).declare()
    producer = connection.Producer(channel, exchange=exchange, serializer="json")
    producer.publish(1, routing_key="web.error")
    producer.publish(2, routing_key="web.fine")
    assert (get_all(connection, "all"), get_all(connection, "errors")) == ([1, 2], [1])
    Queue("all", channel=channel).unbind_from(exchange, "#")
    producer.publish(3, routing_key="web.error")
    assert (get_all(connection, "all"), get_all(connection, "errors")) == ([], [3])


def test_a_fanout_reaches_queues_of_other_connections(connection: Connection, root: Path) -> None:
    exchange = Exchange("news", type="fanout")
    with Connection(broker_url(root)) as other:
        Queue("mine", exchange, channel=connection.default_channel).declare()
        Queue("theirs", exchange, channel=other.default_channel).declare()
        with Connection(broker_url(root)) as third:
            third.Producer(exchange=exchange, serializer="json").publish("hi", declare=[exchange])
        assert get_all(connection, "mine") == get_all(other, "theirs") == ["hi"]


def test_a_message_too_large_to_be_read_back_is_refused(connection: Connection) -> None:
    with pytest.raises(EncodeError, match="at most"):
        put(connection, "x" * (17 * 1024 * 1024))
    assert get_all(connection) == []


# What is no message


def write_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * 1024 * 1024)


def write_shape(**changes: Any) -> Callable[[Path], Any]:
    message = {"body": "1", "headers": {}, "properties": {"delivery_info": {}}, "content-type": "application/json"}
    return lambda path: path.write_text(json.dumps({**message, **changes}))


BROKEN = {
    "empty": Path.touch,
    "half": lambda path: path.write_text('{"body": "x'),
    "binary": lambda path: path.write_bytes(b"\x80\x00"),
    "number": lambda path: path.write_text("7"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "type": lambda path: path.write_text('{"__type__": "datetime", "__value__": 3}'),
    "headers": write_shape(headers=[]),
    "properties": write_shape(properties=None),
    "body": write_shape(body=None),
    "encoding": write_shape(properties={"delivery_info": {}, "body_encoding": "rot13"}),
    "base64": write_shape(body="a", properties={"delivery_info": {}, "body_encoding": "base64"}),
    "kind": write_shape(**{"content-type": 3}),
    "directory": lambda path: (path / "inside").mkdir(parents=True),
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "fifo": os.mkfifo,
    "large": write_large,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_message_is_set_aside_and_the_next_one_delivered(
    kind: str, connection: Connection, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(connection, "good")
    BROKEN[kind](root / "queues" / "q" / f"0-{kind}")
    assert get_all(connection) == ["good"]
    aside = root / "broken" / "q" / f"0-{kind}"
    assert os.path.lexists(aside)
    assert str(aside) in caplog.text
    assert not (root / "queues" / "q" / f"0-{kind}").exists()


def test_a_broken_table_of_bindings_is_made_anew(connection: Connection, root: Path) -> None:
    exchange = Exchange("news", type="fanout")
    Queue("q", exchange, channel=connection.default_channel).declare()
    (root / "exchanges" / "news.json").write_text("[[1]]")
    connection.Producer(exchange=exchange, serializer="json").publish("hi")
    assert get_all(connection) == ["hi"]


def test_a_message_is_never_seen_half_written(connection: Connection, root: Path) -> None:
    put(connection, "first")
    writer = threading.Thread(target=put, args=(connection.clone(), *["x" * 200_000] * 200))
    writer.start()
    seen = 0
    while writer.is_alive():
        for path in (root / "queues" / "q").iterdir():
            json.loads(path.read_bytes())
            seen += 1
            path.unlink()
    writer.join()
    assert seen > 0


# Acknowledgement


def test_an_unacknowledged_message_is_kept_and_an_acknowledged_one_is_not(connection: Connection, root: Path) -> None:
    put(connection, 1)
    message = connection.default_channel.basic_get("q")
    assert [path.parent.parent.name for path in files(root / "consumers")] == ["unacked"]
    message.ack()
    assert files(root / "consumers") == files(root / "queues") == []


def test_a_requeued_message_comes_again_first(connection: Connection) -> None:
    put(connection, 1, 2)
    channel = connection.default_channel
    channel.basic_get("q").requeue()
    assert [get(channel), get(channel)] == [1, 2]


def test_a_redelivered_message_says_so(connection: Connection) -> None:
    put(connection, 1)
    message = connection.default_channel.basic_get("q")
    assert "redelivered" not in message.delivery_info
    message.requeue()
    message = connection.default_channel.basic_get("q")
    assert message.delivery_info["redelivered"] is True
    assert message.headers["redelivered"] is True


def test_a_rejected_message_is_gone(connection: Connection, root: Path) -> None:
    put(connection, 1)
    connection.default_channel.basic_get("q").reject()
    assert files(root / "queues") == files(root / "consumers") == []


def test_a_closed_channel_puts_back_what_it_took(connection: Connection) -> None:
    put(connection, 1, 2, 3)
    channel = connection.channel()
    assert [get(channel), get(channel)] == [1, 2]
    channel.close()
    assert get_all(connection) == [1, 2, 3]


def test_a_closed_connection_leaves_no_trace_but_its_messages(connection: Connection, root: Path) -> None:
    put(connection, 1)
    descriptors = len(os.listdir("/proc/self/fd"))
    with Connection(broker_url(root)) as other:
        Queue("temporary", Exchange("news", type="fanout"), channel=other.default_channel, auto_delete=True).declare()
        with other.Consumer(Queue("q", channel=other.default_channel), callbacks=[lambda *_: None]):
            other.drain_events(timeout=5)
    assert list((root / "consumers").iterdir()) == []
    assert not (root / "queues" / "temporary").exists()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert get_all(connection) == [1]


def test_a_forked_child_neither_keeps_the_lock_nor_puts_back(connection: Connection, root: Path) -> None:
    put(connection, 1)
    message = connection.default_channel.basic_get("q")
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            message.requeue()
            connection.release()
        select.select([], [], [], DEADLINE_S)  # lives on, as a pool's child does
        os._exit(0)
    try:
        assert files(root / "queues") == []
        (consumer,) = (root / "consumers").iterdir()
        assert consumers.open_locked(consumer / "lock") is None
        os.close(connection.transport.registered._descriptor)
        connection.transport.registered._descriptor = -1
        descriptor = wait_until(lambda: consumers.open_locked(consumer / "lock"))
        os.close(descriptor)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# Waiting


def test_a_consumer_is_woken_by_a_message(connection: Connection, root: Path) -> None:
    got: list[float] = []
    queue = Queue("q", channel=connection.default_channel)
    with connection.Consumer(queue, callbacks=[lambda body, _: got.append(time.time() - body)], no_ack=True):
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.05)
        with Connection(broker_url(root)) as sender:
            threading.Timer(0.3, lambda: put(sender, time.time())).start()
            connection.drain_events(timeout=DEADLINE_S)
    assert got[0] < 0.5


def test_a_full_consumer_is_woken_by_its_own_acknowledgement(connection: Connection) -> None:
    put(connection, 1, 2)
    channel = connection.default_channel
    channel.basic_qos(0, 1, False)
    taken: list[Any] = []
    with connection.Consumer(Queue("q", channel=channel), callbacks=[lambda _, message: taken.append(message)]):
        connection.drain_events(timeout=1)
        threading.Timer(0.2, lambda: taken[0].ack()).start()
        started = time.monotonic()
        connection.drain_events(timeout=DEADLINE_S)
        assert time.monotonic() - started < 0.9
        assert len(taken) == 2


def test_a_producer_watches_and_registers_nothing(connection: Connection, root: Path) -> None:
    put(connection, 1)
    assert connection.transport._doorbell is None
    assert connection.transport.registered is None
    assert not (root / "consumers").exists()


def test_unannounced_messages_make_a_doorbell_poll(tmp_path: Path) -> None:
    doorbell = Doorbell()
    doorbell.watch(tmp_path)
    for _ in range(2):
        doorbell.wait(0.0)
        doorbell.tell_arrival()
    started = time.monotonic()
    doorbell.wait(None)
    assert time.monotonic() - started < 0.5
    doorbell.close()


def test_an_announced_message_keeps_a_doorbell_from_polling(tmp_path: Path) -> None:
    doorbell = Doorbell()
    doorbell.watch(tmp_path)
    for number in range(4):
        (tmp_path / str(number)).touch()
        doorbell.wait(5.0)
        doorbell.tell_arrival()
    started = time.monotonic()
    doorbell.wait(0.7)
    doorbell.wait(0.7)
    assert time.monotonic() - started > 0.6
    doorbell.close()


# An event loop


def run_hub(hub: Hub, condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> int:
    """Turn an event loop until `condition` is true; return how many turns that took."""
    turns, end = 0, time.monotonic() + deadline_s
    hub.call_repeatedly(0.05, lambda: None)  # so that a turn ends
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        hub.run_once()
        turns += 1
    return turns


@pytest.fixture
def hub(connection: Connection) -> Iterator[Hub]:
    hub = Hub()
    connection.ensure_connection()
    connection.transport.register_with_event_loop(connection.connection, hub)
    yield hub
    hub.close()


def test_an_event_loop_delivers_what_waits_what_comes_and_what_an_acknowledgement_makes_room_for(
    connection: Connection, hub: Hub, root: Path
) -> None:
    put(connection, 1, 2)
    taken: list[Any] = []
    connection.default_channel.basic_qos(0, 2, False)
    queue = Queue("q", channel=connection.default_channel)
    with (
        connection.Consumer(queue, callbacks=[lambda _, message: taken.append(message)]),
        Connection(broker_url(root)) as sender,
    ):
        run_hub(hub, lambda: len(taken) == 2)
        put(sender, 3)
        with pytest.raises(AssertionError):
            run_hub(hub, lambda: len(taken) > 2, deadline_s=0.3)
        started = time.monotonic()
        taken[0].ack()
        run_hub(hub, lambda: len(taken) == 3)
        taken[1].ack()
        put(sender, 4)
        run_hub(hub, lambda: len(taken) == 4)
        assert time.monotonic() - started < 0.9  # not by the look that is due every second


def test_a_flood_of_messages_leaves_an_event_loop_turns_for_others_and_is_fair_to_the_channels(
    connection: Connection, hub: Hub
) -> None:
    put(connection, *range(200), queue="flood")
    put(connection, "hello", queue="other")
    got: list[Any] = []
    other: list[int] = []

    def take_time(body: Any, _: Any) -> None:
        time.sleep(0.001)
        got.append(body)

    flood = connection.Consumer(Queue("flood"), channel=connection.channel(), callbacks=[take_time], no_ack=True)
    quiet = connection.Consumer(
        Queue("other"), channel=connection.channel(), callbacks=[lambda *_: other.append(len(got))], no_ack=True
    )
    with flood, quiet:
        assert run_hub(hub, lambda: len(got) == 200) > 20
    assert other[0] < 5


def test_an_event_loop_looks_often_where_no_events_come(connection: Connection, hub: Hub, root: Path) -> None:
    connection.transport.doorbell._is_deaf = True
    got: list[Any] = []
    queue = Queue("q", channel=connection.default_channel)
    with connection.Consumer(queue, callbacks=[lambda *_: got.append(time.monotonic())], no_ack=True):
        connection.transport.doorbell.unwatch(root / "queues" / "q")
        first_look_s = time.monotonic() + 1.1  # the one that was due when it still heard
        run_hub(hub, lambda: time.monotonic() > first_look_s)
        started = time.monotonic()
        with Connection(broker_url(root)) as sender:
            put(sender, 1)
        run_hub(hub, lambda: got)
        assert got[0] - started < 0.6


@pytest.mark.parametrize("first", ["connection", "hub"])
def test_a_closed_connection_leaves_nothing_in_an_event_loop(first: str, root: Path) -> None:
    hub = Hub()
    descriptors = len(os.listdir("/proc/self/fd"))
    with Connection(broker_url(root)) as connection:
        connection.ensure_connection()
        connection.transport.register_with_event_loop(connection.connection, hub)
        with connection.Consumer(Queue("q", channel=connection.default_channel), callbacks=[lambda *_: None]):
            put(connection, 1)
            hub.run_once()
        if first == "hub":
            hub.reset()  # as the worker does when the connection fails
    assert (hub.readers, hub.on_tick) == ({}, set())
    assert all(entry.entry.canceled for entry in hub.timer.queue)
    assert len(os.listdir("/proc/self/fd")) == descriptors + 2  # the hub's own
    hub.close()


def test_a_forked_child_leaves_its_parent_in_the_event_loop(connection: Connection, hub: Hub, root: Path) -> None:
    got: list[Any] = []
    queue = Queue("q", channel=connection.default_channel)
    with connection.Consumer(queue, callbacks=[lambda body, _: got.append(body)], no_ack=True):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                connection.release()
            os._exit(0)
        os.waitpid(child, 0)
        with suppress(AssertionError):
            run_hub(hub, lambda: got, deadline_s=0.1)
        with Connection(broker_url(root)) as sender:
            put(sender, 1)
        started = time.monotonic()
        run_hub(hub, lambda: got)
        assert time.monotonic() - started < 0.5


# Errors


def test_a_folder_that_cannot_be_made_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    app = Celery("shop", broker=broker_url(tmp_path / "file" / "broker"))
    app.conf.broker_connection_timeout = 1
    with pytest.raises(OperationalError) as caught:
        app.send_task("x", retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0})
    assert str(tmp_path / "file" / "broker") in str(caught.value)
    assert "Not a directory" in str(caught.value)


def test_a_queue_that_cannot_be_written_is_an_error_for_people(connection: Connection, root: Path) -> None:
    put(connection, 1)
    (root / "queues" / "bad").touch()
    app = Celery("shop", broker=broker_url(root))
    with pytest.raises(OperationalError, match=r"cannot .* '.*/queues/bad'.*") as caught:
        app.send_task("x", queue="bad", retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0})
    assert isinstance(caught.value.__cause__, BrokerError)


# Processes


APP = """
import os, pathlib, time
from celery import Celery
from tapfs.flow.broker import broker_url

app = Celery("shop", broker=broker_url({root!r}))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)
out = pathlib.Path({out!r})

@app.task
def note(text):
    with (out / "notes").open("a") as file:
        file.write(text + "\\n")

@app.task(acks_late=True)
def hold(text):
    note(text)
    while not (out / "go").exists():
        time.sleep(0.02)
    note("done " + text)
"""

CONSUMER = """
import sys
from kombu import Connection, Queue
from tapfs.flow.broker import broker_url

with Connection(broker_url(sys.argv[1])) as connection:
    def tell(body, message):
        print(body, flush=True)
        if sys.argv[2] == "ack":
            message.ack()
    with connection.Consumer(Queue("q"), callbacks=[tell], accept=["json"]):
        print("ready", flush=True)
        while True:
            connection.drain_events()
"""


class Shop:
    """An app module in a folder of its own, and processes that run it."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.processes: list[subprocess.Popen[str]] = []
        (folder / "shop.py").write_text(APP.format(root=str(root), out=str(folder)))
        (folder / "consumer.py").write_text(CONSUMER)
        self.app = Celery("shop", broker=broker_url(root))
        self.app.conf.task_ignore_result = True

    def start(self, *arguments: str, log: str = "log") -> "subprocess.Popen[str]":
        environment = {
            **os.environ,
            "PYTHONPATH": f"{Path(__file__).parents[2]}:{self.folder}",
            "PYTHONUNBUFFERED": "1",
        }
        with (self.folder / log).open("w") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(self, *options: str, name: str = "w1") -> "subprocess.Popen[str]":
        arguments = ["-m", "celery", "-A", "shop", "worker", "-c", "2", "-n", f"{name}@here", "-l", "INFO", *options]
        process = self.start(*arguments, log=name)
        wait_until(lambda: "ready." in self.log(name) or process.poll() is not None)
        assert process.poll() is None, self.log(name)
        return process

    def log(self, name: str) -> str:
        return (self.folder / name).read_text()

    def send(self, task: str, text: str, **options: Any) -> Any:
        return self.app.send_task(f"shop.{task}", (text,), **options)

    def notes(self) -> list[str]:
        with suppress(FileNotFoundError):
            return (self.folder / "notes").read_text().split("\n")[:-1]
        return []

    def close(self) -> None:
        self.app.close()
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: the worker and its pool
            process.wait()


@pytest.fixture
def shop(tmp_path: Path, root: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path, root)
    yield shop
    shop.close()


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_worker_runs_tasks_in_order_and_stops_when_told(pool: str, shop: Shop) -> None:
    worker = shop.worker("-P", pool)
    for number in range(20):
        shop.send("note", str(number))
    wait_until(lambda: len(shop.notes()) == 20)
    assert sorted(shop.notes(), key=int) == [str(number) for number in range(20)]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE_S) == 0
    assert list((shop.root / "consumers").iterdir()) == []
    assert "Traceback" not in shop.log("w1")


def children(process: "subprocess.Popen[str]") -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that nobody has waited for yet does not."""
    with suppress(FileNotFoundError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def test_a_worker_whose_idle_children_are_killed_runs_the_next_tasks_and_stops_when_told(shop: Shop) -> None:
    worker = shop.worker()
    (shop.folder / "go").touch()

    def run(*texts: str) -> None:
        for text in texts:
            shop.send("hold", text)
        wait_until(lambda: {f"done {text}" for text in texts} <= set(shop.notes()))
        wait_until(lambda: not list(shop.root.glob("consumers/*/unacked/celery/*")))  # the children are idle

    for number in range(4):  # the first pool's children and their successors
        os.kill(wait_until(lambda: children(worker))[0], signal.SIGKILL)
        run(str(number))
    for victim in children(worker):  # all at once
        os.kill(victim, signal.SIGKILL)
    run("4", "5", "6", "7")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10.0) == 0
    assert sorted(shop.notes()) == sorted([*"01234567", *(f"done {number}" for number in range(8))])
    assert list((shop.root / "consumers").iterdir()) == []


def test_a_worker_with_an_idle_child_just_killed_stops_when_told(shop: Shop) -> None:
    worker = shop.worker()
    pool = children(worker)
    os.kill(pool[0], signal.SIGKILL)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10.0) == 0
    wait_until(lambda: not any(is_alive(pid) for pid in pool))


def test_time_limits_and_countdowns_hold(shop: Shop) -> None:
    shop.worker()
    shop.send("hold", "soft", soft_time_limit=1)
    wait_until(lambda: "SoftTimeLimitExceeded" in shop.log("w1"))
    shop.send("hold", "hard", time_limit=1)
    wait_until(lambda: "Hard time limit (1s) exceeded" in shop.log("w1"))
    sent = time.monotonic()
    shop.send("note", "later", countdown=1.5)
    shop.send("note", "now")
    wait_until(lambda: "later" in shop.notes())
    assert time.monotonic() - sent > 1.3
    assert shop.notes().index("now") < shop.notes().index("later")


def test_remote_control_is_answered_while_all_children_are_busy_and_the_queue_is_full(shop: Shop) -> None:
    shop.worker()
    for number in range(50):
        shop.send("hold", str(number))
    wait_until(lambda: len(shop.notes()) == 2)
    inspect = shop.app.control.inspect(timeout=DEADLINE_S, limit=1)
    assert inspect.ping() == {"w1@here": {"ok": "pong"}}
    assert len([path for path in files(shop.root / "consumers") if path.parent.name == "celery"]) == 2
    (shop.folder / "go").touch()
    wait_until(lambda: len(shop.notes()) == 100)


def test_remote_control_works_between_two_workers(shop: Shop) -> None:
    first, second = shop.worker(name="w1"), shop.worker(name="w2")
    inspect = shop.app.control.inspect(timeout=DEADLINE_S, limit=2)
    assert inspect.ping() == {"w1@here": {"ok": "pong"}, "w2@here": {"ok": "pong"}}
    shop.app.control.revoke("some-id")
    wait_until(lambda: (inspect.revoked() or {}) == {"w1@here": ["some-id"], "w2@here": ["some-id"]})
    shop.send("note", "revoked", task_id="some-id")
    shop.app.control.shutdown(destination=["w1@here"])
    assert first.wait(DEADLINE_S) == 0
    assert second.poll() is None
    shop.send("note", "last")
    wait_until(lambda: "last" in shop.notes())
    assert shop.notes() == ["last"]
    assert [path.name for path in (shop.root / "queues").iterdir() if path.name.startswith("w1@")] == []


def test_events_reach_a_receiver(shop: Shop) -> None:
    shop.worker("-E")
    with shop.app.connection() as connection:
        seen: list[str] = []
        receiver = shop.app.events.Receiver(connection, handlers={"*": lambda event: seen.append(event["type"])})
        capture = receiver.itercapture(limit=None, timeout=DEADLINE_S, wakeup=True)
        next(capture)
        shop.send("note", "x")
        while "task-succeeded" not in seen:
            next(capture)
        capture.close()


def test_a_task_of_a_killed_worker_is_run_by_another(shop: Shop) -> None:
    worker = shop.worker(name="w1")
    shop.send("hold", "x")
    wait_until(lambda: shop.notes() == ["x"])
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    (shop.folder / "go").touch()
    shop.worker(name="w2")
    wait_until(lambda: shop.notes() == ["x", "x", "done x"])


def test_a_running_worker_takes_over_from_a_killed_one(shop: Shop) -> None:
    worker = shop.worker(name="w1")
    shop.send("hold", "x")
    wait_until(lambda: shop.notes() == ["x"])
    shop.worker(name="w2")
    os.kill(worker.pid, signal.SIGKILL)  # its pool may live on: it must not keep the lock
    wait_until(lambda: shop.notes() == ["x", "x"])
    (shop.folder / "go").touch()
    wait_until(lambda: shop.notes().count("done x") >= 1)
    wait_until(lambda: len(list((shop.root / "consumers").iterdir())) <= 3)


@pytest.mark.parametrize("how", ["delete", "move"])
def test_a_deleted_or_moved_folder_is_made_again_by_all(how: str, shop: Shop) -> None:
    worker = shop.worker()
    for number in range(3):
        if how == "delete":
            subprocess.run(["rm", "-rf", str(shop.root)], check=False)
        else:
            shop.root.rename(shop.folder / f"moved-{number}")
        shop.send("note", str(number))
        wait_until(lambda number=number: str(number) in shop.notes())
    assert wait_until(lambda: shop.app.control.ping(timeout=1)) == [{"w1@here": {"ok": "pong"}}]
    assert worker.poll() is None
    assert "Traceback" not in shop.log("w1")
    assert shop.notes() == ["0", "1", "2"]


def test_a_worker_outlives_a_broker_folder_that_cannot_be_used(shop: Shop) -> None:
    worker = shop.worker()
    shop.root.rename(shop.folder / "moved")
    shop.root.touch()
    wait_until(lambda: f"cannot make the broker's folder '{shop.root}'" in shop.log("w1"))
    shop.root.unlink()
    shop.send("note", "again")
    wait_until(lambda: shop.notes() == ["again"])
    assert worker.poll() is None


def test_a_living_consumer_makes_its_deleted_bindings_again(shop: Shop) -> None:
    shop.worker()
    table = shop.root / "exchanges" / "celery.pidbox.json"
    before = table.read_text()
    for damage in (table.unlink, lambda: table.write_text("nonsense"), lambda: table.write_text("[]")):
        damage()
        wait_until(lambda: table.exists() and table.read_text() == before)


def test_two_consumers_share_a_queue_and_each_message_comes_once(shop: Shop, connection: Connection) -> None:
    for name in ("c1", "c2"):
        shop.start("consumer.py", str(shop.root), "ack", log=name)
    wait_until(lambda: "ready" in shop.log("c1") and "ready" in shop.log("c2"))
    put(connection, *range(500))

    def got() -> list[int]:
        return [int(line) for name in ("c1", "c2") for line in shop.log(name).split()[1:]]

    wait_until(lambda: len(got()) >= 500)
    wait_until(lambda: not files(shop.root / "consumers"))
    assert sorted(got()) == list(range(500))


def test_what_a_killed_consumer_took_comes_again_before_later_messages(shop: Shop, connection: Connection) -> None:
    process = shop.start("consumer.py", str(shop.root), "keep")
    wait_until(lambda: "ready" in shop.log("log"))
    put(connection, 1, 2)
    wait_until(lambda: shop.log("log").split() == ["ready", "1", "2"])
    process.kill()
    process.wait()
    put(connection, 3)
    assert get_all(connection) == [1, 2, 3]


def test_queues_of_a_killed_process_go_away_with_their_messages(shop: Shop, connection: Connection) -> None:
    worker = shop.worker()
    inbox = shop.root / "queues" / "w1@here.celery.pidbox"
    assert inbox.is_dir()
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    shop.app.control.broadcast("ping")
    assert len(files(inbox)) == 1
    get(connection.default_channel)
    assert not inbox.exists()
    assert "w1@here" not in (shop.root / "exchanges" / "celery.pidbox.json").read_text()


def test_old_messages_to_inboxes_are_removed_and_old_tasks_kept(
    connection: Connection, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(connection, 1, queue="nobody.reply.celery.pidbox")
    put(connection, 1, queue="celery")
    monkeypatch.setattr(consumers, "STALE_S", -1.0)
    consumers.remove_stale(connection.transport.layout, connection.transport.queues)
    assert [path.parent.name for path in files(root / "queues")] == ["celery"]


def test_a_file_of_a_person_does_not_stop_the_housekeeping(connection: Connection, root: Path) -> None:
    put(connection, 1)
    for folder in ("consumers", "exchanges", "queues", "tmp"):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "README").write_text("notes")
    with connection.Consumer(Queue("q", channel=connection.default_channel), callbacks=[lambda *_: None]):
        connection.drain_events(timeout=1)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)
