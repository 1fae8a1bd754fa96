"""One run: start everything, let the adversary loose, make peace, and judge."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from chaos.adversary import Adversary
from chaos.cases import Case, Wish, start_case, write_people
from chaos.fleet import Fleet, environment_for
from chaos.judge import Monitor, is_as_wished, judge
from chaos.report import Report, errors_in
from chaos.workflows import make_bus
from support import RedisServer
from tapfs.bus.states import FINAL, State
from tapfs.errors import TapfsError
from tapfs.flow.bus import Bus


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        broker: `redis` or `embedded`.
        seed: of everything that is chosen.
        seconds: for which the adversary acts.
        kills: at least so many, if they can be had in three times that.
        workers, children, supervisors: the fleet.
        active: operations that go on at a time.
        every_s: seconds between two faults, on average.
        scale: 1 for operations of some seconds, less for shorter ones.
        first_delay_s: until a lost message is published again.
        deadline_s: until all must be as asked after the last fault.
        has_long_stops: whether some processes are stopped for longer than a holder may be silent.
    """

    broker: str
    seed: int
    seconds: float
    kills: int = 0
    workers: int = 3
    children: int = 2
    supervisors: int = 2
    active: int = 12
    every_s: float = 0.4
    scale: float = 1.0
    first_delay_s: float = 10.0
    deadline_s: float = 180.0
    has_long_stops: bool = True


def run(plan: Plan, folder: Path) -> Report:
    """Run it in a folder of its own; everything stays there."""
    for made in (folder / "control", folder / "data" / "ledger"):
        made.mkdir(parents=True)
    server = RedisServer(folder / "redis").start() if plan.broker == "redis" else None
    broker = server.url() if server is not None else None
    fleet = Fleet(folder, server, environment_for(folder, "chaos.app:app", broker, plan.first_delay_s, plan.seed))
    try:
        return _Run(plan, folder, fleet, broker).run()
    finally:
        fleet.close()
        if server is not None:
            server.stop()


class _Run:
    def __init__(self, plan: Plan, folder: Path, fleet: Fleet, broker: str | None) -> None:
        self._plan = plan
        self._folder = folder
        self._fleet = fleet
        self._bus: Bus = make_bus(folder / "control", broker, first_delay_s=plan.first_delay_s, seed=plan.seed)
        self._cases: list[Case] = []
        self._is_over = threading.Event()
        self._adversary = Adversary(
            fleet,
            folder / "control",
            self._cases,
            random.Random(f"{plan.seed} adversary"),
            every_s=plan.every_s,
            has_long_stops=plan.has_long_stops,
        )

    def run(self) -> Report:
        plan, fleet, adversary = self._plan, self._fleet, self._adversary
        write_people(self._folder / "people.csv", random.Random(f"{plan.seed} people"))
        self._bus.control.prepare()
        fleet.start(plan.workers, plan.children, plan.supervisors)
        monitor = Monitor(self._cases)
        monitor.start()
        starter = threading.Thread(target=self._start_operations, name="starter", daemon=True)
        starter.start()
        adversary.run(plan.seconds, plan.kills)
        self._is_over.set()
        adversary.relent()
        starter.join(60)
        settled_s = self._settle()
        monitor.stop()
        control = self._bus.control
        verdict = judge(control, self._folder / "data", self._cases, adversary, fleet.frozen)
        verdict.faults += monitor.faults
        fleet.close()
        return Report(
            plan.seed,
            plan.broker,
            plan.seconds,
            self._folder,
            adversary.faults,
            adversary.kills,
            fleet.restarts,
            settled_s,
            verdict,
            errors_in(fleet.outputs()),
        )

    def _start_operations(self) -> None:
        """Keep so many operations going; in a thread, for starting one waits for the broker, which may be stopped."""
        chance = random.Random(f"{self._plan.seed} cases")
        people = self._folder / "people.csv"
        while not self._is_over.wait(0.1):
            if sum(case.state not in (*FINAL, State.PAUSED) for case in self._cases) < self._plan.active:
                self._cases.append(start_case(self._bus, people, chance, self._plan.scale))

    def _settle(self) -> float | None:
        """Lift all holds but those that are to stay, ask for what was not asked yet, and wait until all is so."""
        began = time.monotonic()
        deadline = began + self._plan.deadline_s
        for command in self._adversary.requests.commands:
            command.wait(60)
        for case in self._cases:
            marker = case.operation.path / "PAUSE"
            if case.wish is Wish.SUCCEED:
                marker.unlink(missing_ok=True)
            elif not case.is_asked:
                (case.operation.path / ("CANCEL" if case.wish is Wish.CANCEL else "PAUSE")).write_text("for good")
        self._resume_all()
        if not self._is_settled_by(deadline):
            return None
        took_s = time.monotonic() - began
        self._ask_again()
        return took_s if self._is_settled_by(deadline) else None

    def _is_settled_by(self, deadline: float) -> bool:
        """Wait until everything runs and every operation is as wished; False when that takes too long."""
        while not (self._fleet.is_complete() and all(is_as_wished(case) for case in self._cases)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _ask_again(self) -> None:
        """Pause what is paused: no request, but an index entry that was deleted comes back, else in five minutes."""
        for case in self._cases:
            if case.state is State.PAUSED:
                case.operation.pause()

    def _resume_all(self) -> None:
        """Ask every operation to go on that is to succeed and has not ended; one that failed stays so, to be seen."""
        for case in self._cases:
            if case.wish is Wish.SUCCEED and case.state not in FINAL:
                try:
                    case.operation.resume("the chaos is over")
                except TapfsError as error:  # it is in what the judge finds
                    print(f"cannot resume {case.operation.id}: {error}")
