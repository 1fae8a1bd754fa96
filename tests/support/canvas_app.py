"""Two apps with the tasks of `canvas_plain`, on the Redis of `CANVAS_URL`: one plain, one whose tasks can be steps."""

import os
from typing import Any

from celery import Celery

from support.canvas_plain import define_tasks


def canvas_app(name: str, url: str, task_cls: str | None = None) -> Celery:
    """An app with a broker and a result backend at `url`."""
    app = Celery(name, broker=url, backend=url, task_cls=task_cls, set_as_current=False)
    # A chord with a lost header would wait for long; the worker's log is only read when a test fails.
    app.conf.update(result_chord_join_timeout=10.0, broker_connection_retry_on_startup=True)
    define_tasks(app)

    @app.task(name="canvas.fail", shared=False)
    def fail(*values: object) -> None:
        raise ValueError(f"no good: {list(values)}")

    @app.task(name="canvas.tell", shared=False)
    def tell(*values: object) -> None:
        """Note in Redis that it was called, with what."""
        with app.connection_for_write() as connection:
            connection.default_channel.client.rpush("told", repr(list(values)))

    @app.task(name="canvas.seen", bind=True, shared=False)
    def seen(self: Any, *values: object) -> dict[str, Any]:
        """Tell what it sees of the options with which it was sent."""
        request = self.request
        return {
            "stamps": request.stamps,
            "tenant": (request.headers or {}).get("tenant"),
            "time_limits": list(request.timelimit),
            "shadow": request.shadow,
            "expires": request.expires,
            "priority": request.delivery_info["priority"],
            "routing_key": request.delivery_info["routing_key"],
        }

    return app


if "CANVAS_URL" in os.environ:  # in a worker
    plain = canvas_app("plain", os.environ["CANVAS_URL"])
    tappable = canvas_app("tappable", os.environ["CANVAS_URL"], "tapfs.flow:TappableTask")
