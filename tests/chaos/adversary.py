"""The adversary: what goes wrong, and when. Its choices come from a seed; what they hit depends on the machine."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from chaos.cases import Case, Wish
from chaos.fleet import Fleet
from chaos.requests import Requests
from chaos.vandal import Done, Vandal
from tapfs.bus.claims import all_out
from tapfs.bus.clock import timestamp
from tapfs.bus.states import FINAL

#: Seconds of most stops, and of those that take longer than a holder may be silent.
SHORT_STOP_S, LONG_STOP_S = (0.5, 6.0), (40.0, 50.0)


@dataclass(frozen=True)
class Hit:
    """A kill that hit a held claim."""

    at: float
    operation_id: str
    step: str
    epoch: int
    attempt: int


class Adversary:
    """Makes things go wrong.

    Args:
        fleet: what it kills and stops.
        control: the control directory it spoils.
        cases: the operations; others add to it meanwhile.
        chance: decides everything.
        every_s: seconds between two faults, on average.
        has_long_stops: whether some stops last longer than a holder may be silent.

    Attributes:
        faults: how many of which kind.
        hits: the kills that hit a held claim.
        broker_losses: when the broker lost all that it held, by the wall clock.
    """

    def __init__(
        self,
        fleet: Fleet,
        control: Path,
        cases: list[Case],
        chance: random.Random,
        *,
        every_s: float,
        has_long_stops: bool,
    ) -> None:
        self._fleet = fleet
        self._control = control
        self._cases = cases
        self._chance = chance
        self._every_s = every_s
        self._has_long_stops = has_long_stops
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._rest: dict[str, float] = {}
        self.requests = Requests(fleet, chance)
        self.faults: Counter[str] = Counter()
        self.hits: list[Hit] = []
        self.broker_losses: list[float] = []
        self._vandal = Vandal(control, self._active, chance)
        self._kinds = self._all_kinds()

    def _all_kinds(self) -> dict[str, tuple[float, float, Callable[[], Done | None]]]:
        """For each kind of fault: its weight, the seconds between two of them, and what does it."""
        kinds = {
            "kill a child": (30, 0.0, self._kill_child),
            "kill a worker": (6, 3.0, self._kill_worker),
            "kill a supervisor": (5, 3.0, self._kill_supervisor),
            "end a worker": (3, 5.0, self._end_worker),
            "drain a worker": (2, 5.0, self._drain_worker),
            "stop": (8, 0.0, self._stop),
            "hold": (12, 0.0, self._hold),
            "fulfil": (6, 0.0, self._fulfil),
            "remark": (10, 0.0, self._remark),
            "hold all": (1, 10.0, self._hold_all),
            "kill a command": (4, 0.0, self._kill_command),
            "spoil state.json": (8, 0.0, self._vandal.spoil_state),
            "delete run.json": (3, 0.0, self._vandal.delete_run),
            "delete index entry": (3, 0.0, self._vandal.delete_entry),
        }
        if self._has_long_stops:
            kinds["stop for long"] = (2, 8.0, self._stop_for_long)
        if self._fleet.redis is not None:
            kinds["kill Redis"] = (3, 6.0, self._kill_redis)
            kinds["FLUSHALL"] = (3, 3.0, self._flush)
        else:
            kinds["rm -rf broker"] = (5, 3.0, self._remove_broker)
        return kinds

    @property
    def kills(self) -> int:
        """How many processes were killed so far, commands not counted."""
        return sum(count for kind, count in self.faults.items() if kind.startswith("kill:") and "command" not in kind)

    def run(self, seconds: float, kills: int) -> None:
        """Do harm for so many seconds, and on a slow machine for up to three times that, until so many were killed."""
        began = next_at = time.monotonic()
        while (now := time.monotonic()) < began + seconds or (self.kills < kills and now < began + 3 * seconds):
            self._do_due(now)
            if now >= next_at:
                self._do_one(now)
                next_at = now + self._chance.expovariate(1 / self._every_s)
            time.sleep(0.01)

    def relent(self) -> None:
        """Let everything go on, and lift every hold of the adversary's own on the whole bus."""
        self._agenda.clear()
        self._fleet.thaw_all()
        if self._fleet.redis_down_until is not None:
            self._fleet.redis_down_until = time.monotonic()
        for marker in (self._control / "PAUSE", *self._control.glob("workers/*/DRAIN")):
            marker.unlink(missing_ok=True)

    def _do_one(self, now: float) -> None:
        kinds = [name for name in self._kinds if self._rest.get(name, 0.0) <= now]
        name = self._chance.choices(kinds, weights=[self._kinds[kind][0] for kind in kinds])[0]
        _, pause_s, act = self._kinds[name]
        done = act()
        if done is not None:
            self._rest[name] = now + pause_s
            self.faults[done.kind] += 1
            self._note(f"{done.kind} {done.target}")
            if done.kind.startswith("broker:") or done.kind == "kill: Redis":
                self.broker_losses.append(time.time())

    def _note(self, text: str) -> None:
        """Write down what was done, for whoever looks for the cause of something."""
        with (self._fleet.folder / "faults.log").open("a") as stream:
            stream.write(f"{timestamp(time.time())} {text.rstrip()}\n")

    def _do_due(self, now: float) -> None:
        while self._agenda and self._agenda[0][0] <= now:
            heapq.heappop(self._agenda)[2]()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._count), act))

    # What is hit.

    def _active(self, *wishes: Wish) -> list[Case]:
        chosen = [case for case in list(self._cases)[-60:] if not wishes or case.wish in wishes]
        return [case for case in chosen if case.state not in FINAL]

    def _holders(self) -> dict[int, list[Hit]]:
        """Which processes hold a claim now, and which."""
        found: dict[int, list[Hit]] = {}
        for case in self._active():
            for out in all_out(case.operation.layout):
                holder = out.claim.held_by if out.claim is not None else None
                if out.is_held and out.claim is not None and holder is not None:
                    hit = Hit(time.time(), case.operation.id, out.path, out.claim.epoch, out.claim.attempt)
                    found.setdefault(holder.pid, []).append(hit)
        return found

    def _children(self) -> list[int]:
        return [child for slot in self._fleet.workers if slot.is_settled("ready.") for child in slot.process.children()]

    def _kill(self, pids: Iterable[int], first: int) -> None:
        """Kill a process; note which held claims go with it and the others."""
        holders = self._holders()
        with suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
        now = time.time()
        for hit in (hit for pid in pids for hit in holders.get(pid, [])):
            self.hits.append(Hit(now, hit.operation_id, hit.step, hit.epoch, hit.attempt))
            self._note(f"... with {hit.operation_id}, step {hit.step}, epoch {hit.epoch}, attempt {hit.attempt}")

    # Kills and stops.

    def _kill_child(self) -> Done | None:
        """Kill a child of a worker; three times in four one that is at work."""
        children = self._children()
        busy = [pid for pid in self._holders() if pid in children]
        if not children:
            return None
        pid = self._chance.choice(busy if busy and self._chance.random() < 0.75 else children)
        self._kill([pid], pid)
        return Done("kill: worker's child", pid)

    def _kill_worker(self) -> Done | None:
        alive = [slot for slot in self._fleet.workers if slot.is_alive]
        if len(alive) < 2:
            return None
        process = self._chance.choice(alive).process
        self._kill(process.children(), process.pid)
        return Done("kill: worker", process.pid)

    def _kill_supervisor(self) -> Done | None:
        alive = [slot for slot in self._fleet.supervisors if slot.is_alive]
        if not alive:
            return None
        process = self._chance.choice(alive).process
        self._kill([], process.pid)
        return Done("kill: supervisor", process.pid)

    def _end_worker(self) -> Done | None:
        """Ask a worker to end, as a deploy does; one time in four it is asked twice."""
        alive = [slot for slot in self._fleet.workers if slot.is_settled("ready.")]
        if len(alive) < 2:
            return None
        process = self._chance.choice(alive).process
        process.terminate()
        if self._chance.random() < 0.25:
            self._later(0.3, process.terminate)
        return Done("end: worker by SIGTERM", process.pid)

    def _drain_worker(self) -> Done | None:
        """Let a worker give its steps away for a while."""
        folders = [path for path in (self._control / "workers").glob("*") if path.is_dir()]
        if len(folders) < 2:
            return None
        marker = self._chance.choice(sorted(folders)) / "DRAIN"
        with suppress(OSError):
            marker.write_text("chaos")
            self._later(self._chance.uniform(1.0, 4.0), lambda: marker.unlink(missing_ok=True))
            return Done("ask: drain a worker", marker.parent.name)
        return None

    def _kill_redis(self) -> Done | None:
        if self._fleet.redis is None or self._fleet.redis_down_until is not None:
            return None
        self._fleet.kill_redis(self._chance.uniform(0.0, 2.0))
        return Done("kill: Redis")

    def _kill_command(self) -> Done | None:
        """Kill one of our own commands half-way: it has asked or not, and never half."""
        command = self.requests.newest_command()
        if command is None:
            return None
        self.requests.killed.add(command.pid)
        command.kill()
        return Done("kill: command", command.name)

    def _stop(self) -> Done | None:
        """Stop a process and continue it later."""
        pids = {"child": self._children()}
        for name, slots in (("worker", self._fleet.workers), ("supervisor", self._fleet.supervisors)):
            pids[name] = [slot.process.pid for slot in slots if slot.is_alive]
        if self._fleet.redis is not None and self._fleet.redis_down_until is None:
            pids["Redis"] = [self._fleet.redis.process.pid]
        return self._freeze(pids, SHORT_STOP_S)

    def _stop_for_long(self) -> Done | None:
        """Stop one that holds a claim for longer than a holder may be silent, or a supervisor."""
        children, holders = self._children(), self._holders()
        busy = [pid for pid in holders if pid in children]
        blind = [pid for pid in busy if any("-blind-" in hit.operation_id for hit in holders[pid])]
        return self._freeze(
            {
                "child at work, for long": blind or busy,
                "supervisor, for long": [slot.process.pid for slot in self._fleet.supervisors if slot.is_alive][:1],
            },
            LONG_STOP_S,
        )

    def _freeze(self, pids: dict[str, list[int]], seconds: tuple[float, float]) -> Done | None:
        free = [(kind, pid) for kind, found in pids.items() for pid in found if not self._fleet.is_frozen(pid)]
        if not free:
            return None
        kind, pid = self._chance.choice(free)
        if not self._fleet.freeze(pid):
            return None
        self._later(self._chance.uniform(*seconds), lambda: self._thaw(pid))
        return Done(f"stop: {kind}", pid)

    def _thaw(self, pid: int) -> None:
        self._note(f"continue {pid}")
        self._fleet.thaw(pid)

    # The broker.

    def _flush(self) -> Done | None:
        server = self._fleet.redis
        if server is None or self._fleet.redis_down_until is not None or self._fleet.is_frozen(server.process.pid):
            return None
        with suppress(redis.RedisError), server.client() as client:
            client.flushall()
            return Done("broker: FLUSHALL")
        return None

    def _remove_broker(self) -> Done | None:
        shutil.rmtree(self._control / "broker", ignore_errors=True)
        return Done("broker: rm -rf")

    # What people ask.

    def _hold(self) -> Done | None:
        """Pause an operation for a while."""
        free = self._active(Wish.SUCCEED)
        if not free:
            return None
        case = self._chance.choice(free)
        way = self._chance.choice(["command", "marker", "marker", "edit", "edit"])
        if not self.requests.ask(case, "pause", way):
            return None
        back = {"marker": self._chance.choice(["marker", "command"]), "command": "edit"}.get(way, "command")
        self._later(self._chance.uniform(0.2, 4.0), lambda: self._let_go(case, back))
        return Done(f"ask: pause by {way}", case.operation.id)

    def _let_go(self, case: Case, way: str) -> None:
        self._note(f"let go by {way} {case.operation.id}")
        if not self.requests.ask(case, "run", way):
            self._later(0.5, lambda: self._let_go(case, way))

    def _remark(self) -> Done | None:
        """Edit the reason of some operations, while their steps move: what they want stays as it is."""
        done = None
        for case in self._chance.sample(free := self._active(Wish.SUCCEED), min(4, len(free))):
            view = case.operation.state_file.read().view
            if view is not None and self.requests.edit(case, view.want):
                done = Done("ask: edits of the reason", case.operation.id)
        return done

    def _fulfil(self) -> Done | None:
        """Ask an operation for what is wished of it: to be cancelled, or to be left paused."""
        waiting = [case for case in self._active(Wish.CANCEL, Wish.HOLD) if not case.is_asked]
        if not waiting:
            return None
        case = self._chance.choice(waiting)
        want = "cancel" if case.wish is Wish.CANCEL else "pause"
        way = self._chance.choice(["marker", "edit"])  # a command may be killed before it has asked
        if not self.requests.ask(case, want, way):
            return None
        case.is_asked = True
        return Done(f"ask: {want} by {way}, for good", case.operation.id)

    def _hold_all(self) -> Done | None:
        marker = self._control / "PAUSE"
        marker.write_text("chaos")
        self._later(self._chance.uniform(0.2, 2.0), lambda: marker.unlink(missing_ok=True))
        return Done("ask: control/PAUSE")
