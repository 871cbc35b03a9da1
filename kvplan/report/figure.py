"""A replay's timeline as a figure, SVG or PNG, by matplotlib (the extra `replay`)."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Final

from kvplan.domain.traffic import SECOND
from kvplan.errors import EnvironmentMissing, OptionError
from kvplan.questions.replay import Replay

_KINDS: Final = ("svg", "png")


def figure_of(target: Path) -> Callable[[Replay], bytes]:
    """What draws a replay in the form that a file's name says.

    Raises:
        OptionError: another ending.
        EnvironmentMissing: matplotlib is not installed.
    """
    kind = target.suffix.lower().lstrip(".")
    if kind not in _KINDS:
        raise OptionError(f"«plot»: `{target}` is neither .svg nor .png", hint="name the file so")
    try:
        from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]
    except ImportError as problem:
        raise EnvironmentMissing(
            "«plot» needs matplotlib, which is not installed", hint="pip install 'kvplan-exact[replay]'"
        ) from problem

    def draw(found: Replay) -> bytes:
        line = found.outcome.timeline
        hours = [i * line.width_us / SECOND / 60 for i in range(len(line.held) + 1)]
        answer = found.to_dict()["timeline"]
        picture = Figure(figsize=(9, 4), layout="constrained")
        axes = picture.subplots()
        axes.stairs(answer["mean_tokens"], hours, fill=True, alpha=0.5, label="mean of all servers")
        axes.stairs(answer["peak_tokens"], hours, label="peak of one server")
        axes.axhline(found.pool.num_tokens, color="tab:red", label="capacity of one server")
        axes.set(
            xlabel="minutes since the first request", ylabel="tokens held", title=f"{found.question.model.name}, {found.trace}"
        )
        axes.set_ylim(bottom=0)
        axes.legend()
        written = BytesIO()
        picture.savefig(written, format=kind, metadata={"Date": None} if kind == "svg" else None)
        return written.getvalue()

    return draw
