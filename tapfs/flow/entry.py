"""The steps of a plan's parts, and its entry steps: those that take what comes from outside.

Entry steps are the first step of a sequence, and those of each member where a group comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from tapfs.bus.plan import Part, Sequence, Step


def each_step(part: Part, change: Callable[[Step], Step]) -> Part:
    """A part with each of its steps changed."""
    if isinstance(part, Step):
        return change(part)
    if isinstance(part, Sequence):
        return replace(part, parts=tuple(each_step(one, change) for one in part.parts))
    return replace(part, members=tuple(each_step(one, change) for one in part.members))


def entered(parts: Iterable[Part], change: Callable[[Step], Step]) -> list[Part]:
    """Parts that run one after the other, at least one, with their entry steps changed."""
    first, *others = parts
    return [_entered(first, change), *others]


def with_arguments(parts: Iterable[Part], args: Iterable[Any], kwargs: dict[str, Any]) -> list[Part]:
    """Parts whose entry steps take these arguments, unless they are immutable: before, and over, their own."""
    args = list(args)

    def given(step: Step) -> Step:
        if step.immutable:
            return step
        return replace(step, args=[*args, *step.args], kwargs={**step.kwargs, **kwargs})

    return entered(parts, given) if args or kwargs else list(parts)


def _entered(part: Part, change: Callable[[Step], Step]) -> Part:
    if isinstance(part, Step):
        return change(part)
    if isinstance(part, Sequence):
        return replace(part, parts=tuple(entered(part.parts, change)))
    return replace(part, members=tuple(_entered(member, change) for member in part.members))
