"""Gates: steps that people answer. Whoever reconciles does their part, under the operation's lock (law 9).

A gate that is reached is asked (`request.json`), answered (`answer.json`, or `tapfs answer`), and committed like any
other step, once and for good (law 3). Right at whatever line a process dies, because of the order: an answer is in the
journal before it is committed, and committed before the request is closed; whoever looks next finds the answer still
there, or the step committed. An answer that does not count is told of before it is set aside.

An answer that is found counts before the time limit does, also after a pause that outlasted it; and in a new epoch a
gate is asked anew, with its whole time.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace

from tapfs.bus import files
from tapfs.bus.answers import example_of, in_short
from tapfs.bus.clock import seconds_of, timestamp
from tapfs.bus.fields import Faulty, Json
from tapfs.bus.folder import OperationFolder
from tapfs.bus.gatefiles import Found, GateFiles, GateRequest, asked
from tapfs.bus.plan import Plan, Step
from tapfs.bus.questions import ANSWER, BOTH, Question, is_gate, question_of
from tapfs.bus.records import Commit, Failure
from tapfs.bus.values import value_of
from tapfs.errors import RecordInvalid

__all__ = ["ANSWERED", "BY_TIME", "GatesSeen", "close_gates", "how_to_answer", "is_gate", "see_to_gates"]

#: What `closed` says of a request that was answered.
ANSWERED = "answered"
#: Who answers when the time is up and there is a default.
BY_TIME = "time limit"
#: The types of a gate's failures.
NOBODY_ANSWERED, GATE_SPOILT = "NobodyAnswered", "GateSpoilt"
#: The most gates that `message` tells of.
MOST_TOLD = 5
#: The most characters of a question, and of what was wrong with an answer, in a message.
_LONGEST_TOLD = 500
#: Bytes at the end of the journal in which a line is sought that a process may have written before it died.
_TAIL = 16 * 1024


@dataclass(frozen=True)
class GatesSeen:
    """What came out.

    Attributes:
        committed: whether a gate was committed, so that the frontier has moved.
        failed: why a gate failed; None when none did.
        failed_step: which one.
        look_again: whether an answer is in the making.
        messages: what people should read, one a gate that waits.
        expires_at: seconds since the epoch when the first of the time limits is over; None for no limit.
    """

    committed: bool = False
    failed: Failure | None = None
    failed_step: Step | None = None
    look_again: bool = False
    messages: tuple[str, ...] = ()
    expires_at: float | None = None


def see_to_gates(
    operation: OperationFolder, plan: Plan, gates: tuple[Step, ...], epoch: int, *, may_open: bool
) -> GatesSeen:
    """Ask what is to be asked, take answers, apply time limits. Under the operation's lock, while it is to run.

    Args:
        operation: the operation.
        plan: its plan.
        gates: the gates on the frontier; no more than the plan's concurrency.
        epoch: the run it is in.
        may_open: whether a gate may be asked now; else only what was asked already is seen to.
    """
    seen = GatesSeen()
    for step in gates:
        if seen.failed is not None:  # one is written down at a time; the next look goes on from there
            seen = replace(seen, look_again=True)
            break
        one = _see_to(operation, plan, step, epoch, may_open=may_open, is_alone=len(gates) == 1)
        limits = [limit for limit in (seen.expires_at, one.expires_at) if limit is not None]
        seen = GatesSeen(
            committed=seen.committed or one.committed,
            failed=one.failed,
            failed_step=one.failed_step,
            look_again=seen.look_again or one.look_again,
            messages=seen.messages + one.messages,
            expires_at=min(limits, default=None),
        )
    more = len(seen.messages) - MOST_TOLD
    if more > 0:
        told = (*seen.messages[:MOST_TOLD], f"{more:,} more gates wait: tapfs answer {operation.id} shows them")
        return replace(seen, messages=told)
    return seen


def _see_to(
    operation: OperationFolder, plan: Plan, step: Step, epoch: int, *, may_open: bool, is_alone: bool
) -> GatesSeen:
    try:
        question = question_of(step)
    except Faulty as error:  # the plan was edited, or made by hand
        text = f"gate {step.label} cannot be asked: {error}"
        return _failed(operation, step, epoch, GATE_SPOILT, text)
    gate = GateFiles(operation.layout, step)
    request = gate.read_request()
    if request is None or request.epoch != epoch or request.closed is not None:
        if not may_open:
            return GatesSeen()
        request = _ask(operation, gate, step, question, epoch, request)
    found = gate.find_answer(question)
    if found.answer is not None:
        return _commit(operation, plan, step, question, request, found.answer, found.by)
    if not found.is_settled:  # neither does the time limit cut short who is just saving
        return GatesSeen(look_again=True, messages=(_message(operation, step, question, request, is_alone),))
    if found.faults:
        request = _reject(operation, gate, step, request, found)
    expires_at = seconds_of(request.expires_at)
    if expires_at is not None and operation.now() >= expires_at:
        if question.default is not None:
            return _commit(operation, plan, step, question, request, question.default, BY_TIME)
        text = f"nobody answered within {question.timeout_s:g} s, and there is no default: {question.question}"
        return _failed(operation, step, epoch, NOBODY_ANSWERED, text[:_LONGEST_TOLD])
    message = _message(operation, step, question, request, is_alone)
    return GatesSeen(messages=(message,), expires_at=expires_at)


def _ask(
    operation: OperationFolder, gate: GateFiles, step: Step, question: Question, epoch: int, before: GateRequest | None
) -> GateRequest:
    """Write down what is asked. A process that dies behind that has only kept a line from the journal."""
    if before is not None and before.closed == ANSWERED:
        found = gate.find_answer(question)
        if found.answer is not None and found.answer == before.answer:  # of a run that was taken back
            gate.set_aside(found)
    spoilt = None
    if before is None and files.exists(gate.request):
        name = files.set_aside(gate.request, gate.request)
        spoilt = f"what stood in request.json cannot be read, and is {name} now; it is asked anew, with its whole time"
        operation.note("rejected", "file:request.json", step=step.path, message=spoilt, file=name)
    now = operation.now()
    request = GateRequest(
        step=step.label,
        question=question.question,
        fields=dict(question.fields),
        default=question.default,
        asked_at=timestamp(now),
        expires_at=None if question.timeout_s is None else timestamp(now + question.timeout_s),
        epoch=epoch,
        how=f"save your answer beside this file as answer.json, like {json.dumps(example_of(question.fields))}; "
        f"or: {how_to_answer(operation, step, question)}",
        rejected=spoilt,
    )
    gate.write_request(request)
    operation.note("opened", step=step.path, epoch=epoch, question=question.question, expires_at=request.expires_at)
    return request


def _commit(
    operation: OperationFolder,
    plan: Plan,
    step: Step,
    question: Question,
    request: GateRequest,
    answer: dict[str, Json],
    by: str,
) -> GatesSeen:
    """Record an answer as the step's result."""
    try:
        result = _result(operation, plan, step, question.passes, answer)
    except (FileNotFoundError, RecordInvalid) as error:  # the answer stays where it is, for when that is mended
        text = f"gate {step.label} cannot pass on the value that came before it: {error}"
        return _failed(operation, step, request.epoch, GATE_SPOILT, text[:_LONGEST_TOLD])
    now = timestamp(operation.now())
    record = Commit(
        result=result,
        started_at=request.asked_at,
        finished_at=now,
        worker=by,
        epoch=request.epoch,
        attempt=1,
        of=step.checksum,
    )
    _note_once(operation, "answered", by, step=step.path, epoch=request.epoch, answer=in_short(answer))
    target = operation.layout.commit(step)
    files.make_dirs(target.parent, operation.layout.folder)
    with suppress(FileExistsError):  # it is committed, which is what was to be
        files.create(target, record.encode())
    # Behind the commit, and for people only: nothing reads an open request of a committed step.
    closed = replace(request, closed=ANSWERED, answer=answer, answered_by=by)
    GateFiles(operation.layout, step).write_request(closed)
    return GatesSeen(committed=True)


