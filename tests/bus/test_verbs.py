"""The verbs: each answers whether it changed anything, and why not if not."""

import json
import threading
from typing import Any

import pytest

from support import Processes
from support.bench import Bench, events, snapshot
from tapfs.bus.operation import Operation
from tapfs.bus.states import State
from tapfs.bus.verbs import Answer
from tapfs.errors import Refused, TapfsError

VERBS = ("pause", "resume", "cancel")

#: What each verb does in each state: (state after, changed, part of the message), or the word in the refusal.
TABLE: dict[str, dict[str, tuple[str, bool, str] | str]] = {
    "pause": {
        "queued": ("paused", True, "paused"),
        "running": ("pausing", True, "it stops at its next tap"),
        "pausing": ("pausing", False, "already pausing"),
        "paused": ("paused", False, "already paused"),
        "interrupted": ("paused", True, "paused"),
        "cancelling": "it is being cancelled (cancelling)",
        "succeeded": "it has already succeeded",
        "failed": "it has already failed",
        "cancelled": "it has already been cancelled",
    },
    "resume": {
        "queued": ("queued", False, "already queued"),
        "running": ("running", False, "already running"),
        "pausing": ("running", True, "it goes on"),
        "paused": ("running", True, "it goes on"),
        "interrupted": ("interrupted", False, "already interrupted"),
        "cancelling": "it is being cancelled (cancelling)",
        "succeeded": ("succeeded", False, "there is nothing to resume"),
        "failed": ("running", True, "it goes on"),
        "cancelled": ("running", True, "it goes on"),
    },
    "cancel": {
        "queued": ("cancelled", True, "cancelled"),
        "running": ("cancelling", True, "it stops at its next tap"),
        "pausing": ("cancelling", True, "it stops at its next tap"),
        "paused": ("cancelled", True, "cancelled"),
        "interrupted": ("cancelled", True, "cancelled"),
        "cancelling": ("cancelling", False, "already cancelling"),
        "succeeded": "it has already succeeded",
        "failed": "it has already failed",
        "cancelled": ("cancelled", False, "already cancelled"),
    },
}
CASES = [(verb, state) for verb in VERBS for state in TABLE[verb]]


@pytest.mark.parametrize(("verb", "state"), CASES)
def test_every_verb_in_every_state_tells_the_truth(bench: Bench, verb: str, state: str) -> None:
    """B10, B11, B18, B27, B41, B42, B48, B51."""
    operation, held = bench.in_state(state)
    operation.reconcile()
    files_before, published = _without_lock(operation), len(bench.published)
    expected = TABLE[verb][state]
    if isinstance(expected, str):
        with pytest.raises(Refused) as caught:
            getattr(operation, verb)("why")
        assert f"cannot {verb} operation '{operation.id}': {expected}" in str(caught.value)
        assert caught.value.hint
        assert _without_lock(operation) == files_before
        return
    answer = getattr(operation, verb)("why")
    after, changed, message = expected
    assert (answer.success, answer.changed, answer.state) == (True, changed, after)
    assert message in answer.message
    assert operation.state == after
    if not changed:
        assert _without_lock(operation) == files_before
        assert len(bench.published) == published
    del held


def _without_lock(operation: Operation) -> dict[str, bytes | None]:
    hidden = ("lock", ".state.json.")
    return {name: content for name, content in snapshot(operation.path).items() if not name.startswith(hidden)}


def test_pausing_twice_with_another_reason_changes_nothing(bench: Bench) -> None:
    """B10."""
    operation = bench.start()
    operation.pause("lunch")
    answer = operation.pause("dinner")
    assert (answer.changed, answer.message, operation.view().reason) == (False, "already paused", "lunch")


def test_a_pause_beside_a_marker_still_holds_when_the_marker_is_gone(bench: Bench) -> None:
    """B15: levels compose."""
    operation = bench.start()
    (bench.path / "PAUSE").write_text("maintenance")
    operation.reconcile()
    answer = operation.pause("mine")
    assert (answer.changed, answer.state) == (True, "paused")
    assert "also held by 'control/PAUSE' (maintenance)" in answer.message
    (bench.path / "PAUSE").unlink()
    operation.reconcile()
    assert (operation.state, operation.view().reason) == (State.PAUSED, "mine")


def test_resume_lifts_the_operations_own_holds_and_names_the_others(bench: Bench) -> None:
    operation = bench.start()
    (operation.path / "PAUSE").write_text("mine")
    (bench.path / "PAUSE").write_text("maintenance")
    operation.pause()
    answer = operation.resume()
    assert (answer.changed, answer.state) == (True, "paused")
    assert answer.message == "its own holds are lifted; still held by 'control/PAUSE' (maintenance)"
    assert not (operation.path / "PAUSE").exists()
    again = operation.resume()
    assert (again.success, again.changed, again.message) == (
        False,
        False,
        "still held by 'control/PAUSE' (maintenance)",
    )
    (bench.path / "PAUSE").unlink()
    operation.reconcile()
    assert operation.state is State.RUNNING


def test_resume_of_a_marker_that_cannot_be_removed_says_so(bench: Bench) -> None:
    operation = bench.start()
    (operation.path / "PAUSE").mkdir()
    with pytest.raises(TapfsError, match=r"'.*/PAUSE' cannot be removed: Is a directory") as caught:
        operation.resume()
    assert caught.value.hint == "remove it yourself; nothing was changed"
    assert operation.reconcile().state is State.PAUSED


def test_resume_of_a_cancelled_operation_goes_on_after_the_last_recorded_step(bench: Bench) -> None:
    """B25, B29."""
    operation = bench.start(3)
    bench.step(operation, "first")
    (operation.path / "CANCEL").touch()
    operation.reconcile()
    assert operation.state is State.CANCELLED
    assert operation.resume().changed
    assert not (operation.path / "CANCEL").exists()
    assert (bench.published[-1].step.path, bench.published[-1].epoch) == ("0002", 2)
    bench.finish(operation)
    assert operation.result_of(operation.plan().steps[0]) == "first"


