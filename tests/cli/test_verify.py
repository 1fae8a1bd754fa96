"""`tapfs verify`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from support import wait_for
from tapfs.bus import files
from tapfs.bus.records import Checkpoint, Failure, Run
from tapfs.bus.steps import commit_step, fail_step

Tapfs = Callable[..., Result]


def _findings(tapfs: Tapfs, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and by file name the severity and text of each finding."""
    result = tapfs("verify", *words, "--json")
    document = json.loads(result.stdout)
    found = {Path(one["path"]).name: (one["severity"], one["text"]) for one in document["findings"]}
    return result.exit_code, found


def test_sound_operations_in_every_state_have_no_findings(bench: Any, tapfs: Tapfs) -> None:
    bench.start()
    running, paused, cancelled, failed, succeeded = (bench.start() for _ in range(5))
    step = bench.claim(running).step
    running.layout.checkpoint(step).write_bytes(Checkpoint(done=1.0).encode())
    running.layout.once(step).write_text('{"key": "mail-42", "at": "2026-11-22T10:15:07.120Z", "attempt": 1}\n{"ke')
    commit_step(paused, bench.claim(paused), 1, "2026-11-22T10:15:07.120Z")
    paused.pause()
    cancelled.cancel()
    fail_step(failed, bench.claim(failed), Failure(type="ValueError"))
    bench.finish(succeeded)
    bench.control.operation(failed.id).reconcile()
    code, found = _findings(tapfs)
    assert code == 0
    assert {severity for severity, _ in found.values()} <= {"note"}  # an index entry may outlive an end for a moment
    assert not any(name.endswith(".jsonl") for name in found)
    assert "checked 6 operations: 0 faults" in tapfs("verify").stderr


@pytest.mark.parametrize("name", ["operation.json", "workflow.json", "run.json", "state.json", "journal.jsonl"])
def test_a_file_that_is_no_record_is_a_fault(bench: Any, tapfs: Tapfs, name: str) -> None:
    operation = bench.start()
    (operation.path / name).write_bytes(b"nonsense\n")
    wait_for(lambda: _findings(tapfs)[0] == 1)  # a young state.json may be an edit in the making
    assert _findings(tapfs)[1][name][0] == "fault"


@pytest.mark.parametrize("name", ["operation.json", "workflow.json", "run.json"])
def test_a_file_that_is_missing_is_a_fault(bench: Any, tapfs: Tapfs, name: str) -> None:
    (bench.start().path / name).unlink()
    code, found = _findings(tapfs)
    assert (code, found[name]) == (1, ("fault", "it is missing"))


