"""What a step says that comes next: a workflow that runs in its place, durably and once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from celery.canvas import Signature
from celery.exceptions import Ignore

from tapfs.bus.fields import Json
from tapfs.bus.plan import Group, Part, Sequence, Step, short_name
from tapfs.flow.entry import each_step

#: Celery's own task that gives back its arguments, or one of them.
_GATHERS = "celery.accumulate"


@dataclass(frozen=True)
class Then:
    """What a step returns that is gone on with by another workflow.

    Attributes:
        workflow: any canvas; its result counts as the step's.
    """

    workflow: Signature


class Replaced(Ignore):
    """Raised by `self.replace` in a step: the step is done, and its place is taken."""


def heirs(parts: tuple[Part, ...], options: dict[str, Json]) -> tuple[Part, ...]:
    """Parts that tell whom the step was to tell: they inherit its callbacks, as with Celery's own `replace`.

    The last one's result is the step's, so it has the `link`; where that is a group, one more step gives its list on.
    """
    links, errbacks = options.get("link") or [], options.get("link_error") or []
    if errbacks:
        parts = tuple(each_step(part, lambda step: _telling(step, "link_error", errbacks)) for part in parts)
    if links and isinstance(parts[-1], Group):
        gathers = Step("", short_name(_GATHERS), _GATHERS, kwargs={"index": 0})
        return (*parts, _telling(gathers, "link", links))
    return (*parts[:-1], _last_telling(parts[-1], links)) if links else parts


def _last_telling(part: Part, links: list[Json]) -> Part:
    if isinstance(part, Sequence):
        return replace(part, parts=(*part.parts[:-1], _last_telling(part.parts[-1], links)))
    assert isinstance(part, Step)
    return _telling(part, "link", links)


def _telling(step: Step, option: str, callbacks: list[Json]) -> Step:
    return replace(step, options={**step.options, option: [*(step.options.get(option) or []), *callbacks]})


def then(workflow: Signature) -> Then:
    """Say what comes next; a step returns it.

        @app.task
        def read(path, cursor=0, rows=()):
            chunk, cursor = read_some(path, cursor)
            if cursor is not None:
                return tapfs.then(read.s(path, cursor, [*rows, *chunk]))
            return tapfs.then(group(clean.s(row) for row in rows) | save.s())

    What is returned takes the place of the step, as with `self.replace`: it gets no argument but its own, it is written
    into `workflow.json` with the step's commit, once, however often the step ran, and what follows the step gets its
    result. Without an operation, Celery's own `replace` does it.
    """
    return Then(workflow)
