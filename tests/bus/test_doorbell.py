"""Publishing: outside the lock, after the claim is on disk, and again when it was lost."""

from dataclasses import replace

import pytest

from support.bench import Bench
from tapfs.bus import claims
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.doorbell import publish
from tapfs.bus.publication import Publication
from tapfs.bus.states import State
from tapfs.errors import PublishFailed


def test_an_operation_that_could_not_be_published_stays_queued_says_why_and_is_published_later(bench: Bench) -> None:
    """B93."""
    bench.trouble = "cannot reach redis://localhost"
    operation = bench.start()
    assert operation.state is State.QUEUED
    assert operation.view().message == "step 0001 waits: cannot reach redis://localhost; it is tried again"
    assert operation.id in bench.control.active_ids()
    bench.now += 9
    operation.reconcile()
    assert bench.published == []
    bench.trouble = None
    bench.now += 1
    operation.reconcile()
    assert [(one.step.path, one.attempt, one.number) for one in bench.published] == [("0001", 1, 2)]
    assert operation.view().message is None
    bench.finish(operation)


def test_the_trouble_stands_as_long_as_it_lasts(bench: Bench) -> None:
    bench.trouble = "no"
    operation = bench.start()
    for wait_s in (10, 20, 40):
        bench.now += wait_s
        operation.reconcile()
        assert "step 0001 waits: no" in (operation.view().message or "")
    assert operation.state is State.QUEUED


def test_a_commit_stands_although_what_follows_could_not_be_published(bench: Bench) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    bench.trouble = "no"
    assert bench.commit(operation, held).state is State.RUNNING
    assert operation.view().message == "step 0002 waits: no; it is tried again"


def test_trouble_with_a_message_that_was_claimed_meanwhile_is_nobodys(bench: Bench) -> None:
    """A broker may take a message, have it followed, and only then say that it failed."""

    def unsure(publication: Publication) -> None:
        bench.published.append(publication)
        bench.claim(bench.control.operation(publication.operation_id))
        raise PublishFailed("timeout")

    plan = bench.start().plan()
    control = Control(bench.path, publisher=unsure, clock=lambda: bench.now)
    operation = control.start(NewOperation("tally", plan, {}))
    (out,) = claims.all_out(operation.layout)
    assert out.claim is not None
    assert (out.is_held, out.claim.trouble) == (True, None)
    assert operation.view().message is None


def test_nothing_is_locked_while_the_broker_is_called(bench: Bench) -> None:
    """Law 6."""
    seen: list[State] = []

    def look(publication: Publication) -> None:
        seen.append(bench.other(bench.control.operation(publication.operation_id)).reconcile().state)

    control = Control(bench.path, publisher=look, clock=lambda: bench.now)
    control.start(NewOperation("tally", bench.start().plan(), {}))
    assert seen == [State.QUEUED]


def test_the_claim_is_on_disk_before_its_message_is_out(bench: Bench) -> None:
    seen: list[list[str]] = []

    def look(publication: Publication) -> None:
        layout = bench.control.operation(publication.operation_id).layout
        seen.append([out.path for out in claims.all_out(layout)])

    control = Control(bench.path, publisher=look, clock=lambda: bench.now)
    control.start(NewOperation("tally", bench.start().plan(), {}))
    assert seen == [["0001"]]


def test_a_message_carries_where_the_step_stands_and_no_data(bench: Bench) -> None:
    operation = bench.start()
    (message,) = bench.published
    assert message == Publication(operation.id, operation.plan().steps[0], 1, 1, 1, 0, None)


def test_what_is_published_twice_runs_once(bench: Bench) -> None:
    operation = bench.start()
    bench.published *= 3
    held = bench.claim(operation, 0)
    bench.drop(operation, 1)
    bench.commit(operation, held)
    bench.drop(operation, 2)
    bench.finish(operation)


def test_who_cannot_publish_publishes_nothing_and_says_nothing(bench: Bench) -> None:
    operation = bench.start()
    alone = bench.other(operation, publisher=None)
    assert publish(alone, ()) is None
    assert alone.reconcile().put_out == ()


def test_an_error_that_is_no_refusal_of_the_broker_is_passed_on_and_the_step_is_published_later(bench: Bench) -> None:
    operation = bench.start()
    bench.step(operation)

    def broken(publication: Publication) -> None:
        raise ZeroDivisionError

    bench.now += 10
    with pytest.raises(ZeroDivisionError):
        bench.other(operation, publisher=broken).reconcile()
    bench.now += 20
    operation.reconcile()
    assert replace(bench.published[-1], number=1) == bench.published[-2]
    assert bench.published[-1].number == 3
