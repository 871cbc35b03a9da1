"""`python -m kvplan` and the `kvplan` command."""

import sys


def run() -> None:
    """Entry point of the `kvplan` script."""
    from kvplan.cli.app import main

    sys.exit(main())


if __name__ == "__main__":
    run()
