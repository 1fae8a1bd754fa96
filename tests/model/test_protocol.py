"""Every order of messages, deaths, requests and vandalism, against the pure model of the protocol.

`TAPFS_MODEL_EXAMPLES=5000 TAPFS_MODEL_SEED=7 pytest tests/model` runs longer, and elsewhere.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from model.machine import Machine

EXAMPLES = int(os.environ.get("TAPFS_MODEL_EXAMPLES", "150"))
STEPS = int(os.environ.get("TAPFS_MODEL_STEPS", "40"))
SEED = int(os.environ.get("TAPFS_MODEL_SEED", "20261122"))


@pytest.mark.usefixtures("machine_room")
@pytest.mark.timeout(120 + 5 * EXAMPLES)
def test_whatever_happens_the_protocol_is_as_the_model_says() -> None:
    """Nothing lost, nothing twice, never stuck, the state always the derived one.

    Among all that: retries wait out a pause and use up no attempt (B09), a finish and a cancel have one outcome (B47),
    an interrupted operation goes on by itself (B60), a worker whose step was given away, or whose epoch is over, writes
    nothing (B65), and a step without progress ends with a named error (B67).
    """
    print(f"TAPFS_MODEL_SEED={SEED} TAPFS_MODEL_EXAMPLES={EXAMPLES} TAPFS_MODEL_STEPS={STEPS}")
    seed(SEED)(Machine)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
