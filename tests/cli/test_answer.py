"""`tapfs answer`: what is asked is shown, and answered."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tapfs.bus.control import NewOperation
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Group, Plan, Sequence, Step, placed_in
from tapfs.bus.steps import commit_step

Tapfs = Callable[..., Result]

FIELDS = {
    "ok": {"type": "boolean", "description": "Is the list right?"},
    "copies": {"type": "integer", "default": 1},
    "colour": {"type": "string", "choices": ["red", "blue"], "required": False},
}


def gate(name: str = "approve", fields: Any = FIELDS, **more: Any) -> Step:
    return Step(
        "", name, "tapfs.gate", kwargs={"name": name, "question": "Send 10,000 mails?", "fields": fields, **more}
    )


def waiting(bench: Any, *parts: Any) -> Operation:
    """An operation that waits at its first part, or the gate given, with a task behind it."""
    steps = placed_in((*(parts or (gate(),)), Step("", "send", "t.send")))
    operation: Operation = bench.control.start(NewOperation("mail", Plan(Sequence(steps)), {}))
    operation.reconcile()
    assert operation.state == "waiting"
    return operation


def result_of(operation: Operation, label: str = "0001-approve") -> Any:
    return json.loads((operation.layout.steps / f"{label}.json").read_text())["result"]


def test_without_words_it_shows_what_is_asked(bench: Any, tapfs: Tapfs) -> None:
    operation = waiting(bench)
    result = tapfs("answer", operation.id)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"{operation.id}: gate 0001-approve waits for an answer\n"
        "  question  Send 10,000 mails?\n"
        "  ok        yes|no, required: Is the list right?\n"
        "  copies    INTEGER, may be left out, default 1\n"
        "  colour    red|blue, may be left out\n"
        "  until     for ever\n"
        f"  answer    tapfs answer {operation.id} --gate 0001-approve ok=yes|no [copies=INTEGER] [colour=red|blue]\n"
    )
    assert operation.state == "waiting"


def test_it_shows_the_time_limit_and_what_happens_then(bench: Any, tapfs: Tapfs) -> None:
    """B85."""
    operation = waiting(bench, gate(timeout_s=3600, default={"ok": False}))
    assert "  then      the answer is ok=false copies=1\n" in tapfs("answer", operation.id).stdout
    other = waiting(bench, gate(timeout_s=3600))
    shown = tapfs("answer", other.id).stdout
    assert "  then      the step fails\n" in shown
    assert " UTC\n" in shown


def test_it_shows_what_was_wrong_with_the_last_answer(bench: Any, tapfs: Tapfs) -> None:
    operation = waiting(bench)
    (operation.path / "gates/0001-approve/answer.json").mkdir()
    operation.reconcile()
    shown = tapfs("answer", operation.id).stdout
    assert "  rejected  the answer in answer.json.rejected-1 does not count: it is a folder\n" in shown


def test_shown_as_json_the_gates_are_an_array(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    operation = waiting(bench)
    (told,) = tapfs_json("answer", operation.id)
    assert list(told) == [
        "gate",
        "name",
        "question",
        "fields",
        "default",
        "timeout_s",
        "passes",
        "how",
        "asked_at",
        "expires_at",
        "rejected",
    ]
    assert (told["gate"], told["fields"]["ok"]["type"], told["rejected"]) == ("0001-approve", "boolean", None)


def test_where_nothing_is_asked_it_says_so(bench: Any, tapfs: Tapfs, tapfs_json: Callable[..., Any]) -> None:
    operation = bench.start()
    result = tapfs("answer", operation.id)
    assert (result.exit_code, result.stdout) == (0, f"{operation.id}: it waits at no gate: it is queued\n")
    assert tapfs_json("answer", operation.id) == []


def test_an_answer_counts_and_says_so_in_one_line(bench: Any, tapfs: Tapfs, monkeypatch: pytest.MonkeyPatch) -> None:
    """B84."""
    monkeypatch.setenv("LOGNAME", "ada")
    operation = waiting(bench)
    result = tapfs("answer", operation.id, "ok=yes", "copies=3")
    told = "answered gate 0001-approve; it goes on as soon as a worker runs"
    assert (result.exit_code, result.stdout) == (0, f"{operation.id}: {operation.state}: {told}\n")
    assert "hint: no worker is seen here" in result.stderr
    assert result_of(operation) == {"ok": True, "copies": 3, "colour": None}
    assert [line["by"] for line in operation.journal.entries() if line["event"] == "answered"] == ["cli:ada"]


def test_an_answer_as_json_is_one_object(bench: Any, tapfs_json: Callable[..., Any]) -> None:
    operation = waiting(bench, gate(), gate("second"))
    told = tapfs_json("answer", operation.id, "ok=no")
    assert (told["operation_id"], told["success"], told["changed"], told["state"]) == (
        operation.id,
        True,
        True,
        "waiting",
    )


def test_all_that_is_wrong_is_told_and_nothing_is_changed(bench: Any, tapfs: Tapfs) -> None:
    """B84."""
    operation = waiting(bench)
    result = tapfs("answer", operation.id, "okk=yes", "colour=green")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"tapfs: cannot answer gate 0001-approve of operation '{operation.id}':\n")
    assert "field \"okk\" is unknown (did you mean 'ok'?)" in result.stderr
    assert "field 'ok' is missing" in result.stderr
    assert "field 'colour': \"green\" is none of red, blue" in result.stderr
    assert f"hint: usage: tapfs answer {operation.id} --gate 0001-approve ok=yes|no" in result.stderr
    assert not (operation.path / "gates/0001-approve/answer.json").exists()


def test_what_is_wrong_is_json_too(bench: Any, tapfs: Tapfs) -> None:
    operation = waiting(bench)
    result = tapfs("answer", operation.id, "ok=perhaps", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "'ok'" in json.loads(result.stderr)["error"]["message"]


def test_an_operation_that_waits_at_no_gate_refuses(bench: Any, tapfs: Tapfs) -> None:
    operation = bench.start()
    result = tapfs("answer", operation.id, "ok=yes")
    assert result.exit_code == 1
    assert f"tapfs: cannot answer operation '{operation.id}': it waits at no gate: it is queued" in result.stderr


def test_of_several_gates_one_is_chosen_by_an_option(bench: Any, tapfs: Tapfs) -> None:
    """B86."""
    operation = waiting(bench, Group((gate("left"), gate("right"))))
    refused = tapfs("answer", operation.id, "ok=yes")
    assert refused.exit_code == 1
    assert "it waits at 2 gates: 0001/0001-left, 0001/0002-right" in refused.stderr
    assert "hint: say which one, by --gate" in refused.stderr
    assert tapfs("answer", operation.id, "--gate", "right", "ok=yes").exit_code == 0
    assert result_of(operation, "0001/0002-right")["ok"] is True
    shown = tapfs("answer", operation.id).stdout
    assert "gate 0001/0001-left" in shown
    assert "0002-right" not in shown
    assert "it waits at no gate 'right'" in tapfs("answer", operation.id, "--gate", "right").stdout


def test_a_gate_without_fields_is_answered_by_go(bench: Any, tapfs: Tapfs) -> None:
    operation = waiting(bench, gate(fields={}))
    assert f"tapfs answer {operation.id} --gate 0001-approve --go\n" in tapfs("answer", operation.id).stdout
    assert tapfs("answer", operation.id, "--go").exit_code == 0
    assert result_of(operation) is None


def test_go_takes_the_defaults_and_refuses_what_has_none(bench: Any, tapfs: Tapfs) -> None:
    """B84."""
    operation = waiting(bench)
    result = tapfs("answer", operation.id, "--go")
    assert (result.exit_code, "field 'ok' is missing" in result.stderr) == (1, True)


def test_an_answer_while_paused_is_kept(bench: Any, tapfs: Tapfs) -> None:
    operation = waiting(bench)
    tapfs("pause", operation.id)
    result = tapfs("answer", operation.id, "ok=yes")
    told = "paused: 0001-approve is answered: it counts when it goes on"
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{operation.id}: {told}\n", "")
    tapfs("resume", operation.id)
    operation.reconcile()
    assert result_of(operation)["ok"] is True


def test_what_waits_is_answered_and_goes_on_to_its_end(bench: Any, tapfs: Tapfs) -> None:
    operation = waiting(bench)
    tapfs("answer", operation.id, "ok=yes")
    operation.reconcile()
    commit_step(operation, bench.claim(operation), 7, "2026-11-22T10:15:07.120Z")
    assert (operation.state, operation.result) == ("succeeded", 7)


def test_the_verb_imports_no_celery() -> None:
    code = "import sys, tapfs.cli.verbs.answer; sys.exit('celery' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
