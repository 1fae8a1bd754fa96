"""Several workers on one operation, by hand and in any order: messages doubled and late, deaths, pauses, resumes.

One process plays them all, each with an operation object of its own that remembers only what it has seen, so that a
seed gives the same story again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from support.bench import Bench
from tapfs.bus.begin import Dropped, claim_step
from tapfs.bus.claims import HeldClaim
from tapfs.bus.control import NewOperation
from tapfs.bus.decide import Recovery
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Part, Plan, Step
from tapfs.bus.records import Failure
from tapfs.bus.states import FINAL, State
from tapfs.bus.steps import commit_step, fail_step, release_step
from tapfs.bus.values import value_of

#: What a step does: from the value before it (a list of one, or of none) to its result and what it puts in.
Work = Callable[[Step, list[Any]], tuple[Any, tuple[Part, ...]]]
#: Workers that can be at work at the same time, whatever the plan's limits.
_PLAYERS = 4
#: Moves after which an operation must have ended.
_MOST_MOVES = 30_000
#: Published messages that may still come again.
_MEMORY = 12
_DEATHLESS = Recovery(max_crashes=10**6)


class Mayhem:
    """One operation and everything that happens to it.

    Attributes:
        operation: the operation, as whoever started it sees it.
        runs: how often each step was committed, by path; more than once only where it was rewound.
        moves: what happened how often.
    """

    def __init__(self, bench: Bench, plan: Plan, work: Work, chance: random.Random) -> None:
        self.operation = bench.control.start(NewOperation("mayhem", plan, {}))
        self.runs: Counter[str] = Counter()
        self.moves: Counter[str] = Counter()
        self._bench, self._plan, self._work, self._chance = bench, plan, work, chance
        self._players = [self._player() for _ in range(_PLAYERS)]
        self._held: list[tuple[Operation, HeldClaim]] = []

    def _player(self) -> Operation:
        return self._bench.other(self.operation, recovery=_DEATHLESS)

    def play(self) -> State:
        """Go on until the operation has ended; returns how."""
        moves = [self._take] * 50 + [self._end] * 35 + [self._resume] * 5 + [self._wait] * 4 + [self._die] * 3
        moves += [self._release, self._forget, self._pause]
        for _ in range(_MOST_MOVES):
            if self.operation.state in FINAL:
                return self.operation.state
            move = self._chance.choice(moves)
            self.moves[move.__name__] += bool(move())
        raise AssertionError(f"it comes to no end: {self.operation.view()}, {self.moves}")

    def _take(self) -> bool:
        """Follow a message, one of the last; the broker may give it out as often as it likes."""
        message = self._chance.choice(self._bench.published[-_MEMORY:])
        player = self._chance.choice(self._players)
        held = claim_step(player, message.step.path, message.epoch, message.attempt, "worker@test")
        if isinstance(held, Dropped):
            return False
        self._held.append((player, held))
        assert len(self._held) <= self._plan.concurrency, "more steps are out than may be"
        return True

    def _end(self) -> bool:
        """Have a step that is at work come to its end."""
        taken = self._some_held()
        if taken is None:
            return False
        player, held = taken
        before = player.plan().before(held.step)
        values = [] if before is None or held.step.immutable else [value_of(player, before)]
        try:
            result, then = self._work(held.step, values)
        except ValueError as error:
            failure = Failure(type="ValueError", message=str(error), step=held.step.label)
            fail_step(player, held, failure)
            return True
        ended = commit_step(player, held, result, "2027-01-15T08:00:00Z", then=then)
        if not isinstance(ended, Dropped):
            self.runs[held.step.path] += 1
        return True

    def _die(self) -> bool:
        taken = self._some_held()
        if taken is not None:
            taken[1].release()
        return taken is not None

    def _release(self) -> bool:
        taken = self._some_held()
        if taken is not None:
            release_step(*taken)
        return taken is not None

    def _some_held(self) -> tuple[Operation, HeldClaim] | None:
        return self._held.pop(self._chance.randrange(len(self._held))) if self._held else None

    def _pause(self) -> bool:
        return self._player().pause().changed

    def _resume(self) -> bool:
        return self._chance.choice(self._players).resume().changed

    def _forget(self) -> bool:
        """Have a process begin anew, with nothing in memory."""
        self._players[self._chance.randrange(_PLAYERS)] = self._player()
        return True

    def _wait(self) -> bool:
        """Let time pass, and somebody look."""
        self._bench.now += self._chance.choice((1.0, 11.0, 31.0))
        self._chance.choice(self._players).reconcile()
        return True
