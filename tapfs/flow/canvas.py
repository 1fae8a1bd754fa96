"""From Celery's canvas to the parts of a plan: which signatures run, in which order, with which options.

The results are those that Celery 5.7 gives on Redis, also where that is odd:

* A group of one in a chain is its member; the same group alone, or before a task by `|`, gives a list of one.
* An empty group in a chain is skipped; an empty chain in a group too. An empty group alone gives [].
* Groups directly in a group are one group. Where the outer one stands in a chain or is a chord's header or body, the
  members of an inner one come in reverse: `group(a, group(b, c)) | d` gives d the results of a, c, b.
* An outermost group of one, whose member ends in a group, gives that one's list.
* Only the tasks of a group, not the group, take its options, a chord's reach header and body, a chain's its first task.

Where Celery loses something, fails, or gives now this and now that, it is as one would expect:

* `.chunks` in a chain or group gives its list of lists. Celery sends its tasks and gives what tells of them.
* args of a group, or of a chain in a chain, reach its first tasks. Celery drops them.
* What follows a chord whose body is a group gets that group's list, once. Where it is a chord itself, Celery calls it
  for each member, and one of the results stands.
* A chord whose header has a member that ends in a group with a chord in it works. Celery's waits for ever.
* Groups in a group that was made from a generator come as from a list. Celery has several orders for them.

`.map` and `.starmap` become a group with a member for each item. A `.starmap` directly in a group stays one step, for
that is what `.chunks(...).group()` is made of, and so does what has a `link`, which tells of all its items.
"""

from __future__ import annotations

import reprlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.canvas import Signature, _chain, chord, chunks, group, xmap, xstarmap

from tapfs.bus.plan import Group, Part, Sequence
from tapfs.flow.entry import with_arguments
from tapfs.flow.maps import nothing, parts_of_chunks, route_of, step_of, steps_of_map, whole_map
from tapfs.flow.options import MARK, NotTappable, Options, overlaid, own_options, split

#: Options of a chord that say how Celery is to wait for its header.
_POLLING = ("interval", "max_retries", "eager")

#: What a copy of these, or JSON, says of its kind is its task only.
_MAPS: dict[str, type[Signature]] = {"celery.map": xmap, "celery.starmap": xstarmap, "celery.chunks": chunks}


def parts_of_canvas(workflow: object, on_error: str, *, is_outermost: bool) -> list[Part]:
    """The parts of a workflow, without paths, arguments and options as they are in it; none for an empty chain.

    Args:
        workflow: a signature of any kind, or one as JSON holds it. It is not changed.
        on_error: for groups that say nothing themselves.
        is_outermost: false for what becomes a part of a running workflow.

    Raises:
        NotTappable: it is no signature, or a chord without a body.
    """
    walk = _Walk(getattr(workflow, "app", None), on_error)
    signature = walk.signature(workflow)
    return walk.outermost(signature) if is_outermost else walk.parts(signature, {})


@dataclass(frozen=True)
class _Given:
    """A signature, the options that it gets from what holds it, and the mark of `fan_out` at it."""

    signature: Signature
    options: Options
    mark: Any = None


