"""`workflow.json`: a plan as it is written and read, one step a line, so that `less` and `grep` work."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tapfs.bus import files
from tapfs.bus.fields import Faulty, Field, Json, check_object, parse_object, to_utf8
from tapfs.bus.plan import CONCURRENCY, CONTINUE, FAIL, LONGEST_NAME, Group, Part, Plan, Sequence, Step, parts_of
from tapfs.bus.records import LARGE
from tapfs.errors import RecordInvalid

_NUMBER = r"[0-9]{4,19}(\.[0-9]{4,19}){0,20}"
_PATH = re.compile(rf"{_NUMBER}(/{_NUMBER}){{0,20}}")
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_NAME}}}")

_plans: dict[str, tuple[files.Identity, Plan]] = {}
#: As many as there are operations in memory (`Control.operation`): fewer would be read again at each scan.
_MOST_PLANS = 256


def read_plan(path: str) -> Plan:
    """Read `workflow.json`, from memory while the file is the same (a plan is read at every step).

    Raises:
        FileNotFoundError: there is none.
        RecordInvalid: it is not a plan.
    """
    identity = files.identity_of(os.stat(path, follow_symlinks=False))
    known = _plans.get(path)
    if known is not None and known[0] == identity:
        _plans[path] = _plans.pop(path, known)  # the one that was used last goes last
        return known[1]
    try:
        plan = decode_plan(files.read_bytes(path, LARGE))
    except Faulty as error:
        raise RecordInvalid(path, error.faults) from None
    except files.NotAFile as error:
        raise RecordInvalid(path, (str(error.strerror),)) from None
    while len(_plans) >= _MOST_PLANS:
        _plans.pop(next(iter(_plans)), None)
    _plans[path] = (identity, plan)
    return plan


def renew_plan(path: Path) -> None:
    """Write `workflow.json` anew as it is: a new file has every process look again at all that is done of it."""
    files.replace(path, files.read_bytes(path, LARGE))


def encode_plan(plan: Plan) -> bytes:
    """Write a plan as it stands in `workflow.json`. `crc` is that of the lines behind it, so that an edit is seen."""
    lines = to_utf8(_encode_part(plan.root))
    told = {name: getattr(plan, name) for name in _PLAN if name not in _WRITTEN} | {
        "crc": None if plan.is_edited else zlib.crc32(lines)
    }
    return to_utf8(json.dumps(told, ensure_ascii=False)[:-1] + _LINES) + lines + b"}\n"


def decode_plan(content: bytes) -> Plan:
    """Read a plan; raises `Faulty` with every fault."""
    values = check_object(parse_object(content), _PLAN)
    crc = values.pop("crc")
    try:
        root = _decode_part(values.pop("workflow"), "workflow")
    except RecursionError:
        raise Faulty(["field 'workflow' is nested too deeply"]) from None
    if not isinstance(root, Sequence):
        raise Faulty(["field 'workflow': the outermost part is no sequence"])
    lines = content.partition(_LINES.encode())[2][:-2]
    plan = Plan(root, **values, is_edited=crc != zlib.crc32(lines))
    faults = [f"field '{name}': {values[name]} is no whole number from 1" for name in _COUNTS if values[name] < 1]
    if plan.max_running_s is not None and not plan.max_running_s > 0:
        faults.append("field 'max_running_s' is no time")
    faults = faults or _faults_of_paths(plan)
    if faults:
        raise Faulty(faults)
    return plan


def is_path(path: str) -> bool:
    """Say whether a path can stand in a plan: it becomes a part of the names of files."""
    return _PATH.fullmatch(path) is not None


def _faults_of_paths(plan: Plan) -> list[str]:
    """What keeps the steps from each having files of its own."""
    if not plan.steps:
        return ["field 'workflow' has no step"]
    count = Counter(step.path for step in plan.steps)
    faults = [f"field 'workflow': step {path} stands there {times} times" for path, times in count.items() if times > 1]
    folders = {str(parent) for path in count if "/" in path for parent in PurePosixPath(path).parents}
    both = sorted(folders & count.keys())
    faults += [f"field 'workflow': {path} is a step, and a group or member too" for path in both]
    for part in plan.put_in:
        if part.by not in count:
            faults.append(f"field 'workflow': {part.path} was put in by {part.by}, and there is no such step")
    for group in (home for home in plan.homes if isinstance(home, Group)):
        members = Counter(member.path for member in group.members)
        faults += [
            f"field 'workflow': member {path} stands there {times} times"
            for path, times in members.items()
            if times > 1
        ]
        stray = next((path for path in members if path.rpartition("/")[0] != group.path), None)
        if stray is not None:
            faults.append(f"field 'workflow': member {stray} does not stand below its group {group.path}")
    return faults


_COUNTS = ("nth", "concurrency")
_PLAN = {
    "nth": Field((int,), default=1),
    "clause": Field((str, dict, type(None))),
    "callback": Field((str, dict, type(None))),
    "max_running_s": Field((float, type(None))),
    "concurrency": Field((int,), default=CONCURRENCY),
    "on_error": Field((str,), default=FAIL, choices=(FAIL, CONTINUE)),
    "crc": Field((int, type(None))),
    "workflow": Field((dict,), required=True),
}
_WRITTEN = ("crc", "workflow")
_LINES = ', "workflow":\n'
_KIND = {"kind": Field((str,), required=True), "by": Field((str, type(None)))}
_SEQUENCE = _KIND | {"path": Field((str,), default=""), "parts": Field((list,), required=True)}
_GROUP = _KIND | {
    "path": Field((str,), required=True),
    "concurrency": Field((int, type(None))),
    "on_error": Field((str,), default=FAIL, choices=(FAIL, CONTINUE)),
    "members": Field((list,), required=True),
}
_STEP = _KIND | {
    "path": Field((str,), required=True),
    "name": Field((str,), required=True),
    "task": Field((str,), required=True),
    "args": Field((list,), default=[]),
    "kwargs": Field((dict,), default={}),
    "immutable": Field((bool,), default=False),
    "options": Field((dict,), default={}),
}


def _encode_part(part: Part) -> str:
    if isinstance(part, Step):
        told = {name: value for name, value in part.__dict__.items() if name != "by" or value is not None}
        return json.dumps({"kind": "step"} | told, ensure_ascii=False, allow_nan=False)
    holds = "parts" if isinstance(part, Sequence) else "members"
    told = {name: value for name, value in part.__dict__.items() if name != holds and value not in (None, "")}
    head = json.dumps({"kind": type(part).__name__.lower()} | told)
    inner = ",\n".join(_encode_part(one) for one in parts_of(part))
    return f'{head[:-1]}, "{holds}": [\n{inner}\n]}}'


def _decode_part(value: Json, where: str) -> Part:
    if not isinstance(value, dict):
        raise Faulty([f"field '{where}' is no object"])
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in _DECODERS:
        raise Faulty([f"field '{where}.kind': {kind!r} is none of {', '.join(_DECODERS)}"])
    return _DECODERS[kind](value, where)


def _checked(value: Json, specification: dict[str, Field], where: str) -> dict[str, Json]:
    try:
        values = check_object(value, specification)
    except Faulty as error:
        raise Faulty([f"{where}: {fault}" for fault in error.faults]) from None
    del values["kind"]
    # They become parts of file names.
    for name, form in (("path", _PATH), ("name", _NAME), ("by", _PATH)):
        found = values.get(name)
        if found and not form.fullmatch(found):
            raise Faulty([f"field '{where}.{name}': {found[:100]!r} is none"])
    return values


def _decode_step(value: Json, where: str) -> Step:
    values = _checked(value, _STEP, where)
    for name in ("path", "name"):
        if not values[name]:
            raise Faulty([f"field '{where}.{name}': '' is none"])
    return Step(**values)


def _decode_sequence(value: Json, where: str) -> Sequence:
    values = _checked(value, _SEQUENCE, where)
    if not values["parts"]:
        raise Faulty([f"field '{where}.parts' has no part"])
    parts = tuple(_decode_part(one, f"{where}.parts[{place}]") for place, one in enumerate(values.pop("parts")))
    return Sequence(parts, **values)


def _decode_group(value: Json, where: str) -> Group:
    values = _checked(value, _GROUP, where)
    if values["concurrency"] is not None and values["concurrency"] < 1:
        raise Faulty([f"field '{where}.concurrency': {values['concurrency']} is no whole number from 1"])
    if not values["members"]:
        raise Faulty([f"field '{where}.members' has no member"])
    members = tuple(_decode_part(one, f"{where}.members[{place}]") for place, one in enumerate(values.pop("members")))
    return Group(members, **values)


_DECODERS: dict[str, Callable[[Json, str], Part]] = {
    "step": _decode_step,
    "sequence": _decode_sequence,
    "group": _decode_group,
}
