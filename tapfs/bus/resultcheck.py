"""Looking at `result.json` of an operation that has succeeded: it is what the commits of its last steps say."""

from __future__ import annotations

import json

from tapfs.bus import files
from tapfs.bus.fields import Json
from tapfs.bus.findings import Remedy
from tapfs.bus.gaps import Done, givers
from tapfs.bus.records import LARGE
from tapfs.bus.scene import Scene, Thing, thing_at
from tapfs.bus.values import value_of
from tapfs.errors import RecordInvalid


def look_at_result(scene: Scene, done: Done) -> None:
    """Compare the result with the commits that it is made of."""
    found, path = scene.found, scene.layout.result
    if found.has(path) or not scene.is_meant(path):
        return
    last = [step.label for step in givers(done.plan.root)]
    source = f"{last[0]}.json" if len(last) == 1 else "the commits of the last steps"
    remedy: Remedy | None = Remedy.WRITE
    advice = f"it is written anew from {source}"
    is_known, expected = _value(scene, done)
    if not is_known:
        advice, remedy = f"restore it from a copy: {source} does not hold it either", None
    try:
        result: Json = json.loads(files.read_bytes(path, LARGE))
    except (ValueError, RecursionError) as error:
        found.fault(path, f"it is no JSON: {error}", advice, remedy)
    except OSError as error:
        found.unreadable(path, error, advice, remedy)
    else:
        if is_known and _canonical(result) != _canonical(expected):
            whose = "the last step's commit says" if len(last) == 1 else "the commits of the last steps say"
            found.fault(path, f"it is not what {whose}", advice, remedy)


def _value(scene: Scene, done: Done) -> tuple[bool, Json]:
    """What the workflow gives back, and whether that can be read."""
    sources = [scene.layout.commit(step) for step in givers(done.plan.root) if done.is_done(step)]
    if any(thing_at(source) is not Thing.FILE for source in sources):
        return False, None
    try:
        return True, value_of(scene.operation, done.plan.root)
    except (RecordInvalid, OSError):
        return False, None


def _canonical(value: Json) -> str:
    """A text that is the same for the same JSON only; to Python 1, 1.0 and true are one."""
    return json.dumps(value, sort_keys=True)
