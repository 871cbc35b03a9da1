"""`python -m kvplan` and the `kvplan` command."""

import gc
import sys


def run() -> None:
    """Entry point of the `kvplan` script."""
    gc.set_threshold(50_000)  # start-up makes many objects and no garbage; looking for it costs 8 % of the time
    try:
        from kvplan.cli.app import main

        code = main()
    except KeyboardInterrupt:  # while starting, or while the last of it was said
        code = 130
        if sys.stderr is not None:
            print("interrupted", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    run()
