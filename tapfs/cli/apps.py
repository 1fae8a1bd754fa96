"""Loading the app whose operations are started or run; this is what imports Celery."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from kombu.utils.url import maybe_sanitize_url

from tapfs import settings
from tapfs.cli.controls import actor
from tapfs.errors import TapfsError
from tapfs.flow.bus import Bus
from tapfs.flow.loading import load_bus


class BrokerUnusable(TapfsError):
    """The broker's URL is none, or what it needs is not installed; whether it answers was not asked."""


def check_broker(app: Celery) -> None:
    """Raise `BrokerUnusable` where no broker can ever be reached by the app's URL; connects to nothing."""
    try:
        with app.connection_for_write() as connection:
            _ = connection.transport  # made when it is asked for
    except Exception as error:  # of any transport: a URL that is none, a library that is missing
        url = _shown_url(app.conf.broker_write_url or app.conf.broker_url)
        reason = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise BrokerUnusable(
            f"cannot use the broker '{url}': {reason or type(error).__name__}", hint=_broker_hint(url, error)
        ) from error


def _broker_hint(url: str, error: Exception) -> str:
    is_missing = isinstance(error, ImportError)
    if is_missing and url.startswith(("redis", "valkey")):
        return "pip install 'tapfs[redis]' installs what it needs"
    if is_missing:
        return "install what it needs: Celery's page on that broker says what"
    return "a broker's URL is as Celery takes it, 'redis://HOST:6379/0' for instance; without one the built-in is used"


def _shown_url(urls: Any) -> str:
    """A broker's URL, or several, with passwords masked."""
    parts = urls if isinstance(urls, (list, tuple)) else str(urls).split(";")
    return ";".join(_masked(str(part)) for part in parts)


def _masked(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if "@" not in rest:
        return url
    try:
        return str(maybe_sanitize_url(url))
    except ValueError:  # no URL: nobody knows where a password ends
        return f"{scheme}://**@{rest.rpartition('@')[2]}"


def open_bus() -> Bus:
    """The bus of the app that is set, acting as this user.

    Raises:
        TapfsError: the app cannot be loaded, or holds its operations in another directory than the one asked for.
        ControlUnusable: this tapfs cannot use the control directory.
    """
    bus = load_bus(settings.app_name())
    asked = settings.control_path().absolute()
    is_asked = bool(os.environ.get(settings.CONTROL_VARIABLE))
    if is_asked and os.path.realpath(asked) != os.path.realpath(bus.control.path):
        raise TapfsError(
            f"app '{settings.app_name()}' has its control directory at '{bus.control.path}', not at '{asked}'",
            hint="leave out --control and TAPFS_CONTROL, or let the app take them: Bus(app=app); nothing was started",
        )
    bus.control.check()
    bus.control.actor = actor()
    return bus
