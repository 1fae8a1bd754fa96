"""`Bus`: a control directory together with the Celery app whose workflows it holds.

One app has one bus. A worker finds it by the app; where a program made none, the bus of `TAPFS_CONTROL` is used.
"""

from __future__ import annotations

import inspect
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload
from weakref import WeakKeyDictionary

from celery import Celery
from celery.canvas import Signature

from tapfs import settings
from tapfs.bus.control import Control, NewOperation
from tapfs.bus.decide import Recovery
from tapfs.bus.fields import Json, near
from tapfs.bus.fork import start_fork
from tapfs.bus.operation import Operation
from tapfs.bus.plan import Plan, leaves
from tapfs.bus.reconcile import Settled
from tapfs.bus.states import Want
from tapfs.bus.steps import take_pause_notice
from tapfs.bus.values import value_of
from tapfs.bus.verbs import check_reason
from tapfs.errors import TapfsError
from tapfs.flow.codec import from_json
from tapfs.flow.eager import Doorbell
from tapfs.flow.parameters import (
    Parameter,
    check_arguments,
    load_arguments,
    parameters_of,
    parse_arguments,
    usage,
)
from tapfs.flow.plans import plan_for
from tapfs.flow.publisher import CeleryPublisher
from tapfs.flow.references import call

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

#: The one bus of each app.
buses: WeakKeyDictionary[Celery, Bus] = WeakKeyDictionary()


class OperationNotDefined(TapfsError):
    """The app defines no operation of that name; nothing was started."""


@dataclass(frozen=True)
class Definition:
    """An operation that can be started.

    Attributes:
        name: its name.
        function: builds the workflow from typed arguments.
        parameters: what it takes.
        description: the first line of its docstring.
    """

    name: str
    function: Callable[..., Signature]
    parameters: tuple[Parameter, ...]
    description: str

    @property
    def usage(self) -> str:
        """How to start it from a shell."""
        return usage(self.name, self.parameters)


