"""What this machine can do. A skip for any other reason is a failure in CI (see `conftest.py`)."""

import pytest

#: Every allowed reason to skip starts with this.
CANNOT = "this machine cannot: "


def skip_unless(is_able: bool, what: str) -> None:
    """Skip the test when the machine cannot do what it needs; `what` names that, as in "mount a loop device"."""
    if not is_able:
        pytest.skip(CANNOT + what)
