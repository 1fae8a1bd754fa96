"""Plans that are trees: built by hand, at random, and what they give when each step adds its path to what came in."""

from typing import Any

from hypothesis import strategies as st

from tapfs.bus.fields import Json
from tapfs.bus.plan import CONTINUE, FAIL, Group, Part, Plan, Sequence, Step, parts_of, placed_in

#: A step whose place is still to be given.
STEP = Step("", "one", "test.one")
#: A member that is a chain of two.
PAIR = Sequence((STEP, STEP))


def tree_of(*parts: Part, **options: Any) -> Plan:
    """A workflow of parts without places; options as `Plan` takes them."""
    return Plan(Sequence(placed_in(parts)), **options)


def group_of(*members: Part, **options: Any) -> Group:
    """A group without a place; options as `Group` takes them."""
    return Group(members, **options)


def wide(members: int, **options: Any) -> Group:
    """A group of so many single steps."""
    return Group((STEP,) * members, **options)


def value_by_paths(part: Part, before: Json = None) -> Json:
    """What a part gives where each step gives the list that it got, with its own path behind."""
    if isinstance(part, Step):
        return [*(before or []), part.path]
    if isinstance(part, Sequence):
        for one in part.parts:
            before = value_by_paths(one, before)
        return before
    return [value_by_paths(member, before) for member in part.members]


def groups_in(part: Part) -> list[Group]:
    """All groups of a part, the outer ones first."""
    inner = [group for one in parts_of(part) for group in groups_in(one)]
    return [part, *inner] if isinstance(part, Group) else inner


_values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
_objects = st.dictionaries(st.text(max_size=5), _values, max_size=2)
_names = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
_clauses = st.none() | st.text(max_size=10) | st.just({"task": "tasks.clause"})
_concurrency = st.none() | st.integers(1, 4)


@st.composite
def plans(draw: st.DrawFn, *, is_plain: bool = False, most_steps: int = 12) -> Plan:
    """Trees of sequences and groups, in which every part has its place.

    Args:
        draw: given by hypothesis.
        is_plain: all steps are alike, and nothing is said but the tree, its limits and what becomes of failures.
        most_steps: about so many steps at most.
    """
    values = st.lists(_values, max_size=2)
    detailed = st.builds(Step, st.just(""), _names, st.text(max_size=10), values, _objects, st.booleans(), _objects)
    steps: st.SearchStrategy[Part] = st.just(STEP) if is_plain else detailed
    trees = st.recursive(
        steps,
        lambda inner: (
            st.builds(Sequence, st.lists(inner, min_size=1, max_size=3).map(tuple))
            | st.builds(
                Group,
                st.lists(inner, min_size=1, max_size=4).map(tuple),
                concurrency=_concurrency,
                on_error=st.sampled_from([FAIL, CONTINUE]),
            )
        ),
        max_leaves=most_steps,
    )
    parts = draw(st.lists(trees, min_size=1, max_size=3))
    if is_plain:
        return tree_of(*parts, concurrency=draw(st.integers(1, 6)))
    clauses = {name: draw(_clauses) for name in ("clause", "callback")}
    limit = draw(st.none() | st.floats(0.1, 1e6))
    return tree_of(
        *parts, nth=draw(st.integers(1, 5)), concurrency=draw(st.integers(1, 50)), max_running_s=limit, **clauses
    )
