"""`tapfs.gate`: a signature like any other, with a question that is checked when it is made."""

import json
from datetime import date
from enum import Enum
from typing import Any, Literal

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature

import tapfs
from support.flows import Post
from tapfs import Bus, State, tappable
from tapfs.bus.answering import answer
from tapfs.bus.questions import question_from
from tapfs.flow.gate import GateRefused, gate, gate_name


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="shop.add")
    def add(x: int, y: int = 1) -> int:
        return x + y

    return add


@pytest.fixture
def keep(app: Celery) -> Any:
    @app.task(name="shop.keep")
    def keep(value: Any) -> Any:
        return value

    return keep


def field_of(told: object) -> dict[str, Any]:
    """A field's declaration, without what is null."""
    found = gate("g", fields={"it": told}).kwargs["fields"]["it"]
    return {name: value for name, value in found.items() if value is not None}


def test_a_gate_is_a_signature_of_plain_json() -> None:
    made = tapfs.gate("approve", "Send?", fields={"ok": bool})
    assert isinstance(made, Signature)
    assert (made.task, made.immutable) == ("tapfs.gate", False)
    assert json.loads(json.dumps(made.kwargs)) == made.kwargs
    assert made.kwargs == {
        "name": "approve",
        "question": "Send?",
        "fields": {"ok": {"type": "boolean", "required": True, "choices": None, "default": None, "description": None}},
        "default": None,
        "timeout_s": None,
        "passes": "answer",
    }
    assert question_from(made.kwargs).document() == made.kwargs, "the bus reads it as it was made"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (bool, {"type": "boolean", "required": True}),
        (int, {"type": "integer", "required": True}),
        (float, {"type": "number", "required": True}),
        (str, {"type": "string", "required": True}),
        (date, {"type": "date", "required": True}),
        (int | None, {"type": "integer", "required": False}),
        (["red", "blue"], {"type": "string", "required": True, "choices": ["red", "blue"]}),
        ((1, 2), {"type": "integer", "required": True, "choices": [1, 2]}),
        (Literal["a", "b"], {"type": "string", "required": True, "choices": ["a", "b"]}),
        (Colour, {"type": "string", "required": True, "choices": ["red", "blue"]}),
        ({"type": int, "default": 3}, {"type": "integer", "required": False, "default": 3}),
        (
            {"type": Colour, "default": Colour.RED},
            {"type": "string", "required": False, "choices": ["red", "blue"], "default": "red"},
        ),
        ({"type": date, "default": date(2026, 1, 2)}, {"type": "date", "required": False, "default": "2026-01-02"}),
        ({"description": "why"}, {"type": "string", "required": True, "description": "why"}),
        ({"type": "integer", "required": False}, {"type": "integer", "required": False}),
        ({"type": ["x"], "default": "x"}, {"type": "string", "required": False, "choices": ["x"], "default": "x"}),
    ],
    ids=repr,
)
def test_fields_are_declared_by_their_types(told: object, expected: dict[str, Any]) -> None:
    assert field_of(told) == expected


def test_without_fields_the_value_is_passed_on_and_with_fields_the_answer() -> None:
    assert gate("g").kwargs["passes"] == "value"
    assert gate("g").kwargs["question"] == "g?"
    assert gate("g", fields={"ok": bool}).kwargs["passes"] == "answer"
    assert gate("g", fields={"ok": bool}, passes="both").kwargs["passes"] == "both"


def test_the_default_answer_is_checked_and_filled_in_when_the_gate_is_made() -> None:
    """B85."""
    fields = {"ok": bool, "on": date, "copies": {"type": int, "default": 2}}
    made = gate("g", fields=fields, default={"ok": True, "on": date(2026, 1, 2)}, timeout_s=60)
    assert made.kwargs["default"] == {"ok": True, "on": "2026-01-02", "copies": 2}
    with pytest.raises(GateRefused, match="the default does not fit: field 'ok' is missing"):
        gate("g", fields={"ok": bool}, default={}, timeout_s=60)


