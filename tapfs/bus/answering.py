"""Answering a gate by a verb: checked first, then saved like anybody's `answer.json`, then taken in.

So who dies half-way has either answered or not. An answer may be given while the operation is held; it counts when the
operation goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapfs.bus.answers import ANSWERED_BY, LONGEST_WHO, check_answer, parse_answer
from tapfs.bus.doorbell import publish
from tapfs.bus.fields import Faulty, Json, encode, near
from tapfs.bus.folder import OperationFolder
from tapfs.bus.gatefiles import GateFiles, GateRequest, asked
from tapfs.bus.gates import ANSWERED, how_to_answer
from tapfs.bus.plan import Step
from tapfs.bus.questions import Question, is_gate, question_of
from tapfs.bus.reconcile import settle
from tapfs.bus.records import SMALL
from tapfs.bus.states import FINAL, State
from tapfs.bus.verbs import Answer
from tapfs.errors import Refused, TapfsError


class AnswerRefused(TapfsError):
    """An answer does not fit what the gate asks for; nothing was changed.

    Attributes:
        gate: the label of the gate's step.
        faults: everything that is wrong with it.
    """

    def __init__(self, operation_id: str, gate: str, faults: tuple[str, ...], *, hint: str | None = None) -> None:
        told = f" {faults[0]}" if len(faults) == 1 else "".join(f"\n  {fault}" for fault in faults)
        super().__init__(f"cannot answer gate {gate} of operation '{operation_id}':{told}", hint=hint)
        self.gate = gate
        self.faults = faults


@dataclass(frozen=True)
class OpenGate:
    """A gate that waits for an answer.

    Attributes:
        step: its step.
        question: what it asks.
        request: what `request.json` says.
        how: the command that answers it.
    """

    step: Step
    question: Question
    request: GateRequest
    how: str

    def has_name(self, name: str) -> bool:
        """Say whether the gate is called so, by its label, path or name."""
        return name in _names(self.step)

    def document(self) -> dict[str, Json]:
        """The gate as JSON."""
        told = ("asked_at", "expires_at", "rejected")
        return {"gate": self.step.label, **self.question.document(), "how": self.how} | {
            name: getattr(self.request, name) for name in told
        }


def open_gates(operation: OperationFolder) -> list[OpenGate]:
    """The gates at which an operation waits for an answer, in the order of their paths. Needs no lock."""
    found = []
    for step, request in asked(operation.layout, operation.plan()):
        try:
            question = question_of(step)
        except Faulty:  # it fails as soon as it is seen to
            continue
        found.append(OpenGate(step, question, request, how_to_answer(operation, step, question)))
    return found


def answer(
    operation: OperationFolder,
    given: Mapping[str, Json] | Sequence[str],
    gate: str | None = None,
    by: str | None = None,
) -> Answer:
    """Answer a gate that an operation waits at.

    Args:
        operation: the operation.
        given: the answer's fields; or the words `KEY=VALUE` of a command line.
        gate: the gate's label, path or name; None where only one waits.
        by: who answers; None for the operation's actor.

    Raises:
        AnswerRefused: it does not fit what is asked; nothing was changed.
        Refused: the operation waits at no such gate, or at several and none is named; nothing was changed.
    """
    with operation.locked():
        before = settle(operation, operation.actor, can_publish=False)
        one = _meant(operation, before.state, gate, given)
        if isinstance(one, Answer):
            return one
        fields = _checked(operation, one, given)
        _save(operation, one, fields, by or operation.actor)
        settled = settle(operation, operation.actor, can_publish=operation.publisher is not None)
        counts = operation.is_committed(one.step)
    publish(operation, settled.put_out)
    when = f"answered gate {one.step.label}" if counts else f"{one.step.label} is answered: it counts when it goes on"
    return Answer(operation.id, True, True, settled.state.value, when)


def _meant(
    operation: OperationFolder, state: State, gate: str | None, given: Mapping[str, Json] | Sequence[str]
) -> OpenGate | Answer:
    """The gate to answer; an answer of the verb where it was answered in the same way before. Raises `Refused`."""
    if state in FINAL or state is State.CANCELLING:
        raise _refused(operation, f"it is {state}", "only an operation that is not over can be answered")
    found = open_gates(operation)
    if gate is None:
        if len(found) == 1:
            return found[0]
        if not found:
            raise _refused(operation, f"it waits at no gate: it is {state}", None)
        names = ", ".join(one.step.label for one in found)
        raise _refused(operation, f"it waits at {len(found)} gates: {names}", "say which one, by --gate")
    matching = [one for one in found if one.has_name(gate)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(one.step.label for one in matching)
        raise _refused(operation, f"'{gate}' is the name of {len(matching)} gates: {names}", "name one of these")
    return _of_no_open_gate(operation, state, gate, given, found)


def _of_no_open_gate(
    operation: OperationFolder,
    state: State,
    gate: str,
    given: Mapping[str, Json] | Sequence[str],
    found: list[OpenGate],
) -> Answer:
    known = [step for step in operation.plan().steps if is_gate(step)]
    steps = [step for step in known if gate in _names(step)]
    if not steps:
        names = [name for step in known for name in _names(step)]
        waiting = "it waits at " + (", ".join(one.step.label for one in found) or "none")
        raise _refused(operation, f"it has no gate '{gate}'{near(gate, names)}", waiting)
    answered = [step for step in steps if operation.is_committed(step)]
    if not answered:
        raise _refused(operation, f"gate '{gate}' is not reached yet, or asks nothing: it is {state}", None)
    request = GateFiles(operation.layout, answered[0]).read_request()
    by = f" by {request.answered_by}" if request is not None and request.answered_by else ""
    if request is not None and request.closed == ANSWERED and _fields_or_none(answered[0], given) == request.answer:
        return Answer(operation.id, True, False, state.value, f"gate {answered[0].label} was answered so before{by}")
    raise _refused(operation, f"gate {answered[0].label} is answered already{by}", "an answer is not taken back")


def _names(step: Step) -> tuple[str, ...]:
    return step.label, step.path, step.name


def _fields_or_none(step: Step, given: Mapping[str, Json] | Sequence[str]) -> dict[str, Json] | None:
    try:
        return _taken(question_of(step), given)
    except Faulty:
        return None


def _taken(question: Question, given: Mapping[str, Json] | Sequence[str]) -> dict[str, Json]:
    check = check_answer if isinstance(given, Mapping) else parse_answer
    return check(question.fields, given)  # type: ignore[arg-type]


def _checked(operation: OperationFolder, one: OpenGate, given: Mapping[str, Json] | Sequence[str]) -> dict[str, Json]:
    try:
        return _taken(one.question, given)
    except Faulty as error:
        hint = f"usage: {one.how}"
        raise AnswerRefused(operation.id, one.step.label, error.faults, hint=hint) from None


def _save(operation: OperationFolder, one: OpenGate, fields: dict[str, Json], by: str) -> None:
    """Save the answer, signed; one that lies there already, given while the operation was held, is set aside."""
    content = encode(fields | {ANSWERED_BY: _signature(by)})
    if len(content) > SMALL:
        fault = f"the answer has {len(content):,} bytes, more than {SMALL:,}"
        raise AnswerRefused(operation.id, one.step.label, (fault,))
    GateFiles(operation.layout, one.step).save_answer(content)


def _signature(by: str) -> str:
    plain = "".join(mark if mark.isprintable() else "?" for mark in by)
    return plain[:LONGEST_WHO] or "unknown"


def _refused(operation: OperationFolder, why: str, hint: str | None) -> Refused:
    return Refused(f"cannot answer operation '{operation.id}': {why}; nothing was changed", hint=hint)
