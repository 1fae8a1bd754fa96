"""How long it took from a kill that hit a held claim to the next claim of the same step, as the ledger shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from chaos.adversary import Adversary
from chaos.cases import Case
from chaos.ledger import read_ledger
from tapfs.bus.clock import seconds_of, timestamp
from tapfs.bus.states import State

#: Seconds before a kill in which the broker may have lost the message that follows it.
_RINGING_S = 2.0


@dataclass
class Recoveries:
    """Times in seconds.

    Attributes:
        plain_s: where nothing else came in between.
        rung_again_s: where the broker lost what it held: then the message waits for its delay.
        held_s: where somebody's pause lay in between.
        slowest: which of the plain ones took longest, the worst first.
    """

    plain_s: list[float] = field(default_factory=list)
    rung_again_s: list[float] = field(default_factory=list)
    held_s: list[float] = field(default_factory=list)
    slowest: list[str] = field(default_factory=list)


def measure(data: Path, cases: list[Case], adversary: Adversary) -> Recoveries:
    """Measure every kill that hit a held claim; those whose step was not to go on are left out."""
    found = Recoveries()
    held = {case.operation.id: list(_held_times(case)) for case in cases}
    told: list[tuple[float, str]] = []
    for hit in adversary.hits:
        later = [
            line.at
            for line in read_ledger(data, hit.operation_id)
            if line.mark == "start" and line.step == hit.step and line.fence > (hit.epoch, hit.attempt)
        ]
        if not later:
            continue  # it was committed first, or the operation was stopped for good
        again = min(later)
        took = again - hit.at
        if any(since < again and until > hit.at for since, until in held[hit.operation_id]):
            found.held_s.append(took)
        elif any(hit.at - _RINGING_S < lost_at < again for lost_at in adversary.broker_losses):
            found.rung_again_s.append(took)
        else:
            found.plain_s.append(took)
            told.append((took, f"{took:.1f} s from {timestamp(hit.at)}: {hit.operation_id}, step {hit.step}"))
    found.slowest = [text for _, text in sorted(told, reverse=True)[:5]]
    return found


def _held_times(case: Case) -> Iterator[tuple[float, float]]:
    """When somebody's pause held it."""
    since = None
    for line in case.operation.journal.entries():
        if line["event"] != "state":
            continue
        at = seconds_of(line["at"]) or 0.0
        if line["to"] in (State.PAUSING, State.PAUSED):
            since = since or at
        elif since is not None:
            yield since, at
            since = None
    if since is not None:
        yield since, time.time()


def spread(seconds: list[float]) -> str:
    """Median, p90 and maximum, for a person."""
    if not seconds:
        return "none"
    p90 = quantiles(seconds, n=10, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return f"{len(seconds)} times; median {median(seconds):.2f} s, p90 {p90:.2f} s, longest {max(seconds):.2f} s"