def _result(operation: OperationFolder, plan: Plan, step: Step, passes: str, answer: dict[str, Json]) -> Json:
    if passes == ANSWER:
        return answer
    before = None if step.immutable else plan.before(step)
    value = (step.args[0] if step.args else None) if before is None else value_of(operation, before)
    return [value, answer] if passes == BOTH else value


def _reject(operation: OperationFolder, gate: GateFiles, step: Step, request: GateRequest, found: Found) -> GateRequest:
    """Set an answer aside that does not fit; told first, so that a death in between leaves it to be told again."""
    name = gate.next_rejected()
    told = f"the answer in {name} does not count: {'; '.join(found.faults)}"[:_LONGEST_TOLD]
    request = replace(request, rejected=told)
    gate.write_request(request)
    _note_once(operation, "rejected", found.by, step=step.path, message=told, file=name)
    gate.set_aside(found)
    return request


def _failed(operation: OperationFolder, step: Step, epoch: int, kind: str, text: str) -> GatesSeen:
    failure = Failure(
        type=kind, message=text, step=step.label, attempt=1, epoch=epoch, failed_at=timestamp(operation.now())
    )
    return GatesSeen(failed=failure, failed_step=step)


def _note_once(operation: OperationFolder, event: str, by: str, **details: Json) -> None:
    """Journal something that is done right after; not again where a process wrote the line and died before it."""
    new = {"event": event, "by": by, **details}
    for line in files.read_tail(operation.layout.journal, _TAIL).split(b"\n"):
        with suppress(ValueError):
            told = json.loads(line)
            if isinstance(told, dict) and new == {name: told.get(name) for name in new}:
                return
    operation.note(event, by, **details)


def _message(operation: OperationFolder, step: Step, question: Question, request: GateRequest, is_alone: bool) -> str:
    text = " ".join(question.question.split())[:_LONGEST_TOLD]
    until = f" (until {request.expires_at})" if request.expires_at else ""
    how = how_to_answer(operation, step, question, is_alone)
    rejected = f"; {request.rejected}" if request.rejected else ""
    return f"gate {step.label} waits for an answer{until}: {text} Answer with: {how}{rejected}"


def how_to_answer(operation: OperationFolder, step: Step, question: Question, is_alone: bool = False) -> str:
    """The command that answers a gate: `tapfs answer ID --gate 0002-approve ok=yes|no`."""
    which = "" if is_alone else f" --gate {step.label}"
    return f"tapfs answer {operation.id}{which} {question.words()}"


def close_gates(operation: OperationFolder, why: str) -> None:
    """Note in each open `request.json` that nobody is asked any more, because the operation was cancelled, say.

    Under the operation's lock. It is a note for people; where it cannot be written, nothing else is kept from ending.
    """
    with suppress(OSError, RecordInvalid):
        for step, request in list(asked(operation.layout, operation.plan())):
            with suppress(OSError):
                GateFiles(operation.layout, step).write_request(replace(request, closed=why))
