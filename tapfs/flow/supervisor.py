"""The supervisor: sees to it that what people ask by files, and what broke, is acted upon.

File events (watchdog) are hints that say which operation to look at; a scan of `active/` every few seconds is the
truth (network file systems, lost events). One supervisor a control directory acts, by the lock `supervisor.lock`;
others stand by and take over when its process is gone. All it does is reconcile, which anyone may do at any time
(law 9), so even two at once would do no harm.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tapfs.bus import files
from tapfs.bus.control import Control
from tapfs.bus.layout import ID
from tapfs.bus.locks import SingleHolder
from tapfs.bus.losses import take_away
from tapfs.bus.operation import Operation
from tapfs.bus.states import ACTIVE, FINAL, State
from tapfs.bus.workers import clear_dead
from tapfs.errors import OperationUnknown, TapfsError
from tapfs.flow.rest import Rest
from tapfs.flow.silence import Silence, Stillness
from tapfs.flow.watch import Watch

if TYPE_CHECKING:
    from tapfs.flow.bus import Bus

logger = logging.getLogger(__name__)

#: Seconds between two scans of everything active.
SCAN_INTERVAL_S = 2.0
#: Seconds between two comparisons of the index of active operations with the operations there are.
INDEX_INTERVAL_S = 300.0
#: Seconds between two tries to become the one that acts.
STANDBY_INTERVAL_S = 1.0
#: Seconds without a sign of life of the one that acts after which another acts, too; two at once do no harm.
SILENT_SUPERVISOR_S = 10.0
#: Seconds after which an operation with an edit in the making is looked at again.
LOOK_AGAIN_S = 0.12
#: Seconds after an error before the next scan.
_PATIENCE_S = 1.0


class Supervisor:
    """Watches one control directory and reconciles its operations.

    Args:
        bus: the bus; its publisher is used.
        scan_interval_s: seconds between two scans.
        uses_events: whether to watch for file events beside the scan.
    """

    def __init__(self, bus: Bus, *, scan_interval_s: float = SCAN_INTERVAL_S, uses_events: bool = True) -> None:
        self._bus = bus
        # Its own objects: a worker's steps in this process act under another name at the same time.
        self._control = Control(
            bus.control.path,
            publisher=bus.control.publisher,
            actor=f"supervisor:{os.getpid()}",
            clock=bus.control.now,
            recovery=bus.control.recovery,
        )
        self._scan_interval_s = scan_interval_s
        self._holder = SingleHolder(self._control.layout.supervisor_lock)
        self._stopping = threading.Event()
        self._watch = Watch(self._control.path) if uses_events else None
        self._due: dict[str, float] = {}
        self._troubles: dict[str, str] = {}
        self._rest = Rest(self._control.layout)
        self._next_sign = 0.0
        self._others = Stillness(2 * max(STANDBY_INTERVAL_S, scan_interval_s))
        self._silence = Silence(bus.control.recovery.silent_after_s, 2 * scan_interval_s)
        self._returns_seen = self._returns_of_broker()

    def run(self) -> None:
        """Supervise until `stop` is called; blocks."""
        self._control.prepare()
        try:
            while not self._stopping.is_set():
                if self._may_act():
                    self._act()
                else:
                    self._stopping.wait(STANDBY_INTERVAL_S)
        finally:
            self._holder.give_back()

    def _may_act(self) -> bool:
        """Whether to act: the lock is ours, or its holder has been silent for too long: frozen, or out of reach."""
        if self._holder.take():
            return True
        return self._others.look(self._holder.sign(), time.monotonic()) >= SILENT_SUPERVISOR_S

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.wake()

    def _act(self) -> None:
        """Be the one that acts, until stopped or the directory is gone."""
        logger.info("supervising %s", self._control.path)
        if self._watch is not None:
            self._watch.start()
        try:
            next_scan = next_rebuild = 0.0
            while not self._stopping.is_set():
                now = time.monotonic()
                if now >= next_scan and not self._show_life():
                    logger.info("another supervises %s again", self._control.path)
                    return
                if now >= next_rebuild:
                    next_rebuild = now + INDEX_INTERVAL_S
                    self._rebuild_index()
                if now >= next_scan:
                    next_scan = now + (self._scan_interval_s if self._scan() else _PATIENCE_S)
                self._look_at_due(now)
                until = min([next_scan, *self._due.values()]) - time.monotonic()
                self._note_hints(max(0.0, until))
        finally:
            if self._watch is not None:
                self._watch.stop()

    def _show_life(self) -> bool:
        """Give a sign of life; says whether to go on acting, which one in the place of a silent one does until then."""
        if self._holder.take():
            self._give_sign()
            return True
        return self._others.look(self._holder.sign(), time.monotonic()) > 0

    def _give_sign(self) -> None:
        """Give a sign of life, if the last is older than a scan usually is; scans may be long."""
        now = time.monotonic()
        if self._holder.is_ours and now >= self._next_sign:
            with suppress(OSError):  # what cannot be written now may be at the next scan
                self._holder.give_sign()
            self._next_sign = now + STANDBY_INTERVAL_S

    def _note_hints(self, timeout_s: float) -> None:
        """Wait for file events, for as long as there is nothing else to do, and note whom they concern."""
        if self._watch is None:
            self._stopping.wait(timeout_s)
            return
        now = time.monotonic()
        for name in self._watch.wait(timeout_s):
            if ID.fullmatch(name):
                self._due[name] = now
            else:  # the bus's own marker, or events were lost: everything
                self._due.update(dict.fromkeys(self._control.active_ids(), now))

    def _scan(self) -> bool:
        """Look at everything that is active; says whether that went well."""
        try:
            ids = self._control.active_ids()
        except OSError as error:
            logger.warning("cannot scan %s: %s", self._control.path, error)
            return False
        returns = self._returns_of_broker()
        has_returned, self._returns_seen = returns != self._returns_seen, returns
        if has_returned:
            logger.info("the broker is back: what is out is published again")
        for operation_id in ids:
            if self._stopping.is_set():
                return True
            self._give_sign()
            if not self._rest.holds(operation_id):
                self._look_at(operation_id, at_once=has_returned)
        clear_dead(self._control.layout)
        if self._watch is not None:
            self._watch.keep_up()
        return True

    def _returns_of_broker(self) -> int:
        """How often the broker came back after it was away; what it held before may be gone."""
        return getattr(self._control.publisher, "returns", 0)

    def _rebuild_index(self) -> None:
        """Put every operation into the index that has not ended and is not there: it was lost, or removed by hand."""
        try:
            indexed, ids = set(self._control.active_ids()), self._control.ids()
        except OSError as error:
            logger.warning("cannot compare the index with the operations in %s: %s", self._control.path, error)
            return
        for operation_id in ids:
            if operation_id in indexed or self._stopping.is_set():
                continue
            if not self._has_ended(operation_id):
                self._look_at(operation_id)

    def _has_ended(self, operation_id: str) -> bool:
        """Whether an operation's `state.json` says so; not where it cannot be read."""
        try:
            view = self._control.operation(operation_id).state_file.read().view
        except OSError:
            return False
        return view is not None and view.state in FINAL

    def _look_at_due(self, now: float) -> None:
        due = [operation_id for operation_id, at in self._due.items() if at <= now]
        for operation_id in due:
            del self._due[operation_id]
            self._look_at(operation_id)

    def _look_at(self, operation_id: str, *, at_once: bool = False) -> None:
        """Reconcile one operation; an error is logged and leaves the others alone.

        With `at_once`, what is out and unclaimed is published again without waiting for its delay.
        """
        operation = self._control.operation(operation_id)
        recovery = self._control.recovery
        operation.recovery = replace(recovery, first_delay_s=0.0) if at_once else recovery
        try:
            before = self._rest.signs_of(operation_id)
            settled = self._bus.reconcile(operation)
            self._take_from_silent(operation, settled.state)
            if settled.look_again:
                self._due[operation_id] = time.monotonic() + LOOK_AGAIN_S
            elif settled.state is State.PAUSED:
                self._rest.begin(operation_id, before)
        except OperationUnknown:
            self._rest.forget(operation_id)
            self._forget(operation_id)
        except (TapfsError, OSError) as error:
            kind = str(getattr(error, "strerror", None) or error)  # without the name of a temporary file
            if self._troubles.get(operation_id) != kind:  # said once, not at every scan
                logger.warning("cannot reconcile operation %s: %s", operation_id, error)
            self._troubles[operation_id] = kind
        except Exception:
            logger.exception("cannot reconcile operation %s", operation_id)
        else:
            self._troubles.pop(operation_id, None)

    def _take_from_silent(self, operation: Operation, state: State) -> None:
        """Give the steps of frozen holders, and of those out of reach, to others."""
        if state not in ACTIVE:
            self._silence.forget(operation.id)
            return
        for out in self._silence.look(operation.layout, time.monotonic()):
            because = f"no sign of life for {self._control.recovery.silent_after_s:g} s"
            logger.warning("operation %s: step %s is taken from its worker: %s", operation.id, out.path, because)
            take_away(operation, out, because)

    def _forget(self, operation_id: str) -> None:
        """Take an operation out of the index that is not there; one that is only just being made is left."""
        entry = self._control.layout.active / operation_id
        try:
            age = time.time() - entry.stat().st_mtime
            is_gone = operation_id not in os.listdir(self._control.layout.operations)
        except OSError:
            return
        if is_gone and age > 60:
            files.remove(entry)


def start_thread(bus: Bus) -> Supervisor:
    """Supervise in a thread of this process, until it ends."""
    supervisor = Supervisor(bus)
    threading.Thread(target=_run_for_ever, args=(supervisor,), name="tapfs-supervisor", daemon=True).start()
    return supervisor


def _run_for_ever(supervisor: Supervisor) -> None:
    """Run; after an error, log it and run again: the thread must not die."""
    while not supervisor.is_stopping:
        try:
            supervisor.run()
        except Exception:
            logger.exception("the supervisor failed; it starts again")
            time.sleep(_PATIENCE_S)
