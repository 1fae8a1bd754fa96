"""`TappableTask`: the task class that makes every task of an app a possible step.

Set it as the app's `task_cls`. A task called without tapfs's header runs as ever.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from celery.result import allow_join_result

from tapfs.bus.clock import timestamp
from tapfs.errors import TapfsError
from tapfs.flow import worker as worker  # each worker of an app with such tasks supervises
from tapfs.flow.bus import bus_of
from tapfs.flow.message import HeaderInvalid, header_of
from tapfs.flow.place import Place
from tapfs.flow.step import run_step
from tapfs.flow.then import Replaced, Then

logger = logging.getLogger(__name__)


class TappableTask(Task):
    """A Celery task that is run as a step when its message says so."""

    abstract = True
    #: Tells tapfs that the tasks of an app can be steps.
    is_tappable = True
    Request = "tapfs.flow.request:StepRequest"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the step that the message speaks of; without one, just run."""
        request = self.request
        # The latter when a step, its clause or its callback calls the step's own task.
        if request.called_directly or getattr(request, "is_tapfs_step", False):
            result = super().__call__(*args, **kwargs)
            return super().replace(result.workflow) if isinstance(result, Then) else result
        try:
            header = header_of(request)
        except HeaderInvalid as error:
            logger.warning("dropped a message of task %s: %s", self.name, error)
            raise Ignore from None
        if header is None:
            result = self.run(*args, **kwargs)
            return super().replace(result.workflow) if isinstance(result, Then) else result
        request.is_tapfs_step = True
        return run_step(self, header, bus_of(self.app))

    def replace(self, sig: Any) -> Any:
        """Have a workflow take this task's place, as Celery does; in a step, durably, with its commit.

        Raises:
            Ignore: always, in a worker: the task is over.
            NotTappable: in a step: the workflow holds what cannot be kept.
        """
        place = getattr(self.request, "tapfs_place", None)
        if place is None:
            return super().replace(sig)
        place.additions.put_in(sig)
        raise Replaced("Replaced by new task")

    def on_replace(self, sig: Any) -> Any:
        """Run what takes the task's place here and now, where the task is called directly or eagerly, as in unit tests.

        It is Celery's own hook for `replace`, where no operation is.
        """
        if self.request.called_directly or self.request.is_eager:
            with allow_join_result():
                return sig.apply().get()
        return super().on_replace(sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Add a workflow to the group that this task is a member of, as Celery does; in a step, with its commit.

        Raises:
            ValueError: the task is no member of a group.
            NotTappable: in a step: the workflow holds what cannot be kept.
        """
        place = getattr(self.request, "tapfs_place", None)
        if place is None:
            return super().add_to_chord(sig, lazy)
        place.additions.add_member(sig)
        return sig

    def signature_from_request(
        self, request: Any = None, args: Any = None, kwargs: Any = None, queue: Any = None, **extra_options: Any
    ) -> Any:
        """Build what `self.retry` sends; for a step, something that notes the retry instead of sending arguments."""
        place = getattr(request or self.request, "tapfs_place", None)
        if place is None:
            return super().signature_from_request(request, args, kwargs, queue=queue, **extra_options)
        current = request or self.request
        if (args is not None and list(args) != list(current.args)) or (kwargs is not None and kwargs != current.kwargs):
            raise TapfsError(
                f"{self.name}: a step cannot be retried with other arguments than the workflow gives it",
                hint="call self.retry() without args and kwargs",
            )
        return StepRetry(place, current, extra_options)


class StepRetry:
    """Stands for the signature that `self.retry` would send."""

    def __init__(self, place: Place, request: Any, options: dict[str, Any]) -> None:
        self.args, self.kwargs = request.args, request.kwargs
        self._place = place
        self._options = options

    def apply_async(self) -> None:
        """Note when the step is to be tried again; it is put out when the task has ended."""
        eta, countdown = self._options.get("eta"), self._options.get("countdown")
        if eta is None and countdown:
            eta = datetime.now(UTC) + timedelta(seconds=float(countdown))
        if isinstance(eta, str):
            eta = datetime.fromisoformat(eta)
        if eta is not None and eta.tzinfo is None:  # as Celery takes it
            eta = eta.replace(tzinfo=UTC)
        not_before = None if eta is None else timestamp(eta.timestamp())
        self._place.retry = (not_before, int(self._options.get("retries", 0)))
