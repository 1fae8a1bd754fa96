"""`Bus`: a control directory with its app; defining and starting operations; what becomes of a broker that is away."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support import RedisServer, wait_for
from support.flows import Post, journal_of, supervised, touch
from tapfs import Bus, Secret, State, TapfsError, tappable
from tapfs.bus.control import Control
from tapfs.bus.decide import Recovery
from tapfs.bus.document import MASK, document_of
from tapfs.errors import OperationUnknown
from tapfs.flow.bus import OperationNotDefined, as_plan, bus_of
from tapfs.flow.message import HEADER
from tapfs.flow.parameters import ArgumentsRefused, DeclarationRefused
from tapfs.flow.plans import NotTappable
from tapfs.flow.publisher import CeleryPublisher


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


@pytest.fixture
def importing(bus: Bus, add: Any) -> Bus:
    @bus.operation
    def people(path: Path, batch: int = 500, token: Secret = "none") -> Any:
        """Import people from a file.

        Args:
            path: the file.
        """
        return add.si(batch, 1) | add.s(len(path.name))

    @bus.operation(name="nightly")
    def run_at_night() -> Any:
        return add.si(1)

    return bus


def operations_in(bus: Bus) -> list[str]:
    return [path.name for path in (bus.control.path / "operations").glob("*")]


# Defining


def test_an_operation_has_its_functions_name_or_another_and_its_docstrings_first_line(importing: Bus) -> None:
    assert sorted(importing.definitions) == ["nightly", "people"]
    people = importing.definition("people")
    assert people.description == "Import people from a file."
    assert [one.name for one in people.parameters] == ["path", "batch", "token"]
    assert people.usage.startswith("tapfs start people path=")
    assert importing.definition("nightly").description == ""


def test_the_decorator_gives_the_function_back(bus: Bus) -> None:
    def build() -> Any:
        return None

    assert bus.operation(build) is build
    assert bus.operation(name="other")(build) is build
    assert bus.definition("other").function is build


def test_a_parameter_that_cannot_be_checked_is_refused_when_it_is_declared(bus: Bus) -> None:
    with pytest.raises(DeclarationRefused):

        @bus.operation
        def odd(rows: dict[str, complex]) -> Any:
            return None

    assert bus.definitions == {}


def test_an_unknown_operation_is_refused_with_a_near_match(importing: Bus) -> None:
    with pytest.raises(OperationNotDefined) as caught:
        importing.start("poeple", path="x")
    assert str(caught.value) == "there is no operation 'poeple' (did you mean 'people'?)"
    assert caught.value.hint == "app 'shop' defines: nightly, people"
    assert operations_in(importing) == []


def test_without_operations_the_hint_says_so(bus: Bus) -> None:
    with pytest.raises(OperationNotDefined) as caught:
        bus.definition("x")
    assert caught.value.hint == "app 'shop' defines: none"


# Starting


def test_an_operation_is_started_with_typed_arguments(importing: Bus, post: Post) -> None:
    operation = importing.start("people", path=Path("data/people.csv"), batch=3)
    assert operation.state is State.QUEUED
    identity = operation.identity()
    assert identity.operation == "people"
    assert identity.arguments == {"path": "data/people.csv", "batch": 3, "token": "none"}
    assert identity.owner
    post.deliver_all()
    assert operation.result == 3 + 1 + len("people.csv")


def test_an_operation_is_started_from_words(importing: Bus, post: Post) -> None:
    operation = importing.start_parsed("people", ["path=a.csv", "batch=7"], owner="ada")
    assert operation.identity().arguments["batch"] == 7
    assert operation.identity().owner == "ada"


@pytest.mark.parametrize("is_from_words", [True, False])
def test_all_faults_of_the_arguments_are_named_at_once_and_nothing_is_created(
    importing: Bus, post: Post, is_from_words: bool
) -> None:
    """B94"""
    words, values = ["batch=many", "colour=red"], {"batch": "many", "colour": "red"}
    with pytest.raises(ArgumentsRefused) as caught:
        importing.start_parsed("people", words) if is_from_words else importing.start("people", **values)
    text = str(caught.value)
    for part in ("'path' is missing", "'batch' must be an integer", "not a parameter"):
        assert part in text
    assert operations_in(importing) == []
    assert post.sent == []


def test_masked_arguments_are_not_shown(importing: Bus) -> None:
    """B96"""
    operation = importing.start("people", path="x", token="s3cret")
    assert operation.identity().masked == ["token"]
    assert document_of(operation)["arguments"] == {"path": "x", "batch": 500, "token": MASK}
    assert "s3cret" not in json.dumps(document_of(operation))


def test_an_operation_may_be_started_held(importing: Bus, post: Post) -> None:
    operation = importing.start_checked("people", {"path": "x"}, is_paused=True, reason="not yet")
    assert operation.state is State.PAUSED
    assert operation.view().reason == "not yet"
    assert post.sent == []
    operation.resume()
    post.deliver_all()
    assert operation.state is State.SUCCEEDED


@pytest.mark.parametrize("reason", ["x" * 1001, "a\nb", "\x1b[31m"])
def test_a_reason_that_is_none_is_refused_before_anything_is_created(importing: Bus, reason: str) -> None:
    """B20"""
    with pytest.raises(TapfsError, match="nothing was changed"):
        importing.start_checked("people", {"path": "x"}, is_paused=True, reason=reason)
    assert operations_in(importing) == []


def test_what_an_operations_function_raises_is_raised_and_nothing_is_created(bus: Bus) -> None:
    @bus.operation
    def broken() -> Any:
        raise TapfsError("there is no such table")

    with pytest.raises(TapfsError, match="no such table"):
        bus.start("broken")
    assert operations_in(bus) == []


def test_a_function_that_returns_no_workflow_is_refused(bus: Bus) -> None:
    @bus.operation
    def empty() -> Any:
        return None

    with pytest.raises(NotTappable, match="None is no signature"):
        bus.start("empty")
    assert operations_in(bus) == []


def test_a_function_may_return_a_workflow_that_was_made_tappable(bus: Bus, add: Any, post: Post) -> None:
    @bus.operation
    def paired() -> Any:
        return tappable(add.si(1) | add.s(1), nth=2, bus=bus)

    operation = bus.start("paired")
    assert operation.plan().nth == 2
    assert operation.identity().operation == "paired"


def test_a_plan_is_taken_as_it_is_and_a_signature_is_planned(add: Any, bus: Bus) -> None:
    workflow = tappable(add.s(1), bus=bus)
    assert as_plan(workflow) is workflow.plan
    assert as_plan(add.s(1)).steps[0].task == "add"


def test_an_operation_is_found_by_a_part_of_its_id(importing: Bus) -> None:
    operation = importing.start("people", path="x")
    assert importing.find(operation.id) is operation
    assert importing.find(operation.id[-6:]).id == operation.id
    with pytest.raises(OperationUnknown):
        importing.find("nothing-like-it")


# One app, one bus


def test_an_app_has_one_bus_and_a_second_on_another_directory_is_refused(app: Celery, bus: Bus, tmp_path: Path) -> None:
    with pytest.raises(TapfsError) as caught:
        Bus(tmp_path / "other", app=app)
    assert str(bus.control.path) in str(caught.value)
    assert str(tmp_path / "other") in str(caught.value)
    assert bus_of(app) is bus
    assert not (tmp_path / "other").exists()


def test_the_bus_of_an_app_without_one_is_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Celery("other", broker="memory://", set_as_current=False)
    monkeypatch.setenv("TAPFS_CONTROL", str(tmp_path / "named"))
    assert bus_of(app).control.path == tmp_path / "named"
    assert bus_of(app) is bus_of(app)
    assert not (tmp_path / "named").exists()


def test_without_anything_said_the_control_directory_is_called_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = Celery("other", broker="memory://", set_as_current=False)
    assert Bus(app=app).control.path == tmp_path / "control"


def test_who_acts_is_the_user_unless_said_otherwise(app: Celery, tmp_path: Path) -> None:
    assert Bus(tmp_path, app=app).control.actor.startswith("python:")


def test_a_user_without_a_name_goes_by_number(app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert Bus(tmp_path, app=app).control.actor.startswith(f"python:{os.getuid()}@")


# The callback


def test_a_callback_that_raises_harms_nobody(
    app: Celery, add: Any, bus: Bus, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(name="tell")
    def tell(*_: Any) -> None:
        raise RuntimeError("the mail server is away")

    operation = tappable(add.s(1) | add.s(2), callback=tell.s(), bus=bus).delay()
    touch(operation.path / "PAUSE")
    post.deliver_all()
    bus.reconcile(operation)
    assert operation.state is State.PAUSED
    assert "the callback of operation" in caplog.text
    assert "the mail server is away" in caplog.text


# A broker that is away


@pytest.fixture
def on_own_redis(app: Celery, own_redis: RedisServer) -> Celery:
    """The app's broker is a Redis that the test may stop; that it is away is known within a moment."""
    app.conf.update(
        broker_url=own_redis.url(),
        broker_connection_timeout=0.5,
        broker_transport_options={"socket_connect_timeout": 0.5, "socket_timeout": 0.5, "max_retries": 0},
        task_publish_retry=False,
    )
    return app


