"""The report of a run: a plain table, the seed first."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chaos.judge import Verdict
from chaos.measure import spread

#: The last line of a traceback.
_ERROR = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Lost|Interrupt|Unusable|Unknown|Failed|Exists)\b.*)$")


@dataclass
class Report:
    """All that a run has to say.

    Attributes:
        seed, broker, seconds: what was run.
        folder: where everything is, if it is kept.
        faults: what went wrong by the adversary's hand, by kind.
        kills: how many processes were killed, commands not counted.
        restarts: what the keeper started again, by kind.
        settled_s: seconds from the adversary's end until every operation was as wished; None where it never was.
        verdict: what the judge says.
        errors: last lines of tracebacks in the outputs, and how often.
    """

    seed: int
    broker: str
    seconds: float
    folder: Path
    faults: Counter[str]
    kills: int
    restarts: dict[str, int]
    settled_s: float | None
    verdict: Verdict
    errors: Counter[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost and nothing done twice."""
        return not self.verdict.faults

    def lines(self) -> list[str]:
        """The report as it is printed."""
        verdict = self.verdict
        settled = "never" if self.settled_s is None else f"{self.settled_s:.1f} s after the last fault"
        rows = [
            ("seed", f"{self.seed}"),
            ("broker", f"{self.broker}, {self.seconds:g} s"),
            ("operations", f"{sum(verdict.states.values())}: {_counted(verdict.states)}"),
            ("steps", f"{verdict.commits} committed by {verdict.attempts} attempts"),
            ("faults", f"{sum(self.faults.values())}, of which {self.kills} kills"),
            *((f"  {kind}", f"{count}") for kind, count in sorted(self.faults.items())),
            ("started again", _counted(self.restarts) or "nothing"),
            ("recovered", spread(verdict.recoveries.plain_s)),
            ("  broker lost", spread(verdict.recoveries.rung_again_s)),
            ("  held meanwhile", spread(verdict.recoveries.held_s)),
            ("all as asked", settled),
            ("verify notes", _counted(verdict.notes) or "none"),
            ("losses", f"{len(verdict.faults)}"),
        ]
        width = max(len(name) for name, _ in rows) + 2
        return [f"{name:<{width}}{value}" for name, value in rows] + [f"  LOSS {text}" for text in verdict.faults]


def _counted(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def errors_in(outputs: list[Path]) -> Counter[str]:
    """The last lines of the tracebacks in some outputs, without what differs from one to the next."""
    found: Counter[str] = Counter()
    for path in outputs:
        for line in path.read_text(errors="replace").splitlines():
            if match := _ERROR.match(line):
                found[re.sub(r"[0-9a-f]*[0-9][0-9a-f-]*", "#", match[1])[:160]] += 1
    return found
