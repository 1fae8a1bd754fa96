"""How a function's signature declares parameters.

A signature is read once, when the operation is declared, and everything that cannot be offered on a command line, in
a form and in JSON alike is refused there, with all its faults, not when somebody starts the operation.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from tapfs.errors import TapfsError
from tapfs.flow.parameters.kinds import KINDS, TEXT, Choice, Kind, Unfit, one_line
from tapfs.flow.parameters.parameter import Faulty, Parameter

SUPPORTED = (
    "str, int, float, bool, Path, date, datetime, Literal and Enum of texts or integers, "
    "list[X] of these, X | None, and Annotated[X, Masked()]"
)


@dataclass(frozen=True)
class Masked:
    """Marks a parameter whose argument must not be shown: `token: Annotated[str, Masked()]`."""


#: A text that must not be shown.
Secret: TypeAlias = Annotated[str, Masked()]


class DeclarationRefused(TapfsError, TypeError):
    """A function cannot be declared as an operation; nothing was declared.

    `function` is its name; `faults` says all that is wrong, parameter by parameter.
    """

    def __init__(self, function: str, faults: tuple[str, ...]) -> None:
        super().__init__(f"cannot declare operation '{function}': {'; '.join(faults)}", hint=f"supported: {SUPPORTED}")
        self.function = function
        self.faults = faults


class _Unsupported(Exception):
    """A parameter cannot be declared; the text goes on after its name."""


@dataclass(frozen=True)
class _Shape:
    item: Kind
    is_list: bool = False
    is_optional: bool = False
    is_masked: bool = False


def parameters_of(function: Callable[..., object]) -> tuple[Parameter, ...]:
    """Read the parameters of a function from its signature, in order.

    A parameter without annotation is text, and with the default None optional. The default `...` says that there is
    none. The annotation of what is returned is not looked at: it may name what is imported for type checkers only.

    Raises:
        DeclarationRefused: an annotation is unsupported or cannot be resolved, a default does not fit, or there are
            `*args`, `**kwargs` or positional-only parameters.
    """
    parameters: list[Parameter] = []
    faults: list[str] = []
    for declared in inspect.signature(function).parameters.values():
        try:
            parameters.append(_parameter(function, declared))
        except _Unsupported as unsupported:
            faults.append(f"parameter '{declared.name}' {unsupported}")
    if faults:
        raise DeclarationRefused(getattr(function, "__qualname__", repr(function)), tuple(faults))
    return tuple(parameters)


def _parameter(function: Callable[..., object], declared: inspect.Parameter) -> Parameter:
    if declared.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
        raise _Unsupported(f"is {declared.kind.description}; arguments are given by name, one by one")
    if declared.annotation is inspect.Parameter.empty:
        shape = _Shape(TEXT, is_optional=declared.default is None)
    else:
        shape = _shape(_resolved(function, declared))
    required = declared.default is inspect.Parameter.empty or declared.default is ...
    parameter = Parameter(
        declared.name,
        shape.item,
        required,
        is_list=shape.is_list,
        is_optional=shape.is_optional,
        is_masked=shape.is_masked,
    )
    if required:
        return parameter
    try:
        return replace(parameter, default=parameter.check(declared.default))
    except Faulty as faulty:
        reason = f"has a default that does not fit: {', '.join(faulty.faults)}"
    raise _Unsupported(reason)


def _resolved(function: Callable[..., object], declared: inspect.Parameter) -> object:
    """Give the annotation of one parameter, evaluated if it is text.

    Of this one only: with all at once, one that cannot be resolved would hide which it is.
    """
    holder = types.SimpleNamespace(__annotations__={declared.name: declared.annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)[declared.name]
    except Exception as error:  # evaluating an annotation runs whatever stands there
        raise _Unsupported(f"has an annotation that cannot be resolved, {declared.annotation!r}: {error}") from error


def _shape(annotation: object) -> _Shape:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        shape = _shape(inner[0])
        is_masked = any(mark is Masked or isinstance(mark, Masked) for mark in inner[1:])
        return replace(shape, is_masked=shape.is_masked or is_masked)
    if origin in (Union, types.UnionType):
        others = [member for member in inner if member is not types.NoneType]
        if len(others) == 1:
            return replace(_shape(others[0]), is_optional=True)
    elif origin is list and inner:
        shape = _shape(inner[0])
        if not shape.is_list and not shape.is_optional:
            return replace(shape, is_list=True)
    elif origin is Literal:
        return _Shape(_choice([value for value in inner if value is not None]), is_optional=None in inner)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        return _Shape(_choice([member.value for member in annotation], annotation))
    elif isinstance(annotation, type) and annotation in KINDS:
        return _Shape(KINDS[annotation])
    raise _Unsupported(f"has the unsupported type {inspect.formatannotation(annotation)}")


def _choice(values: Sequence[object], enum: type[Enum] | None = None) -> Choice:
    choices: list[str | int] = []
    for value in values:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise _Unsupported(f"offers {value!r}, which is neither text nor an integer")
        try:
            choices.append(one_line(value) if isinstance(value, str) else int(value))
        except Unfit as unfit:
            raise _Unsupported(f"offers {value!r}, which is not {unfit}") from None
    if not choices:
        raise _Unsupported("offers nothing to choose from")
    # On a command line the text '1' and the integer 1 are the same word.
    if len({str(choice) for choice in choices}) < len(choices):
        raise _Unsupported("offers a text and an integer that read the same")
    shown = "|".join(map(str, choices))
    return Choice(f"one of {shown}", shown, tuple(choices), enum)
