"""The command line: `tapfs VERB`, one module a verb in `verbs`, and what they print.

Data goes to stdout, messages to stderr. Exit codes:

| code | meaning |
| --- | --- |
| 0 | done, or so already |
| 1 | it failed, was refused, or cannot be any more |
| 2 | the command was not understood |
| 3 | time was up |
| 130 | interrupted by Ctrl-C |
"""

from __future__ import annotations

from tapfs.cli.program import main

__all__ = ["main"]
