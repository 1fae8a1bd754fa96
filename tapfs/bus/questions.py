"""What a gate asks, as it stands in the plan. Pure: nothing is read or written here.

A gate stands in the plan as a step of the task `tapfs.gate` that no worker runs; its keyword arguments are the
question:

```
{"name": "approve", "question": "Send 10,000 mails?",
 "fields": {"ok": {"type": "boolean", "required": true, "choices": null, "default": null, "description": null}},
 "default": null, "timeout_s": null, "passes": "answer"}
```
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tapfs.bus.answers import ANSWERED_BY, TYPES, Fields, check_answer, fault_of
from tapfs.bus.fields import Faulty, Field, Json, check_object, shown
from tapfs.bus.plan import LONGEST_NAME, Step

#: The task under which a gate stands in a plan.
GATE = "tapfs.gate"
#: What a gate gives to the next step: the answer, the value that came before it, or a list of the value and the answer.
ANSWER, VALUE, BOTH = "answer", "value", "both"
#: The most characters of a question, and of a field's description.
LONGEST_QUESTION = 2000
#: The most fields of a gate.
MOST_FIELDS = 100

#: A gate's name, which is its step's.
GATE_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_NAME}}}")
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ANYTHING = (bool, int, float, str, list, dict, type(None))
_FIELD = {
    "type": Field((str,), required=True, choices=tuple(TYPES)),
    "required": Field((bool,)),
    "choices": Field((list, type(None))),
    "default": Field(_ANYTHING),
    "description": Field((str, type(None)), longest=LONGEST_QUESTION),
}
_QUESTION = {
    "name": Field((str,), required=True),
    "question": Field((str,), required=True, longest=LONGEST_QUESTION),
    "fields": Field((dict,), default={}),
    "default": Field((dict, type(None))),
    "timeout_s": Field((float, type(None))),
    "passes": Field((str, type(None)), choices=(ANSWER, VALUE, BOTH)),
}


@dataclass(frozen=True)
class Question:
    """What a gate asks.

    Attributes:
        name: the gate's name, as in its step's label.
        question: the text.
        fields: what an answer holds, as shown above, nothing left out.
        default: the answer that is taken at the time limit, checked and filled in; None for none.
        timeout_s: seconds from the asking to the time limit; None waits for ever.
        passes: `answer`, `value` or `both`.
    """

    name: str
    question: str
    fields: Fields
    default: dict[str, Json] | None
    timeout_s: float | None
    passes: str

    def document(self) -> dict[str, Json]:
        """The question as it stands in a plan."""
        return dict(self.__dict__)

    def words(self) -> str:
        """An answer as it is typed: `ok=yes|no [note=TEXT]`; `--go` is to say nothing but that it may go on."""
        pairs = [(one["required"], f"{name}={_placeholder(one)}") for name, one in self.fields.items()]
        words = [pair if is_required else f"[{pair}]" for is_required, pair in pairs]
        return " ".join(words if any(is_required for is_required, _ in pairs) else ["--go", *words])


def is_gate(step: Step) -> bool:
    """Say whether a step is a gate, which people answer and no worker runs."""
    return step.task == GATE


def question_of(step: Step) -> Question:
    """What a gate asks; raises `Faulty` with every fault, for a plan can be edited."""
    return question_from(step.kwargs)


def question_from(found: Mapping[str, Json]) -> Question:
    """Check a question and fill in what it leaves out.

    Raises:
        Faulty: with every fault.
    """
    try:
        values, faults = check_object(found, _QUESTION), []
    except Faulty as error:
        declared = found.get("fields")
        raise Faulty([*error.faults, *(_checked_fields(declared)[1] if isinstance(declared, dict) else ())]) from None
    if not GATE_NAME.fullmatch(values["name"]):
        faults.append(f"field 'name': {shown(values['name'])} is none: letters, digits, '-' and '_', at most 40")
    if values["timeout_s"] is not None and not 0 < values["timeout_s"] < math.inf:
        faults.append(f"field 'timeout_s': {values['timeout_s']} is no time")
    fields, wrong = _checked_fields(values["fields"])
    faults += wrong
    if values["default"] is not None and not wrong:
        try:
            values["default"] = check_answer(fields, values["default"])
        except Faulty as error:
            faults += [f"the default does not fit: {fault}" for fault in error.faults]
    if faults:
        raise Faulty(faults)
    passes = values["passes"] or (ANSWER if fields else VALUE)
    return Question(**(values | {"fields": fields, "passes": passes}))


def _checked_fields(found: dict[str, Json]) -> tuple[Fields, list[str]]:
    fields: Fields = {}
    faults = [] if len(found) <= MOST_FIELDS else [f"there are {len(found):,} fields, more than {MOST_FIELDS}"]
    for name, one in found.items():
        try:
            fields[name] = _checked_field(name, one)
        except Faulty as error:
            faults += [f"field {shown(name)}: {fault}" for fault in error.faults]
    return fields, faults


def _checked_field(name: str, found: Json) -> dict[str, Json]:
    if name == ANSWERED_BY:
        raise Faulty([f"'{ANSWERED_BY}' is the word for who answers"])
    if not _FIELD_NAME.fullmatch(name):
        raise Faulty(["a name is a letter or '_', then letters, digits and '_'"])
    if not isinstance(found, dict):
        raise Faulty([f"{shown(found)} is no object that tells its type"])
    one = check_object({"required": found.get("default") is None} | found, _FIELD)
    if one["choices"] is not None and not one["choices"]:
        raise Faulty(["there is nothing to choose from"])
    unfit = [fault for choice in one["choices"] or () if (fault := fault_of(choice, one | {"choices": None}))]
    if not unfit and one["default"] is not None:
        if one["required"]:
            raise Faulty(["it is required and has a default: leave out one of them"])
        unfit = [fault] if (fault := fault_of(one["default"], one)) else []
    if unfit:
        raise Faulty(unfit)
    return one


def _placeholder(one: Mapping[str, Json]) -> str:
    return "|".join(map(str, one["choices"])) if one["choices"] else TYPES[one["type"]][1]
