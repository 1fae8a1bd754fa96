"""Canvas trees at random, and what a plan gives when it is evaluated plainly: here, one step after the other.

Nothing here knows how tapfs runs a plan. Whatever a run of it has gone through, its result must be what `evaluate`
says, and that must be what Celery itself gives for the same canvas.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from celery import Celery, chain, chord, group
from celery.canvas import Signature, _chain

from tapfs.bus.fields import Json
from tapfs.bus.plan import CONTINUE, Group, Part, Plan, Sequence, Step
from tapfs.flow.codec import from_json, to_json

#: Stands for a step's task.
Call = Callable[[Step, list[Any], dict[str, Any]], Any]


def evaluate(plan: Plan | Part, app: Celery, call: Call | None = None) -> Json:
    """The result of a plan, as it would stand in `result.json`.

    Args:
        plan: a plan, or a part of one.
        app: whose tasks are called.
        call: called with each step and its arguments in place of its task.
    """

    def run(step: Step, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return app.tasks[step.task](*args, **kwargs) if call is None else call(step, args, kwargs)

    return _value(plan.root if isinstance(plan, Plan) else plan, [], run)


def _value(part: Part, before: list[Json], run: Call) -> Json:
    """The value of a part; `before` holds the result before it, if there is one."""
    if isinstance(part, Step):
        first = [] if part.immutable else from_json(before)
        result = run(part, [*first, *from_json(part.args)], from_json(part.kwargs))
        return to_json(result, f"the result of {part.label}")
    if isinstance(part, Sequence):
        for one in part.parts:
            before = [_value(one, before, run)]
        return before[0]
    return [_member_value(part, member, before, run) for member in part.members]


def _member_value(home: Group, member: Part, before: list[Json], run: Call) -> Json:
    """The value of a member; in a group that goes on, an object that tells of its failure."""
    failed_in: list[Step] = []

    def noted(step: Step, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            return run(step, args, kwargs)
        except Exception:
            failed_in.append(step)
            raise

    try:
        return _value(member, before, noted)
    except Exception as error:
        if home.on_error != CONTINUE:
            raise
        return {"error": {"type": type(error).__name__, "message": str(error), "step": failed_in[0].label}}


def define_tasks(app: Celery) -> None:
    """Give an app the tasks that random canvases are made of. They take whatever comes, and are pure."""

    @app.task(name="canvas.add", shared=False)
    def add(*values: Any, plus: int = 0) -> int:
        return _weight(values) + plus

    @app.task(name="canvas.mul", shared=False)
    def mul(*values: Any, times: int = 2) -> int:
        return _weight(values) * times % 1_000_003

    @app.task(name="canvas.concat", shared=False)
    def concat(*values: Any) -> list[Any]:
        """One list of what came, one level flatter."""
        return [item for value in values for item in (value if isinstance(value, list) else [value])][:20]

    @app.task(name="canvas.collect", shared=False)
    def collect(*values: Any, **named: Any) -> list[Any]:
        """Tell exactly what it was called with."""
        return [list(values), named] if named else list(values)


def _weight(value: Any) -> int:
    """A number that tells the order and nesting of what a value holds."""
    if isinstance(value, (list, tuple)):
        total = len(value)
        for place, one in enumerate(value, 1):
            total = (total * 31 + place * _weight(one)) % 1_000_003
        return total
    return value if isinstance(value, int) else len(str(value))


def random_canvas(rng: random.Random, app: Celery, depth: int = 4, width: int = 8, size: int = 24) -> Signature:
    """A canvas of the tasks of `define_tasks`, whose results Celery 5.7 gives on Redis.

    Args:
        rng: the same one gives the same canvas.
        app: has the tasks.
        depth: so deep are chains, groups and chords in each other, at most.
        width: so many members or links each has, at most.
        size: about so many tasks at most: Celery's messages hold all of what is still to come.
    """
    while is_beyond_celery(canvas := _Maker(rng, app, width, size).canvas(depth)):
        pass
    return canvas


def is_beyond_celery(canvas: Signature) -> bool:
    """Whether Celery gives now this, now that result, or none.

    In a chain, what follows a chord whose body is a group is called by each task of that group, under one task id, and
    the last one's result stands. It takes a chord behind it: Celery makes other things a part of the body.
    A chord waits for ever when a member of its header ends in a group that holds a chord.
    """
    if isinstance(canvas, chord):
        parts = [*canvas.tasks, canvas.body]
        if any(map(_ends_in_group_of_chords, _flat(canvas.tasks))):
            return True
    else:
        parts = list(canvas.tasks) if isinstance(canvas, (_chain, group)) else []
    if isinstance(canvas, _chain) and any(map(_has_group_for_body, parts[:-1])):
        return True
    return any(map(is_beyond_celery, parts))


def _flat(tasks: Iterable[Signature]) -> Iterator[Signature]:
    """The members of a group, those of groups in it too."""
    for task in tasks:
        if isinstance(task, group):
            yield from _flat(task.tasks)
        else:
            yield task


def _has_group_for_body(canvas: Signature) -> bool:
    """Whether a part of a chain is, or ends in, a chord whose body is a group."""
    if isinstance(canvas, chord):
        return isinstance(canvas.body, group) or _has_group_for_body(canvas.body)
    if isinstance(canvas, group):
        return len(canvas.tasks) == 1 and _has_group_for_body(canvas.tasks[0])
    return isinstance(canvas, _chain) and bool(canvas.tasks) and _has_group_for_body(canvas.tasks[-1])


def _ends_in_group_of_chords(canvas: Signature) -> bool:
    if isinstance(canvas, chord):
        return _ends_in_group_of_chords(canvas.body)
    if isinstance(canvas, group):
        return any(map(_ends_in_chord, _flat(canvas.tasks)))
    return isinstance(canvas, _chain) and bool(canvas.tasks) and _ends_in_group_of_chords(canvas.tasks[-1])


def _ends_in_chord(canvas: Signature) -> bool:
    if isinstance(canvas, group):
        return any(map(_ends_in_chord, canvas.tasks))
    return isinstance(canvas, chord) or (
        isinstance(canvas, _chain) and bool(canvas.tasks) and _ends_in_chord(canvas.tasks[-1])
    )


class _Maker:
    def __init__(self, rng: random.Random, app: Celery, width: int, size: int) -> None:
        self._rng, self._app, self._width, self._left = rng, app, width, size

    def canvas(self, depth: int) -> Signature:
        """A canvas of any kind, at most so deep."""
        kinds = [self._task]
        if depth > 0 and self._left > 1:
            kinds += [self._chain, self._chain, self._group, self._group, self._chord, self._map]
        return self._rng.choice(kinds)(depth)

    def _task(self, depth: int) -> Signature:
        self._left -= 1
        rng, tasks = self._rng, self._app.tasks
        args = [rng.choice([rng.randint(0, 9), [rng.randint(0, 9)]]) for _ in range(rng.randint(0, 2))]
        task = tasks[rng.choice(["canvas.add", "canvas.mul", "canvas.concat", "canvas.collect", "canvas.collect"])]
        named = {"canvas.add": {"plus": 3}, "canvas.mul": {"times": 5}, "canvas.collect": {"k": rng.randint(0, 9)}}
        signature = task.signature(args, named.get(task.name, {}) if rng.random() < 0.3 else {})
        if rng.random() < 0.2:
            signature.set_immutable(True)
        return signature.clone((rng.randint(0, 9),)) if rng.random() < 0.1 else signature

    def _several(self, depth: int, least: int) -> list[Signature]:
        count = self._rng.randint(least, max(least, min(self._width, self._left)))
        return [self.canvas(depth - 1) for _ in range(count)]

    def _chain(self, depth: int) -> Signature:
        tasks = self._several(depth, 2)
        if self._rng.random() < 0.5:
            return chain(*tasks)
        whole = tasks[0]
        for task in tasks[1:]:
            whole = whole | task
        return whole

    def _group(self, depth: int) -> Signature:
        return group(self._several(depth, 1))

    def _chord(self, depth: int) -> Signature:
        return chord(self._several(depth, 1), self.canvas(depth - 1))

    def _map(self, depth: int) -> Signature:
        self._left -= 1
        rng, tasks = self._rng, self._app.tasks
        items = [rng.randint(0, 9) for _ in range(rng.randint(0, 3))]
        if rng.random() < 0.5:
            return tasks["canvas.collect"].map(items)
        return tasks["canvas.add"].starmap([[item, rng.randint(0, 9)] for item in items])
