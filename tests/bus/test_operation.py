"""The face of one operation: look, ask, wait; in the manner of AsyncResult."""

import pickle
import threading

import pytest

from support import wait_for
from support.bench import Bench
from tapfs.bus.operation import OperationFailed, WaitedInVain
from tapfs.bus.records import Failure
from tapfs.bus.states import State
from tapfs.errors import OperationUnknown, RecordInvalid, TapfsError


def test_it_looks_like_an_async_result(bench: Bench) -> None:
    operation = bench.start(1)
    assert (operation.ready(), operation.successful(), operation.epoch()) == (False, False, 1)
    bench.step(operation, {"a": 1})
    assert (operation.ready(), operation.successful(), operation.result) == (True, True, {"a": 1})
    assert operation.get(timeout=0) == {"a": 1}


def test_a_result_before_the_end_is_an_error_that_says_so(bench: Bench) -> None:
    operation = bench.start()
    with pytest.raises(TapfsError, match="has no result yet: it is queued"):
        _ = operation.result


def test_get_of_a_failed_operation_raises_what_failed_and_it_can_be_pickled(bench: Bench) -> None:
    operation, _ = bench.in_state("failed")
    with pytest.raises(OperationFailed, match="it is failed: ValueError: no more paper") as caught:
        operation.get(timeout=1)
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, OperationFailed)
    assert (str(error), error.state, error.hint) == (str(caught.value), "failed", None)
    assert isinstance(error.failure, Failure)
    assert error.failure == caught.value.failure
    assert error.failure.step == "0001-one"


def test_get_of_a_cancelled_operation_raises_without_a_failure(bench: Bench) -> None:
    operation, _ = bench.in_state("cancelled")
    with pytest.raises(OperationFailed, match="it is cancelled") as caught:
        operation.get()
    assert (caught.value.state, caught.value.failure) == ("cancelled", None)


@pytest.mark.parametrize("timeout_s", [0, 0.06])
def test_waiting_ends_when_time_is_up(bench: Bench, timeout_s: float) -> None:
    operation = bench.start()
    with pytest.raises(WaitedInVain, match=f"is still queued after {timeout_s:g} s of waiting for its end") as caught:
        operation.get(timeout=timeout_s)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.state, error.is_timeout) == ("queued", True)
    with pytest.raises(WaitedInVain, match="of waiting for 'paused'"):
        operation.wait("paused", timeout_s)


def test_waiting_ends_when_the_state_cannot_be_reached_any_more(bench: Bench) -> None:
    """B98."""
    operation, _ = bench.in_state("cancelled")
    with pytest.raises(WaitedInVain, match="is cancelled, not succeeded") as caught:
        operation.wait("succeeded")
    assert (caught.value.state, caught.value.is_timeout) == ("cancelled", False)
    operation.wait("cancelled", 0)


def test_waiting_sees_the_state_when_it_comes(bench: Bench) -> None:
    operation = bench.start()
    waiting = threading.Thread(target=bench.other(operation).wait, args=("paused", 10))
    waiting.start()
    operation.pause()
    waiting.join(5)
    assert not waiting.is_alive()


def test_waiting_for_a_state_that_is_none_is_refused_with_those_there_are(bench: Bench) -> None:
    with pytest.raises(TapfsError, match="'done' is no state") as caught:
        bench.start().wait("done")
    assert "succeeded" in str(caught.value.hint)


def test_waiting_for_an_operation_that_is_removed_ends(bench: Bench) -> None:
    operation = bench.start()
    errors: list[OperationUnknown] = []

    def wait() -> None:
        try:
            bench.other(operation).wait("succeeded", 10)
        except OperationUnknown as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_for(waiting.is_alive)
    with operation.locked():
        operation.path.rename(bench.path / "removed")
    waiting.join(5)
    assert len(errors) == 1
    assert not operation.path.exists()


def test_looking_needs_no_lock(bench: Bench) -> None:
    operation = bench.start()
    other = bench.other(operation)
    with operation.locked():
        assert other.state is State.QUEUED


@pytest.mark.parametrize("text", [None, '{"want": "pause"}', '{"want": "run", "state": null}'])
def test_a_view_that_says_no_state_is_derived_from_the_other_files(bench: Bench, text: str | None) -> None:
    operation = bench.start()
    operation.layout.state.unlink()
    if text is not None:
        operation.layout.state.write_text(text)
    assert operation.state is (State.PAUSED if text and "pause" in text else State.QUEUED)


def test_a_view_that_is_in_the_making_shows_the_last_state_of_the_journal(bench: Bench) -> None:
    operation, _held = bench.in_state("paused")
    operation.layout.state.write_text("{")
    assert operation.view().state == "paused"


def test_a_result_that_was_taken_away_or_spoilt_is_named(bench: Bench) -> None:
    operation, _ = bench.in_state("succeeded")
    path = operation.layout.result
    path.write_text("{")
    with pytest.raises(RecordInvalid, match=r"result\.json"):
        _ = operation.result
    path.unlink()
    with pytest.raises(RecordInvalid, match=r"result\.json.*it is not there"):
        _ = operation.result
    path.mkdir()
    with pytest.raises(RecordInvalid, match=r"result\.json.*it is a folder"):
        _ = operation.result


def test_nothing_failed_is_no_failure_and_a_spoilt_one_is_named(bench: Bench) -> None:
    operation = bench.start()
    assert operation.failure() is None
    operation.layout.error.write_text("{}")
    with pytest.raises(RecordInvalid, match="field 'type' is missing"):
        operation.failure()
