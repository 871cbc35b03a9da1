"""`kvplan models`: the catalogue."""

from typing import Annotated

import typer

from kvplan.cli import options as o

Pattern = Annotated[
    str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a pattern such as 'qwen*'", show_default=False)
]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", metavar="WORD", help="Only this layout: GQA, MLA, CLA, sliding, hybrid …")
]


def models(pattern: Pattern = "", kinds: Kinds = None, fmt: o.FormatOpt = None, output: o.Output = None) -> None:
    """Models that are known by name, and what they keep."""
    from kvplan.api.models import entries
    from kvplan.cli.output import show
    from kvplan.errors import OptionError
    from kvplan.report.answers.models import ModelsAnswer

    wanted = {checked_kind(kind) for kind in kinds or []}
    found = [entry for entry in entries(pattern) if wanted <= set(entry.layout)]
    if not found:
        what = f" of kind {' and '.join(sorted(wanted))}" if wanted else ""
        raise OptionError(f"no model{what} has a name like `{pattern[:80]}`", hint="`kvplan models` lists all of them")
    show(ModelsAnswer(found), fmt, output)


def checked_kind(text: str) -> str:
    """A layout word in its own spelling.

    Raises:
        OptionError: there is no such word.
    """
    from kvplan.errors import OptionError, nearest
    from kvplan.report.answers.models import LAYOUT_WORDS

    spelled = {word.lower(): word for word in LAYOUT_WORDS} | {
        "vlm": "vision",
        "encoder-decoder": "cross-attention",
        "shared": "shared-KV",
    }
    word = spelled.get(text.lower())
    if word is None:
        near = nearest(text.lower(), spelled)
        hint = f"did you mean `{near}`?" if near else f"one of {', '.join(LAYOUT_WORDS)}"
        raise OptionError(f"--kind: unknown layout `{text[:40]}`", hint=hint)
    return word
