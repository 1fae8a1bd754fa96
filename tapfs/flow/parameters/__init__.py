"""The typed parameters of an operation: declared by a function, checked before anything is created.

A function's signature gives the `Parameter`s. Arguments come as Python or JSON values (`check_arguments`) or as the
words of a command line (`parse_arguments`); both give the same JSON values, which `load_arguments` turns back into
what the function is annotated with. Nothing here touches a file, and nothing imports Celery.
"""

from __future__ import annotations

from tapfs.flow.parameters.arguments import (
    ArgumentsRefused,
    check_arguments,
    load_arguments,
    masked,
    parse_arguments,
    usage,
)
from tapfs.flow.parameters.declaration import DeclarationRefused, Masked, Secret, parameters_of
from tapfs.flow.parameters.kinds import Json
from tapfs.flow.parameters.parameter import Parameter

__all__ = [
    "ArgumentsRefused",
    "DeclarationRefused",
    "Json",
    "Masked",
    "Parameter",
    "Secret",
    "check_arguments",
    "load_arguments",
    "masked",
    "parameters_of",
    "parse_arguments",
    "usage",
]
