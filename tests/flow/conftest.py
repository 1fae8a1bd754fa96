"""A Celery app, its bus on an empty control directory, and a post that delivers in this thread."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from support.flows import LONG_NAME, Post
from tapfs import Bus
from tapfs.flow import employment, place


class App(Celery):
    """An app whose tasks are its own: Celery would give them to every other app of the process too."""

    def task(self, *args: Any, **options: Any) -> Any:
        return super().task(*args, **{"shared": False, **options})


@pytest.fixture
def app() -> Iterator[Celery]:
    app = App("shop", broker="memory://", task_cls="tapfs.flow:TappableTask", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def bus(app: Celery, tmp_path: Path) -> Bus:
    """A bus that publishes through `post`."""
    made = Bus(tmp_path / "control", app=app, actor="python:ada@here")
    made.control.publisher = Post(app)
    return made


@pytest.fixture
def post(bus: Bus) -> Post:
    return bus.control.publisher


@pytest.fixture
def looks_at_every_tap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the files looked at behind each chunk, not every 50 ms, so that a test can stop wherever it likes."""
    monkeypatch.setattr(place, "CHECK_INTERVAL_S", 0.0)


@pytest.fixture
def runs() -> list[Any]:
    """What was run."""
    return []


@pytest.fixture
def note(app: Celery, runs: list[Any]) -> Any:
    @app.task(name="note")
    def note(*args: Any) -> Any:
        runs.append(args)
        return len(runs)

    return note


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


@pytest.fixture(autouse=True)
def unemployed() -> Iterator[None]:
    """No test leaves this process in the employ of a worker that it has played: the next one's steps would leave."""
    yield
    employment.begin(None)