def test_an_operation_is_kept_queued_while_the_broker_is_away_and_is_published_when_it_is_back(
    on_own_redis: Celery, add: Any, own_redis: RedisServer, tmp_path: Path
) -> None:
    """B93: kept, said clearly, and published later by the supervisor."""
    recovery = Recovery(first_delay_s=0.2, longest_delay_s=0.4)
    bus = Bus(tmp_path / "control", app=on_own_redis, recovery=recovery)
    own_redis.stop()
    operation = tappable(add.s(1), bus=bus).delay(2)
    assert operation.state is State.QUEUED
    message = operation.view().message or ""
    assert message.startswith("step 0001 waits: the broker did not take it: ")
    assert message.endswith("; it is tried again")
    assert (bus.control.path / "active" / operation.id).exists()
    with supervised(bus, scan_interval_s=0.1):
        wait_for(lambda: _publishes(operation) >= 3, message="it does not try again")
        own_redis.start()
        with own_redis.client() as client:
            wait_for(lambda: client.llen("celery"), message="it was not published")
            [text] = client.lrange("celery", -1, -1)
        header = json.loads(text)["headers"][HEADER]
        assert (header["operation"], header["step"], header["attempt"]) == (operation.id, "0001", 1)
        wait_for(lambda: operation.view().message is None, message=lambda: str(operation.view().message))
    Post(on_own_redis).deliver_header("add", header)
    assert operation.result == 3
    assert [line["to"] for line in journal_of(operation) if line["event"] == "state"] == ["running", "succeeded"]