class Bus:
    """The control bus of an app.

    Args:
        control: the control directory; None for `TAPFS_CONTROL`, else `control`.
        app: the Celery app; its tasks become steps when its `task_cls` is `TappableTask`.
        actor: who acts through this bus, for journals; None for the user and host.
        recovery: when to publish again what was lost, and when to give up; None for what the environment says.
        max_running_s: seconds after which a running step is given to another worker at its next tap; None for what
            the environment says, by default no limit.

    Raises:
        TapfsError: the app has a bus of another control directory already.
    """

    def __init__(
        self,
        control: str | Path | None = None,
        *,
        app: Celery,
        actor: str | None = None,
        recovery: Recovery | None = None,
        max_running_s: float | None = None,
    ) -> None:
        settings.check_sync()
        self.app = app
        self.max_running_s = max_running_s or settings.number(settings.MAX_RUNNING_VARIABLE, float)
        self.control: Control = Control(
            control if control is not None else settings.control_path(),
            publisher=Doorbell(self, CeleryPublisher(app)),
            actor=actor or f"python:{settings.user_name()}@{socket.gethostname()}",
            recovery=recovery or Recovery.of_environment(),
        )
        self.definitions: dict[str, Definition] = {}
        known = buses.get(app)
        if known is not None and known.control.path != self.control.path:
            raise TapfsError(
                f"app '{app.main}' has a bus on '{known.control.path}' already, so it cannot have one on "
                f"'{self.control.path}'",
                hint="one app has one bus: use the first, or another Celery app",
            )
        buses[app] = self

    @overload
    def operation(self, function: Function) -> Function: ...
    @overload
    def operation(self, *, name: str | None = None) -> Callable[[Function], Function]: ...

    def operation(self, function: Function | None = None, *, name: str | None = None) -> Any:
        """Define an operation: a function with typed parameters that returns the workflow to run.

        Args:
            function: the function, when used as a plain decorator.
            name: the operation's name; None for the function's.

        Returns:
            The function, unchanged.

        Raises:
            DeclarationRefused: a parameter has a type that cannot be checked.
        """

        def define(defined: Function) -> Function:
            called = name or defined.__name__
            text = inspect.getdoc(defined) or ""
            first = text.splitlines()[0] if text else ""
            self.definitions[called] = Definition(called, defined, parameters_of(defined), first)
            return defined

        return define if function is None else define(function)

    def definition(self, name: str) -> Definition:
        """The operation of that name; raises `OperationNotDefined`."""
        found = self.definitions.get(name)
        if found is None:
            known = ", ".join(sorted(self.definitions)) or "none"
            raise OperationNotDefined(
                f"there is no operation '{name}'{near(name, list(self.definitions))}",
                hint=f"app '{self.app.main}' defines: {known}",
            )
        return found

    def start(self, name: str, /, **arguments: object) -> Operation:
        """Start an operation with typed arguments.

        Raises:
            OperationNotDefined, ArgumentsRefused: nothing was created; every fault is named.
            ControlUnusable: the control directory cannot be written; nothing was created.
        """
        return self.start_checked(name, arguments)

    def start_checked(
        self,
        name: str,
        arguments: Mapping[str, object],
        *,
        owner: str | None = None,
        is_paused: bool = False,
        reason: str | None = None,
    ) -> Operation:
        """Start an operation from a mapping, for an owner, and held if asked; raises as `start` does."""
        checked = check_arguments(name, self.definition(name).parameters, arguments)
        return self._start(name, checked, owner=owner, is_paused=is_paused, reason=reason)

    def start_parsed(
        self,
        name: str,
        words: list[str],
        *,
        owner: str | None = None,
        is_paused: bool = False,
        reason: str | None = None,
    ) -> Operation:
        """Start an operation from `KEY=VALUE` words; raises as `start` does."""
        parsed = parse_arguments(name, self.definition(name).parameters, words)
        return self._start(name, parsed, owner=owner, is_paused=is_paused, reason=reason)

    def _start(
        self, name: str, arguments: dict[str, Json], *, owner: str | None, is_paused: bool, reason: str | None
    ) -> Operation:
        definition = self.definition(name)
        check_reason(reason)
        workflow = definition.function(**load_arguments(definition.function, arguments))
        masked = tuple(one.name for one in definition.parameters if one.is_masked)
        return self.start_plan(
            name, as_plan(workflow), arguments, masked=masked, owner=owner, is_paused=is_paused, reason=reason
        )

    def start_plan(
        self,
        name: str,
        plan: Plan,
        arguments: dict[str, Json],
        *,
        masked: tuple[str, ...] = (),
        owner: str | None = None,
        is_paused: bool = False,
        reason: str | None = None,
    ) -> Operation:
        """Start an operation from a plan; raises `ControlUnusable`."""
        want = Want.PAUSE if is_paused else Want.RUN
        owner = owner if owner is not None else settings.user_name()
        return self.control.start(NewOperation(name, plan, arguments, masked, owner, want, reason))

    def fork(
        self, operation: Operation, step: str, words: list[str] | None = None, *, owner: str | None = None
    ) -> Operation:
        """Start another operation from a step of one, with copies of what came before; the one is left as it is.

        Args:
            operation: the one.
            step: the path, label or name of a step, or the path of a member or group.
            words: `KEY=VALUE`: arguments that are other than its own; the workflow is then made anew.
            owner: whose it is; None for the user who runs this process.

        Raises:
            Refused: there is no such step, what comes before is not done, or was done with other arguments.
            OperationNotDefined, ArgumentsRefused: the arguments cannot be taken.
            ControlUnusable: the control directory cannot be written. In each case nothing was made.
        """
        identity = operation.identity()
        plan, arguments = None, identity.arguments
        if words:
            definition = self.definition(identity.operation)
            arguments = parse_arguments(identity.operation, definition.parameters, words, arguments)
            plan = as_plan(definition.function(**load_arguments(definition.function, arguments)))
        return start_fork(self.control, operation, step, plan, arguments, owner or settings.user_name())

    def find(self, part: str) -> Operation:
        """The one operation whose id contains `part`; raises `OperationUnknown`."""
        return self.control.find(part)

    def reconcile(self, operation: Operation) -> Settled:
        """Bring an operation in line, publish, and tell its callback."""
        settled = operation.reconcile()
        self.tell_if_paused(operation)
        return settled

    def tell_if_paused(self, operation: Operation) -> None:
        """Tell the workflow's callback, once an epoch, that the operation has paused. Needs no lock held."""
        plan = operation.plan()
        if plan.callback is None or not take_pause_notice(operation):
            return
        try:
            call(self.app, plan.callback, *_left_of(operation, plan))
        except Exception:
            logger.exception("the callback of operation %s raised", operation.id)


def _left_of(operation: Operation, plan: Plan) -> tuple[Any, list[dict[str, Json]]]:
    """What a callback is told: the value that the next step takes, and the steps that remain."""
    standing = operation.progress(plan, operation.epoch()).look()
    before = plan.before(standing.open[0]) if standing.open else None
    last = None if before is None else value_of(operation, before)
    given_up = {step.path for path in standing.given_up for step in leaves(plan.part(path))}
    remaining: list[dict[str, Json]] = [
        {"task": step.task, "args": step.args, "kwargs": step.kwargs, "immutable": step.immutable}
        for step in plan.steps
        if step.path not in given_up and not operation.is_committed(step)
    ]
    return from_json(last), remaining


def as_plan(workflow: Signature | Any) -> Plan:
    """The plan of what an operation's function returned: a workflow, or one that `tappable` was called on already."""
    plan = getattr(workflow, "plan", None)
    return plan if isinstance(plan, Plan) else plan_for(workflow)


def bus_of(app: Celery) -> Bus:
    """The bus of an app; the one of `TAPFS_CONTROL` where the program made none."""
    known = buses.get(app)
    return known if known is not None else Bus(app=app)