def test_resume_of_a_failed_operation_puts_its_error_in_the_attic(bench: Bench) -> None:
    """B30."""
    operation, _ = bench.in_state("failed")
    operation.resume()
    assert operation.failure() is None
    aside = operation.path / "attic" / "epoch-1" / "error.json"
    assert json.loads(aside.read_text())["message"] == "no more paper"
    assert aside.parent.stat().st_mode & 0o007 == 0
    bench.finish(operation)


@pytest.mark.parametrize(
    ("reason", "fault"),
    [("x" * 1001, "1,001 characters, more than 1,000"), ("two\nlines", "line breaks"), ("\x1b[31m", "control")],
)
@pytest.mark.parametrize("verb", VERBS)
def test_a_reason_that_is_too_long_or_holds_control_characters_is_refused_before_anything_is_written(
    bench: Bench, verb: str, reason: str, fault: str
) -> None:
    """B20."""
    operation = bench.start()
    operation.reconcile()
    before = _without_lock(operation)
    with pytest.raises(TapfsError, match=fault) as caught:
        getattr(operation, verb)(reason)
    assert "nothing was changed" in str(caught.value)
    assert _without_lock(operation) == before


def test_the_longest_reason_is_taken_as_it_is(bench: Bench) -> None:
    operation = bench.start()
    operation.pause("ü" * 1000)
    operation.reconcile()
    assert operation.view().reason == "ü" * 1000


def test_an_answer_is_a_document(bench: Bench) -> None:
    operation = bench.start()
    assert operation.pause().document() == {
        "operation_id": operation.id,
        "success": True,
        "changed": True,
        "state": "paused",
        "message": "paused",
    }


def test_a_verb_is_judged_by_what_is_true_and_not_by_an_old_view(bench: Bench) -> None:
    """The last step was committed by a worker that died right after: the pause comes too late."""
    operation = bench.start(1)
    held = bench.claim(operation)
    operation.layout.commit(held.step).write_text('{"result": 1, "epoch": 1, "attempt": 1}')
    held.release()
    assert operation.view().state == "running"
    with pytest.raises(Refused, match="it has already succeeded"):
        operation.pause()


def test_a_verb_is_asked_by_its_actor_in_the_journal(bench: Bench) -> None:
    operation = bench.start()
    bench.other(operation, actor="cli:ada").pause("lunch")
    (asked,) = events(operation, "asked")
    assert (asked["by"], asked["want"], asked["reason"]) == ("cli:ada", "pause", "lunch")
    assert events(operation, "state")[-1]["by"] == "cli:ada"


@pytest.mark.parametrize("reading", range(1, 8))
def test_a_verb_and_an_edit_in_the_same_instant_are_both_heard_and_the_verb_told_the_truth(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, reading: int
) -> None:
    """The edit lands right after the nth time that the verb reads the file."""
    operation = bench.start()
    read = operation.state_file.read
    left = reading

    def read_and_edit() -> Any:
        nonlocal left
        found = read()
        left -= 1
        if left == 0:
            operation.layout.state.write_text('{"want": "run", "reason": "by hand"}')
        return found

    monkeypatch.setattr(operation.state_file, "read", read_and_edit)
    answer = operation.pause("by verb")
    monkeypatch.undo()
    settled = operation.reconcile()
    asked = [(entry["want"], entry["reason"]) for entry in events(operation, "asked")]
    assert ("pause", "by verb") in asked
    if left <= 0:
        assert ("run", "by hand") in asked
    assert answer.state == "paused"
    assert (settled.run.want, settled.run.reason) == asked[-1]


# ---- at the same time


def test_of_two_resumes_at_the_same_time_one_goes_on_and_the_other_is_told(bench: Bench) -> None:
    """B26."""
    for _ in range(5):
        operation, _held = bench.in_state("paused")
        answers: list[Answer] = []
        others = [bench.other(operation) for _ in range(2)]
        start = threading.Barrier(2)

        def work(other: Operation, start: threading.Barrier = start, answers: list[Answer] = answers) -> None:
            start.wait()
            answers.append(other.resume())

        threads = [threading.Thread(target=work, args=(other,)) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted((answer.changed, answer.message) for answer in answers) == [
            (False, "already running"),
            (True, "it goes on"),
        ]
        mine = [one for one in bench.published if one.operation_id == operation.id]
        assert [(one.epoch, one.attempt) for one in mine] == [(1, 1), (2, 1)]


CONTENDER = """
import json, sys
from tapfs.bus.control import Control

folder, operation_id, number = sys.argv[1:]
operation = Control(folder, actor=f"contender-{number}").operation(operation_id)
answers = []
for turn in range(6):
    answers += [operation.pause(f"{number}/{turn}").changed, operation.resume().changed]
print(json.dumps(answers), flush=True)
"""


def test_of_eight_processes_that_ask_at_once_every_verb_is_done_none_lost_none_crashes(
    bench: Bench, processes: Processes
) -> None:
    """B106."""
    operation = bench.start()
    started = [
        processes.python("-c", CONTENDER, bench.path, operation.id, str(number), name="contender")
        for number in range(8)
    ]
    assert [process.wait() for process in started] == [0] * 8
    answers = [changed for process in started for changed in json.loads(process.output)]
    assert len(answers) == 8 * 12
    assert len(events(operation, "asked")) == sum(answers), "each that changed something is in the journal once"
    assert operation.reconcile().state is State.RUNNING
    bench.now += 61
    operation.reconcile()
    bench.finish(operation)