class _Walk:
    """A walk over the signatures of a workflow."""

    def __init__(self, app: Celery | None, on_error: str) -> None:
        self._app = app
        self._on_error = on_error

    def signature(self, value: object) -> Signature:
        """A signature of its own kind, also from what JSON, or a copy, has made of it."""
        if isinstance(value, Signature) and type(value) is not Signature:
            return value
        if not isinstance(value, dict) or not isinstance(value.get("task"), str):
            raise NotTappable(f"{reprlib.repr(value)} is no signature", hint="make one with task.s(...)")
        usual: dict[str, Any] = {"args": (), "options": {}, "subtask_type": None, "immutable": False}
        # Celery writes into the kwargs that it is given.
        full = {**usual, **value, "kwargs": dict(value.get("kwargs") or {})}
        kind = _MAPS.get(full["task"], Signature)
        try:
            return kind.from_dict(full, app=self._app)
        except (KeyError, TypeError, AttributeError) as error:
            raise NotTappable(f"{reprlib.repr(value)} is no signature: {type(error).__name__}: {error}") from None

    def outermost(self, signature: Signature) -> list[Part]:
        """The parts of the whole workflow."""
        if not isinstance(signature, group):
            return self.parts(signature, {})
        members = list(_in_order(self, signature.tasks))
        inner = [one for one in members if not _is_empty(one.signature)]
        options = own_options(signature)
        if len(inner) == 1 and self._ends_in_group(inner[0].signature):
            parts = self.parts(inner[0].signature, overlaid(inner[0].options, options))
        else:
            parts = self._of_members(members, options)
        return with_arguments(parts, signature.args or (), {})

    def parts(self, signature: Signature, given: Options) -> list[Part]:
        """What a signature comes to: parts that run one after the other; none for an empty chain."""
        options = overlaid(own_options(signature), given)
        if isinstance(signature, _chain):
            parts = self._of_chain(signature, given)
            return with_arguments(parts, signature.args or (), {}) if parts else []
        if isinstance(signature, group):
            parts = self._of_members(_frozen(self, signature.tasks), options)
            return with_arguments(parts, signature.args or (), {})
        if isinstance(signature, chord):
            return self._of_chord(signature, options)
        if isinstance(signature, (xmap, xstarmap)):
            return self._of_map(signature, options)
        if isinstance(signature, chunks):
            members = [_Given(one, route_of(signature)) for one in parts_of_chunks(signature)]
            return self._of_members(members, options)
        return [step_of(signature, options)]

    def _of_chain(self, signature: _chain, given: Options) -> list[Part]:
        steps = self._steps_of(signature, given)
        parts: list[Part] = []
        for place, one in enumerate(steps):
            options = one.options
            if isinstance(one.signature, group) and place + 1 < len(steps):
                options = overlaid(options, self._errbacks_of(steps[place + 1]))  # the two are a chord to Celery
            parts += self.parts(one.signature, options)
        return parts

    def _steps_of(self, signature: _chain, given: Options) -> list[_Given]:
        """The signatures that a chain runs, those of chains in it too, without empty groups."""
        pending = deque(self._spliced(signature, given))
        found: list[_Given] = []
        skipped: list[_Given] = []
        while pending:
            one = pending.popleft()
            # Celery looks at the first one twice.
            for _ in range(1 if found else 2):
                one = self._unrolled(one)
            if isinstance(one.signature, _chain):
                pending.extendleft(reversed(self._spliced(one.signature, one.options)))
            elif _is_empty(one.signature):
                skipped.append(one)
            else:
                found.append(one)
        return found or skipped[:1]

    def _spliced(self, signature: _chain, given: Options) -> list[_Given]:
        """The signatures of a chain, each with its share of the chain's options."""
        all_of_them = [self.signature(task) for task in signature.tasks]
        signatures = [one for one in all_of_them if not _is_empty(one)] or all_of_them[:1]
        options = overlaid(own_options(signature), given)
        errbacks, options = split(options, "link_error")
        callbacks, options = split(options, "link")
        shares = [dict(errbacks) for _ in signatures]
        if shares:
            shares[0] = overlaid(options, shares[0])
            shares[-1] = overlaid(callbacks, shares[-1])
        return [_Given(one, share) for one, share in zip(signatures, shares, strict=True)]

    def _unrolled(self, one: _Given) -> _Given:
        """The member of a group of one."""
        if not isinstance(one.signature, group):
            return one
        tasks = list(one.signature.tasks)
        if len(tasks) != 1:
            return one
        return _Given(self.signature(tasks[0]), overlaid(own_options(one.signature), one.options))

    def _of_members(self, members: Iterable[_Given], options: Options) -> list[Part]:
        parts: list[Part] = []
        mark = None
        for one in members:
            given = overlaid(one.options, options)
            if isinstance(one.signature, xstarmap):
                found: list[Part] = [whole_map(one.signature, overlaid(own_options(one.signature), given))]
            else:
                found = self.parts(one.signature, given)
            if found:
                parts.append(found[0] if len(found) == 1 else Sequence(tuple(found)))
                mark = mark or one.mark
        if not parts:
            return [nothing()]
        concurrency, on_error = mark or (None, None)
        return [Group(tuple(parts), concurrency=concurrency, on_error=on_error or self._on_error)]

    def _of_chord(self, signature: chord, options: Options) -> list[Part]:
        header, body = signature.kwargs["header"], signature.kwargs.get("body")
        if body is None:
            raise NotTappable("a chord in the workflow has no body", hint="use a group, or give it one")
        follower = self.signature(body)
        _, options = split(options, *_POLLING)
        callbacks, options = split(options, "link")
        delay, options = split(options, "countdown", "eta")
        errbacks = self._errbacks_of(_Given(follower, options))
        of_header = overlaid({**split(options, "link_error")[1], **delay}, errbacks)
        if isinstance(header, group):
            header, of_header = header.tasks, overlaid(own_options(header), of_header)
        parts = self._of_members(_frozen(self, header), of_header)
        named = signature.kwargs.get("kwargs")
        if named is None:
            named = {name: value for name, value in signature.kwargs.items() if name not in ("header", "body")}
        parts = with_arguments(parts, signature.args or (), named)
        behind = self.parts(follower, overlaid(options, callbacks))
        if not behind:
            raise NotTappable("a chord in the workflow has an empty chain for its body", hint="give it a task")
        return parts + behind

    def _errbacks_of(self, one: _Given) -> Options:
        """The callbacks that Celery tells when a member fails of the group for which a signature waits."""
        if isinstance(one.signature, _chain):
            steps = self._steps_of(one.signature, one.options)
            return self._errbacks_of(steps[0]) if steps else {}
        errbacks, _ = split(overlaid(own_options(one.signature), one.options), "link_error")
        if isinstance(one.signature, group):
            for member in _frozen(self, one.signature.tasks):
                errbacks = overlaid(errbacks, self._errbacks_of(member))
        return errbacks

    def _of_map(self, signature: xmap | xstarmap, options: Options) -> list[Part]:
        if "link" in options:
            return [whole_map(signature, options)]
        members = steps_of_map(signature, options)
        return [Group(members, on_error=self._on_error)] if members else [nothing()]

    def _ends_in_group(self, signature: Signature) -> bool:
        """Whether Celery's result of a member is that of a group."""
        if isinstance(signature, _chain):
            steps = self._steps_of(signature, {})
            return bool(steps) and self._ends_in_group(steps[-1].signature)
        if isinstance(signature, chord):
            body = signature.kwargs.get("body")
            return body is not None and self._ends_in_group(self.signature(body))
        return isinstance(signature, group)


def _in_order(walk: _Walk, tasks: Iterable[Any], options: Options | None = None, mark: Any = None) -> Iterator[_Given]:
    """The members of a group that is sent as it is, those of groups in it in their place."""
    for task in tasks:
        one = _member(walk, task, options or {}, mark)
        if isinstance(one.signature, group):
            yield from _in_order(walk, one.signature.tasks, overlaid(own_options(one.signature), one.options), one.mark)
        else:
            yield one


def _frozen(walk: _Walk, tasks: Iterable[Any]) -> Iterator[_Given]:
    """The members of a group whose results Celery has to know before, so in the order of `group._freeze_unroll`."""
    pending = deque(_member(walk, task, {}, None) for task in tasks)
    while pending:
        one = pending.popleft()
        if isinstance(one.signature, group):
            options = overlaid(own_options(one.signature), one.options)
            pending.extendleft(_member(walk, task, options, one.mark) for task in one.signature.tasks)
        else:
            yield one


def _member(walk: _Walk, task: object, options: Options, mark: Any) -> _Given:
    signature = walk.signature(task)
    return _Given(signature, options, mark or signature.options.get(MARK))


def _is_empty(signature: Signature) -> bool:
    return isinstance(signature, (_chain, group)) and not list(signature.tasks)
