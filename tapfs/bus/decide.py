"""The one decision: from what is on disk to what is true, what to take in and what to put out.

`decide` is pure: no file, no clock, no lock. Whoever reconciles, the worker at a tap, the command line, the supervisor,
decides by it (law 9), so the tests can drive it through every order of events.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from tapfs import settings
from tapfs.bus.claims import Out
from tapfs.bus.clock import seconds_of, timestamp
from tapfs.bus.plan import CONCURRENCY, Step
from tapfs.bus.records import Claim, Run
from tapfs.bus.requests import Request
from tapfs.bus.states import FINAL, State, Want


@dataclass(frozen=True)
class Recovery:
    """When a step that nobody works on is published again, and when it is given up.

    Attributes:
        first_delay_s: seconds after the first publishing; each further delay is twice the one before.
        longest_delay_s: no delay is longer.
        max_crashes: so many holders of a step that died in a row, in one epoch and without progress, make it fail.
        max_interruptions: after so many interruptions in a row, in one epoch and without progress, the next makes it
            fail.
        silent_after_s: a holder that has given no sign of life for so many seconds, though its lock is held (it is
            frozen, or its host is out of reach), loses the step.
    """

    first_delay_s: float = 10.0
    longest_delay_s: float = 30.0
    max_crashes: int = 3
    max_interruptions: int = 10
    silent_after_s: float = 60.0

    @classmethod
    def of_environment(cls) -> Recovery:
        """What the environment says, `TAPFS_MAX_CRASHES` and so on; raises `TapfsError` for what is no number."""
        usual = cls()
        found = {
            one.name: settings.number(f"TAPFS_{one.name.upper()}", type(getattr(usual, one.name)))
            for one in fields(cls)
        }
        return replace(usual, **{name: value for name, value in found.items() if value is not None})  # type: ignore[arg-type]

    def delay_s(self, publishes: int) -> float:
        """Seconds to wait after the `publishes`th publishing."""
        return min(self.longest_delay_s, self.first_delay_s * 2.0 ** min(publishes - 1, 20))


@dataclass(frozen=True)
class Facts:
    """What is on disk.

    Attributes:
        run: `run.json`.
        request: the request in force.
        outs: the steps that are out.
        frontier: the steps that may run now, or run, in the order in which they are to be put out.
        untapped: the paths of those before which the workflow may not stop.
        concurrency: at most so many steps are out at a time.
        is_complete: whether every step is done.
        has_gate: whether a gate waits for its answer.
    """

    run: Run
    request: Request
    outs: tuple[Out, ...]
    frontier: tuple[Step, ...]
    untapped: frozenset[str] = frozenset()
    concurrency: int = CONCURRENCY
    is_complete: bool = False
    has_gate: bool = False

    @property
    def is_busy(self) -> bool:
        """Whether a living process holds a step."""
        return any(out.is_held for out in self.outs)


@dataclass(frozen=True)
class PutOut:
    """A step to put out and publish, with the claim to write first."""

    step: Step
    claim: Claim


@dataclass(frozen=True)
class Decision:
    """What is true, and what to do to the files.

    Attributes:
        state: the state now.
        run: `run.json` as it should be.
        take_in: paths of claims to remove.
        put_out: claims to write, then to publish once the lock is released.
        worn_out: the claims of steps that took down too many workers. They fail first; then it is decided anew.
    """

    state: State
    run: Run
    take_in: tuple[str, ...] = ()
    put_out: tuple[PutOut, ...] = ()
    worn_out: tuple[Out, ...] = ()


def decide(facts: Facts, now: float, recovery: Recovery, *, can_publish: bool) -> Decision:
    """Decide what is true and what to do.

    Args:
        facts: what is on disk.
        now: seconds since the epoch.
        recovery: when to publish again.
        can_publish: whether the caller can; if not, no step is put out.
    """
    run, want = facts.run, facts.request.want
    unheld = tuple(out.path for out in facts.outs if not out.is_held)
    if run.outcome in FINAL:
        return Decision(State(run.outcome), run, unheld)
    if facts.is_complete and not facts.is_busy:  # what ended before it could stop has succeeded, whatever is asked
        return Decision(State.SUCCEEDED, replace(run, outcome=State.SUCCEEDED.value, is_failing=False), unheld)
    if run.is_failing and not facts.is_busy:
        return Decision(State.FAILED, replace(run, outcome=State.FAILED.value, is_failing=False), unheld)
    if run.outcome == State.PAUSED and want is Want.PAUSE:
        return Decision(State.PAUSED, run, _but_retries(facts))
    if want is Want.CANCEL:
        run = replace(run, want=Want.CANCEL.value, reason=facts.request.reason, asked_by=facts.request.by)
        if not facts.is_busy:
            return Decision(State.CANCELLED, replace(run, outcome=State.CANCELLED.value), unheld)
        return Decision(State.CANCELLING, run, unheld)
    if run.is_failing:  # what runs may end, and nothing new starts
        return Decision(State.PAUSING if want is Want.PAUSE else State.RUNNING, run, unheld)
    if run.outcome == State.PAUSED:
        run = replace(run, outcome=None, epoch=run.epoch + 1, notice=None, is_failing=False)
    facts = replace(facts, run=run)
    if want is Want.PAUSE:
        return _stop(facts, now, recovery, can_publish)
    return _go_on(facts, now, recovery, can_publish)


def _stop(facts: Facts, now: float, recovery: Recovery, can_publish: bool) -> Decision:
    """Decide for an operation that is to pause: only what stands before no tap goes on."""
    forced = tuple(step for step in facts.frontier if step.path in facts.untapped)
    if forced:
        decision = _go_on(replace(facts, frontier=forced), now, recovery, can_publish)
        kept = set(_but_retries(facts))
        return replace(decision, take_in=tuple(path for path in decision.take_in if path in kept))
    if facts.is_busy:
        return Decision(State.PAUSING, facts.run, _but_retries(facts))
    return Decision(State.PAUSED, replace(facts.run, outcome=State.PAUSED.value), _but_retries(facts))


def _but_retries(facts: Facts) -> tuple[str, ...]:
    """The claims to take in at a pause: all but those that say how often a step was retried, and when it is due."""
    waiting = {step.path for step in facts.frontier}
    return tuple(
        out.path
        for out in facts.outs
        if not out.is_held and not (out.claim is not None and out.claim.retries and out.path in waiting)
    )


def _go_on(facts: Facts, now: float, recovery: Recovery, can_publish: bool) -> Decision:
    """Decide for an operation that runs: put out what is not out, and what was lost."""
    run = facts.run
    outs = {out.path: out for out in facts.outs}
    wanted = {step.path for step in facts.frontier}
    stale = tuple(out.path for out in facts.outs if out.path not in wanted and not out.is_held)
    if not can_publish:
        return Decision(_state_of_running(run, facts, []), run, stale)
    free = facts.concurrency - sum(out.is_held or out.path in wanted for out in facts.outs)
    put_out, worn_out = [], []
    for step in facts.frontier:
        out = outs.get(step.path)
        if out is None and free <= 0:
            continue
        if out is not None and out.is_dead and out.claim is not None:
            run = replace(run, interruptions=run.interruptions + 1)
            if out.claim.epoch == run.epoch and _crashes(out, out.claim) >= recovery.max_crashes:
                worn_out.append(out)
        claim = _claim_to_write(step, out, run.epoch, now, recovery)
        if claim is not None:
            put_out.append(PutOut(step, claim))
            free -= out is None
    if worn_out:  # the others are counted when it is decided anew
        run = replace(facts.run, interruptions=facts.run.interruptions + len(worn_out))
        return Decision(State.RUNNING, run, worn_out=tuple(worn_out))
    return Decision(_state_of_running(run, facts, put_out), run, stale, tuple(put_out))


def _state_of_running(run: Run, facts: Facts, put_out: list[PutOut]) -> State:
    if facts.request.want is Want.PAUSE:
        return State.PAUSING
    if facts.is_busy:
        return State.RUNNING
    if facts.has_gate and not facts.frontier:
        return State.WAITING
    if run.started_at is None and run.epoch == 1:  # from a later epoch's start it runs: nothing leads back to queued
        return State.QUEUED
    claims = [one.claim for one in put_out] or [out.claim for out in facts.outs if out.claim is not None]
    if any(claim.cause in ("crash", "interruption") or claim.holder is not None for claim in claims):
        return State.INTERRUPTED
    return State.RUNNING


def _claim_to_write(step: Step, out: Out | None, epoch: int, now: float, recovery: Recovery) -> Claim | None:
    """The claim with which a frontier step is to be published (again) now; None where it is not due."""
    fresh = Claim(epoch=epoch, attempt=1, publishes=1, published_at=timestamp(now))
    if out is None:
        return replace(fresh, not_before=_due_at(step, now))
    if out.is_held:
        return None
    claim = out.claim
    if claim is None:
        return fresh
    if claim.epoch != epoch:  # a retry that waited while the operation was paused
        return replace(fresh, retries=claim.retries, not_before=claim.not_before)
    if out.is_dead:
        return replace(
            fresh,
            attempt=claim.attempt + 1,
            cause="crash",
            crashes=_crashes(out, claim),
            interruptions=0 if out.has_progressed else claim.interruptions,
            retries=claim.retries,
        )
    published = seconds_of(claim.published_at) or 0.0
    waits_from = max(published, seconds_of(claim.not_before) or 0.0)
    # A clock that was set back must not keep a step from being published for ever.
    is_due = (
        claim.publishes == 0
        or now >= waits_from + recovery.delay_s(claim.publishes)
        or now < published - recovery.longest_delay_s
    )
    again = replace(claim, publishes=claim.publishes + 1, published_at=timestamp(now), trouble=None)
    return again if is_due else None


def _crashes(out: Out, claim: Claim) -> int:
    """How many holders in a row died at the step without saving any progress, this one included if it saved none."""
    return 1 if out.has_progressed else claim.crashes + 1


def _due_at(step: Step, now: float) -> str | None:
    """When a step with a `countdown` or `eta` of Celery's may run; None for at once."""
    countdown = step.options.get("countdown")
    if countdown is not None:
        return timestamp(now + float(countdown))
    eta = step.options.get("eta")
    return eta if isinstance(eta, str) else None
