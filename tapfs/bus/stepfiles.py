"""Looking at `steps/` and `claims/`: is each file a record, of a step of the plan, and fit to what the others say?

What `repair` may do here follows from two laws. The result of a committed step is never made up, so a commit that
cannot be read is at most put aside, and only while no step has used it and nothing is at work: the step is
then done again. And a claim belongs to who holds its lock, so nothing that is held is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tapfs.bus import files
from tapfs.bus.findings import Remedy
from tapfs.bus.gaps import Done, put_in_by, takers
from tapfs.bus.locks import is_held
from tapfs.bus.plan import Group, Part, Plan, Step
from tapfs.bus.records import SMALL, Checkpoint, Claim, Commit, Failure
from tapfs.bus.scene import Scene, Thing, entries_below, is_too_large, parents_of, read_record, tell_stranger, thing_at
from tapfs.bus.states import FINAL, State
from tapfs.errors import RecordInvalid

_CHECKPOINT, _ONCE, _GIVEN_UP, _COMMIT = ".checkpoint.json", ".once.jsonl", ".error.json", ".json"
_TOO_LARGE = "tapfs does not read so large a file, and leaves it alone"


def look_at_steps(scene: Scene, plan: Plan) -> Done:
    """Check commits, checkpoints, and what tells of members that were given up; returns what is done."""
    steps = {step.label: step for step in plan.steps}
    members = {one.path: one for home in plan.homes if isinstance(home, Group) for one in home.members}
    entries = list(entries_below(scene.layout.steps, parents_of(iter((*steps, *members)))))
    committed = frozenset(_label(name) for _, name in entries if _suffix(name) == _COMMIT)
    given_up = frozenset(_label(name) for _, name in entries if _suffix(name) == _GIVEN_UP)
    done = Done(plan, lambda step: step.label in committed, lambda member: member.path in given_up)
    for path, name in entries:
        if not scene.is_meant(path):
            continue
        suffix, label = _suffix(name), _label(name)
        if suffix is None:
            tell_stranger(scene.found, path)
        elif suffix == _GIVEN_UP and label in members:
            _look_at_given_up(scene, done, members[label])
        elif label not in steps:
            what = "member" if suffix == _GIVEN_UP else "step"
            scene.found.fault(
                path, f"the plan has no such {what}", "nothing reads it: move it away if it is not needed"
            )
        elif suffix == _COMMIT:
            _look_at_commit(scene, done, steps[label])
        elif suffix == _CHECKPOINT:
            _look_at_checkpoint(scene, plan, steps[label], label in committed)
    if scene.run is None or scene.run.rewind_to is None:  # else what is put aside is half gone, and the rest follows
        _look_for_gap(scene, done)
    return done


def _suffix(name: str) -> str | None:
    """How the name of a step's or member's file ends; None for others."""
    if Path(name).name.startswith("."):
        return None
    return next((one for one in (_CHECKPOINT, _ONCE, _GIVEN_UP, _COMMIT) if name.endswith(one)), None)


def _label(name: str) -> str:
    return name.removesuffix(_suffix(name) or "")


def _look_at_commit(scene: Scene, done: Done, step: Step) -> None:
    path = scene.layout.commit(step)
    try:
        commit = read_record(Commit, path)
    except FileNotFoundError:
        return
    except RecordInvalid as error:
        scene.found.unreadable(path, error, *_of_spoilt_commit(scene, done, step))
        return
    except OSError as error:
        scene.found.unreadable(path, error)
        return
    _look_at_epoch(scene, path, commit.epoch)
    if commit.of is not None and commit.of != step.checksum:
        text = "it is of another task or other arguments than the plan has: workflow.json was edited"
        scene.found.fault(path, text, f"put workflow.json back as it was, or rewind to {step.path} to do it again")


def _look_at_epoch(scene: Scene, path: Path, epoch: int) -> None:
    if scene.run is not None and epoch > scene.run.epoch:
        text = f"it is of epoch {epoch}, and run.json of epoch {scene.run.epoch}"
        scene.found.fault(path, text, "were files of two copies mixed?")


def _of_spoilt_commit(scene: Scene, done: Done, step: Step) -> tuple[str, Remedy | None]:
    """What is to be done about a commit that cannot be read."""
    plan = done.plan
    following = [one for one in takers(plan, step) if not one.immutable]
    needing = [one for one in following if not done.is_done(one) and not done.is_out_of_reach(one)]
    outcome = scene.run.outcome if scene.run is not None else None
    if not needing and takers(plan, step):
        return "restore it from a copy; the steps behind it do not need it any more", None
    if used_by := next(_done_with(done, step, following), None):
        needed = f", and {needing[0].label} still needs it" if needing else ""
        advice = f"restore it from a copy: {used_by.label} was done with it{needed}; or rewind to {step.path}"
        return advice, None
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
    anew = [one.label for one in needing if files.exists(scene.layout.checkpoint(one))]
    if anew:
        again += f"; {anew[0]} starts anew, for its checkpoint was made from it"
    return again, Remedy.PUT_ASIDE


def _done_with(done: Done, step: Step, following: list[Step]) -> Iterator[Step]:
    """The steps that are done and would not be as they are without that one: they took its result, or came from it."""
    return (one for one in (*following, *put_in_by(done.plan, step)) if done.is_done(one))


def _look_at_given_up(scene: Scene, done: Done, member: Part) -> None:
    path = scene.layout.given_up(member)
    try:
        failure = read_record(Failure, path)
    except FileNotFoundError:
        return
    except RecordInvalid as error:
        if thing_at(path) is Thing.FILE and not is_too_large(path):
            lost = "it is written anew, and says that what failed was lost"
            scene.found.unreadable(path, error, lost, Remedy.WRITE)
        else:
            advice = f"move it away, and write anything into a file of that name to leave out {member.path}"
            scene.found.unreadable(path, error, advice)
    except OSError as error:
        scene.found.unreadable(path, error)
    else:
        _look_at_epoch(scene, path, failure.epoch)


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


def _look_for_gap(scene: Scene, done: Done) -> None:
    early = next(done.early(), None)
    if early is not None:
        step, missing = early
        text = f"it is committed, but step {missing.label} before it is not"
        advice = f"restore {missing.label}.json from a copy; else move this one away"
        scene.found.fault(scene.layout.commit(step), text, advice)


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
