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
from tapfs.bus.edits import bring_back, take_in
from tapfs.bus.failures import failure_of, write_failure
from tapfs.bus.fields import Json, encode
from tapfs.bus.fit import misfits
from tapfs.bus.folder import OperationFolder
from tapfs.bus.gates import close_gates, is_gate, see_to_gates
from tapfs.bus.history import tell_of_rejected, with_hints, write_history
from tapfs.bus.plan import Plan, Sequence, Step
from tapfs.bus.progress import Standing
from tapfs.bus.records import Failure, Run, StateView
from tapfs.bus.requests import Request, markers, own, strongest
from tapfs.bus.rewind import carry_out_rewind
from tapfs.bus.runs import read_run
from tapfs.bus.states import ACTIVE, FINAL, State, Want
from tapfs.bus.values import value_of
from tapfs.bus.view import is_due, view_of
from tapfs.errors import RecordInvalid, text_of

#: Stands for a plan that cannot be read.
UNREADABLE = Plan(Sequence((Step("0000", "unreadable", ""),)))
#: The type of a failure by a step that took down too many workers.
WORKER_LOST = "WorkerLost"
#: Rounds after which a stream of edits is left to the next look.
_MOST_ROUNDS = 10
_STOPPING = (State.PAUSING, State.CANCELLING)


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
            brought = bring_back(operation, before, reading, edits) or brought
            continue
        run, asked = take_in(before, reading, asked_by or "file:state.json")
        if asked is not None:
            # Else a power cut may give the displaced file its old bytes, which would look like a new edit.
            files.sync_file(operation.layout.state)
        acted = _act(operation, run, before, can_publish)
        put_out += acted.put_out
        if acted.is_moved and left:
            write_history(operation, None, acted.run, by, asked if (run.want, run.reason) != brought else None)
            continue
        run = with_hints(operation, acted.run, by)
        if run != acted.run:
            files.replace(operation.layout.run, run.encode())
        write_history(operation, acted.state, run, by, asked if (run.want, run.reason) != brought else None)
        view = view_of(operation, acted.plan, acted.state, run, acted.standing, acted.messages)
        if acted.plan is UNREADABLE:  # what was known of its steps is still the best that is
            last = reading.view or StateView(want=view.want)
            view = replace(view, step=last.step, steps_done=last.steps_done, steps_total=last.steps_total)
        if not is_due(view, reading):
            break
        set_aside = operation.state_file.put(view, reading)
        if set_aside is not None:
            tell_of_rejected(operation, set_aside, reading)
    look_again = pending or not reading.is_settled or operation.state_file.is_watching() or acted.look_again
    if acted.state in FINAL and not look_again:
        operation.leave_active()
    elif acted.state not in FINAL:
        operation.join_active()
    return Settled(acted.state, run, put_out, look_again)


@dataclass(frozen=True)
class _Acted:
    """What was decided, and done."""

    state: State
    run: Run
    plan: Plan
    standing: Standing
    put_out: tuple[PutOut, ...] = ()
    messages: tuple[str, ...] = ()
    look_again: bool = False
    is_moved: bool = False