def _publishes(operation: Any) -> int:
    claim = json.loads((operation.path / "claims" / "0001").read_text())
    return int(claim["publishes"])


def test_a_commit_stands_though_the_next_step_cannot_be_published(
    on_own_redis: Celery, add: Any, own_redis: RedisServer, tmp_path: Path
) -> None:
    """Law 4: commit, then publish."""
    bus = Bus(tmp_path / "control", app=on_own_redis)
    operation = tappable(add.s(1) | add.s(1), bus=bus).delay(1)
    own_redis.stop()
    post = Post(on_own_redis)
    header = {"operation": operation.id, "step": "0001", "epoch": 1, "attempt": 1}
    post.deliver_header("add", header)
    assert operation.view().steps_done == 1
    assert "step 0002 waits" in (operation.view().message or "")
    assert operation.state is State.RUNNING
    post.deliver_header("add", header | {"step": "0002"})
    assert operation.result == 3
    assert operation.view().message is None


def test_an_operation_started_by_a_program_without_a_publisher_waits_for_one_that_has_it(
    app: Celery, add: Any, bus: Bus, post: Post
) -> None:
    plan = as_plan(add.s(1, 2))
    silent = Control(bus.control.path)
    other = Bus(bus.control.path, app=Celery("web", broker="memory://", set_as_current=False))
    other.control = silent
    operation = other.start_plan("add", plan, {})
    assert operation.state is State.QUEUED
    assert post.sent == []
    bus.reconcile(bus.find(operation.id))
    post.deliver_all()
    assert operation.result == 3


def test_the_bus_publishes_through_its_app(app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(app, "send_task", lambda name, **options: sent.append((name, options["headers"][HEADER])))
    bus = Bus(tmp_path / "control", app=app)
    assert CeleryPublisher(app)
    operation = tappable(app.signature("elsewhere.run"), bus=bus).delay()
    assert sent == [("elsewhere.run", {"operation": operation.id, "step": "0001", "epoch": 1, "attempt": 1})]
