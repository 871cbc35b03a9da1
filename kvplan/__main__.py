"""`python -m kvplan` and the `kvplan` command."""

import gc
import sys


def _load_msgspec() -> None:
    """Load msgspec without `typing_extensions`.

    It asks there first for names that `typing` has since Python 3.11, and reading that module is 1 or 2 % of a start.
    """
    name = "typing_extensions"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment]  # so that an import of it fails, and msgspec takes `typing`
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules[name]


def run() -> None:
    """Entry point of the `kvplan` script."""
    gc.set_threshold(50_000)  # start-up makes many objects and no garbage; looking for it costs 8 % of the time
    try:
        _load_msgspec()
        from kvplan.cli.app import main

        code = main()
    except KeyboardInterrupt:  # while starting, or while the last of it was said
        code = 130
        if sys.stderr is not None:
            print("interrupted", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    run()
