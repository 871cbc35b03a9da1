"""The images, videos and clips of a trace's requests as tokens of their prompts, by the model's own rule in one engine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct

from kvplan.domain.media.asked import Media
from kvplan.domain.media.cost import NotTaken
from kvplan.domain.model import Model
from kvplan.domain.traffic import Traffic
from kvplan.engines import make_engine
from kvplan.errors import KvplanError, OptionError
from kvplan.questions.media import sees_or_hears, used_by

#: What no engine's steps that are written down have.
_NOT_FOLLOWED: Final = (
    "not followed: the encoder's own time and limits in a step, since a trace does not say where in a prompt media lie"
)
_LEAVE_OUT: Final = "text alone is replayed without such an option, or with «columns images=none» (audio, video, image_tokens)"


class Seen(Struct, frozen=True, kw_only=True):
    """A trace with its media: `tokens` of all requests together are theirs, `requests` have some."""

    traffic: Traffic
    tokens: int = 0
    requests: int = 0
    notes: tuple[str, ...] = ()


def seen(
    traffic: Traffic,
    engine: str,
    model: Model,
    options: Mapping[str, Any],
    *,
    each: Sequence[Media],
    of: np.ndarray[Any, Any],
    told: np.ndarray[Any, Any] | None,
    files: Mapping[str, Any],
    bad: Callable[[int, str, str], KvplanError],
) -> Seen:
    """A trace whose prompts hold their media, too.

    Args:
        each: the different media of a request; `of` says which of them each request has.
        told: tokens that the trace itself says, beside these.
        files: sections of the processor's values.
        bad: an error at the first request that has an entry of `each`.

    Raises:
        OptionError: a text-only model is given media.
        Refused: no rule of the model was read.
        KvplanError: `bad`, where the processor or the engine refuses an entry.
    """
    if told is not None and told.any() and not sees_or_hears(model):
        raise OptionError(f"{model.name} takes no images: its config is a text-only model's", hint=_LEAVE_OUT)
    counts, notes = _counted(engine, model, options, each, files, bad)
    tokens = counts[of] + (0 if told is None else told)
    if not tokens.any():
        return Seen(traffic=traffic)
    hashed = traffic.hashes is not None
    return Seen(
        traffic=traffic.longer(tokens),
        tokens=int(tokens.sum()),
        requests=int(np.count_nonzero(tokens)),
        notes=(
            "the tokens of media are added to the prompts, which are taken to be text alone; no two requests share them"
            + (", and a prompt with media shares whole hashes of its text" if hashed else ""),
            *notes,
            _NOT_FOLLOWED,
        ),
    )


def _counted(
    engine: str,
    model: Model,
    options: Mapping[str, Any],
    each: Sequence[Media],
    files: Mapping[str, Any],
    bad: Callable[[int, str, str], KvplanError],
) -> tuple[np.ndarray[Any, Any], Iterable[str]]:
    """The tokens of every entry, and what is said of how they are counted, once."""
    made = make_engine(engine, dict(options))
    counts, notes = np.zeros(len(each), dtype=np.int64), dict[str, None]()
    for entry, media in enumerate(each):
        if not media:
            continue
        try:
            use = used_by(made, model, media, files)
        except NotTaken as problem:
            raise bad(entry, problem.reason, problem.see) from problem
        except OptionError as problem:
            raise OptionError(str(problem), hint=problem.hint or _LEAVE_OUT) from problem
        counts[entry] = use.tokens
        if not notes:
            notes[f"media are counted by {use.source}"] = None
        notes |= dict.fromkeys(use.notes)
    return counts, notes
