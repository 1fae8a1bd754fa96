"""Gates: steps at which a workflow waits for a person's answer.

    prepare.s() | tapfs.gate("approve", "Send 10,000 mails?", fields={"ok": bool, "note": str | None}) | send.s()

A gate is a signature like any other, of a task that no worker runs: tapfs does its part itself. It asks in
`gates/<step>/request.json` of the operation's folder, and is answered by `tapfs answer`, or by saving `answer.json`
there.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import date
from enum import Enum
from keyword import iskeyword

from celery.canvas import Signature

from tapfs.bus.fields import Faulty, Json
from tapfs.bus.questions import GATE, GATE_NAME, question_from
from tapfs.errors import TapfsError
from tapfs.flow.parameters.declaration import DeclarationRefused, parameters_of
from tapfs.flow.parameters.kinds import Choice, Day, Integer, Kind, Number, PathText, Text, YesNo
from tapfs.flow.parameters.parameter import Parameter

_TYPES: dict[type[Kind], str] = {
    YesNo: "boolean",
    Integer: "integer",
    Number: "number",
    Text: "string",
    PathText: "string",
    Day: "date",
}
_SUPPORTED = (
    "bool, int, float, str, date, Literal or Enum of texts or of integers, a list of choices, X | None, "
    'and {"type": X, "default": ..., "choices": [...], "description": ...}'
)


class GateRefused(TapfsError):
    """A gate cannot be made so; nothing was made.

    Attributes:
        gate: its name.
        faults: everything that is wrong with it.
    """

    def __init__(self, gate: str, faults: tuple[str, ...]) -> None:
        super().__init__(f"cannot make gate {gate!r}: {'; '.join(faults)}", hint=f"fields can be: {_SUPPORTED}")
        self.gate = gate
        self.faults = faults


def gate(
    name: str,
    question: str | None = None,
    *,
    fields: Mapping[str, object] | None = None,
    default: Mapping[str, object] | None = None,
    timeout_s: float | None = None,
    passes: str | None = None,
) -> Signature:
    """Make a step at which a person answers.

    Args:
        name: its name, as steps have one: letters, digits, `-` and `_`, at most 40.
        question: what is asked; the name with a question mark if not given.
        fields: what the answer holds, by name: `bool`, `int`, `float`, `str`, `date`, a list of choices, `X | None` for
            one that may be left out, or `{"type": X, "default": ..., "choices": [...], "description": ...}`. What has
            no default must be answered.
        default: the answer that is taken at the time limit; None lets the step fail then.
        timeout_s: seconds from the asking to the time limit; None waits for ever.
        passes: what the next step gets: `answer`, a dict; `value`, what came before, unchanged; `both`, a list of the
            two. None: the answer where there are fields, else the value.

    Returns:
        A signature, for chains, groups and chords.

    Raises:
        GateRefused: something about it is wrong; all of it is told.
    """
    faults: list[str] = []
    declared = {str(field): _declared(str(field), told, faults) for field, told in (fields or {}).items()}
    found: dict[str, Json] = {
        "name": name,
        "question": f"{name}?" if question is None else question,
        "fields": {field: told for field, told in declared.items() if told is not None},
        "default": None if default is None else {str(field): _plain(value) for field, value in default.items()},
        "timeout_s": timeout_s,
        "passes": passes,
    }
    try:
        kwargs = question_from(found).document()
    except Faulty as error:
        raise GateRefused(str(name), (*faults, *error.faults)) from None
    if faults:
        raise GateRefused(str(name), tuple(faults))
    return Signature(GATE, kwargs=kwargs)


def gate_name(signature: Signature) -> str | None:
    """The name of a gate, for its step; None for what is no gate, or one without a name that a step can have.

    Raises:
        GateRefused: it has a `link`, which a worker would send and none runs it.
    """
    if signature.task != GATE:
        return None
    name = signature.kwargs.get("name")
    if signature.options.get("link"):
        raise GateRefused(str(name), ("it has a link, which no worker would call: put that task behind it",))
    return name if isinstance(name, str) and GATE_NAME.fullmatch(name) else None


def _declared(name: str, told: object, faults: list[str]) -> dict[str, Json] | None:
    """A field as the plan has it; None for one that cannot be, whose faults are added."""
    more: dict[str, Json] = {}
    if isinstance(told, Mapping):
        more = {str(key): value for key, value in told.items() if key != "type"}
        told = told.get("type", str)
        if isinstance(told, str):  # as it stands in a plan
            return {"type": told, **more}
    if isinstance(told, (list, tuple)):
        choices = [_plain(one) for one in told]
        kinds = {type(one) for one in choices}
        kind = {str: "string", int: "integer", float: "number"}.get(kinds.pop()) if len(kinds) == 1 else None
        if kind is None:
            faults.append(f"field '{name}': {choices!r} are not choices of one kind, texts or numbers")
            return None
        return {"type": kind, "choices": choices, **more}
    try:
        return _of_parameter(_parameter(name, told)) | {key: _plain(value) for key, value in more.items()}
    except DeclarationRefused as error:
        faults += [fault.replace("parameter ", "field ", 1) for fault in error.faults]
        return None


def _parameter(name: str, annotation: object) -> Parameter:
    """The type as operations declare theirs, so that both take the same and refuse in the same words."""
    if not name.isidentifier() or iskeyword(name):
        name = "it"  # the name's own fault is found where a plan is checked
    declared = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
    parameter = parameters_of(_Declaration(inspect.Signature([declared])))[0]
    if parameter.is_list or parameter.is_masked or not isinstance(parameter.item, (Choice, *_TYPES)):
        what = inspect.formatannotation(annotation)
        raise DeclarationRefused(name, (f"parameter '{name}' has the unsupported type {what}",))
    return parameter


class _Declaration:
    """What `parameters_of` takes for a function."""

    def __init__(self, signature: inspect.Signature) -> None:
        self.__signature__ = signature

    def __call__(self) -> None:
        """Nothing; it is never called."""


def _of_parameter(parameter: Parameter) -> dict[str, Json]:
    item = parameter.item
    if isinstance(item, Choice):
        kind = "integer" if isinstance(item.choices[0], int) else "string"
        told: dict[str, Json] = {"type": kind, "choices": list(item.choices)}
    else:
        told = {"type": _TYPES[type(item)]}
    return told | {"required": False} if parameter.is_optional else told


def _plain(value: object) -> Json:
    """A default or a choice as JSON has it: dates as texts, of an Enum's member its value."""
    if isinstance(value, Enum):
        return value.value
    return value.isoformat() if isinstance(value, date) else value