def _act(operation: OperationFolder, run: Run, before: Run, can_publish: bool) -> _Acted:
    """Decide what is true, do what follows, and say whether that has moved things so that it is to be decided anew."""
    plan, hindrance = _plan_of(operation), None
    if run.rewind_to is not None and plan is not UNREADABLE:
        try:
            plan, run = carry_out_rewind(operation, plan, run)
            before = run
        except OSError as error:
            hindrance = f"it cannot be rewound: {text_of(error)}; see to that, and it is tried again"
    request = strongest([own(run), *markers(operation.control, operation.layout)])
    if hindrance is not None:
        run, request = _held(run, request, hindrance)
    run, request = _held_if_misfit(operation, plan, run, request)
    standing, facts = _facts(operation, plan, run, request)
    if hindrance is not None:  # what is done is to be done again
        facts = replace(facts, is_complete=False)
    decision = decide(facts, operation.now(), operation.recovery, can_publish=can_publish and plan is not UNREADABLE)
    if plan is UNREADABLE and decision.state not in FINAL:  # it may be readable again in an instant
        decision = replace(decision, take_in=())
    if decision.worn_out:
        files.replace(operation.layout.run, decision.run.encode())
        for out in decision.worn_out:
            write_failure(operation, out.path, _worn_out(operation, plan, out))
        return _Acted(decision.state, read_run(operation), plan, standing, is_moved=True)
    decision, result = _with_readable_result(operation, plan, before, decision)
    run = _stopping(_timed(decision, operation.now()), decision.state, facts)
    _carry_out(operation, decision, before, run, result)
    acted = _Acted(decision.state, run, plan, standing, decision.put_out, _troubles(facts, decision))
    gates = tuple(step for step in standing.open if is_gate(step))[: plan.concurrency]
    if not gates or run.outcome is not None or request.want is not Want.RUN or run.is_failing:
        return acted
    seen = see_to_gates(operation, plan, gates, run.epoch, may_open=True)
    if seen.failed is not None and seen.failed_step is not None:
        write_failure(operation, seen.failed_step.path, seen.failed)
        run = read_run(operation)
    is_moved = seen.committed or seen.failed is not None
    messages = acted.messages + seen.messages
    return replace(acted, run=run, messages=messages, look_again=seen.look_again, is_moved=is_moved)


def _troubles(facts: Facts, decision: Decision) -> tuple[str, ...]:
    """What keeps steps that are out from being run; not of those that are taken in or put out again."""
    changed = {*decision.take_in, *(one.step.path for one in decision.put_out)}
    left = (out for out in facts.outs if out.claim is not None and out.claim.trouble and out.path not in changed)
    return tuple(f"step {out.path} waits: {out.claim.trouble}; it is tried again" for out in left if out.claim)


def _is_of_given_up(operation: OperationFolder, plan: Plan, out: claims.Out) -> bool:
    """Whether a claim is of a member that was given up, by somebody who died before it was removed; it is now."""
    layout = operation.layout
    is_given_up = any(files.exists(layout.given_up(one)) for _, one in plan.members_around(plan.step(out.path)))
    if is_given_up:
        claims.drop(layout, out.path)
    return is_given_up


def _facts(operation: OperationFolder, plan: Plan, run: Run, request: Request) -> tuple[Standing, Facts]:
    progress = operation.progress(plan, run.epoch)
    standing = progress.look()
    outs = claims.all_out(operation.layout)
    if plan is not UNREADABLE:  # what else lies there is somebody's own
        outs = [out for out in outs if plan.has(out.path) and not _is_of_given_up(operation, plan, out)]
    frontier = [step for step in standing.open if not is_gate(step)]
    known = {step.path for step in frontier}
    # Of a group with more out than may be under way now: its limit was lowered.
    others = (plan.step(out.path) for out in outs if out.path not in known and plan.has(out.path))
    frontier += [step for step in others if progress.is_open(step)]
    untapped = frozenset(step.path for step in frontier if not progress.may_stop_before(step))
    has_gate = any(is_gate(step) for step in standing.open)
    facts = Facts(
        run, request, tuple(outs), tuple(frontier), untapped, plan.concurrency, standing.is_complete, has_gate
    )
    return standing, facts


def _held_if_misfit(operation: OperationFolder, plan: Plan, run: Run, request: Request) -> tuple[Run, Request]:
    """Keep a paused operation paused whose plan cannot be read, or does not fit what is done any more, and say so."""
    if run.outcome != State.PAUSED or request.want is not Want.RUN:
        return run, request
    if plan is UNREADABLE:  # `message` says why
        return run, replace(request, want=Want.PAUSE)
    faults = misfits(operation.layout, plan)
    if not faults:
        return run, request
    return _held(run, request, f"it cannot go on: workflow.json does not fit what is done: {'; '.join(faults)}")


