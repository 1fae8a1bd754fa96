"""Run chaos and print the report: `python -m chaos --seconds 120 --seed 7 --broker redis`, from `tests/`.

Exit status 0 when nothing was lost and nothing done twice, 1 when something was; then everything stays in the folder
that the report names. The seed gives the same choices again; what they hit depends on the machine's timing.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from chaos.report import Report
from chaos.run import Plan, run


def main() -> int:
    """Run once for each broker asked for."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the adversary acts, for each broker")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    parser.add_argument("--broker", choices=("redis", "embedded", "both"), default="both")
    parser.add_argument("--kills", type=int, default=100, help="at least so many for each broker, in up to 3 x SECONDS")
    parser.add_argument("--every", type=float, default=0.4, help="seconds between two faults, on average")
    parser.add_argument("--deadline", type=float, default=180.0, help="seconds until all must be as asked, at the end")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run without a loss too")
    parser.add_argument("--details", action="store_true", help="name the slowest recoveries, and count the tracebacks")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the fleet is ended too
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    reports = []
    for broker in ("redis", "embedded") if asked.broker == "both" else (asked.broker,):
        print(f"chaos: seed {seed}, broker {broker}, {asked.seconds:g} s ...", flush=True)
        plan = Plan(broker, seed, asked.seconds, asked.kills, every_s=asked.every, deadline_s=asked.deadline)
        reports.append(_one(plan, asked))
    losses = sum(len(report.verdict.faults) for report in reports)
    print(f"in all: {sum(report.kills for report in reports)} kills, {losses} losses")
    return 0 if all(report.is_good for report in reports) else 1


def _one(plan: Plan, asked: argparse.Namespace) -> Report:
    """Run once and print the report."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.broker}-{plan.seed}-", dir=asked.folder))
    report = run(plan, folder)
    print("\n".join(report.lines()))
    if asked.details:
        print("\n".join(["the slowest recoveries:", *report.verdict.recoveries.slowest]))
        print("\n".join(["tracebacks:", *(f"{count:5} {text}" for text, count in report.errors.most_common())]))
    if report.is_good and not asked.keep:
        shutil.rmtree(folder)
    else:
        print(f"everything is in {folder}")
    print(flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
