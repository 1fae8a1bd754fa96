"""One operation as it must be, without files, locks or a clock: what `tapfs.bus` is held against.

Written from `docs/design.md`, not from the code. It knows chains only. What it leaves out: when a lost message is
published again (a matter of the clock), and what stands in records beside what decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tapfs.bus.states import FINAL, State, Want

#: So many holders of a step that died in a row, in one epoch and without progress, make it fail.
MAX_CRASHES = 3
#: After so many interruptions in a row, in one epoch and without progress, the next makes it fail. Fewer than by
#: default, so that it happens.
MAX_INTERRUPTIONS = 2


@dataclass
class Out:
    """A step that is out.

    Attributes:
        epoch, attempt: what a message must show.
        cause: why it is out again; None for the first time.
        crashes, interruptions: in a row, in this epoch, without progress.
        holder: the serial number of the worker that took it; None for nobody.
        is_alive: whether that worker lives and has not been given up.
        has_saved: whether it has saved a checkpoint.
    """

    epoch: int
    attempt: int = 1
    cause: str | None = None
    crashes: int = 0
    interruptions: int = 0
    holder: int | None = None
    is_alive: bool = False
    has_saved: bool = False

    @property
    def is_held(self) -> bool:
        return self.holder is not None and self.is_alive

    @property
    def is_dead(self) -> bool:
        return self.holder is not None and not self.is_alive


@dataclass
class Everything:
    """What holds all operations: `control/PAUSE`."""

    is_paused: bool = False


def derived(*, outcome: State | None, is_held: bool, strongest: Want, is_begun: bool, is_left: bool) -> State:
    """What is true of an operation that was just brought in line.

    Args:
        outcome: how this run of it has ended, also by a pause; None while it goes on.
        is_held: whether a living worker has its step.
        strongest: the request in force.
        is_begun: whether any step was ever taken.
        is_left: whether the worker that had the step went away, and no other has taken it.
    """
    if outcome is not None:
        return outcome
    if strongest is Want.CANCEL:
        return State.CANCELLING
    if strongest is Want.PAUSE:
        return State.PAUSING
    if is_held:
        return State.RUNNING
    if not is_begun:
        return State.QUEUED
    return State.INTERRUPTED if is_left else State.RUNNING


@dataclass
class Model:
    """One operation.

    Attributes:
        total, nth: so many steps; a tap before the first and after every nth.
        everything: what it shares with all others.
        want: what was last accepted from `state.json`.
        shown: the want that `state.json` says; None where it says nothing valid. Other than `want`: an edit.
        is_garbled: whether `state.json` holds an edit in the making, which nobody may overwrite.
        markers: those in its folder.
        retries: Celery's count for the step that is due.
        run_is_lost: whether somebody took `run.json` away, and nobody has made it anew.
        told: the last epoch whose pause its callback was told of.
        torn: epoch and attempt of a worker that died in its commit and left its claim; None once somebody has settled.
        known_epoch: the highest in the journal.
        state: as last derived.
        is_fresh: whether nothing was done to `state.json` and `run.json` since then.
    """

    total: int
    nth: int
    everything: Everything
    want: Want = Want.RUN
    shown: Want | None = None
    is_garbled: bool = False
    markers: set[str] = field(default_factory=set)
    outcome: State | None = None
    epoch: int = 1
    done: int = 0
    out: Out | None = None
    is_begun: bool = False
    retries: int = 0
    run_is_lost: bool = False
    told: int = 0
    torn: tuple[int, int] | None = None
    known_epoch: int = 1
    state: State = State.QUEUED
    is_fresh: bool = True

    @property
    def is_at_tap(self) -> bool:
        return self.done % self.nth == 0

    @property
    def is_held(self) -> bool:
        return self.out is not None and self.out.is_held

    def strongest(self, own: Want | None = None) -> Want:
        """The request in force."""
        asked = {own or self.want}
        if "PAUSE" in self.markers or self.everything.is_paused:
            asked.add(Want.PAUSE)
        if "CANCEL" in self.markers:
            asked.add(Want.CANCEL)
        return next(want for want in (Want.CANCEL, Want.PAUSE, Want.RUN) if want in asked)

    # What whoever has the lock does first and last.

    def find_run(self) -> None:
        """Make a lost `run.json` anew: from the journal and from what `state.json` says."""
        if not self.run_is_lost:
            return
        self.run_is_lost = self.is_fresh = False
        self.told = 0
        held = Want.PAUSE if self.state in (State.PAUSING, State.PAUSED) else Want.RUN
        self.want = Want.CANCEL if self.state is State.CANCELLING else self.shown or held
        if self.outcome is None:
            self.epoch = self.known_epoch + 1

    def settle(self, *, can_publish: bool = True) -> None:
        """Take in what is asked, and draw every consequence."""
        self.find_run()
        self.torn = None
        if self.shown is not None and self.outcome not in FINAL and self.want is not Want.CANCEL:
            self.want = self.shown
        strongest = self.strongest()
        if self.outcome in FINAL:
            pass
        elif self.done == self.total and not self.is_held:
            self.outcome = State.SUCCEEDED
        elif self.outcome is State.PAUSED and strongest is Want.PAUSE:
            pass
        elif strongest is Want.CANCEL:
            self.want = Want.CANCEL
            self.outcome = None if self.is_held else State.CANCELLED
        else:
            self._go_on(strongest, can_publish)
        if self.outcome in FINAL:
            self.retries = 0
        if self.outcome in FINAL or (self.outcome is State.PAUSED and not self.retries):
            self.out = None  # what a retry has used up outlives a pause
        if not self.is_garbled:
            self.shown = self.want
        self.is_fresh = not self.is_garbled
        self.state = derived(
            outcome=self.outcome,
            is_held=self.is_held,
            strongest=self.strongest(),
            is_begun=self.is_begun or self.epoch > 1,
            is_left=self.out is not None and (self.out.is_dead or self.out.cause in ("crash", "interruption")),
        )

    def _go_on(self, strongest: Want, can_publish: bool) -> None:
        if self.outcome is State.PAUSED:
            self.outcome = None
            self.epoch += 1
        if strongest is Want.PAUSE and self.is_at_tap:
            self.outcome = None if self.is_held else State.PAUSED
        elif can_publish:
            self._put_out()

    def _put_out(self) -> None:
        out = self.out
        if out is None or (not out.is_held and out.epoch != self.epoch):
            self.out = Out(self.epoch)
        elif out.is_dead:
            crashes = 1 if out.has_saved else out.crashes + 1
            if crashes >= MAX_CRASHES:
                self.outcome = State.FAILED
                return
            interruptions = 0 if out.has_saved else out.interruptions
            self.out = Out(self.epoch, out.attempt + 1, "crash", crashes, interruptions)

    # What workers do.

    def accepts(self, place: int, epoch: int, attempt: int) -> bool:
        """Whether a message for the step at `place`, from 0, gives the right to run it."""
        self.find_run()
        own = self.want if self.shown is None else self.shown
        strongest = self.strongest(own)
        return (
            place == self.done
            and self.outcome is None
            and epoch == self.epoch
            and self.out is not None
            and self.out.holder is None
            and (self.out.attempt) == attempt
            and not (strongest is Want.CANCEL or (strongest is Want.PAUSE and self.is_at_tap))
        )

    def claim(self, worker: int) -> None:
        assert self.out is not None
        self.out.holder, self.out.is_alive = worker, True
        self.is_begun = True

    def accepts_end(self, worker: int) -> bool:
        """Whether what that worker brings counts."""
        out = self.out
        if out is None or out.holder != worker or not out.is_alive:
            return False
        self.find_run()
        return out.epoch == self.epoch

    def commit(self) -> None:
        self.done += 1
        self.retries = 0
        self.out = None

    def fail(self) -> None:
        if self.outcome not in FINAL:
            self.outcome = State.FAILED
        self.out = None

    def retry(self) -> None:
        assert self.out is not None
        self.retries += 1
        out = self.out
        self.out = Out(self.epoch, out.attempt + 1, "retry", out.crashes, out.interruptions)

    def interrupt(self) -> None:
        out = self.out
        assert out is not None
        interruptions = 0 if out.has_saved else out.interruptions + 1
        if interruptions > MAX_INTERRUPTIONS:
            self.fail()
            return
        crashes = 0 if out.has_saved else out.crashes
        self.out = Out(self.epoch, out.attempt + 1, "interruption", crashes, interruptions)

    def give_back(self) -> None:
        out = self.out
        assert out is not None
        self.out = Out(self.epoch, out.attempt + 1, "interruption", out.crashes, out.interruptions)

    def release(self) -> None:
        out = self.out
        assert out is not None
        self.out = Out(self.epoch, out.attempt + 1, None, out.crashes, out.interruptions)

    def lose(self, worker: int) -> None:
        """A worker is gone, or was given up."""
        if self.out is not None and self.out.holder == worker:
            self.out.is_alive = False

    def tell_of_pause(self) -> bool:
        """Whether it falls to the one who asks to tell the workflow's callback; who only looks makes nothing anew."""
        if self.run_is_lost or self.outcome is not State.PAUSED or self.told == self.epoch:
            return False
        self.told = self.epoch
        return True

    # What others do about a step that its worker cannot end.

    def is_out(self, place: int, epoch: int, attempt: int) -> bool:
        """Whether that attempt is out, or the one after its crash, which nobody has begun."""
        out = self.out
        if place == self.done - 1 and self.torn == (epoch, attempt):  # its step is committed: nothing to do but settle
            self.find_run()
            if self.outcome is None and self.epoch == epoch:
                self.settle()
            return False
        if place != self.done or out is None or out.epoch != epoch:
            return False
        follows = out.attempt == attempt + 1 and out.cause == "crash" and out.holder is None
        if out.attempt != attempt and not follows:
            return False
        self.find_run()
        return self.outcome is None and self.epoch == epoch

    def give_away(self, place: int, epoch: int, attempt: int) -> bool:
        if not self.is_out(place, epoch, attempt):
            return False
        assert self.out is not None
        is_taken = self.out.is_held
        self.out.is_alive = False
        self.settle()
        return is_taken

    def pass_on(self, place: int, epoch: int, attempt: int) -> bool:
        """A worker that leaves has a message: the next attempt's is published, where nobody has the step."""
        if not self.is_out(place, epoch, attempt):
            return False
        assert self.out is not None
        is_passed = self.out.holder is None
        if is_passed:
            self.out = replace(self.out, attempt=self.out.attempt + 1)
        self.settle()
        return is_passed

    def note_loss(self, place: int, epoch: int, attempt: int) -> None:
        if self.is_out(place, epoch, attempt):
            self.settle()
        self.find_run()

    def refuse(self, place: int, epoch: int, attempt: int) -> None:
        """A worker that got the message knows no such task."""
        if not self.is_out(place, epoch, attempt):
            return
        assert self.out is not None
        if self.out.holder is None:
            self.out.crashes += 1
            self.out.attempt += 1
            if self.out.crashes >= MAX_CRASHES:
                self.fail()
        self.settle()

    def fail_out(self, place: int, epoch: int, attempt: int) -> bool:
        if not self.is_out(place, epoch, attempt):
            return False
        self.fail()
        self.settle()
        return True

    # What people ask by verbs. Each returns whether it changed anything; None for a refusal.

    def pause(self, *, can_publish: bool) -> bool | None:
        self.settle(can_publish=False)
        if self.state in FINAL or self.state is State.CANCELLING:
            return None
        return self._ask(Want.PAUSE, can_publish)

    def cancel(self, *, can_publish: bool) -> bool | None:
        self.settle(can_publish=False)
        if self.state in FINAL and self.state is not State.CANCELLED:
            return None
        if self.state in (State.CANCELLED, State.CANCELLING):
            self.settle(can_publish=can_publish)
            return False
        self._ask(Want.CANCEL, can_publish)
        return True

    def _ask(self, want: Want, can_publish: bool) -> bool:
        is_new = self.want is not want
        if is_new:
            self._write(want)
        self.settle(can_publish=can_publish)
        return is_new

    def _write(self, want: Want) -> None:
        self.shown, self.is_garbled = want, False

    def resume(self, *, can_publish: bool) -> bool | None:
        self.settle(can_publish=False)
        if self.state is State.SUCCEEDED:
            return False
        if self.state is State.CANCELLING:
            return None
        is_lifted = bool(self.markers)
        self.markers.clear()
        if not is_lifted and self.want is Want.RUN and self.state not in FINAL:
            return False
        if self.state in FINAL:
            self.want, self.outcome = Want.RUN, State.PAUSED
        self._write(Want.RUN)
        self.settle(can_publish=can_publish)
        return True
