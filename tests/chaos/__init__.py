"""Chaos: operations run while a seeded adversary kills, freezes, flushes, doubles, edits and vandalises.

`make chaos`, or `python -m chaos --seconds 120` from `tests/`; see `chaos.__main__`. At the end every operation must
have its exact result, or be in the state that was asked for.

    app, workflows   the Celery app that the workers load, and its operations
    ledger           what every attempt at a step writes down, outside of tapfs
    fleet            workers, supervisors and Redis, and a keeper that starts them again
    cases            the operations of a run, what is wished of each and what it must give
    requests         pausing, resuming and cancelling by every way there is
    adversary        what goes wrong, and when
    vandal           spoilt files
    judge            what must be true at the end
    measure          how soon a step was at work again
    run, report      one run, and its table
"""
