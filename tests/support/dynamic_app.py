"""Tasks that say what comes next, in a plain app and in one whose tasks can be steps, and workflows of them.

Each app is on the Redis of `DYNAMIC_URL`. A task notes in the file `DYNAMIC_NOTES`, where there is one, that it began,
so that a repetition is seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, chord, group, signature
from celery.canvas import Signature

from support.canvas_plain import define_tasks
from tapfs.flow.then import then

#: Workflows to be put in, each with its result. `c` tells what it was called with.
PUT_IN: dict[str, tuple[Callable[[Any], Signature], Any]] = {
    "task": (lambda c: c(1), [1]),
    "task with names": (lambda c: c(1, k=2), [[1], {"k": 2}]),
    "chain": (lambda c: c(1) | c(2) | c(3), [[[1], 2], 3]),
    "group": (lambda c: group(c(1), c(2), c(3)), [[1], [2], [3]]),
    "group of one": (lambda c: group([c(1)]), [[1]]),
    "group of chains": (lambda c: group(c(1) | c(2), c(3) | c(4)), [[[1], 2], [[3], 4]]),
    "group of groups": (lambda c: group(c(1), group(c(2), c(3))), [[1], [3], [2]]),
    "chord": (lambda c: chord([c(1), c(2)], c(3)), [[[1], [2]], 3]),
    "chord with a group for its body": (lambda c: chord([c(1)], group(c(2), c(3))), [[[[1]], 2], [[[1]], 3]]),
    "chain with a group in it": (lambda c: c(1) | group(c(2), c(3)) | c(4), [[[[1], 2], [[1], 3]], 4]),
    "chain that ends in a group": (lambda c: c(1) | group(c(2), c(3)), [[[1], 2], [[1], 3]]),
    "map": (lambda c: c().type.map([1, 2]), [[1], [2]]),
    "starmap": (lambda c: c().type.starmap([(1, 2), (3,)]), [[1, 2], [3]]),
    "chunks": (lambda c: c().type.chunks([(1,), (2,), (3,)], 2), [[[1], [2]], [[3]]]),
    "immutable": (lambda c: c(1) | c(2).set(immutable=True), [2]),
}

#: Where a step stands that puts something in: `p` is the step, and the result is told of what it puts in.
PLACES: dict[str, tuple[Callable[[Any, Signature], Signature], Callable[[Any], Any]]] = {
    "alone": (lambda c, p: p, lambda value: value),
    "first": (lambda c, p: p | c(8), lambda value: [value, 8]),
    "in the middle": (lambda c, p: c(7) | p | c(8), lambda value: [value, 8]),
    "last": (lambda c, p: c(7) | p, lambda value: value),
    "member": (lambda c, p: group(c(7), p, c(8)), lambda value: [[7], value, [8]]),
    "member before a body": (lambda c, p: group(p, c(7)) | c(8), lambda value: [[value, [7]], 8]),
    "member behind a step": (lambda c, p: c(6) | group(p, c(7)), lambda value: [value, [[6], 7]]),
    "first of a member": (lambda c, p: group(p | c(7), c(8)), lambda value: [[value, 7], [8]]),
    "last of a member": (lambda c, p: group(c(7) | p, c(8)) | c(9), lambda value: [[value, [8]], 9]),
    "body of a chord": (lambda c, p: chord([c(7), c(8)], p), lambda value: value),
    "body with something behind it": (lambda c, p: chord([c(7), c(8)], p) | c(9), lambda value: [value, 9]),
    "member of a member": (lambda c, p: group(group(p, c(1)) | c(2), c(3)), lambda value: [[[value, [1]], 2], [3]]),
}
_EVERYWHERE = ("alone", "in the middle", "member")

#: What is put in, and where.
CASES = [(kind, place) for kind in PUT_IN for place in PLACES if place in _EVERYWHERE or kind in ("chain", "group")]


def dynamic_app(name: str, url: str, task_cls: str | None = None) -> Celery:
    """An app with a broker and a result backend at `url`."""
    app = Celery(name, broker=url, backend=url, task_cls=task_cls, set_as_current=False)
    app.conf.update(
        result_chord_join_timeout=10.0,
        broker_connection_retry_on_startup=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
    )
    define_tasks(app)

    @app.task(name="dynamic.becomes", bind=True, shared=False)
    def becomes(self: Any, *args: Any) -> Any:
        """Be replaced by the workflow that comes last among the arguments."""
        return self.replace(signature(args[-1], app=app))

    @app.task(name="dynamic.adds", bind=True, shared=False)
    def adds(self: Any, *args: Any) -> Any:
        """Add the workflows in a list that comes last; gives back what came before it."""
        for one in args[-1]:
            self.add_to_chord(signature(one, app=app))
        return list(args[:-1])

    @app.task(name="dynamic.read", shared=False)
    def read(path: str, at_once: int, offset: int = 0, counts: dict[str, int] | None = None) -> Any:
        """Count the words of a file, a line each, some lines a step; then weigh each word by itself."""
        note("read", offset)
        counts = dict(counts or {})
        with open(path, "rb") as stream:
            stream.seek(offset)
            lines = [line for line in (stream.readline() for _ in range(at_once)) if line]
            behind = stream.tell()
        time.sleep(0.02)
        for line in lines:
            word = line.decode().strip()
            counts[word] = counts.get(word, 0) + 1
        if lines:
            return then(read.s(path, at_once, behind, counts))
        return then(group(weigh.s(word, count) for word, count in sorted(counts.items())) | total.s())

    @app.task(name="dynamic.weigh", shared=False)
    def weigh(word: str, count: int) -> list[Any]:
        note("weigh", word)
        time.sleep(0.1)
        return [word, count]

    @app.task(name="dynamic.total", shared=False)
    def total(weights: list[list[Any]]) -> dict[str, Any]:
        note("total", len(weights))
        return {"words": weights, "sum": sum(count for _, count in weights)}

    @app.task(name="dynamic.grow", bind=True, shared=False)
    def grow(self: Any, number: int, last: int) -> int:
        """Add the two below a number, as in a heap, to the members of the chord."""
        note("grow", number)
        time.sleep(0.03)
        for below in (2 * number, 2 * number + 1):
            if below <= last:
                self.add_to_chord(grow.s(below, last))
        return number

    return app


def note(*words: object) -> None:
    """Write a line into the notes, if there are any."""
    path = os.environ.get("DYNAMIC_NOTES")
    if path:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(" ".join(map(str, words)) + "\n")


if "DYNAMIC_URL" in os.environ:  # in a worker
    plain = dynamic_app("plain", os.environ["DYNAMIC_URL"])
    tappable = dynamic_app("tappable", os.environ["DYNAMIC_URL"], "tapfs.flow:TappableTask")