def test_a_torn_last_line_of_the_journal_is_a_note(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    with operation.layout.journal.open("ab") as stream:
        stream.write(b'{"at": "2026')
    code, found = _findings(tapfs)
    assert (code, found["journal.jsonl"][0]) == (0, "note")


def test_a_commit_behind_a_gap_is_a_fault(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start(steps=3)
    commit_step(operation, bench.claim(operation), 1, "2026-11-22T10:15:07.120Z")
    first = operation.layout.steps / "0001-count.json"
    first.rename(operation.layout.steps / "0002-count.json")
    code, found = _findings(tapfs)
    assert (code, found["0002-count.json"]) == (1, ("fault", "it is committed, but step 0001-count before it is not"))


def test_a_commit_of_no_step_and_one_that_is_spoilt_are_faults(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    (operation.layout.steps / "0009-count.json").write_text('{"result": 1, "epoch": 1, "attempt": 1}')
    (operation.layout.steps / "0001-count.json").write_text('{"result": 1}')
    code, found = _findings(tapfs)
    assert (code, found["0009-count.json"]) == (1, ("fault", "the plan has no such step"))
    assert found["0001-count.json"] == ("fault", "field 'epoch' is missing; field 'attempt' is missing")


def test_an_outcome_without_its_commits_is_a_fault(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    bench.finish(operation)
    (operation.layout.steps / "0002-count.json").unlink()
    code, found = _findings(tapfs)
    assert (code, found["run.json"]) == (1, ("fault", "it says succeeded, but step 0002-count is not committed"))


def test_a_result_that_is_not_the_last_commits_is_a_fault(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    bench.finish(operation, 3)
    operation.layout.result.write_text("4\n")
    code, found = _findings(tapfs)
    assert (code, found["result.json"]) == (1, ("fault", "it is not what the last step's commit says"))


def test_a_failure_without_its_error_is_a_fault(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    fail_step(operation, bench.claim(operation), Failure(type="ValueError"))
    operation.layout.error.unlink()
    code, found = _findings(tapfs)
    assert (code, found["error.json"]) == (1, ("fault", "it is missing"))


@pytest.mark.parametrize(
    ("outcome", "text"),
    [("failed", "it says queued, but run.json says failed"), (None, "it says paused, but run.json says it goes on")],
)
def test_a_state_that_the_other_files_deny_is_a_fault(bench: Any, tapfs: Tapfs, outcome: str | None, text: str) -> None:
    operation = bench.start()
    if outcome is None:
        operation.pause()
    run = Run.read(operation.layout.run)
    files.replace(operation.layout.run, replace(run, outcome=outcome).encode())
    code, found = _findings(tapfs)
    assert (code, found["state.json"]) == (1, ("fault", text))


def test_a_claim_whose_holder_is_gone_is_a_note(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    bench.claim(operation).release()
    code, found = _findings(tapfs)
    assert (code, found["0001"]) == (0, ("note", "worker@test is gone"))


def test_a_claim_that_is_none_is_a_fault(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    operation.layout.claim("0001").write_text("mine")
    code, found = _findings(tapfs)
    assert (code, found["0001"]) == (1, ("fault", "it is no claim: line 1, column 1: expecting value"))


def test_an_active_operation_outside_the_index_is_a_fault(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    operation.leave_active()
    code, found = _findings(tapfs, operation.id)
    assert (code, found[operation.id][0]) == (1, "fault")


def test_leftovers_and_strangers_are_notes(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    (operation.path / ".tmp-1-2-0a1b2c3d").touch()
    (operation.path / "notes.txt").touch()
    (operation.path / "pause").touch()
    (operation.path / "state.json.rejected-1").touch()
    (bench.control.layout.operations / ".new-20261122-101502-tally-aaaaaa").mkdir()
    (bench.control.layout.active / "20261122-101502-tally-aaaaaa").touch()
    code, found = _findings(tapfs)
    assert code == 0
    assert {name: severity for name, (severity, _) in found.items()} == dict.fromkeys(
        [
            ".tmp-1-2-0a1b2c3d",
            "notes.txt",
            "pause",
            ".new-20261122-101502-tally-aaaaaa",
            "20261122-101502-tally-aaaaaa",
        ],
        "note",
    )


def test_a_torn_line_in_the_middle_of_the_journal_is_a_note(bench: Any, tapfs: Tapfs) -> None:
    """Every crash in an append leaves one, and nothing is wrong with the operation."""
    operation = bench.start()
    with operation.layout.journal.open("ab") as stream:
        stream.write(b'{"at": "2026')
    operation.pause()
    code, found = _findings(tapfs)
    assert (code, found["journal.jsonl"]) == (0, ("note", "line 2: it is no JSON"))


def test_what_repair_would_do_is_said_with_each_finding(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    operation.layout.claim("0001").unlink()
    operation.layout.claim("0001").mkdir()
    result = tapfs("verify")
    line = f"fault: control/operations/{operation.id}/claims/0001: it is a folder"
    assert f"{line} (repair: it is put aside, and the step is put out again)\n" == result.stdout
    assert result.stderr.endswith("hint: 'tapfs repair' sees to those that say so\n")
    (found,) = json.loads(tapfs("verify", "--json").stdout)["findings"]
    assert (found["remedy"], found["operation"]) == ("put aside", operation.id)


def test_two_results_that_python_takes_for_equal_are_not(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    bench.finish(operation, 1)
    operation.layout.result.write_text("true\n")
    assert _findings(tapfs)[0] == 1


def test_one_operation_can_be_checked_alone(bench: Any, tapfs: Tapfs) -> None:
    spoilt, sound = bench.start(), bench.start()
    spoilt.layout.run.unlink()
    result = tapfs("verify", sound.id)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "tapfs: checked 1 operation: 0 faults, 0 notes\n"
    assert f"fault: control/operations/{spoilt.id}/run.json: it is missing" in tapfs("verify", spoilt.id).stdout


def test_a_directory_that_is_not_set_up_has_nothing_to_check(tapfs: Tapfs, tmp_path: Path) -> None:
    result = tapfs("verify")
    assert (result.exit_code, result.stderr) == (0, "tapfs: checked 0 operations: 0 faults, 0 notes\n")
    assert not (tmp_path / "control").exists()
