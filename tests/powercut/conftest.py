"""Power cuts are collected only when this folder is named (`make powercut`): they need root, and minutes."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folder out of a run of the whole suite."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    is_named = any(one.resolve() == HERE or HERE in one.resolve().parents for one in named)
    return None if is_named else True
