"""The experiment: so many cuts on one file system, and a report. Prints its seed; exit 77 where the machine cannot."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from powercut import load
from powercut.acks import AckLog, Line, read_acks
from powercut.check import Check, Checked
from powercut.disk import Cut, Disk, DiskUnusable
from tapfs.errors import TapfsError

CANNOT = 77
#: Seconds within which every process has met the cut.
_END_LIMIT_S = 30.0
#: Seconds of load before a cut by the clock, at most; of waiting for a cut by count.
_LONGEST_LOAD_S, _LONGEST_WAIT_S = 0.5, 1.0
_SHOWN = 20


class Experiment:
    """Cut after cut on one disk; each control directory lives through one to three of them."""

    def __init__(self, disk: Disk, folder: Path, seed: int, unsynced: str) -> None:
        self._disk = disk
        self._folder = folder
        self._seed = seed
        self._unsynced = unsynced
        self._chance = random.Random(seed)
        self._lives = 0
        self._control = disk.point
        self._log = folder / "none"
        self.checked = Checked()
        self.kinds: Counter[str] = Counter()
        self.styles: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.halfway = 0

    def cut(self, number: int) -> None:
        """Put load on it, cut, mount again, check."""
        if self._lives == 0:
            self._lives = self._chance.choice((1, 1, 2, 3))
            self._control = self._disk.point / f"control-{number}"
            self._log = self._folder / f"acks-{number}.jsonl"
        self._lives -= 1
        self._disk.mount()
        try:
            self._load(number)
        finally:
            self._disk.unmount()
        self._disk.mount()
        try:
            self._check(number)
        finally:
            self._disk.unmount()

    def _load(self, number: int) -> None:
        chance = self._chance
        by_count = chance.random() < 0.5
        kind = chance.choice(load.KINDS + load.FREQUENT)
        after = (kind, chance.randint(1, 8 if kind in load.FREQUENT else 2)) if by_count else None
        how = chance.choices((Cut.HARD, Cut.JOURNAL_FLUSHED, Cut.FLUSHED), (7, 2, 1))[0]
        over = self._folder / f"over-{number}"
        orders = load.Orders(
            self._control, self._log, self._disk.point, over, number, self._seed, how, after, self._unsynced
        )
        log = AckLog(self._log, "main", number)
        errors = self._folder / "errors.txt"
        started = time.monotonic()
        roles = ["operator"] * chance.randint(1, 2) + ["worker"] * chance.randint(1, 3)
        children = [_fork(role, place, orders, errors) for place, role in enumerate(roles)]
        until = started + (_LONGEST_WAIT_S if by_count else chance.uniform(0.02, _LONGEST_LOAD_S))
        ended: dict[int, int] = {}
        while time.monotonic() < until and not ended:
            time.sleep(0.001)
            _reap(children, ended)
        if not ended:
            load.cut_logged(log, orders)
        self.styles[f"{how.name.lower()}, {f'after a {after[0]}' if after and ended else 'by the clock'}"] += 1
        over.touch()
        deadline = time.monotonic() + _END_LIMIT_S
        while len(ended) < len(children) and time.monotonic() < deadline:
            time.sleep(0.001)
            _reap(children, ended)
        for child in set(children) - set(ended):
            os.kill(child, 9)
            os.waitpid(child, 0)
            self._problem(number, "a process did not end after the cut")
        self._look_at_ends(number, ended, errors)

    def _look_at_ends(self, number: int, ended: dict[int, int], errors: Path) -> None:
        lines = [line for line in read_acks(self._log) if line["cut"] == number]
        cut_at = min((line["at"] for line in lines if line["kind"] == "cut"), default=time.monotonic())
        if any(ended.values()):
            self._problem(number, "a process ended without a clear error:\n" + errors.read_text()[-4000:])
        for line in lines:
            if line["kind"] == "end":
                self.ends[f"{line.get('type', line['phase'])}: {_without_names(line.get('text', ''))}"] += 1
                if line["at"] < cut_at or line["phase"] == "overtime":
                    self._problem(number, f"a process ended before the cut: {line}")
            elif line["phase"] == "done":
                self.kinds[line["kind"]] += 1
        self.halfway += _met(lines, cut_at)

    def _check(self, number: int) -> None:
        try:
            check = Check(self._control, read_acks(self._log), number, self.checked)
            check.look()
            check.reconcile()
            if self._lives == 0:
                check.finish()
                with suppress(FileNotFoundError):  # the cut came before anything was there
                    shutil.rmtree(self._control)
        except (OSError, TapfsError) as error:
            self._problem(number, f"it cannot be used any more: {error!r}")

    def _problem(self, number: int, text: str) -> None:
        self.checked.problems.append(f"cut {number}: {text}")


def _fork(role: str, place: int, orders: load.Orders, errors: Path) -> int:
    child = os.fork()
    if child == 0:
        load.run(role, place, orders, errors)
    return child


def _reap(children: list[int], ended: dict[int, int]) -> None:
    for child in children:
        if child not in ended:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                ended[child] = os.waitstatus_to_exitcode(status)


def _met(lines: list[Line], cut_at: float) -> bool:
    """Whether the cut met a process in the middle of a call."""
    begun: dict[str, float] = {}
    for line in lines:
        if line["at"] > cut_at and line["who"] in begun:
            return True
        if line["at"] < cut_at and line["phase"] == "begun":
            begun[line["who"]] = line["at"]
        else:
            begun.pop(line["who"], None)
    return False


def _without_names(text: str) -> str:
    """The text without the operation's own names, to count equal ones."""
    return " ".join("'...'" if "/" in word else word for word in text.split())[:150]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m powercut", description=__doc__)
    parser.add_argument("kind", choices=("ext4", "xfs"))
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--unsynced", choices=("nothing", "folders", "contents", "all"), default="nothing")
    parser.add_argument("--until-lost", action="store_true", help="stop at the first cut that lost something")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        disk = Disk(options.kind, folder)
        try:
            disk.enter_private_namespace()
            disk.make()
        except DiskUnusable as problem:
            print(f"CANNOT {problem}")
            return CANNOT
        try:
            return _run(Experiment(disk, folder, options.seed, options.unsynced), options)
        finally:
            disk.close()


def _run(experiment: Experiment, options: argparse.Namespace) -> int:
    started = time.monotonic()
    checked, done = experiment.checked, 0
    for number in range(1, options.cuts + 1):
        experiment.cut(number)
        done = number
        if checked.problems and options.until_lost:
            break
    for text in checked.problems[:_SHOWN]:
        print("PROBLEM", text)
    report = {
        "file system": options.kind,
        "seed": options.seed,
        "unsynced": options.unsynced,
        "cuts": done,
        "seconds": round(time.monotonic() - started, 1),
        "acknowledged": sum(experiment.kinds.values()),
        "checks": checked.acks,
        "files read": checked.files,
        "cuts that hit a call half-way": experiment.halfway,
        "operations finished": checked.finished,
        "temporary files left": checked.leftovers,
        "torn last lines": checked.torn,
        "torn edits that nobody synced": checked.spoilt_edits,
        "problems": len(checked.problems),
        "acknowledged by kind": dict(experiment.kinds.most_common()),
        "cuts by kind": dict(experiment.styles.most_common()),
        "how processes ended": dict(experiment.ends.most_common()),
    }
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return 1 if checked.problems else 0


if __name__ == "__main__":
    sys.exit(main())
