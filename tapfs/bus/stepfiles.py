"""Looking at `steps/` and `claims/`: is each file a record, of a step of the plan, and fit to what the others say?

What `repair` may do here follows from two laws. The result of a committed step is never made up, so a commit that
cannot be read is at most put aside, and only while the next step has not used it and nothing is at work: the step is
then done again. And a claim belongs to who holds its lock, so nothing that is held is touched.
"""

from __future__ import annotations

from pathlib import Path

from tapfs.bus import files
from tapfs.bus.findings import Remedy
from tapfs.bus.locks import is_held
from tapfs.bus.plan import Plan, Step
from tapfs.bus.records import SMALL, Checkpoint, Claim, Commit
from tapfs.bus.scene import Scene, Thing, entries_below, is_too_large, parents_of, read_record, tell_stranger, thing_at
from tapfs.bus.states import FINAL, State
from tapfs.errors import RecordInvalid

_CHECKPOINT, _ONCE, _COMMIT = ".checkpoint.json", ".once.jsonl", ".json"
_TOO_LARGE = "tapfs does not read so large a file, and leaves it alone"


def look_at_steps(scene: Scene, plan: Plan) -> frozenset[str]:
    """Check commits and checkpoints; returns the labels of the steps that are committed."""
    steps = {step.label: step for step in plan.steps}
    entries = list(entries_below(scene.layout.steps, parents_of(iter(steps))))
    committed = frozenset(_label(name) for _, name in entries if _suffix(name) == _COMMIT) & steps.keys()
    for path, name in entries:
        if not scene.is_meant(path):
            continue
        step = steps.get(_label(name))
        if _suffix(name) is None:
            tell_stranger(scene.found, path)
        elif step is None:
            scene.found.fault(path, "the plan has no such step", "nothing reads it: move it away if it is not needed")
        elif _suffix(name) == _COMMIT:
            _look_at_commit(scene, plan, step, committed)
        elif _suffix(name) == _CHECKPOINT:
            _look_at_checkpoint(scene, plan, step, step.label in committed)
    _look_for_gap(scene, plan, committed)
    return committed


def _suffix(name: str) -> str | None:
    """How the name of a step's file ends; None for others."""
    if Path(name).name.startswith("."):
        return None
    return next((one for one in (_CHECKPOINT, _ONCE, _COMMIT) if name.endswith(one)), None)


def _label(name: str) -> str:
    return name.removesuffix(_suffix(name) or "")


def _look_at_commit(scene: Scene, plan: Plan, step: Step, committed: frozenset[str]) -> None:
    path = scene.layout.commit(step)
    try:
        commit = read_record(Commit, path)
    except FileNotFoundError:
        return
    except RecordInvalid as error:
        scene.found.unreadable(path, error, *_of_spoilt_commit(scene, plan, step, committed))
        return
    except OSError as error:
        scene.found.unreadable(path, error)
        return
    if scene.run is not None and commit.epoch > scene.run.epoch:
        text = f"it is of epoch {commit.epoch}, and run.json of epoch {scene.run.epoch}"
        scene.found.fault(path, text, "were files of two copies mixed?")


def _of_spoilt_commit(scene: Scene, plan: Plan, step: Step, committed: frozenset[str]) -> tuple[str, Remedy | None]:
    """What is to be done about a commit that cannot be read."""
    place = plan.place(step.path)
    following = plan.steps[place + 1] if place + 1 < len(plan.steps) else None
    outcome = scene.run.outcome if scene.run is not None else None
    if following is not None and (following.immutable or following.label in committed):
        return "restore it from a copy; the steps behind it do not need it any more", None
    if is_too_large(scene.layout.commit(step)):
        return _TOO_LARGE, None
    if scene.run is None:
        return "run.json must be in order first: it says whether the operation has ended", None
    if outcome == State.SUCCEEDED:
        return "restore it from a copy; what it brought is in result.json", None
    if outcome in FINAL:
        return f"restore it from a copy; or move it away, and 'tapfs resume' does {step.label} again", None
    if _is_busy(scene, plan):
        return "a step is at work: repair it when nothing is", None
    again = f"it is put aside, and {step.label} is done again, with all that it does outside the files"
    if following is not None and files.exists(scene.layout.checkpoint(following)):
        again += f"; {following.label} starts anew, for its checkpoint was made from it"
    return again, Remedy.PUT_ASIDE


