"""`fan_out`: a Celery group with limits of its own.

A group's own options are lost as soon as `|` makes a chord of it, so its limits are noted in the options of its
members, as `tapfs_fan_out`, where they outlive that, copies and JSON. Plainly run, Celery sends the note along as a
message property that nobody reads.
"""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature, chunks, group, maybe_signature, xmap, xstarmap

from tapfs.flow.options import MARK, NotTappable
from tapfs.flow.plans import check_count, check_on_error


def fan_out(*tasks: Any, concurrency: int | None = None, on_error: str | None = None) -> group:
    """Make a group of which only so many members run at a time, or that goes on when some of them fail.

    A group of one in a chain is no group to Celery but its member, so neither has a meaning there.

    Args:
        tasks: as for `celery.group`: signatures, one list or generator of them, one group, or one `.map`, `.starmap`
            or `.chunks`, whose members they become.
        concurrency: at most so many members are under way at a time; None for as many as the operation may have out.
        on_error: `fail`: a member that fails makes the operation fail. `continue`: the others go on, and in its place
            among the results stands `{"error": {"type", "message", "step"}}`. None for what the workflow says.

    Returns:
        A group of copies of the signatures; without tapfs it runs as any group does.

    Raises:
        NotTappable: `concurrency` or `on_error` is none.
    """
    if concurrency is not None:
        check_count("concurrency", concurrency)
    if on_error is not None:
        check_on_error(on_error)
    options: dict[str, Any] = {}
    if len(tasks) == 1 and isinstance(tasks[0], Signature):
        options = dict(tasks[0].options) if isinstance(tasks[0], group) else {}
        tasks = (_members_of(tasks[0]),)
    whole = group(*tasks)
    members = []
    for one in whole.tasks:
        if not isinstance(one, dict):
            raise NotTappable(f"{one!r} is no signature", hint="make one with task.s(...)")
        member = maybe_signature(one, app=whole.app, clone=True)
        member.options[MARK] = [concurrency, on_error]
        members.append(member)
    return group(members, app=whole.app, **options)


def _members_of(whole: Signature) -> list[Signature]:
    """The members of what is a group already, or may be one; else the signature itself."""
    if isinstance(whole, chunks):
        whole = whole.group()
    if isinstance(whole, group):
        return list(whole.tasks)
    if not isinstance(whole, (xmap, xstarmap)):
        return [whole]
    task, is_star = maybe_signature(whole.kwargs["task"], app=whole.app), isinstance(whole, xstarmap)
    options = {**task.options, **whole.options}
    return [
        task.replace(args=tuple(item) if is_star else (item,), kwargs={}, options=options).set(immutable=True)
        for item in whole.kwargs["it"]
    ]
