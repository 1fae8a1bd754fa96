"""Look at want and state, decide, act: one read-decide-write under the operation's lock.

`settle` is the only writer of `run.json`, `result.json`, `state.json` and of transitions in the journal. It is
idempotent, and right at whatever line a process dies, because of its order: what was asked is taken into `run.json`
before the file that asked is acknowledged; an outcome stands in `run.json` before claims are taken in; a claim is on
disk before its message is published (by the caller, after the lock); the view comes last and is only a view. Whoever
settles next finds either nothing to do or the rest of the work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tapfs.bus import claims, files
from tapfs.bus.clock import seconds_of, timestamp
from tapfs.bus.decide import Decision, Facts, PutOut, decide
from tapfs.bus.fields import encode
from tapfs.bus.fit import misfits
from tapfs.bus.folder import OperationFolder
from tapfs.bus.plan import Plan, Sequence, Step
from tapfs.bus.records import Failure, Run
from tapfs.bus.requests import Request, markers, own, strongest
from tapfs.bus.runs import read_run
from tapfs.bus.statefile import Displaced, Reading
from tapfs.bus.states import ACTIVE, FINAL, State, Want, route
from tapfs.bus.view import MOST_HINTS, is_due, strays, view_of
from tapfs.errors import RecordInvalid, Refused

#: Stands for a plan that cannot be read.
UNREADABLE = Plan(Sequence((Step("0000", "unreadable", ""),)))
#: The type of a failure by a step that took down too many workers.
WORKER_LOST = "WorkerLost"
#: Rounds after which a stream of edits is left to the next look.
_MOST_ROUNDS = 10


@dataclass(frozen=True)
class Settled:
    """What came out.

    Attributes:
        state: the state now.
        run: `run.json` as it is now.
        put_out: the steps to publish, now that the lock can be released.
        look_again: whether an edit is in the making, or a displaced file is still kept.
    """

    state: State
    run: Run
    put_out: tuple[PutOut, ...]
    look_again: bool


def settle(operation: OperationFolder, by: str, *, asked_by: str | None = None, can_publish: bool = True) -> Settled:
    """Make the files say what is true, and what follows from it. The caller holds the operation's lock.

    Args:
        operation: the operation.
        by: who reconciles, for the journal.
        asked_by: who wrote the want that `state.json` holds now; None for a person with an editor.
        can_publish: whether the caller will publish what is put out.
    """
    put_out: tuple[PutOut, ...] = ()
    brought: tuple[str, str | None] | None = None
    for left in reversed(range(_MOST_ROUNDS)):
        reading = operation.state_file.read()
        edits, pending = operation.state_file.displaced()
        before = read_run(operation)
        if edits and left and reading.is_settled:  # else an edit is in the making where they belong
            brought = _bring_back(operation, before, reading, edits) or brought
            continue
        run, asked = _take_in(before, reading, asked_by or "file:state.json")
        if asked is not None:
            # Else a power cut may give the displaced file its old bytes, which would look like a new edit.
            files.sync_file(operation.layout.state)
        plan = _plan_of(operation)
        request = strongest([own(run), *markers(operation.control, operation.layout)])
        run, request = _held_if_misfit(operation, plan, run, request)
        decision, frontier, done = _decide(operation, plan, run, request, can_publish and plan is not UNREADABLE)
        decision = _with_readable_result(operation, plan, before, decision)
        run = _with_hints(operation, _timed(decision, operation.now()), by)
        _carry_out(operation, decision, before, run, plan)
        put_out += decision.put_out
        _write_history(operation, decision.state, run, by, asked if (run.want, run.reason) != brought else None)
        view = view_of(operation, plan, decision.state, run, frontier, done)
        if not is_due(view, reading):
            break
        set_aside = operation.state_file.put(view, reading)
        if set_aside is not None:
            _tell_of_rejected(operation, set_aside, reading)
    look_again = pending or not reading.is_settled or operation.state_file.is_watching()
    if decision.state in FINAL and not look_again:
        operation.leave_active()
    elif decision.state not in FINAL:
        operation.join_active()
    return Settled(decision.state, run, put_out, look_again)


def _bring_back(
    operation: OperationFolder, run: Run, reading: Reading, edits: list[Displaced]
) -> tuple[str, str | None] | None:
    """Give edits that tapfs displaced their place again: the newest goes into `state.json`, where it is taken in.

    Each is journaled. Returns the want and reason that were brought back, if any were.

    The file first, then the note that the edit was seen: a process that dies in between leaves it to be found again.
    """
    asked = [found for found in operation.state_file.edits(reading, edits) if found.view is not None]
    newest = asked[-1] if asked else reading
    if newest is not reading and newest.view is not None:
        base = reading.view or newest.view
        name = operation.state_file.put(replace(base, want=newest.view.want, reason=newest.view.reason), reading)
        if name is not None:
            _tell_of_rejected(operation, name, reading)
    if newest is reading:
        asked = asked[:-1]  # taken in, and journaled, where it stands
    for view in (found.view for found in asked if found.view is not None):
        operation.note("asked", "file:state.json", want=view.want, reason=view.reason, epoch=run.epoch)
    for edit in edits:
        files.sync_file(edit.path)
        name = operation.state_file.acknowledge(edit)
        if name is not None:
            _tell_of_rejected(operation, name, edit.reading)
    return None if newest is reading or newest.view is None else (newest.view.want, newest.view.reason)


def _take_in(run: Run, reading: Reading, asked_by: str) -> tuple[Run, str | None]:
    """Accept what `state.json` asks. Returns the run, and who asked if anything was; both for the journal."""
    view = reading.view
    if view is None or (view.want, view.reason) == (run.want, run.reason):
        return run, None
    if run.outcome in FINAL:
        notice = f"it has already {_ended(run.outcome)}: 'want: {view.want}' changes nothing"
        return replace(run, notice=notice), None
    if run.want == Want.CANCEL:
        return replace(run, notice=f"it is being cancelled, which 'want: {view.want}' cannot take back"), None
    return replace(run, want=view.want, reason=view.reason, asked_by=asked_by, notice=None), asked_by


def _ended(outcome: str | None) -> str:
    return {"cancelled": "been cancelled"}.get(outcome or "", outcome or "ended")


def _decide(
    operation: OperationFolder, plan: Plan, run: Run, request: Request, can_publish: bool
) -> tuple[Decision, tuple[Step, ...], int]:
    done, frontier = operation.frontier(plan, run.epoch)
    is_at_tap = not frontier or plan.has_tap_before(frontier[0])
    outs = claims.all_out(operation.layout)
    if plan is not UNREADABLE:  # what else lies there is somebody's own
        outs = [out for out in outs if plan.has(out.path)]
    facts = Facts(run, request, tuple(outs), frontier, is_at_tap)
    decision = decide(facts, operation.now(), operation.recovery, can_publish=can_publish)
    return decision, frontier, done


def _held_if_misfit(operation: OperationFolder, plan: Plan, run: Run, request: Request) -> tuple[Run, Request]:
    """Keep a paused operation paused whose plan cannot be read, or does not fit what is done any more, and say so."""
    if run.outcome != State.PAUSED or request.want is not Want.RUN:
        return run, request
    if plan is UNREADABLE:  # `message` says why
        return run, replace(request, want=Want.PAUSE)
    faults = misfits(operation.layout, plan)
    if not faults:
        return run, request
    notice = f"it cannot go on: workflow.json does not fit what is done: {'; '.join(faults)}"
    return replace(run, notice=notice), replace(request, want=Want.PAUSE, reason=notice)


def _plan_of(operation: OperationFolder) -> Plan:
    """The plan; one whose only step can neither be run nor be done, where `workflow.json` cannot be read (law 10)."""
    try:
        return operation.plan()
    except (FileNotFoundError, RecordInvalid):
        return UNREADABLE


def _with_readable_result(operation: OperationFolder, plan: Plan, before: Run, decision: Decision) -> Decision:
    """Turn a success whose result cannot be read, because somebody spoilt the last commit, into a failure."""
    if decision.state is not State.SUCCEEDED or before.outcome == State.SUCCEEDED:
        return decision
    try:
        operation.result_of(plan.steps[-1])
    except (FileNotFoundError, RecordInvalid) as error:
        failure = Failure(
            type=type(error).__name__,
            message=str(error),
            step=plan.steps[-1].label,
            epoch=decision.run.epoch,
            failed_at=timestamp(operation.now()),
        )
        files.replace_own(operation.layout.error, failure.encode())
        return replace(decision, state=State.FAILED, run=replace(decision.run, outcome=State.FAILED.value))
    return decision


def _timed(decision: Decision, now: float) -> Run:
    """Keep the running time and the end up to date with the state."""
    run, is_active = decision.run, decision.state in ACTIVE
    if is_active and run.running_since is None:
        run = replace(run, running_since=timestamp(now))
    elif not is_active and run.running_since is not None:
        since = seconds_of(run.running_since) or now
        run = replace(run, running_s=round(run.running_s + max(0.0, now - since), 3), running_since=None)
    if decision.state in FINAL:
        return run if run.finished_at else replace(run, finished_at=timestamp(now))
    return replace(run, finished_at=None)


def _carry_out(operation: OperationFolder, decision: Decision, before: Run, run: Run, plan: Plan) -> None:
    """Write the outcome, then take in and put out."""
    layout = operation.layout
    if decision.state is State.SUCCEEDED and before.outcome != State.SUCCEEDED:
        files.replace_own(layout.result, encode(operation.result_of(plan.steps[-1])))
        files.put_aside(layout.error, layout.attic_file("error.json", run.epoch))
    if decision.worn_out is not None:
        step = plan.step(decision.worn_out.path)
        files.replace_own(layout.error, _worn_out(operation, decision, step).encode())
    if run != before:
        files.replace(layout.run, run.encode())
    for path in decision.take_in:
        claims.drop(layout, path)
    for one in decision.put_out:
        claims.put_out(layout, one.step.path, one.claim)
    if decision.worn_out is not None:
        claims.drop(layout, decision.worn_out.path)


def _worn_out(operation: OperationFolder, decision: Decision, step: Step) -> Failure:
    claim = decision.worn_out.claim if decision.worn_out else None
    holder = claim.held_by if claim else None
    worker = holder.worker if holder else None
    crashes = operation.recovery.max_crashes
    end = f", ended by {claim.lost_to}" if claim and claim.lost_to else ""
    return Failure(
        type=WORKER_LOST,
        message=f"the step took down its worker {crashes} times without getting further; the last was {worker}{end}",
        step=step.label,
        attempt=claim.attempt if claim else 0,
        epoch=decision.run.epoch,
        worker=worker,
        failed_at=timestamp(operation.now()),
    )


def _write_history(operation: OperationFolder, state: State, run: Run, by: str, asked_by: str | None) -> None:
    """Journal the request taken in, and each transition passed through since the last line."""
    journal, now = operation.journal, operation.now()
    before = journal.last_state()
    if asked_by is not None:
        journal.append(now, "asked", asked_by, before, want=run.want, reason=run.reason, epoch=run.epoch)
    if before is state:
        return
    request = _cause(operation, run, state)
    if request.source == "control/PAUSE":  # a person made it, and nobody else syncs that folder
        files.sync_dir(operation.control.folder)
    for following in _hops(before, state):
        details = {"from": before, "to": following, "reason": request.reason, "epoch": run.epoch}
        journal.append(now, "state", request.by or by, following, **details)
        before = following


def _cause(operation: OperationFolder, run: Run, state: State) -> Request:
    """Who or what is behind a transition: the request that is in force, where the state follows from one."""
    request = strongest([own(run), *markers(operation.control, operation.layout)])
    follows = state in (State.PAUSING, State.PAUSED) and request.want is Want.PAUSE
    follows = follows or (state in (State.CANCELLING, State.CANCELLED) and request.want is Want.CANCEL)
    return request if follows else replace(request, reason=None, by="")


def _hops(before: State | None, state: State) -> tuple[State, ...]:
    if before is None:
        return (state,)
    try:
        return route(before, state)
    except Refused:  # the history or run.json was written by somebody else; what is true now is still true
        return (state,)


def _with_hints(operation: OperationFolder, run: Run, by: str) -> Run:
    """Mention once, in the journal, each file that looks like a misspelt request."""
    left = MOST_HINTS - len(run.hinted)
    fresh = [(name, meant) for name, meant in strays(operation) if name not in run.hinted][: max(0, left)]
    for name, meant in fresh:
        operation.note("hint", by, message=f"'{name}' asks for nothing; did you mean '{meant}'?", file=name)
    return replace(run, hinted=[*run.hinted, *(name for name, _ in fresh)]) if fresh else run


def _tell_of_rejected(operation: OperationFolder, name: str, reading: Reading) -> None:
    """Say in the journal, and by `notice` in the next round's message, what was set aside and why."""
    faults = "; ".join(reading.faults) or "it was no valid state"
    text = f"your edit was set aside as {name}: {faults}; nothing was changed"[:900]
    operation.note("rejected", "file:state.json", message=text, file=name)
    files.replace(operation.layout.run, replace(read_run(operation), notice=text).encode())
