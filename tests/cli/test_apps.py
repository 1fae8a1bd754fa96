"""Whether the app's broker can be used at all."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from tapfs.cli.apps import BrokerUnusable, check_broker


class WithoutLibrary:
    """An app in a venv where what its broker needs is not installed."""

    def __init__(self, url: str) -> None:
        self.conf = SimpleNamespace(broker_write_url=None, broker_url=url)

    def connection_for_write(self) -> Any:
        raise ImportError("No module named 'packaging'")


def trouble_of(app: Any) -> BrokerUnusable:
    with pytest.raises(BrokerUnusable) as caught:
        check_broker(app)
    return caught.value


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "memory://"])
def test_a_broker_that_is_only_away_is_not_refused(url: str) -> None:
    check_broker(Celery(broker=url))


def test_a_missing_library_is_named_with_the_way_to_get_it() -> None:
    error = trouble_of(WithoutLibrary("redis://x"))
    assert str(error) == "cannot use the broker 'redis://x': No module named 'packaging'"
    assert error.hint == "pip install 'tapfs[redis]' installs what it needs"


def test_an_unknown_transport_is_named() -> None:
    assert str(trouble_of(Celery(broker="nix://a"))).startswith(
        "cannot use the broker 'nix://a': No such transport: nix"
    )


@pytest.mark.parametrize(
    "url", ["redis://:s3cret@x", "rediss://ada:s3cret@x:1/0", "redis://:s3cret@x:abc", "a://x;b://:s3cret@x"]
)
def test_a_password_is_not_shown(url: str) -> None:
    error = trouble_of(WithoutLibrary(url))
    assert "s3cret" not in f"{error}{error.hint}"
    assert "**@x" in str(error)
