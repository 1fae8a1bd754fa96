"""Canvases of every shape, and what Celery cannot do of them. Each is built anew at each call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from celery import Celery, chain, chord, group, signature
from celery.canvas import Signature, xmap

from tapfs.flow.fan_out import fan_out

Shape = Callable[[Celery], Signature]


class _Names:
    """Short names for signatures of an app's tasks: `c(1)` tells what it is called with, `a(1, 2)` adds."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.collect, self.sum = app.tasks["canvas.collect"], app.tasks["canvas.add"]
        self.c, self.a = self.collect.s, self.sum.s
        self.ci = self.collect.si

    def g(self, *tasks: Signature) -> Signature:
        """A group of a list, also of one. Celery looks for the app in its first member, which may have none."""
        return group(list(tasks), app=self.app)


def as_json(canvas: Signature, app: Celery) -> Signature:
    """What has been through JSON."""
    return signature(json.loads(json.dumps(canvas)), app=app)


_BUILT: dict[str, Callable[[_Names], Any]] = {
    # one after the other
    "one task": lambda n: n.c(1, k=2),
    "a chain": lambda n: n.c(1) | n.c(2) | n.c(3),
    "chains in chains": lambda n: chain(n.c(1), chain(n.c(2), chain(n.c(3), n.c(4))), n.c(5)),
    "an immutable one in a chain": lambda n: n.c(1) | n.ci(2) | n.c(3),
    "keyword arguments": lambda n: chain(n.c(k=1), n.sum.s(plus=4), n.c(1, k=2)),
    "partial arguments": lambda n: n.c(1).clone((2,), {"k": 3}) | n.c(4).clone((5,)),
    "a task by its name": lambda n: signature("canvas.collect", args=(1,), app=n.app) | n.c(2),
    "an empty chain in a chain": lambda n: chain(n.c(1), chain(), n.c(2)),
    "a chain before an empty one": lambda n: n.c(1) | chain(),
    # groups
    "a group": lambda n: group(n.c(1), n.c(2), n.c(3)),
    "a group of one": lambda n: n.g(n.c(1)),
    "a group of a generator": lambda n: group(n.c(i) for i in range(3)),
    "a group of chains": lambda n: group(n.c(1) | n.c(2), n.c(3) | n.c(4) | n.c(5)),
    "a group behind a task": lambda n: n.c(1) | n.g(n.c(2), n.c(3)),
    "a group of one behind a task": lambda n: n.c(1) | n.g(n.c(2)),
    "a generated group of one behind a task": lambda n: chain(n.c(1), group(n.c(i) for i in [2])),
    "a group of one in a group of one behind a task": lambda n: chain(n.c(1), n.g(n.g(n.c(2)))),
    "a group of one, thrice, behind a task": lambda n: chain(n.c(1), n.g(n.g(n.g(n.c(2))))),
    "a group of one, twice, in a chain": lambda n: chain(n.c(1), n.g(n.g(n.c(2))), n.c(3)),
    "a group of one, four times, in a chain": lambda n: chain(n.c(1), n.g(n.g(n.g(n.g(n.c(2))))), n.c(3)),
    "a group of one, five times, first": lambda n: chain(n.g(n.g(n.g(n.g(n.g(n.c(2)))))), n.c(3)),
    "a chain of a group of one": lambda n: chain(n.g(n.c(1))),
    "a chain of a group of one, twice": lambda n: chain(n.g(n.g(n.c(1)))),
    "a chain of a group of one, thrice": lambda n: chain(n.g(n.g(n.g(n.c(1))))),
    "a chain of a group": lambda n: chain(n.g(n.c(1), n.c(2))),
    "a group in the middle": lambda n: n.c(1) | n.g(n.c(2), n.c(3)) | n.c(4),
    "a group of one in the middle": lambda n: chain(n.c(1), n.g(n.c(2)), n.c(3)),
    "a group of one, a chain, in the middle": lambda n: chain(n.c(1), n.g(n.c(2) | n.c(3)), n.c(4)),
    "a group of one, a chain to a group": lambda n: chain(n.c(1), n.g(n.c(2) | n.g(n.c(3), n.c(4))), n.c(5)),
    "two groups": lambda n: n.g(n.c(1), n.c(2)) | n.g(n.c(3), n.c(4)),
    "three groups and a task": lambda n: n.g(n.c(1), n.c(2)) | n.g(n.c(3), n.c(4)) | n.g(n.c(5), n.c(6)) | n.c(7),
    "a group of one before a task": lambda n: n.g(n.c(1)) | n.c(2),
    "a chain from a group of one": lambda n: chain(n.g(n.c(1)), n.c(2)),
    "immutable members": lambda n: chain(n.c(1), group(n.ci(2), n.c(3)), n.c(4)),
    "an immutable group": lambda n: chain(n.c(1), n.g(n.c(2), n.c(3)).set(immutable=True), n.c(4)),
    # groups in groups
    "groups in a group": lambda n: n.g(n.c(1), n.g(n.c(2), n.g(n.c(3), n.c(4)), n.c(5)), n.c(6)),
    "a group of a group": lambda n: n.g(n.g(n.c(1), n.c(2))),
    "groups in a group before a task": lambda n: n.g(n.c(1), n.g(n.c(2), n.g(n.c(3), n.c(4)), n.c(5)), n.c(6)) | n.c(7),
    "groups in a group behind a task": lambda n: chain(n.c(1), n.g(n.c(2), n.g(n.c(3), n.c(4)), n.c(5))),
    "groups in a group in the middle": lambda n: chain(n.c(1), n.g(n.c(2), n.g(n.c(3), n.c(4))), n.c(5)),
    "groups in a group in a chain of one": lambda n: chain(n.g(n.c(1), n.g(n.c(2), n.c(3)), n.c(4))),
    "groups in a group in a member": lambda n: n.g(n.c(0), chain(n.c(1), n.g(n.c(2), n.g(n.c(3), n.c(4)), n.c(5)))),
    "a generated group in a chord": lambda n: chord([n.c(1), group(n.c(i) for i in (2, 3))], n.c(4)),
    # chains that end in a group
    "a member that ends in a group": lambda n: n.g(n.c(1) | n.g(n.c(2), n.c(3)), n.c(4)),
    "the only member ends in a group": lambda n: n.g(n.c(1) | n.g(n.c(2), n.c(3))),
    "the only member of the only member ends in a group": lambda n: n.g(n.g(n.c(1) | n.g(n.c(2), n.c(3)))),
    "a header that ends in a group": lambda n: chord([n.c(4), n.c(1) | n.g(n.c(2), n.c(3)), n.c(5)], n.c(6)),
    "a header of one that ends in a group": lambda n: chord([n.c(1) | n.g(n.c(2), n.c(3))], n.c(6)),
    "a header with a chain of a group": lambda n: chord([n.c(1), chain(n.g(n.c(2), n.c(3))), n.c(4)], n.c(5)),
    "ends in a group of one that ends in a group": lambda n: n.g(
        n.c(1), chain(n.c(2), n.g(chain(n.c(3), n.g(n.c(4), n.c(5))), n.c(6)))
    ),
    # chords
    "a chord": lambda n: chord([n.c(1), n.c(2)], n.c(3)),
    "a chord with a header of one": lambda n: chord([n.c(1)], n.c(2)),
    "a chord with an immutable body": lambda n: chord([n.c(1), n.c(2)], n.ci(3)),
    "a chord whose body is a group": lambda n: chord([n.c(1), n.c(2)], n.g(n.c(3), n.c(4))),
    "a chord whose body is a group of one": lambda n: chord([n.c(1), n.c(2)], n.g(n.c(3))),
    "a chord whose body is a group of one, and a task": lambda n: chord([n.c(1), n.c(2)], n.g(n.c(3))) | n.c(4),
    "a chord whose body is groups in a group": lambda n: chord([n.c(1)], n.g(n.c(2), n.g(n.c(3), n.c(4)), n.c(5))),
    "a chord whose body is a chain": lambda n: chord([n.c(1), n.c(2)], n.c(3) | n.c(4)),
    "a chord whose body ends in a group": lambda n: chord([n.c(1), n.c(2)], n.c(3) | n.g(n.c(4), n.c(5))),
    "a chord whose body begins with a group": lambda n: chord([n.c(1), n.c(2)], n.g(n.c(3), n.c(4)) | n.c(5) | n.c(6)),
    "a chord whose body is a chord": lambda n: chord([n.c(1), n.c(2)], chord([n.c(3), n.c(4)], n.c(5))),
    "a chord whose body is a group, and a task": lambda n: chord([n.c(1), n.c(2)], n.g(n.c(3), n.c(4))) | n.c(5),
    "a chord and a group": lambda n: chord([n.c(1), n.c(2)], n.c(3)) | n.g(n.c(4), n.c(5)),
    "a chord and a group and a task": lambda n: chord([n.c(1), n.c(2)], n.c(3)) | n.g(n.c(4), n.c(5)) | n.c(6),
    "a chord and a chord": lambda n: chord([n.c(1), n.c(2)], n.c(3)) | chord([n.c(4), n.c(5)], n.c(6)),
    "a chord behind a task": lambda n: n.c(1) | chord([n.c(2), n.ci(3)], n.c(4)) | n.c(5),
    "a chord in a group": lambda n: n.g(chord([n.c(1), n.c(2)], n.c(3)), n.c(4)),
    "a chord with a group for a body, in a group": lambda n: n.g(chord([n.c(1)], n.g(n.c(2), n.c(3))), n.c(4)),
    "a chord with a group for a body is the only member": lambda n: n.g(chord([n.c(1)], n.g(n.c(2), n.c(3)))),
    "a chord in a header": lambda n: chord([chord([n.c(1), n.c(2)], n.c(3)), n.c(4)], n.c(5)),
    "a chord with a group for a body, in a header": lambda n: chord(
        [chord([n.c(1)], n.g(n.c(2), n.c(3))), n.c(4)], n.c(5)
    ),
    "chords in chords": lambda n: chord(
        [chord([n.c(1), n.c(2)], n.c(3) | n.c(4)), n.c(5)], chain(n.c(6), n.g(n.c(7), n.c(8)), n.c(9))
    ),
    "arguments for a header": lambda n: chord([n.c(1), n.ci(2)], n.c(3), args=(8,), kwargs={"kwargs": {"k": 9}}),
    "arguments for a header in a chain": lambda n: chain(n.c(0), chord([n.c(1), n.c(2)], n.c(3)).clone((9,)), n.c(4)),
    # empty ones
    "an empty group": lambda n: group([]),
    "a group of empty ones": lambda n: n.g(n.g(), n.g()),
    "an empty group before a task": lambda n: group([]) | n.c(1),
    "an empty group in a chain": lambda n: chain(n.c(1), group([]), n.c(2)),
    "an empty group first in a chain": lambda n: chain(group([]), n.c(1)),
    "an empty group last in a chain": lambda n: chain(n.c(1), group([])),
    "a chain of an empty group": lambda n: chain(group([])),
    "an empty group and an empty chain in a group": lambda n: n.g(n.g(), n.c(1), chain()),
    "a chain of an empty group in a group": lambda n: n.g(chain(n.g()), n.c(1), chain(n.c(2), n.g())),
    "an empty header": lambda n: chord([], n.c(1)),
    "a header of empty ones": lambda n: chord([n.g(), chain()], n.c(1)),
    "a header with empty ones": lambda n: chord([n.g(), n.c(1), chain(n.g())], n.c(2)),
    "an empty header in a chain": lambda n: chain(n.c(1), chord([], n.c(2)), n.c(3)),
    "an empty header in a header": lambda n: chord([chord([], n.c(1)), n.c(2)], n.c(3)),
    "an empty body": lambda n: chord([n.c(1)], group([])),
    # maps and chunks
    "map": lambda n: n.collect.map([1, [2, 3], "x"]),
    "map of a generator": lambda n: n.collect.map(i for i in range(3)),
    "map of what has arguments": lambda n: xmap(n.c(1, k=2), [3, 4], app=n.app),
    "map in a chain": lambda n: n.c(1) | n.collect.map([2, 3]) | n.c(4),
    "map of one in a chain": lambda n: n.c(1) | n.collect.map([2]) | n.c(4),
    "map of nothing": lambda n: n.collect.map([]),
    "map of nothing in a chain": lambda n: n.c(1) | n.collect.map([]) | n.c(2),
    "map in a group": lambda n: n.g(n.collect.map([1, 2]), n.c(3)),
    "map as the only member": lambda n: n.g(n.collect.map([1, 2])),
    "map at the end of the only member": lambda n: n.g(n.c(1) | n.collect.map([1, 2])),
    "map in a header": lambda n: chord([n.collect.map([1, 2]), n.c(3)], n.c(4)),
    "starmap": lambda n: n.collect.starmap([(1, 2), [3], []]) | n.c(4),
    "starmap in a group": lambda n: n.g(n.collect.starmap([(1, 2)]), n.c(3)),
    "chunks": lambda n: n.collect.chunks([(1, 2), (3, 4), (5, 6)], 2),
    "chunks of a generator": lambda n: n.collect.chunks(((i,) for i in range(5)), 3),
    "chunks of nothing": lambda n: n.collect.chunks([], 2),
    "a group of chunks": lambda n: n.collect.chunks([(1, 2), (3, 4), (5, 6)], 2).group(),
    "a group of chunks before a task": lambda n: n.collect.chunks([(1, 2), (3, 4)], 1).group() | n.c(7),
    # through JSON
    "a chain of JSON": lambda n: as_json(chain(n.c(1), n.g(n.c(2), n.c(3)), n.c(4)), n.app),
    "a group of JSON": lambda n: as_json(group(n.c(i) for i in range(3)), n.app),
    "a chord of JSON": lambda n: as_json(chord([n.c(1), chord([n.c(2)], n.c(3))], n.c(4)), n.app),
    "members of JSON": lambda n: n.g(json.loads(json.dumps(n.c(1) | n.c(2))), dict(n.c(3))),
    "a map of JSON": lambda n: n.c(1) | as_json(n.collect.map([1, 2]), n.app) | n.c(3),
    # groups with limits
    "fan_out": lambda n: fan_out(n.c(1), n.c(2) | n.c(3), chord([n.c(4)], n.c(5)), concurrency=2),
    "fan_out in a chain": lambda n: chain(
        n.c(1), fan_out([n.c(2), chain(n.c(3), n.c(4))], concurrency=1), n.c(5), fan_out(n.c(6), n.c(7)), n.c(8)
    ),
    "fan_out of a group, a map and chunks": lambda n: n.g(
        chain(fan_out(n.g(n.c(1), n.c(2)), on_error="continue"), n.c(3)),
        chain(fan_out(n.collect.map([1, 2]), concurrency=1), n.c(4)),
        chain(fan_out(n.collect.chunks([[1], [2], [3]], 2), concurrency=1), n.c(5)),
    ),
}


