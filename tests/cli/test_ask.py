"""`tapfs pause`, `resume`, `cancel`."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from support import wait_for
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import all_out
from tapfs.bus.locks import SingleHolder
from tapfs.bus.states import Want
from tapfs.bus.steps import release_step

Tapfs = Callable[..., Result]


def test_a_verb_answers_in_one_line(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    result = tapfs("pause", operation.id, "--reason", "lunch")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{operation.id}: paused\n", "")
    assert operation.view().reason == "lunch"


def test_a_verb_answers_one_object_for_one_id_and_an_array_for_several(
    bench: Any, tapfs_json: Callable[..., Any]
) -> None:
    one, other = bench.start(), bench.start()
    answer = tapfs_json("pause", one.id)
    assert answer == {
        "operation_id": one.id,
        "success": True,
        "changed": True,
        "state": "paused",
        "message": "paused",
    }
    answers = tapfs_json("pause", one.id, other.id)
    assert [(one["operation_id"], one["changed"]) for one in answers] == [(one.id, False), (other.id, True)]


def test_a_verb_acts_as_the_user(bench: Any, tapfs: Tapfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    operation = bench.start()
    tapfs("pause", operation.id)
    assert list(operation.journal.entries())[-1]["by"] == "cli:ada"


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_finished_operation_refuses_and_stays_as_it_is(bench: Any, tapfs: Tapfs, verb: str) -> None:
    """B11."""
    operation = bench.start()
    bench.finish(operation)
    before = operation.layout.state.read_bytes()
    result = tapfs(verb, operation.id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"tapfs: cannot {verb} operation '{operation.id}': it has already succeeded\nhint: " in result.stderr
    assert operation.layout.state.read_bytes() == before


def test_resume_of_a_finished_operation_changes_nothing_and_says_so(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    """B28."""
    operation = bench.start()
    bench.finish(operation)
    answer = tapfs_json("resume", operation.id)
    assert (answer["success"], answer["changed"], answer["state"]) == (True, False, "succeeded")


def test_an_unknown_id_keeps_no_other_from_being_asked(bench: Any, tapfs: Tapfs) -> None:
    """B28."""
    operation = bench.start()
    result = tapfs("pause", "nosuch", operation.id, "--json")
    assert result.exit_code == 1
    unknown, answer = json.loads(result.stdout)
    assert (unknown["operation_id"], unknown["success"], unknown["state"]) == ("nosuch", False, None)
    assert (answer["operation_id"], answer["success"]) == (operation.id, True)


def test_each_of_several_is_reported(bench: Any, tapfs: Tapfs) -> None:
    """B28."""
    finished, running = bench.start(), bench.start()
    bench.claim(running)
    finished.cancel()
    result = tapfs("pause", finished.id, running.id)
    assert result.exit_code == 1
    assert result.stdout == f"{running.id}: pausing: it stops at its next tap\n"
    assert f"cannot pause operation '{finished.id}': it has already been cancelled" in result.stderr


def test_all_is_every_operation_that_has_not_ended(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    ended, one, other = bench.start(), bench.start(), bench.start()
    bench.finish(ended)
    answers = tapfs_json("pause", "--all")
    assert {answer["operation_id"] for answer in answers} == {one.id, other.id}
    assert one.state == other.state == "paused"


def test_operations_that_wait_in_the_queue_are_cancelled_in_bulk_and_leave_nothing_behind(
    bench: Any, tapfs_json: Callable[..., Any]
) -> None:
    """B55: nothing of them is out any more, and the index of active ones is empty."""
    waiting = [bench.start(), bench.start(), bench.start(want=Want.PAUSE)]
    answers = tapfs_json("cancel", "--all", "--reason", "wrong list")
    assert {answer["state"] for answer in answers} == {"cancelled"}
    assert [all_out(operation.layout) for operation in waiting] == [[], [], []]
    wait_for(lambda: [operation.reconcile() for operation in waiting] and not bench.control.active_ids())
    for publication in bench.published:
        operation = bench.control.operation(publication.operation_id)
        dropped = claim_step(operation, publication.step.path, publication.epoch, publication.attempt, "worker@test")
        assert isinstance(dropped, Dropped)


def test_all_of_none_says_so(tapfs: Tapfs) -> None:
    result = tapfs("cancel", "--all")
    assert (result.exit_code, result.stderr) == (0, "tapfs: no active operations in 'control'\n")
    assert json.loads(tapfs("cancel", "--all", "--json").stdout) == []


@pytest.mark.parametrize("words", [(), ("--all", "x"), ("x", "--timeout", "1"), ("x", "--wait", "--timeout", "-1")])
def test_what_makes_no_sense_is_not_understood(bench: Any, tapfs: Tapfs, words: tuple[str, ...]) -> None:
    result = tapfs("pause", *words)
    assert result.exit_code == 2
    assert "Usage: tapfs pause" in result.stderr


def test_resume_says_when_no_worker_is_there(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    operation.pause()
    result = tapfs("resume", operation.id)
    assert result.exit_code == 0
    assert "as soon as a worker runs" in result.stdout
    assert f"'tapfs up' starts one, 'tapfs run --resume {operation.id}'" in result.stderr


def test_resume_is_silent_about_workers_while_one_supervises(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    operation.pause()
    holder = SingleHolder(bench.control.layout.supervisor_lock)
    assert holder.take()
    try:
        result = tapfs("resume", operation.id)
    finally:
        holder.give_back()
    assert result.stdout.endswith("it goes on\n")
    assert result.stderr == ""


def test_resume_publishes_nothing_itself(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    operation.pause()
    before = len(bench.published)
    tapfs("resume", operation.id)
    assert len(bench.published) == before
    bench.control.operation(operation.id).reconcile()
    assert len(bench.published) == before + 1


def test_resume_names_the_hold_that_stays(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    operation.pause()
    (bench.control.path / "PAUSE").write_text("maintenance")
    result = tapfs("resume", operation.id)
    assert "still held by 'control/PAUSE' (maintenance)" in result.stdout


def test_wait_returns_when_the_step_is_at_its_tap(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    held = bench.claim(operation)
    tap = threading.Timer(0.3, lambda: release_step(operation, held))
    tap.start()
    result = tapfs("pause", operation.id, "--wait", "--timeout", "20")
    tap.join()
    assert (result.exit_code, result.stdout) == (0, f"{operation.id}: paused\n")


def test_wait_gives_up_with_its_own_exit_code(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    bench.claim(operation)
    result = tapfs("pause", operation.id, "--wait", "--timeout", "0.1")
    assert result.exit_code == 3
    assert f"operation '{operation.id}' is still pausing" in result.stderr


def test_a_reason_that_is_none_is_refused_before_anything_is_asked(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    result = tapfs("pause", operation.id, "--reason", "a\nb")
    assert result.exit_code == 1
    assert operation.state == "queued"


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_ids_or_all_are_needed_and_the_usage_says_so(bench: Any, tapfs: Tapfs, verb: str) -> None:
    operation = bench.start()
    assert f"Usage: tapfs {verb} [OPTIONS] [ID]..." in tapfs(verb, "--help").stdout
    neither, both = tapfs(verb), tapfs(verb, "--all", operation.id)
    assert (neither.exit_code, both.exit_code) == (2, 2)
    assert "which operations? name them by their ids, or all active ones by --all" in neither.stderr
    assert "leave out the ids, or --all" in both.stderr
    assert operation.state == "queued"
