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
        from kvplan.cli.surroundings import watched

        code = watched(_answer, _say)
    except KeyboardInterrupt:  # before signals were watched, or while the last of it was said
        code = 130
        _say("interrupted")
    # Text that was interrupted while it was executed, as a named tuple's is, is remembered: `python -m` would then end by
    # the signal, whatever the code. The next one that ends well is remembered in its place.
    exec("")  # noqa: S102
    sys.exit(code)


def _say(word: str) -> None:
    if sys.stderr is not None:
        print(word, file=sys.stderr)


def _answer() -> int:
    from kvplan.cli.surroundings import held

    with held():
        _load_msgspec()
        from kvplan.cli.app import main
    return main()


if __name__ == "__main__":
    run()
