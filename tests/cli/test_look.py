"""`tapfs list`, `show`, `result`, `journal`."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tapfs.bus.document import FIELDS
from tapfs.bus.records import Failure
from tapfs.bus.steps import fail_step

Tapfs = Callable[..., Result]


def test_list_shows_the_newest_first(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    now = iter(range(1_800_000_000, 1_900_000_000, 60))
    bench.control.now = lambda: float(next(now))
    ids = [bench.start().id for _ in range(3)]
    assert [one["id"] for one in tapfs_json("list")] == ids[::-1]


def test_list_gives_stable_documents(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    """B99."""
    bench.start()
    (document,) = tapfs_json("list")
    assert tuple(document) == FIELDS


def test_a_paused_operation_is_found_by_its_state(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    """B21."""
    paused, _ = bench.start(), bench.start()
    paused.pause()
    (document,) = tapfs_json("list", "--state", "paused")
    assert (document["id"], document["finished_at"]) == (paused.id, None)


def test_list_filters_by_owner_and_by_activity(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    ada, bob = bench.start(owner="ada"), bench.start(owner="bob")
    bob.cancel()
    assert [one["id"] for one in tapfs_json("list", "--owner", "bob")] == [bob.id]
    assert [one["id"] for one in tapfs_json("list", "--active")] == [ada.id]


def test_list_says_when_more_are_left_out(bench: Any, tapfs: Tapfs) -> None:
    for _ in range(3):
        bench.start()
    assert "more" in tapfs("list", "--limit", "2").stderr
    assert tapfs("list", "--limit", "3").stderr == ""
    assert len(json.loads(tapfs("list", "--limit", "2", "--json").stdout)) == 2


def test_a_piped_list_cuts_no_id_and_has_no_colours(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start(arguments={"path": "[red]" + "x" * 40})
    output = tapfs("list").stdout
    assert operation.id in output
    assert "path=[red]" in output
    assert "\x1b" not in output


@pytest.mark.parametrize("name", ["operation.json", "run.json", "state.json", "workflow.json"])
def test_a_spoilt_operation_breaks_no_list(bench: Any, tapfs_json: Callable[..., Any], name: str) -> None:
    spoilt, sound = bench.start(), bench.start()
    (spoilt.path / name).write_bytes(b"\x00\xff")
    assert {one["id"]: one["state"] for one in tapfs_json("list")} == {spoilt.id: "queued", sound.id: "queued"}


def test_no_control_directory_is_no_operations_and_none_is_made(tapfs: Tapfs, tmp_path: Path) -> None:
    result = tapfs("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "tapfs: no operations in 'control'\n"
    assert tapfs("list", "--json").stdout == "[]\n"
    assert not (tmp_path / "control").exists()


def test_show_tells_state_reason_and_place(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start(arguments={"path": "a.csv"}, owner="ada")
    operation.pause("lunch")
    output = tapfs("show", operation.id[-6:]).stdout
    for text in ("tally path=a.csv", "paused", "lunch", "0 of 2 done", "ada", f"control/operations/{operation.id}"):
        assert text in output


def test_show_gives_the_stable_document(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    """B99."""
    operation = bench.start()
    document = tapfs_json("show", operation.id)
    assert tuple(document) == FIELDS
    assert document["id"] == operation.id


def test_show_hints_at_a_misspelt_marker(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    (operation.path / "pause").touch()
    assert "did you mean 'PAUSE'?" in tapfs("show", operation.id).stdout


def test_show_tells_what_failed_and_where_the_traceback_is(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    fail_step(operation, bench.claim(operation), Failure(type="ValueError", message="no rows", step="0001-count"))
    output = tapfs("show", operation.id).stdout
    assert f"ValueError: no rows in step 0001-count; see control/operations/{operation.id}/error.json" in output


@pytest.mark.parametrize("verb", ["show", "result", "journal"])
def test_an_unknown_id_is_an_error_that_shows_near_ones(bench: Any, tapfs: Tapfs, verb: str) -> None:
    """B28."""
    operation = bench.start()
    result = tapfs(verb, operation.id[:-1] + "!")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"hint: did you mean '{operation.id}'?" in result.stderr


def test_an_ambiguous_id_is_an_error_that_names_them(bench: Any, tapfs: Tapfs) -> None:
    ids = {bench.start().id, bench.start().id}
    result = tapfs("show", "tally")
    assert result.exit_code == 1
    assert "'tally' could be any of 2 operations" in result.stderr
    assert all(one in result.stderr for one in ids)


def test_result_is_json_either_way(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    bench.finish(operation, {"Zoë": [1, None]})
    for words in (("result", operation.id), ("result", operation.id, "--json")):
        assert json.loads(tapfs(*words).stdout) == {"Zoë": [1, None]}


def test_there_is_no_result_before_the_end(bench: Any, tapfs: Tapfs) -> None:
    result = tapfs("result", bench.start().id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has no result yet: it is queued" in result.stderr


def test_journal_tells_who_why_from_and_to(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    operation.pause("lunch")
    last = tapfs("journal", operation.id).stdout.splitlines()[-1]
    for text in ("queued -> paused", "by test", "(lunch)", "UTC"):
        assert text in last


def test_journal_gives_its_lines_as_they_are(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    """B99."""
    operation = bench.start()
    operation.pause("lunch")
    entries = tapfs_json("journal", operation.id)
    assert entries == list(operation.journal.entries())
    assert all({"at", "event", "by", "state"} <= entry.keys() for entry in entries)


def test_looking_changes_no_file(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    before = _contents(bench.control.path)
    for words in (("list",), ("show", operation.id), ("journal", operation.id), ("result", operation.id), ("verify",)):
        tapfs(*words)
    assert _contents(bench.control.path) == before


def _contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            found[str(path)] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    return found


def test_show_tells_a_failure_once(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    failure = Failure(type="ValueError", message="no rows, " * 80, step="0001-count")
    fail_step(operation, bench.claim(operation), failure)
    lines = tapfs("show", operation.id).stdout.splitlines()
    (told,) = (line for line in lines if "no rows" in line)
    assert told.startswith("  error ")


def test_show_tells_what_else_a_failed_operation_has_to_say(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    fail_step(operation, bench.claim(operation), Failure(type="ValueError", message="no", step="0001-count"))
    (operation.path / "pause").touch()
    (message,) = (line for line in tapfs("show", operation.id).stdout.splitlines() if line.startswith("  message "))
    assert message.split(maxsplit=1)[1].startswith("'pause' asks for nothing")
