"""Looking at `gates/`: is each file a request or an answer, of a gate of the plan? Answers are people's, and stay."""

from __future__ import annotations

import re

from tapfs.bus.findings import Remedy
from tapfs.bus.gatefiles import GateRequest
from tapfs.bus.plan import Plan
from tapfs.bus.questions import is_gate
from tapfs.bus.records import SMALL
from tapfs.bus.scene import Scene, entries_below, is_leftover_name, parents_of, read_record, tell_stranger
from tapfs.errors import RecordInvalid

_OURS = re.compile(r"answer\.json|(answer|request)\.json\.rejected-[0-9]+")


def look_at_gates(scene: Scene, plan: Plan) -> None:
    """Check what gates ask. A request that is spoilt or gone is written anew while its gate waits."""
    folder = scene.layout.gates
    if not folder.is_dir():
        return
    requests = {f"{step.label}/request.json" for step in plan.steps if is_gate(step)}
    known = parents_of(iter(requests))
    for path, name in entries_below(folder, known):
        if not scene.is_meant(path):
            continue
        if name in requests:
            try:
                read_record(GateRequest, path, SMALL)
            except FileNotFoundError:
                pass
            except RecordInvalid as error:
                advice = "it is put aside, and written anew while the gate waits"
                scene.found.unreadable(path, error, advice, Remedy.PUT_ASIDE)
            except OSError as error:
                scene.found.unreadable(path, error)
        elif is_leftover_name(path.name):
            tell_stranger(scene.found, path)
        elif not (_OURS.fullmatch(path.name) and str(path.parent.relative_to(folder)) in known):
            scene.found.note(path, "tapfs knows no such file", "it does no harm")
