"""The arguments an operation is started with: checked as a whole, every fault told at once.

Arguments are a JSON object with one member a parameter, in the order of the parameters, defaults filled in:

    {"path": "data/people.csv", "batch": 500, "mode": "a", "since": "2026-11-22"}
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from tapfs.bus.document import MASK
from tapfs.errors import TapfsError
from tapfs.flow.parameters.declaration import parameters_of
from tapfs.flow.parameters.kinds import Json
from tapfs.flow.parameters.parameter import Faulty, Parameter, shorten

#: Characters of an unknown name that a near match is sought for; comparing takes time with the square of them.
_NAME_MAX = 64

_Given = TypeVar("_Given")


class ArgumentsRefused(TapfsError):
    """The arguments do not fit the operation's parameters; nothing was created or changed.

    `operation` is its name; `faults` says all that is wrong, each on one line.
    """

    def __init__(self, operation: str, faults: tuple[str, ...], *, hint: str | None = None) -> None:
        told = f" {faults[0]}" if len(faults) == 1 else "".join(f"\n  {fault}" for fault in faults)
        super().__init__(f"cannot take the arguments of operation '{operation}':{told}", hint=hint)
        self.operation = operation
        self.faults = faults


def check_arguments(
    operation_name: str, parameters: Sequence[Parameter], given: Mapping[str, object]
) -> dict[str, Json]:
    """Check arguments that come as Python or JSON values.

    Types are strict: the text "12" is no integer and True is none. Text is taken for a path, a date and a date and
    time; an integer for a number; an Enum's value for its member; a tuple for a list.

    Returns:
        JSON values: a path as it was given, dates in ISO 8601, of an Enum's member its value.

    Raises:
        ArgumentsRefused: some are missing, unknown or do not fit.
    """
    names = {parameter.name: parameter.name for parameter in parameters}
    faults = [f"{shorten(key)} is not a parameter{_near(key, names)}" for key in given if key not in names]
    return _filled(operation_name, parameters, given, Parameter.check, faults)


def parse_arguments(
    operation_name: str,
    parameters: Sequence[Parameter],
    words: Iterable[str],
    earlier: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """Check arguments that come as the words `KEY=VALUE` of a command line.

    What no word names is taken from `earlier`, JSON values of an operation that was started before, where there is any.

    Text is converted by the parameter's type: 500; 0.5 or 1e3; yes/no, true/false, on/off or 1/0; none, null or
    nothing for an optional one; for a list `a,b`, or the key once more for each item.

    Returns:
        What `check_arguments` would.

    Raises:
        ArgumentsRefused: a word is not KEY=VALUE, a key is repeated that is no list, or arguments are missing, unknown
            or do not fit.
    """
    names = {parameter.name: parameter.name for parameter in parameters}
    pairs = {parameter.name: f"{parameter.name}={parameter.placeholder}" for parameter in parameters}
    has_masked = any(parameter.is_masked for parameter in parameters)
    given: dict[str, list[str]] = {}
    faults: list[str] = []
    for position, word in enumerate(words, start=1):
        key, equals, text = word.partition("=")
        if equals and key in names:
            given.setdefault(key, []).append(text)
            continue
        # Such a word may be a secret that a stray space cut off from its key ("token= s3cr3t=="), so it is not shown.
        shown = f"word {position}" if has_masked else shorten(key)
        lack = f"a parameter{_near(key, names)}" if equals else f"KEY=VALUE{_near(key, pairs)}"
        faults.append(f"{shown} is not {lack}")
    return _filled(operation_name, parameters, given, Parameter.parse, faults, earlier or {})


def load_arguments(function: Callable[..., object], arguments: Mapping[str, Json]) -> dict[str, object]:
    """Turn JSON arguments into what the function is annotated with, to call it by `function(**loaded)`.

    They are checked once more: between start and now the function may have changed, or the file have been edited.

    Raises:
        ArgumentsRefused: they do not fit the function.
        DeclarationRefused: the function cannot be declared as an operation.
    """
    parameters = parameters_of(function)
    checked = check_arguments(getattr(function, "__name__", repr(function)), parameters, arguments)
    return {parameter.name: parameter.load(checked[parameter.name]) for parameter in parameters}


def usage(operation_name: str, parameters: Iterable[Parameter]) -> str:
    """Give the command that starts the operation: `tapfs start people path=PATH [batch=INTEGER]`."""
    pairs = ((parameter.required, f"{parameter.name}={parameter.placeholder}") for parameter in parameters)
    return " ".join(["tapfs start", operation_name, *(pair if required else f"[{pair}]" for required, pair in pairs)])


def masked(arguments: Mapping[str, Json], parameters: Iterable[Parameter]) -> dict[str, Json]:
    """Give a copy of the arguments to show: of masked parameters `***`, whatever and however long the value."""
    hidden = {parameter.name for parameter in parameters if parameter.is_masked}
    return {name: MASK if name in hidden else value for name, value in arguments.items()}


def _filled(
    operation_name: str,
    parameters: Sequence[Parameter],
    given: Mapping[str, _Given],
    convert: Callable[[Parameter, _Given], Json],
    faults: list[str],
    earlier: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """Convert what is given, fill in what was given earlier and defaults, and raise all faults, also those before."""
    arguments: dict[str, Json] = {}
    for parameter in parameters:
        try:
            if parameter.name in given:
                arguments[parameter.name] = convert(parameter, given[parameter.name])
                continue
            if parameter.name in (earlier or {}):
                arguments[parameter.name] = parameter.check((earlier or {})[parameter.name])
                continue
        except Faulty as faulty:
            faults.extend(faulty.faults)
            continue
        if parameter.required:
            faults.append(f"'{parameter.name}' is missing")
        else:
            default = parameter.default
            arguments[parameter.name] = list(default) if isinstance(default, list) else default
    if faults:
        raise ArgumentsRefused(operation_name, tuple(faults), hint=f"usage: {usage(operation_name, parameters)}")
    return arguments


def _near(key: object, meant: Mapping[str, str]) -> str:
    """Ask whether what stands for a name like the key was meant, or say nothing."""
    by_lower = {name.lower(): shown for name, shown in meant.items()}
    near = difflib.get_close_matches(str(key)[:_NAME_MAX].lower(), by_lower, n=1)
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""