def _held(run: Run, request: Request, notice: str) -> tuple[Run, Request]:
    """Keep an operation paused, and say why; one that is to be cancelled is."""
    want = max(request.want, Want.PAUSE, key=lambda want: want.strength)
    return replace(run, notice=notice), replace(request, want=want, reason=notice)


def _plan_of(operation: OperationFolder) -> Plan:
    """The plan; one whose only step can neither be run nor be done, where `workflow.json` cannot be read (law 10)."""
    try:
        return operation.plan()
    except (FileNotFoundError, RecordInvalid):
        return UNREADABLE


def _with_readable_result(
    operation: OperationFolder, plan: Plan, before: Run, decision: Decision
) -> tuple[Decision, Json]:
    """Read what the workflow gives back; turn a success whose result somebody has spoilt into a failure."""
    if decision.state is not State.SUCCEEDED or before.outcome == State.SUCCEEDED:
        return decision, None
    try:
        return decision, value_of(operation, plan.root)
    except (FileNotFoundError, RecordInvalid) as error:
        failure = Failure(
            type=type(error).__name__,
            message=str(error),
            step=plan.steps[-1].label,
            epoch=decision.run.epoch,
            failed_at=timestamp(operation.now()),
        )
        files.replace_own(operation.layout.error, failure.encode())
        failed = replace(decision.run, outcome=State.FAILED.value)
        return replace(decision, state=State.FAILED, run=failed), None


def _timed(decision: Decision, now: float) -> Run:
    """Keep the running time, the start and the end up to date with the state."""
    run, is_active = decision.run, decision.state in ACTIVE
    if decision.state is State.WAITING and run.started_at is None:  # at a gate before any claim
        run = replace(run, started_at=timestamp(now))
    if is_active and run.running_since is None:
        run = replace(run, running_since=timestamp(now))
    elif not is_active and run.running_since is not None:
        since = seconds_of(run.running_since) or now
        run = replace(run, running_s=round(run.running_s + max(0.0, now - since), 3), running_since=None)
    if decision.state in FINAL:
        return run if run.finished_at else replace(run, finished_at=timestamp(now))
    return replace(run, finished_at=None)


def _stopping(run: Run, state: State, facts: Facts) -> Run:
    """Remember how many steps ran when the operation was asked to stop, for as long as it stops."""
    if state not in _STOPPING:
        return replace(run, stopping=0)
    return run if run.stopping else replace(run, stopping=sum(out.is_held for out in facts.outs))


def _carry_out(operation: OperationFolder, decision: Decision, before: Run, run: Run, result: Json) -> None:
    """Write the outcome, then take in and put out."""
    layout = operation.layout
    if decision.state is State.SUCCEEDED and before.outcome != State.SUCCEEDED:
        files.replace_own(layout.result, encode(result))
        files.put_aside(layout.error, layout.attic_file("error.json", run.epoch))
    if run != before:
        files.replace(layout.run, run.encode())
    if run.outcome in (State.FAILED, State.CANCELLED):
        close_gates(operation, decision.state.value)
    for path in decision.take_in:
        claims.drop(layout, path)
    for one in decision.put_out:
        claims.put_out(layout, one.step.path, one.claim)


def _worn_out(operation: OperationFolder, plan: Plan, out: claims.Out) -> Failure:
    """The failure of a step that took down too many workers."""
    claim = out.claim
    assert claim is not None
    holder = claim.held_by
    crashes = operation.recovery.max_crashes
    end = f", ended by {claim.lost_to}" if claim.lost_to else ""
    text = f"the step took down its worker {crashes} times without getting further; the last was "
    text += f"{holder.worker if holder else None}{end}"
    return failure_of(operation, plan.step(out.path), claim, WORKER_LOST, text)
