"""What was acknowledged outlives a power cut, on ext4 and on xfs, and the experiment would see it if it did not."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from powercut.__main__ import CANNOT
from support import Processes, skip_unless

CUTS = int(os.environ.get("POWERCUT_CUTS") or 50)
SHOWN = ("cuts", "cuts that hit a call half-way", "acknowledged", "checks", "operations finished", "seconds")
SEED = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**6))
TESTS = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.powercut,
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("kind", ["ext4", "xfs"]),
]


@pytest.fixture
def experiment(processes: Processes, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run it in a process of its own, whose mounts and loop device go away with it, and return its report."""

    def run(*options: str) -> tuple[dict[str, Any], str]:
        arguments = ["-m", "powercut", kind, "--seed", str(SEED), "--folder", str(tmp_path), *options]
        path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(TESTS)])
        process = processes.python(*arguments, name="powercut", env={"PYTHONPATH": path})
        status = process.wait(800)
        reason = process.output.partition("CANNOT ")[2].strip()
        skip_unless(status != CANNOT, f"cut the power of {kind}: {reason}")
        assert "\n{" in process.output, f"it ended with {status}, without a report:\n{process.tail}"
        report = json.loads(process.output[process.output.index("\n{") :])
        with capsys.disabled():
            print(f"\n{kind}, TEST_SEED={SEED}:", ", ".join(f"{report[name]} {name}" for name in SHOWN), end=" ")
        return report, process.output

    return run


def test_nothing_acknowledged_is_lost_and_no_file_torn_by_a_power_cut(experiment: Any) -> None:
    """After each cut at a random instant under load: every call that returned has had its effect, every file is whole,
    `verify` finds no fault, and every operation goes on to its exact result. Processes that meet the cut end with an
    error of the system's or of tapfs's. The messages are lost at each cut: nothing of them is on that disk.
    """
    report, output = experiment("--cuts", str(CUTS))
    assert not report["problems"], output
    assert report["cuts"] == CUTS
    assert report["operations finished"] >= CUTS // 2
    assert min(report["checks"], report["acknowledged"]) >= 3 * CUTS


def test_with_syncs_off_a_power_cut_is_seen_to_lose_something(experiment: Any) -> None:
    """The control: the same load with TAPFS_SYNC=off. A harness that finds nothing here could not find anything."""
    report, output = experiment("--cuts", str(CUTS), "--unsynced", "all", "--until-lost")
    assert report["problems"], output
    assert "lost: " in output or "torn: " in output


def test_bytes_that_are_not_synced_before_their_name_are_seen_to_be_missing(experiment: Any) -> None:
    """The control for torn files: folders are synced, contents are not."""
    report, output = experiment("--cuts", str(CUTS), "--unsynced", "contents", "--until-lost")
    assert report["problems"], output
    assert "torn: " in output or "it cannot be used any more" in output
