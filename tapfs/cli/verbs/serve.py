"""`tapfs worker`, `supervise`, `up`: the processes that do the work."""

from __future__ import annotations

import logging
import signal
from types import FrameType

import click

from tapfs import settings
from tapfs.cli.apps import check_broker, open_bus
from tapfs.cli.controls import shown_path
from tapfs.cli.printing import say
from tapfs.flow.supervisor import Supervisor

_LEVELS = ("debug", "info", "warning", "error")

_concurrency = click.option(
    "--concurrency", metavar="N", type=click.IntRange(min=1), help="Steps at a time; else as many as there are cores."
)
_pool = click.option(
    "--pool",
    type=click.Choice(("prefork", "threads", "solo")),
    default="prefork",
    show_default=True,
    help="Celery's pool.",
)
_loglevel = click.option(
    "--loglevel", type=click.Choice(_LEVELS), default="info", show_default=True, help="Of its log."
)


@click.command("worker")
@_concurrency
@_pool
@_loglevel
def worker_verb(concurrency: int | None, pool: str, loglevel: str) -> None:
    """Run a worker, which supervises too.

    It is Celery's worker for the app: 'celery -A MODULE:APP worker' does the same, with all of Celery's options.
    """
    _work(concurrency, pool, loglevel)


@click.command("up")
@_concurrency
@_pool
@_loglevel
def up_verb(concurrency: int | None, pool: str, loglevel: str) -> None:
    """Run all that one machine needs.

    That is a worker with its supervisor.
    """
    _work(concurrency, pool, loglevel)


@click.command("supervise")
@_loglevel
def supervise_verb(loglevel: str) -> None:
    """Run a supervisor alone.

    It runs until it is ended, and stands by while another acts.
    """
    bus = open_bus()
    bus.control.prepare()
    logging.basicConfig(level=loglevel.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    supervisor = Supervisor(bus)

    def stop(_number: int, _frame: FrameType | None) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    say(f"supervising '{shown_path(bus.control.path)}'; Ctrl-C ends it, and no operation with it")
    supervisor.run()


def _work(concurrency: int | None, pool: str, loglevel: str) -> None:
    """Be Celery's worker for the app; its supervisor's thread starts with it."""
    bus = open_bus()
    check_broker(bus.app)
    bus.control.prepare()
    say(f"working for '{shown_path(bus.control.path)}', app '{settings.app_name()}'")
    options = ["--pool", pool, "--loglevel", loglevel]
    if concurrency is not None:
        options += ["--concurrency", str(concurrency)]
    # Celery takes over the signals: SIGTERM and a first Ctrl-C end it when the steps at work have ended.
    bus.app.worker_main(["worker", *options])