def _is_busy(scene: Scene, plan: Plan) -> bool:
    """Whether a living process holds any of the operation's claims."""
    parents = parents_of(step.path for step in plan.steps)
    return any(_is_held(path) for path, _ in entries_below(scene.layout.claims, parents))


def _is_held(path: Path) -> bool:
    return thing_at(path) is Thing.FILE and is_held(str(path))


def _look_at_checkpoint(scene: Scene, plan: Plan, step: Step, is_done: bool) -> None:
    path = scene.layout.checkpoint(step)
    is_at_work = _is_held(scene.layout.claim(step.path))
    try:
        read_record(Checkpoint, path)
    except FileNotFoundError:
        return
    except RecordInvalid as error:
        if is_at_work:
            scene.found.unreadable(path, error, "the step is at work, and writes it anew")
        elif is_too_large(path):
            scene.found.unreadable(path, error, f"{_TOO_LARGE}; move it away, and the step starts anew")
        else:
            becomes = "the step is done" if is_done else "the step starts anew"
            scene.found.unreadable(path, error, f"it is put aside: {becomes}", Remedy.PUT_ASIDE)
        return
    except OSError as error:
        scene.found.unreadable(path, error)
        return
    if is_done and not is_at_work:
        text = "its step is committed: a worker died before it could remove it"
        scene.found.note(path, text, "it is put aside", Remedy.PUT_ASIDE)


def _look_for_gap(scene: Scene, plan: Plan, committed: frozenset[str]) -> None:
    gap: Step | None = None
    for step in plan.steps:
        if step.label not in committed:
            gap = gap or step
        elif gap is not None:
            path = scene.layout.commit(step)
            text = f"it is committed, but step {gap.label} before it is not"
            scene.found.fault(path, text, f"restore {gap.label}.json from a copy; else move this one away")
            return


def look_at_claims(scene: Scene, plan: Plan) -> None:
    """Check what stands for the steps that are out."""
    paths = {step.path for step in plan.steps}
    parents = parents_of(iter(paths))
    for path, name in entries_below(scene.layout.claims, parents):
        if not scene.is_meant(path):
            continue
        if path.name.startswith("."):
            tell_stranger(scene.found, path)
        elif _is_held(path):
            _look_at_held_claim(scene, path, name in paths)
        elif name in paths:
            _look_at_unheld_claim(scene, path)
        elif name in parents:
            text = f"it is {thing_at(path).value} where a folder for the claims of a group belongs"
            scene.found.fault(path, text, "it is put aside", Remedy.PUT_ASIDE)
        else:
            scene.found.fault(path, "the plan has no such step", "it is put aside", Remedy.PUT_ASIDE)


def _look_at_held_claim(scene: Scene, path: Path, is_known: bool) -> None:
    found, run = scene.found, scene.run
    if not is_known:
        found.note(path, "the plan has no such step, but a process holds it", "look again when that has ended")
        return
    try:
        claim = read_record(Claim, path, SMALL)
    except RecordInvalid:
        found.note(path, "it is no claim, but a worker holds it", "it goes when the step ends")
    except OSError:
        return  # it ended in this instant, or cannot be read, which its worker does not need
    else:
        if run is not None and claim.epoch > run.epoch:
            text = f"it is of epoch {claim.epoch}, and run.json of epoch {run.epoch}"
            found.fault(path, text, "what its worker brings is refused, and the step is done again")


def _look_at_unheld_claim(scene: Scene, path: Path) -> None:
    found, run = scene.found, scene.run
    again = "it is put aside, and the step is put out again"
    try:
        claim = read_record(Claim, path, SMALL)
    except FileNotFoundError:
        return
    except RecordInvalid as error:
        thing = thing_at(path)
        text = "it is no claim: " + "; ".join(error.faults) if thing is Thing.FILE else f"it is {thing.value}"
        found.fault(path, text, again, Remedy.PUT_ASIDE)
    except OSError as error:
        found.unreadable(path, error)
    else:
        if run is not None and claim.epoch > run.epoch:
            text = f"it is of epoch {claim.epoch}, and run.json of epoch {run.epoch}"
            found.fault(path, text, again, Remedy.PUT_ASIDE)
        elif claim.holder is not None:
            worker = claim.held_by.worker if claim.held_by is not None else "its worker"
            found.note(path, f"{worker} is gone", "the step will be recovered by a worker")
