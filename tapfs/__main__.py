"""`python -m tapfs` is `tapfs`."""

from __future__ import annotations

from tapfs.cli import main

if __name__ == "__main__":
    main()
