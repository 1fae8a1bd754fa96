"""`tapfs repair`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from support import Processes
from support.bench import Bench, snapshot
from support.wrecks import LEFT, MENDED, PATHS, Wreck, begin, go_on, portrait, succeeded
from tapfs.bus import verify

Tapfs = Callable[..., Result]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "control")


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes here, so two looks need not be far apart."""
    monkeypatch.setattr(verify, "_BETWEEN_S", 0.001)


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize("wreck", [*MENDED, *LEFT], ids=lambda wreck: wreck.name.replace(" ", "-"))
def test_a_dry_run_tells_all_and_changes_nothing(bench: Bench, tapfs: Tapfs, wreck: Wreck) -> None:
    operation = wreck.make(bench)
    wreck.spoil(bench, operation)
    before = portrait(bench.path)
    result = tapfs("repair", "--dry-run", "--json")
    assert portrait(bench.path) == before
    document = json.loads(result.stdout)
    assert document["dry_run"] is True
    assert result.exit_code == (1 if document["faults"] else 0)
    assert [one for one in document["findings"] if wreck.text in one["text"]]
    told = [one for one in document["acts"] if wreck.text in one["text"]]
    assert [one["remedy"] for one in told][:1] == ([wreck.remedy] if wreck.remedy else [])


def test_it_says_what_it_will_do_does_it_and_says_what_is_left(bench: Bench, tapfs: Tapfs) -> None:
    operation = begin(bench, 2)
    claim, used = operation.layout.claim("0003"), operation.layout.steps / "0001-one.json"
    claim.write_text("mine")
    used.write_text("{")
    result = tapfs("repair")
    folder = f"control/operations/{operation.id}"
    again = "it is put aside, and the step is put out again"
    unneeded = "restore it from a copy; the steps behind it do not need it any more"
    spoilt = "line 1, column 2: expecting property name enclosed in double quotes"
    assert result.stdout.splitlines() == [
        f"will repair {folder}/claims/0003: it is no claim: line 1, column 1: expecting value ({again})",
        f"repaired {folder}/claims/0003, kept as attic/repair-1/claims/0003",
        f"fault: {folder}/steps/0001-one.json: {spoilt} ({unneeded})",
    ]
    assert result.stderr == "tapfs: checked 1 operation: 1 repaired; left: 1 fault, 0 notes\n"
    assert result.exit_code == 1
    assert (operation.path / "attic/repair-1/claims/0003").read_text() == "mine"
    go_on(bench, operation)


def test_a_dry_run_says_what_would_be_done_and_what_would_be_left(bench: Bench, tapfs: Tapfs) -> None:
    operation = begin(bench)
    operation.layout.claim("0002").write_text("mine")
    (operation.path / "notes.txt").touch()
    before = snapshot(bench.path)
    result = tapfs("repair", "--dry-run")
    assert snapshot(bench.path) == before
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"would repair control/operations/{operation.id}/claims/0002: it is no claim")
    assert lines[1].startswith(f"note: control/operations/{operation.id}/notes.txt: tapfs knows no such file")
    assert result.stderr == "tapfs: checked 1 operation: 1 would be repaired; left: 0 faults, 1 note\n"
    assert result.exit_code == 1


def test_it_ends_with_0_when_nothing_is_wrong_any_more(bench: Bench, tapfs: Tapfs) -> None:
    operation = succeeded(bench)
    operation.layout.result.unlink()
    assert tapfs("verify").exit_code == 1
    assert tapfs("repair").exit_code == 0
    assert tapfs("verify").exit_code == 0
    assert tapfs("repair").stderr == "tapfs: checked 1 operation: 0 repaired; left: 0 faults, 0 notes\n"
    assert json.loads(tapfs("result", operation.id).stdout) == PATHS


def test_only_those_that_are_named_are_repaired(bench: Bench, tapfs: Tapfs) -> None:
    one, other = begin(bench), begin(bench)
    for operation in (one, other):
        operation.layout.claim("0002").write_text("mine")
    before = snapshot(other.path)
    assert tapfs("repair", one.id, one.id[-6:]).exit_code == 0
    assert snapshot(other.path) == before
    assert tapfs("verify", one.id).exit_code == 0
    assert tapfs("verify", other.id).exit_code == 1


def test_with_json_there_is_one_document(bench: Bench, tapfs: Tapfs) -> None:
    operation = succeeded(bench)
    operation.layout.result.write_text("4")
    document = json.loads(tapfs("repair", "--json").stdout)
    (act,) = document.pop("acts")
    assert document == {"checked": 1, "dry_run": False, "faults": 0, "notes": 0, "findings": []}
    assert act == {
        "path": str(operation.layout.result),
        "severity": "fault",
        "text": "it is not what the last step's commit says",
        "advice": "it is written anew from 0003-one.json",
        "remedy": "write",
        "operation": operation.id,
        "outcome": "done",
        "kept_as": "attic/repair-1/result.json",
        "trouble": None,
    }


def test_a_repair_is_in_the_journal_under_the_name_of_who_asked_for_it(bench: Bench, tapfs: Tapfs) -> None:
    operation = begin(bench)
    operation.layout.claim("0002").write_text("mine")
    tapfs("repair")
    entries = json.loads(tapfs("journal", operation.id, "--json").stdout)
    (entry,) = [one for one in entries if one["event"] == "repaired"]
    assert entry["by"].startswith("cli:")
    assert entry["file"] == "claims/0002"
    assert "repaired" in tapfs("journal", operation.id).stdout


def test_an_unknown_operation_is_refused_before_anything_is_repaired(bench: Bench, tapfs: Tapfs) -> None:
    operation = begin(bench)
    operation.layout.claim("0002").write_text("mine")
    before = snapshot(bench.path)
    result = tapfs("repair", operation.id, "nosuch")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no operation 'nosuch'" in result.stderr
    assert snapshot(bench.path) == before


def test_a_directory_that_is_not_there_has_nothing_to_repair_and_is_not_made(tapfs: Tapfs, tmp_path: Path) -> None:
    result = tapfs("repair")
    assert (result.exit_code, result.stdout) == (0, "")
    assert not (tmp_path / "control").exists()


def test_a_directory_of_a_newer_tapfs_is_refused(bench: Bench, tapfs: Tapfs) -> None:
    begin(bench)
    bench.control.layout.format.write_text("tapfs 2\n")
    before = snapshot(bench.path)
    result = tapfs("repair")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "its format is 'tapfs 2'" in result.stderr
    assert snapshot(bench.path) == before


def test_control_characters_in_names_do_not_reach_the_terminal(bench: Bench, tapfs: Tapfs) -> None:
    operation = begin(bench)
    (operation.layout.claims / "red\x1b[31m\nline").write_text("mine")
    result = tapfs("repair")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert len(result.stdout.splitlines()) == 2


def test_it_runs_beside_another_of_its_kind(bench: Bench, processes: Processes) -> None:
    operations = [begin(bench) for _ in range(4)]
    for operation in operations:
        operation.layout.claim("0002").unlink()
        os.mkdir(operation.layout.claim("0002"))
    both = [processes.tapfs("repair", "--json", separate_errors=True) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    done: list[Any] = []
    for one in both:
        done += [act["operation"] for act in json.loads(one.output)["acts"] if act["outcome"] == "done"]
    assert sorted(done) == sorted(operation.id for operation in operations)
    for operation in operations:
        go_on(bench, operation)