_ODD: dict[str, tuple[Callable[[_Names], Any], Any]] = {
    "chunks in a chain": (lambda n: n.c(1) | n.collect.chunks([[1], [2], [3]], 2) | n.c(4), [[[[1], [2]], [[3]]], 4]),
    "chunks last in a chain": (lambda n: n.c(1) | n.collect.chunks([[1], [2], [3]], 2), [[[1], [2]], [[3]]]),
    "chunks in a group": (lambda n: n.g(n.collect.chunks([[1], [2], [3]], 2), n.c(4)), [[[[1], [2]], [[3]]], [4]]),
    "a body that is a group, before a chord": (
        lambda n: chain(chord([n.c(1)], n.g(n.c(2), n.c(3))), chord([n.c(4)], n.c())),
        [[[[[[[1]], 2], [[[1]], 3]], 4]]],
    ),
    "a header that ends in a group with a chord in it": (
        lambda n: chord([n.c(1) | n.g(n.c(2), chord([n.c(3)], n.c(4))), n.c(5)], n.c()),
        [[[[[1], 2], [[[[1], 3]], 4]], [5]]],
    ),
    "keyword arguments of a chord": (
        lambda n: chord([n.c(1), n.ci(2)], n.c(), kwargs={"k": 3}),
        [[[[1], {"k": 3}], [2]]],
    ),
    "arguments of a group": (lambda n: n.g(n.c(1), n.ci(2)).replace(args=(9,)), [[9, 1], [2]]),
    "a generated group with a group in it": (
        lambda n: chain(n.ci(0), group(x for x in [n.ci(1), n.g(n.ci(2), n.ci(3))])),
        [[1], [3], [2]],
    ),
}


def _shape(build: Callable[[_Names], Any]) -> Shape:
    return lambda app: build(_Names(app))


#: Canvases that Celery can run.
SHAPES: dict[str, Shape] = {name: _shape(build) for name, build in _BUILT.items()}
#: Canvases for which Celery raises, waits for ever or gives nothing of use, each with what tapfs gives.
ODD_SHAPES: dict[str, tuple[Shape, Any]] = {name: (_shape(build), value) for name, (build, value) in _ODD.items()}
