"""Fixtures for all tests: a clean environment, real processes, a real Redis."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from support import Processes, RedisServer
from support.machine import CANNOT
from support.servers import DATABASES

TESTS = Path(__file__).parent
SYSTEM_TESTS = TESTS / "system"
LONG = {"system", "chaos"}
IS_CI = os.environ.get("CI", "").lower() in {"1", "true"}
STARTED = pytest.StashKey[Processes]()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the developer has set for tapfs and Celery away from the tests and the processes they start."""
    for name in list(os.environ):
        if name.startswith(("TAPFS_", "CELERY_")):
            monkeypatch.delenv(name)


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    """Start programs that are killed after the test; when it fails, their last output is in its report."""
    started = Processes(tmp_path)
    request.node.stash[STARTED] = started
    yield started
    started.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests. To stop or kill one, take `own_redis`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
    except AssertionError as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def next_redis_db() -> Callable[[], int]:
    """Count through the server's databases, round and round."""
    count = iter(range(2**62))
    return lambda: next(count) % DATABASES


@pytest.fixture
def redis_url(redis_server: RedisServer, next_redis_db: Callable[[], int]) -> str:
    """The address of an empty Redis database that no other test uses at this time."""
    db = next_redis_db()
    with redis_server.client(db) as client:
        client.flushdb()
    return redis_server.url(db)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for this test alone, running, which it may stop, start and flush."""
    server = RedisServer(tmp_path / "redis")
    try:
        yield server.start()
    finally:
        server.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What takes long begins first, so that of two processes none is left with it at the end.
    items.sort(key=lambda item: item.path.relative_to(TESTS).parts[0] not in LONG)
    for item in items:
        if SYSTEM_TESTS in item.path.parents:
            item.add_marker("system")
        if {"redis_server", "own_redis"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("redis")
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason=f"{CANNOT}run as root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    # xdist cannot carry what is not UTF-8 between its processes, and a test may well write such a name.
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    if report.failed and report.when != "teardown" and STARTED in item.stash:
        report.sections.extend(item.stash[STARTED].report())
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI, make a failure of a skip that is not for want of something in the machine."""
    if IS_CI and report.skipped and not hasattr(report, "wasxfail") and CANNOT not in str(report.longrepr):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where only '{CANNOT}...' may be: {reason}"