def test_all_that_is_wrong_is_told_at_once() -> None:
    fields = {
        "any": object,
        "many": list[int],
        "mixed": [1, "a"],
        "none": [],
        "answered_by": str,
        "a-b": str,
        "copies": {"type": int, "default": "x"},
        "odd": {"type": int, "colour": 1},
    }
    with pytest.raises(GateRefused) as caught:
        gate("g", fields=fields, passes="valu", timeout_s=0)
    told = "\n".join(caught.value.faults)
    for fault in (
        "field 'any' has the unsupported type object",
        "field 'many' has the unsupported type list[int]",
        "field 'mixed': [1, 'a'] are not choices of one kind",
        "field 'none': [] are not choices of one kind",
        "\"answered_by\": 'answered_by' is the word for who answers",
        "\"a-b\": a name is a letter or '_'",
        '"copies": "x" is no integer',
        '"colour" is unknown',
        "\"valu\" is none of answer, value, both (did you mean 'value'?)",
    ):
        assert fault in told
    assert caught.value.hint is not None
    assert "fields can be: bool, int" in caught.value.hint


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 41, "é"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(GateRefused, match="field 'name'"):
        gate(name)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), "60", True])
def test_a_time_limit_is_a_number_of_seconds(timeout_s: Any) -> None:
    with pytest.raises(GateRefused, match="'timeout_s'"):
        gate("g", timeout_s=timeout_s)


def test_a_gate_goes_wherever_a_signature_goes(add: Any) -> None:
    made = gate("g")
    assert [one.task for one in (add.s(1) | made | add.s()).tasks] == ["shop.add", "tapfs.gate", "shop.add"]
    assert [one.task for one in chain(made, add.s()).tasks] == ["tapfs.gate", "shop.add"]
    assert (group(add.s(1), add.s(2)) | made).body.task == "tapfs.gate"
    assert chord([add.s(1), made], add.s()).tasks[1].task == "tapfs.gate"
    assert Signature.from_dict(json.loads(json.dumps(made))).kwargs == made.kwargs


def test_the_name_of_a_gate_is_its_steps(add: Any) -> None:
    assert gate_name(gate("approve")) == "approve"
    assert gate_name(add.s(1)) is None
    assert gate_name(Signature("tapfs.gate", kwargs={"name": "a b"})) is None


def test_a_link_that_nobody_would_call_is_refused(add: Any) -> None:
    made = gate("approve")
    made.link(add.s())
    with pytest.raises(GateRefused, match="it has a link"):
        gate_name(made)


# In an operation


def test_a_chain_waits_at_its_gate_and_goes_on_with_the_answer(add: Any, keep: Any, bus: Bus, post: Post) -> None:
    """B84."""
    operation = tappable(add.s(1, 2) | gate("approve", fields={"ok": bool}, passes="both") | keep.s(), bus=bus).delay()
    post.deliver_all()
    assert (operation.state, operation.view().step) == (State.WAITING, "0002-approve")
    answer(operation, {"ok": True})
    post.deliver_all()
    assert operation.get(timeout=0) == [3, {"ok": True}]


def test_a_gate_among_the_members_of_a_group(add: Any, keep: Any, bus: Bus, post: Post) -> None:
    workflow = group(add.s(1, 2), gate("approve", fields={"ok": bool}), add.s(3, 4)) | keep.s()
    operation = tappable(workflow, bus=bus).delay()
    post.deliver_all()
    assert operation.state is State.WAITING
    answer(operation, ["ok=no"])
    post.deliver_all()
    assert operation.get(timeout=0) == [3, {"ok": False}, 7]


def test_a_gate_as_the_body_of_a_chord(add: Any, bus: Bus, post: Post) -> None:
    operation = tappable(chord([add.s(1, 2), add.s(3, 4)], gate("look")), bus=bus).delay()
    post.deliver_all()
    answer(operation, [])
    assert operation.get(timeout=0) == [3, 7]
