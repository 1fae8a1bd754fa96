"""Gates: asked once they are reached, answered by people, and committed like any other step."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import wait_for
from support.bench import START, Bench, events, history, snapshot
from support.editors import EDITORS, in_place
from support.mortal import deaths
from tapfs.bus.answering import AnswerRefused, answer, open_gates
from tapfs.bus.control import NewOperation
from tapfs.bus.gatefiles import BY_FILE, GateFiles
from tapfs.bus.gates import BY_TIME, close_gates
from tapfs.bus.operation import Operation
from tapfs.bus.plan import CONTINUE, Group, Part, Plan, Sequence, Step, placed_in
from tapfs.bus.records import Commit, Failure
from tapfs.bus.statefile import SETTLE_S
from tapfs.bus.states import State
from tapfs.errors import Refused

OK = {"ok": {"type": "boolean"}}
MANY = {
    "ok": {"type": "boolean"},
    "copies": {"type": "integer", "default": 1},
    "rate": {"type": "number", "required": False},
    "colour": {"type": "string", "choices": ["red", "blue"], "default": "red"},
    "on": {"type": "date", "required": False},
    "note": {"type": "string", "required": False},
}
FILLED = {"ok": True, "copies": 1, "rate": None, "colour": "red", "on": None, "note": None}


def task(name: str = "one") -> Step:
    return Step("", name, f"test.{name}")


def gate(name: str = "approve", fields: Any = OK, **more: Any) -> Step:
    told = {"name": name, "question": f"May it {name}?", "fields": fields}
    return Step("", name, "tapfs.gate", kwargs=told | more)


def start(bench: Bench, *parts: Part, **options: Any) -> Operation:
    """Start a workflow of these parts; options as `Plan` takes them."""
    return bench.control.start(NewOperation("mail", Plan(Sequence(placed_in(parts)), **options), {}))


def waiting(bench: Bench, value: Any = 5, **question: Any) -> Operation:
    """An operation that waits at the gate between two tasks."""
    operation = start(bench, task("prepare"), gate(**question), task("send"))
    bench.step(operation, value)
    assert operation.state is State.WAITING
    return operation


def files_of(operation: Operation, label: str = "0002-approve") -> Path:
    return operation.path / "gates" / label


def request(operation: Operation, label: str = "0002-approve") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files_of(operation, label) / "request.json").read_text())
    return found


def save(operation: Operation, told: Any, label: str = "0002-approve") -> None:
    """Save an answer as a person does."""
    text = told if isinstance(told, str) else json.dumps(told)
    (files_of(operation, label) / "answer.json").write_text(text)


def commit(operation: Operation, label: str = "0002-approve") -> Commit:
    return Commit.read(operation.layout.steps / f"{label}.json")


def rejected(operation: Operation, label: str = "0002-approve") -> dict[str, str]:
    found = files_of(operation, label).glob("answer.json.rejected-*")
    return {path.name: path.read_text(errors="replace") for path in found}


def settle(operation: Operation) -> None:
    """Reconcile until no answer is in the making."""
    wait_for(lambda: not operation.reconcile().look_again, 20.0)


# What is asked


def test_a_gate_waits_and_says_what_it_asks(bench: Bench) -> None:
    """B84."""
    operation = waiting(bench, fields=MANY)
    told = request(operation)
    assert (told["step"], told["question"], told["expires_at"]) == ("0002-approve", "May it approve?", None)
    assert told["fields"]["ok"] == {
        "type": "boolean",
        "required": True,
        "choices": None,
        "default": None,
        "description": None,
    }
    assert f"tapfs answer {operation.id} --gate 0002-approve ok=yes|no [copies=INTEGER]" in told["how"]
    assert 'answer.json, like {"ok": true}' in told["how"]
    message = operation.view().message or ""
    assert message.startswith("gate 0002-approve waits for an answer: May it approve? Answer with: tapfs answer ")
    assert len(bench.published) == 1, "a gate is never published"
    assert history(operation) == ["queued", "running", "waiting"]


def test_a_gate_may_be_the_first_and_the_last_step(bench: Bench) -> None:
    operation = start(bench, gate("begin"), task(), gate("end"))
    operation.reconcile()
    assert operation.state is State.WAITING
    answer(operation, ["ok=yes"])
    bench.step(operation)
    answer(operation, ["ok=no"])
    assert (operation.state, operation.result) == (State.SUCCEEDED, {"ok": False})


def test_looking_again_changes_nothing(bench: Bench) -> None:
    operation = waiting(bench)
    before = snapshot(operation.path)
    for _ in range(3):
        bench.other(operation).reconcile()
    assert snapshot(operation.path) == before


@pytest.mark.parametrize("spoil", ["removed", "nonsense", "a folder", "a file in place of the folder", "no time"])
def test_a_request_that_is_lost_is_written_anew(bench: Bench, spoil: str) -> None:
    operation = waiting(bench, timeout_s=60)
    path = files_of(operation) / "request.json"
    told = json.loads(path.read_text())
    path.unlink()
    if spoil == "nonsense":
        path.write_text("{")
    elif spoil == "no time":
        path.write_text(json.dumps(told | {"expires_at": "soon"}))
    elif spoil == "a folder":
        path.mkdir()
    elif spoil == "a file in place of the folder":
        files_of(operation).rmdir()
        files_of(operation).write_text("mine")
    operation.reconcile()
    was_spoilt = spoil in ("nonsense", "a folder", "no time")
    rejected = request(operation).pop("rejected")
    assert request(operation) == told | {"rejected": rejected}
    assert ("request.json.rejected-1" in str(rejected)) is was_spoilt
    answer(operation, ["ok=yes"])
    assert commit(operation).result == {"ok": True}


def test_what_is_asked_stands_in_the_plan_not_in_the_request(bench: Bench) -> None:
    operation = waiting(bench)
    path = files_of(operation) / "request.json"
    path.write_text(path.read_text().replace('"ok"', '"no"'))
    answer(operation, ["ok=yes"])
    assert commit(operation).result == {"ok": True}


def test_a_gate_that_cannot_be_asked_fails_with_all_that_is_wrong(bench: Bench) -> None:
    operation = start(bench, gate("a", {"ok": {"type": "bool"}, "no": {"type": "integer", "default": "x"}}))
    operation.reconcile()
    assert operation.state is State.FAILED
    failure = operation.failure()
    assert failure is not None
    assert failure.type == "GateSpoilt"
    assert "'type': \"bool\" is none of" in failure.message
    assert 'field "no": "x" is no integer' in failure.message


# Answers by file


@pytest.mark.parametrize("editor", EDITORS.values(), ids=EDITORS)
def test_an_answer_counts_however_it_is_saved(bench: Bench, editor: Any) -> None:
    operation = waiting(bench)
    path = files_of(operation) / "answer.json"
    path.write_text("{")  # some editors need a file that is there
    editor(path, '{"ok": true}\n')
    settle(operation)
    assert (commit(operation).result, commit(operation).worker) == ({"ok": True}, BY_FILE)
    assert operation.state is State.RUNNING
    assert bench.published[-1].step.path == "0003"


def test_who_answered_is_kept_and_journaled(bench: Bench) -> None:
    operation = waiting(bench, fields=MANY)
    save(operation, {"ok": True, "note": "x" * 500, "answered_by": "Ada"})
    settle(operation)
    assert (commit(operation).worker, commit(operation).result["note"]) == ("Ada", "x" * 500)
    (line,) = events(operation, "answered")
    assert (line["by"], line["step"], line["answer"]["ok"]) == ("Ada", "0002", True)
    assert line["answer"]["note"] == "x" * 60 + "..."
    told = request(operation)
    assert (told["closed"], told["answered_by"], told["answer"]["ok"]) == ("answered", "Ada", True)


def test_defaults_are_filled_in(bench: Bench) -> None:
    """B84."""
    operation = waiting(bench, fields=MANY)
    save(operation, {"ok": True})
    settle(operation)
    assert commit(operation).result == FILLED


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("{}", ["field 'ok' is missing"]),
        ("", ["it is empty"]),
        ("yes", ["line 1, column 1"]),
        ('{"ok": true', ["line 1"]),
        ("[true]", ["where an object {...} is needed"]),
        ('{"ok": true, "ok": false}', ["field 'ok' stands there twice"]),
        ('{"okk": true}', ["\"okk\" is unknown (did you mean 'ok'?)", "field 'ok' is missing"]),
        ('{"ok": null}', ["null is null, not true or false"]),
        (
            '{"ok": "yes", "copies": 1.5, "rate": 1e999, "colour": "redd", "on": "tomorrow", "note": 3}',
            [
                "'ok': \"yes\" is a text, not true or false",
                "'copies': 1.5 is a number, not a whole number",
                "'rate': Infinity is beyond",
                "'colour': \"redd\" is none of red, blue (did you mean 'red'?)",
                "'on': \"tomorrow\" is no date",
                "'note': 3 is a whole number, not a text",
            ],
        ),
        ('{"ok": true, "copies": 9223372036854775808}', ["'copies': 9223372036854775808 is beyond"]),
        ('{"ok": true, "rate": NaN}', ["NaN"]),
        ('{"ok": true, "answered_by": "a\\nb"}', ["'answered_by'"]),
    ],
)
def test_an_answer_that_does_not_fit_never_counts_and_is_never_lost(bench: Bench, text: str, faults: list[str]) -> None:
    """B84."""
    operation = waiting(bench, fields=MANY)
    save(operation, text)
    settle(operation)
    assert operation.state is State.WAITING
    assert rejected(operation) == {"answer.json.rejected-1": text}
    assert not (files_of(operation) / "answer.json").exists()
    message = operation.view().message or ""
    assert "the answer in answer.json.rejected-1 does not count: " in message
    assert [fault for fault in faults if fault not in message] == []
    (line,) = events(operation, "rejected")
    assert (line["file"], line["step"]) == ("answer.json.rejected-1", "0002")
    save(operation, {"ok": False})
    settle(operation)
    assert commit(operation).result == FILLED | {"ok": False}
    assert "rejected" not in (operation.view().message or "")


@pytest.mark.parametrize("thing", ["folder", "link", "fifo", "large"])
def test_what_is_no_file_is_set_aside(bench: Bench, thing: str) -> None:
    operation = waiting(bench)
    path = files_of(operation) / "answer.json"
    if thing == "folder":
        path.mkdir()
    elif thing == "link":
        path.symlink_to("/dev/zero")
    elif thing == "fifo":
        os.mkfifo(path)
    else:
        path.write_text(json.dumps({"ok": True, "note": "x" * 70_000}))
    settle(operation)
    assert operation.state is State.WAITING
    assert [one.name for one in files_of(operation).glob("answer*")] == ["answer.json.rejected-1"]
    assert "does not count" in (operation.view().message or "")


def test_an_answer_in_the_making_is_left_alone(bench: Bench) -> None:
    operation = waiting(bench)
    with open(files_of(operation) / "answer.json", "w") as stream:
        stream.write('{"ok": ')
        stream.flush()
        assert operation.reconcile().look_again
        time.sleep(SETTLE_S)  # not young any more, but open
        assert operation.reconcile().look_again
        assert rejected(operation) == {}
        stream.write("true}")
    settle(operation)
    assert commit(operation).result == {"ok": True}


def test_an_answer_saved_while_another_is_set_aside_keeps_its_name(bench: Bench) -> None:
    operation = waiting(bench)
    gate_files = GateFiles(operation.layout, operation.plan().step("0002"))
    save(operation, "nonsense")
    found = gate_files.find_answer(open_gates(operation)[0].question)
    save(operation, {"ok": True})  # in the instant between the look and the renaming
    gate_files.set_aside(found)
    assert rejected(operation) == {}
    settle(operation)
    assert commit(operation).result == {"ok": True}


def test_an_answer_saved_before_the_gate_is_reached_counts(bench: Bench) -> None:
    operation = start(bench, task(), gate(), task())
    files_of(operation).mkdir(parents=True)
    save(operation, {"ok": True})
    bench.step(operation)
    assert (operation.state, commit(operation).result) == (State.RUNNING, {"ok": True})


def test_a_committed_answer_is_not_changed_by_another(bench: Bench) -> None:
    operation = waiting(bench)
    save(operation, {"ok": True})
    settle(operation)
    save(operation, {"ok": False})
    settle(operation)
    assert commit(operation).result == {"ok": True}


# What is passed on


@pytest.mark.parametrize(
    ("question", "result"),
    [
        ({}, {"ok": True}),
        ({"passes": "answer"}, {"ok": True}),
        ({"passes": "value"}, [1, 2]),
        ({"passes": "both"}, [[1, 2], {"ok": True}]),
        ({"fields": {}}, [1, 2]),
        ({"fields": {}, "passes": "answer"}, {}),
    ],
)
def test_what_the_next_step_gets(bench: Bench, question: dict[str, Any], result: Any) -> None:
    operation = waiting(bench, [1, 2], **question)
    save(operation, {"ok": True} if question.get("fields", OK) else {})
    settle(operation)
    assert commit(operation).result == result


def test_after_a_group_a_gate_passes_on_the_list(bench: Bench) -> None:
    operation = start(bench, Group((task("a"), task("b"))), gate(passes="both"))
    for number, message in enumerate(list(bench.published)):
        held = bench.claim(operation, number)
        bench.commit(operation, held, message.step.name)
    answer(operation, {"ok": True})
    assert operation.result == [["a", "b"], {"ok": True}]


def test_a_gate_at_the_beginning_passes_on_nothing(bench: Bench) -> None:
    operation = start(bench, gate(passes="value"), task())
    operation.reconcile()
    answer(operation, ["ok=yes"])
    assert commit(operation, "0001-approve").result is None


def test_a_first_gate_passes_on_what_the_workflow_is_called_with(bench: Bench) -> None:
    operation = start(bench, replace(gate(passes="value"), args=[3, 4]), replace(gate(passes="both"), immutable=True))
    operation.reconcile()
    answer(operation, ["ok=yes"])
    answer(operation, ["ok=no"])
    assert commit(operation, "0001-approve").result == 3
    assert operation.result == [None, {"ok": False}]


def test_a_value_that_somebody_spoilt_fails_the_gate_and_keeps_the_answer(bench: Bench) -> None:
    operation = waiting(bench, passes="value")
    (operation.layout.steps / "0001-prepare.json").write_text("{")
    save(operation, {"ok": True})
    settle(operation)
    failure = operation.failure()
    assert operation.state is State.FAILED
    assert failure is not None
    assert (failure.type, failure.step) == ("GateSpoilt", "0002-approve")
    assert (files_of(operation) / "answer.json").exists()


# The time limit


def test_at_the_time_limit_the_default_is_taken(bench: Bench) -> None:
    """B85."""
    operation = waiting(bench, fields=MANY, default={"ok": True}, timeout_s=60)
    assert request(operation)["expires_at"] == "2027-01-15T08:01:00.000Z"
    bench.now = START + 59.9
    operation.reconcile()
    assert operation.state is State.WAITING
    bench.now = START + 60
    operation.reconcile()
    assert operation.state is State.RUNNING
    assert (commit(operation).result, commit(operation).worker) == (FILLED, BY_TIME)
    assert [line["by"] for line in events(operation, "answered")] == [BY_TIME]


def test_at_the_time_limit_without_a_default_the_step_fails(bench: Bench) -> None:
    """B85."""
    operation = waiting(bench, timeout_s=60)
    bench.now = START + 61
    operation.reconcile()
    failure = operation.failure()
    assert operation.state is State.FAILED
    assert failure is not None
    assert (failure.type, failure.step) == ("NobodyAnswered", "0002-approve")
    assert failure.message == "nobody answered within 60 s, and there is no default: May it approve?"
    assert request(operation)["closed"] == "failed"


def test_after_a_failure_at_the_time_limit_it_is_asked_again_with_its_whole_time(bench: Bench) -> None:
    """B85."""
    operation = waiting(bench, timeout_s=60)
    bench.now = START + 61
    operation.reconcile()
    operation.resume()
    assert (operation.state, operation.epoch()) == (State.WAITING, 2)
    told = request(operation)
    assert (told["expires_at"], told["epoch"], told["closed"]) == ("2027-01-15T08:02:01.000Z", 2, None)


def test_an_answer_that_is_found_counts_before_the_time_limit_does(bench: Bench) -> None:
    operation = waiting(bench, default={"ok": False}, timeout_s=60)
    save(operation, {"ok": True})
    bench.now = START + 3600
    settle(operation)
    assert commit(operation).result == {"ok": True}


def test_nonsense_does_not_stop_the_time_limit(bench: Bench) -> None:
    operation = waiting(bench, default={"ok": False}, timeout_s=60)
    save(operation, "nonsense")
    bench.now = START + 61
    settle(operation)
    assert (commit(operation).result, rejected(operation)) == ({"ok": False}, {"answer.json.rejected-1": "nonsense"})


def test_a_person_may_give_it_more_time(bench: Bench) -> None:
    operation = waiting(bench, timeout_s=60)
    path = files_of(operation) / "request.json"
    in_place(path, path.read_text().replace("08:01:00", "09:00:00"))
    bench.now = START + 61
    operation.reconcile()
    assert operation.state is State.WAITING


def test_a_pause_stops_the_time_limit(bench: Bench) -> None:
    operation = waiting(bench, timeout_s=60)
    operation.pause()
    bench.now = START + 3600
    operation.reconcile()
    assert operation.state is State.PAUSED
    operation.resume()
    assert operation.state is State.WAITING
    assert request(operation)["expires_at"] == "2027-01-15T09:01:00.000Z"


# Held, cancelled, taken back


def test_while_paused_an_answer_is_kept_and_counts_when_it_goes_on(bench: Bench) -> None:
    operation = waiting(bench)
    operation.pause()
    told = answer(operation, ["ok=yes"])
    assert (told.changed, told.state) == (True, "paused")
    assert told.message == "0002-approve is answered: it counts when it goes on"
    assert not operation.layout.commit(operation.plan().step("0002")).exists()
    other = answer(operation, ["ok=no"])  # the last one counts, the first is kept
    assert other.changed
    assert len(rejected(operation)) == 1
    operation.resume()
    assert (operation.state, commit(operation).result) == (State.RUNNING, {"ok": False})


def test_a_gate_that_is_reached_while_paused_is_asked_when_it_goes_on(bench: Bench) -> None:
    operation = start(bench, task(), gate(), task())
    held = bench.claim(operation)
    operation.pause()
    bench.commit(operation, held)
    assert operation.state is State.PAUSED
    assert not files_of(operation).exists()
    operation.resume()
    assert operation.state is State.WAITING


def test_cancel_while_waiting_works_and_closes_the_gate(bench: Bench) -> None:
    """B43."""
    operation = waiting(bench)
    told = operation.cancel()
    assert (told.changed, operation.state) == (True, State.CANCELLED)
    assert request(operation)["closed"] == "cancelled"
    assert open_gates(operation) == []
    save(operation, {"ok": True})
    operation.reconcile()
    assert operation.state is State.CANCELLED
    with pytest.raises(Refused, match="it is cancelled"):
        answer(operation, ["ok=yes"])


def test_resumed_after_a_cancel_it_is_asked_again(bench: Bench) -> None:
    """B43."""
    operation = waiting(bench)
    operation.cancel()
    operation.resume()
    assert (operation.state, request(operation)["closed"]) == (State.WAITING, None)
    answer(operation, ["ok=yes"])
    assert operation.state is State.RUNNING


def test_an_answer_of_a_run_that_was_taken_back_is_not_taken_again(bench: Bench) -> None:
    operation = waiting(bench)
    answer(operation, ["ok=yes"])
    operation.pause()
    operation.layout.commit(operation.plan().step("0002")).unlink()  # as a rewind by hand does
    operation.resume()
    assert operation.state is State.WAITING
    assert len(rejected(operation)) == 1


def test_closing_is_only_a_note_and_fails_for_nothing(bench: Bench) -> None:
    operation = waiting(bench)
    (files_of(operation) / "request.json").write_text("{")
    close_gates(operation, "cancelled")
    operation.layout.plan.unlink()
    close_gates(operation, "cancelled")


# Several gates


def two_open(bench: Bench) -> Operation:
    operation = start(bench, Group((gate("left"), Sequence((gate("right"), task())))), task("last"))
    operation.reconcile()
    assert operation.state is State.WAITING
    return operation


def test_of_two_open_gates_only_the_chosen_one_is_opened(bench: Bench) -> None:
    """B86."""
    operation = two_open(bench)
    assert [one.step.label for one in open_gates(operation)] == ["0001/0001-left", "0001/0002/0001-right"]
    message = operation.view().message or ""
    assert "gate 0001/0001-left waits" in message
    assert "--gate 0001/0002/0001-right ok=yes|no" in message
    before = snapshot(operation.path)
    with pytest.raises(Refused, match="it waits at 2 gates: 0001/0001-left, 0001/0002/0001-right"):
        answer(operation, ["ok=yes"])
    assert snapshot(operation.path) == before
    answer(operation, ["ok=yes"], "right")
    assert [one.step.label for one in open_gates(operation)] == ["0001/0001-left"]
    assert bench.published[-1].step.path == "0001/0002/0002"
    assert operation.state is State.RUNNING


@pytest.mark.parametrize("name", ["0001/0001-left", "0001/0001", "left"])
def test_a_gate_goes_by_its_label_its_path_and_its_name(bench: Bench, name: str) -> None:
    """B86."""
    operation = two_open(bench)
    answer(operation, ["ok=yes"], name)
    assert [one.step.name for one in open_gates(operation)] == ["right"]


def test_a_name_of_two_open_gates_is_refused(bench: Bench) -> None:
    operation = start(bench, Group((gate(), gate())))
    operation.reconcile()
    with pytest.raises(Refused, match="'approve' is the name of 2 gates: 0001/0001-approve, 0001/0002-approve"):
        answer(operation, ["ok=yes"], "approve")


def test_a_gate_fails_alone_where_its_group_goes_on(bench: Bench) -> None:
    operation = start(bench, Group((gate("left", timeout_s=60), gate("right")), on_error=CONTINUE), task())
    operation.reconcile()
    bench.now = START + 61
    operation.reconcile()
    assert [one.step.name for one in open_gates(operation)] == ["right"]
    assert operation.state is State.WAITING
    answer(operation, ["ok=yes"])
    assert operation.state is State.RUNNING
    given_up = Failure.read(operation.layout.steps / "0001/0001.error.json")
    assert given_up.type == "NobodyAnswered"


def test_a_message_tells_of_a_few_gates_and_counts_the_rest(bench: Bench) -> None:
    operation = start(bench, Group(tuple(gate() for _ in range(12))))
    operation.reconcile()
    message = operation.view().message or ""
    assert message.count("waits for an answer") == 5
    assert f"7 more gates wait: tapfs answer {operation.id} shows them" in message


def test_of_many_gates_that_fail_each_is_given_up(bench: Bench) -> None:
    group = Group(tuple(gate(timeout_s=60) for _ in range(25)), on_error=CONTINUE)
    operation = start(bench, group, concurrency=25)
    operation.reconcile()
    assert len(open_gates(operation)) == 25
    bench.now = START + 61
    settle(operation)
    assert operation.state is State.SUCCEEDED
    assert {one["error"]["type"] for one in operation.result} == {"NobodyAnswered"}


# The verb


def test_the_verb_answers_and_publishes_what_follows(bench: Bench) -> None:
    operation = waiting(bench)
    told = answer(operation, ["ok=yes"], by="cli:ada")
    assert (told.success, told.changed, told.state) == (True, True, "running")
    assert told.message == "answered gate 0002-approve"
    assert commit(operation).worker == "cli:ada"
    assert [line["by"] for line in events(operation, "answered")] == ["cli:ada"]
    assert bench.published[-1].step.path == "0003"


def test_the_verb_names_all_faults_and_changes_nothing(bench: Bench) -> None:
    """B84."""
    operation = waiting(bench, fields=MANY)
    before = snapshot(operation.path)
    with pytest.raises(AnswerRefused) as caught:
        answer(operation, ["okk=yes", "copies=many", "colour=green", "loose", "note=a", "note=b"])
    assert caught.value.faults == (
        '"loose" is not KEY=VALUE',
        "field 'note' is given twice",
        "field \"okk\" is unknown (did you mean 'ok'?)",
        "field 'ok' is missing",
        "field 'copies': \"many\" is a text, not a whole number",
        "field 'colour': \"green\" is none of red, blue",
    )
    assert str(caught.value).startswith(f"cannot answer gate 0002-approve of operation '{operation.id}':\n  ")
    assert "usage: tapfs answer" in (caught.value.hint or "")
    with pytest.raises(AnswerRefused, match="'ok' is missing"):
        answer(operation, {})
    assert snapshot(operation.path) == before


def test_the_words_of_a_command_line_become_what_the_fields_are(bench: Bench) -> None:
    operation = waiting(bench, fields=MANY)
    answer(operation, ["ok=ON", "copies=-3", "rate=1e3", "colour=blue", "on=2026-11-22", "note=none"])
    assert commit(operation).result == {
        "ok": True,
        "copies": -3,
        "rate": 1000.0,
        "colour": "blue",
        "on": "2026-11-22",
        "note": None,
    }


def test_a_whole_number_is_a_number_too(bench: Bench) -> None:
    operation = waiting(bench, fields=MANY)
    answer(operation, {"ok": True, "rate": 2})
    assert isinstance(commit(operation).result["rate"], float)


def test_the_verb_publishes_what_follows_from_an_answer_that_was_saved_just_before(bench: Bench) -> None:
    operation = start(bench, Group((Sequence((gate("left"), task())), Sequence((gate("right"), task())))))
    operation.reconcile()
    save(operation, {"ok": True}, "0001/0001/0001-left")
    answer(operation, ["ok=yes"], "right")
    assert sorted(one.step.path for one in bench.published) == ["0001/0001/0002", "0001/0002/0002"]


def test_while_it_is_being_cancelled_no_answer_is_taken(bench: Bench) -> None:
    """B43."""
    operation = start(bench, Group((gate(), task())))
    held = bench.claim(operation)
    operation.cancel()
    assert operation.state is State.CANCELLING
    with pytest.raises(Refused, match="it is cancelling"):
        answer(operation, ["ok=yes"])
    held.release()
    operation.reconcile()
    assert (operation.state, open_gates(operation)) == (State.CANCELLED, [])


def test_an_answer_that_is_given_again_changes_nothing_and_says_so(bench: Bench) -> None:
    operation = waiting(bench)
    answer(operation, ["ok=yes"], by="cli:ada")
    told = answer(operation, ["ok=yes"], "approve")
    assert (told.success, told.changed) == (True, False)
    assert told.message == "gate 0002-approve was answered so before by cli:ada"
    with pytest.raises(Refused, match="gate 0002-approve is answered already by cli:ada"):
        answer(operation, ["ok=no"], "approve")
    with pytest.raises(Refused, match="it waits at no gate: it is running"):
        answer(operation, ["ok=no"])


def test_a_gate_that_is_not_there_or_not_reached_is_refused(bench: Bench) -> None:
    operation = start(bench, gate("first"), gate("second"))
    operation.reconcile()
    with pytest.raises(Refused, match=r"it has no gate 'frist' \(did you mean 'first'\?\)"):
        answer(operation, ["ok=yes"], "frist")
    with pytest.raises(Refused, match="gate 'second' is not reached yet"):
        answer(operation, ["ok=yes"], "second")


def test_an_answer_too_large_for_its_file_is_refused(bench: Bench) -> None:
    operation = waiting(bench, fields=MANY)
    with pytest.raises(AnswerRefused, match="more than 65,536"):
        answer(operation, {"ok": True, "note": "x" * 70_000})
    assert not (files_of(operation) / "answer.json").exists()


def test_who_answers_may_have_any_name(bench: Bench) -> None:
    operation = waiting(bench)
    answer(operation, ["ok=yes"], by="a\nb" + "x" * 500)
    assert commit(operation).worker == ("a?b" + "x" * 500)[:200]


# Death at any line


def test_a_death_at_any_write_of_the_asking_loses_nothing(tmp_path: Path) -> None:
    numbers = iter(range(1000))

    def scene() -> tuple[Bench, Operation]:
        bench = Bench(tmp_path / f"control-{next(numbers)}")
        return bench, start(bench, gate(), task())

    for bench, operation in deaths(scene, lambda made: made[1].reconcile()):
        fresh = bench.other(operation)
        settle(fresh)
        assert (fresh.state, len(open_gates(fresh))) == (State.WAITING, 1)
        answer(fresh, ["ok=yes"])
        assert commit(fresh, "0001-approve").result == {"ok": True}


def test_a_death_at_any_write_of_the_answering_commits_it_once(tmp_path: Path) -> None:
    numbers = iter(range(1000))

    def scene() -> tuple[Bench, Operation]:
        bench = Bench(tmp_path / f"control-{next(numbers)}")
        operation = waiting(bench)
        save(operation, {"ok": True, "answered_by": "Ada"})
        return bench, operation

    for bench, operation in deaths(scene, lambda made: made[1].reconcile()):
        fresh = bench.other(operation)
        settle(fresh)
        assert (fresh.state, commit(fresh).result, commit(fresh).worker) == (State.RUNNING, {"ok": True}, "Ada")
        assert len(events(fresh, "answered")) == 1
        assert (rejected(fresh), open_gates(fresh)) == ({}, [])


def test_a_death_at_any_write_of_the_verb_has_answered_or_not(tmp_path: Path) -> None:
    numbers = iter(range(1000))

    def scene() -> tuple[Bench, Operation]:
        bench = Bench(tmp_path / f"control-{next(numbers)}")
        return bench, waiting(bench)

    for bench, operation in deaths(scene, lambda made: answer(made[1], ["ok=yes"], by="cli:ada")):
        fresh = bench.other(operation)
        settle(fresh)
        if fresh.state is State.WAITING:
            assert events(fresh, "answered") == []
            answer(fresh, ["ok=yes"], by="cli:ada")
        assert (commit(fresh).result, commit(fresh).worker) == ({"ok": True}, "cli:ada")
        assert len(events(fresh, "answered")) == 1


def test_a_death_at_any_write_of_a_rejection_keeps_the_text_and_tells_of_it(tmp_path: Path) -> None:
    numbers = iter(range(1000))

    def scene() -> tuple[Bench, Operation]:
        bench = Bench(tmp_path / f"control-{next(numbers)}")
        operation = waiting(bench)
        save(operation, "nonsense")
        os.utime(files_of(operation) / "answer.json", (1, 1))
        time.sleep(SETTLE_S)
        return bench, operation

    for bench, operation in deaths(scene, lambda made: settle(made[1])):
        fresh = bench.other(operation)
        settle(fresh)
        assert rejected(fresh) == {"answer.json.rejected-1": "nonsense"}
        assert "answer.json.rejected-1 does not count" in (fresh.view().message or "")
        assert len(events(fresh, "rejected")) == 1
