"""Stops: what is to happen to an operation at its nth tap, in the process that runs it.

A step's `Place` is exchanged for one that counts its taps, as long as a stop is in force. What happens there is what
happens in life: somebody else asks the operation to pause, or the step's claim falls free and its run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from unittest.mock import patch

from tapfs.bus.control import Control
from tapfs.bus.fields import Json
from tapfs.bus.operation import Operation
from tapfs.errors import TapfsError
from tapfs.flow import step
from tapfs.flow.fold import Fold
from tapfs.flow.foreground import Crash
from tapfs.flow.place import Place
from tapfs.flow.then import Replaced

#: Who asks, in the journal of an operation.
ACTOR = "testing"


@contextmanager
def pause_after(taps: int, *, may_miss: bool = False) -> Iterator[AtTap]:
    """Have the operation that runs inside the block paused at the nth tap, as by `operation.pause()`.

        with testing.bus(app) as bus:
            op = bus.start("people", path="people.csv")
            with testing.pause_after(3):
                assert testing.run(op) is State.PAUSED
            op.resume()
            assert testing.run(op) is State.SUCCEEDED

    It stops right there where that is inside a step, else before the next step; with `nth`, or where the last step has
    just ended, as late as a person's pause would.

    Args:
        taps: which tap, from 1.
        may_miss: whether it is right that the block ends before that many taps.

    Yields:
        What tells whether it has happened.

    Raises:
        AssertionError: at the end of the block: it has not happened, so nothing was tested.
    """
    yield from _stopping(AtTap("pause_after", taps, _pause), may_miss)


@contextmanager
def cancel_after(taps: int, *, may_miss: bool = False) -> Iterator[AtTap]:
    """Have the operation that runs inside the block cancelled at the nth tap, as by `operation.cancel()`.

    Arguments, and what is raised, are those of `pause_after`.
    """
    yield from _stopping(AtTap("cancel_after", taps, _cancel), may_miss)


@contextmanager
def crash_after(taps: int, *, is_saved: bool = True, may_miss: bool = False) -> Iterator[AtTap]:
    """Have the step that runs inside the block lose its worker at the nth tap, once; then another worker goes on.

        for taps in itertools.count(1):     # at every tap there is
            with testing.bus(app) as bus, testing.crash_after(taps, may_miss=True) as crash:
                op = bus.start("people", path="people.csv")
                assert testing.run(op) is State.SUCCEEDED
                assert op.result == expected
            if not crash.has_happened:
                break

    On disk it is as after `kill -9`: the claim falls free, nothing more is written, and what was not saved is done
    again. At the end of a step that is the whole step: its result was not saved. At a tap inside one it is what came
    after the last checkpoint.

    Not shown: a process that is really killed runs no `finally` and no `except BaseException` of the step's own, and
    loses its memory, open connections and unwritten buffers. Here they run, and memory stays.

    Args:
        taps: which tap, from 1.
        is_saved: whether the step has its place saved at each tap before that one, as if it had taken its time. Else
            only as the clock has it: about once a second, so mostly nothing.
        may_miss: as in `pause_after`.
    """
    yield from _stopping(AtTap("crash_after", taps, _crash, saves=is_saved), may_miss)


class AtTap:
    """What is to happen at a tap, and whether it has.

    Attributes:
        taps: how many have come by.
        has_happened: whether it has.
    """

    def __init__(
        self, name: str, at: int, act: Callable[[AtTap, _CountedPlace, bool], bool], *, saves: bool = False
    ) -> None:
        if at < 1:
            raise ValueError(f"{name}({at}): taps are counted from 1")
        self.taps = 0
        self.has_happened = False
        self._saves = saves
        self._name = name
        self._at = at
        self._act = act

    def __repr__(self) -> str:
        return f"{self._name}({self._at})"

    @property
    def reason(self) -> str:
        """Why the operation is stopped, for its journal."""
        return f"testing.{self!r}"

    def count(self) -> bool:
        """Count a tap; says whether it is the one."""
        self.taps += 1
        return self.taps == self._at

    def act(self, place: _CountedPlace, *, is_end: bool) -> None:
        """Do it, at a tap in a step or at its end."""
        self.has_happened = True  # a crash does not return
        self.has_happened = self._act(self, place, is_end)

    @property
    def is_crash(self) -> bool:
        """Whether the step ends there."""
        return self._act is _crash

    @property
    def needs_save(self) -> bool:
        """Whether the step's place is to be saved now."""
        return self._saves and not self.has_happened


_at_taps: list[AtTap] = []


def _stopping(stop: AtTap, may_miss: bool) -> Iterator[AtTap]:
    _at_taps.append(stop)
    try:
        with patch.object(step, "Place", _CountedPlace):
            yield stop
    finally:
        _at_taps.remove(stop)
    if not stop.has_happened and not may_miss:
        raise AssertionError(f"testing.{stop!r} has stopped nothing: {stop.taps} taps came by")


def _pause(stop: AtTap, place: _CountedPlace, is_end: bool) -> bool:
    return place.ask(lambda operation: operation.pause(stop.reason), is_end)


def _cancel(stop: AtTap, place: _CountedPlace, is_end: bool) -> bool:
    return place.ask(lambda operation: operation.cancel(stop.reason), is_end)


def _crash(stop: AtTap, place: _CountedPlace, _is_end: bool) -> bool:
    place.lose_worker(stop.reason)
    return True


class _CountedPlace(Place):
    """A place whose taps are counted."""

    _begins_fold = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        with super().entered():
            try:
                yield
            except Replaced:
                self._come_by(is_end=True)
                raise
        self._come_by(is_end=True)

    def open_fold(self, source: object, initial: object) -> Fold:
        self._begins_fold = True
        return super().open_fold(source, initial)

    def turn(self, fold: Fold, cursor: Json, done: float) -> None:
        self._come_by()
        super().turn(fold, cursor, done)
        if any(stop.needs_save for stop in _at_taps):
            fold.snapshot()
            self.try_to_save()

    def check(self) -> None:
        if self._begins_fold:
            self._begins_fold = False
        else:
            self._come_by()
        super().check()
        if any(stop.needs_save for stop in _at_taps):
            self.try_to_save()

    def ask(self, verb: Callable[[Operation], object], is_end: bool) -> bool:
        """Have the operation asked for something by another; says whether that can have an effect here."""
        if is_end and self._is_last():
            return False
        found = self._operation
        with suppress(TapfsError):
            verb(Control(found.control.folder, actor=ACTOR).operation(found.id))
            self._next_check = 0.0
            return True
        return False

    def lose_worker(self, reason: str) -> None:
        """Let go of the claim, without which nothing can be written any more, and leave."""
        self._held.release()
        raise Crash(reason)

    def _come_by(self, *, is_end: bool = False) -> None:
        due = [stop for stop in _at_taps if stop.count()]
        for stop in sorted(due, key=lambda one: one.is_crash):  # a person asks before it
            stop.act(self, is_end=is_end)

    def _is_last(self) -> bool:
        """Whether nothing comes after this step."""
        plan = self._operation.plan()
        standing = self._operation.progress(plan, self._held.claim.epoch).look()
        others = [one for one in standing.open if one.path != self._held.step.path]
        follows = any(True for _ in plan.after(plan.step(self._held.step.path)))
        return not (others or follows or self.additions.then or self.additions.members)
