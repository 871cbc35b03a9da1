"""`python -m kvplan` and the `kvplan` command."""

import gc
import sys


def run() -> None:
    """Entry point of the `kvplan` script."""
    gc.set_threshold(50_000)  # start-up makes many objects and no garbage; looking for it costs 8 % of the time
    from kvplan.cli.app import main

    sys.exit(main())


if __name__ == "__main__":
    run()
