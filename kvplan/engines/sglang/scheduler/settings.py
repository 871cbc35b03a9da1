"""What a server was told that decides its steps."""

from typing import Final

from msgspec import Struct

from kvplan.engines.sglang.arguments import Arguments
from kvplan.engines.sglang.pool import Sizes
from kvplan.errors import Refused

_SEE: Final = "docs/guides/replay.md says what is followed"

#: Output that admission reckons with at most (`CLIP_MAX_NEW_TOKENS`).
CLIPPED: Final = 4096
#: Of the output that running requests may still give, what admission keeps free: at first, at least, and the steps of decoding
#: from one to the other. Source: `new_token_ratio_tracker.py`, `environ.py:SGLANG_INIT_NEW_TOKEN_RATIO` and following.
FIRST_RATIO: Final = 0.7
LEAST_RATIO: Final = FIRST_RATIO * 0.14
RATIO_STEPS: Final = 600
#: Tokens of each request that a retraction makes room for (`SGLANG_RETRACT_DECODE_STEPS`).
RETRACT_STEPS: Final = 20
#: Tokens that a prompt leaves of the longest request (`Scheduler.init_model_worker`: max_req_input_len).
_INPUT_MARGIN: Final = 5


class Settings(Struct, frozen=True, kw_only=True):
    """Counts are of tokens, `requests` of those that run at once."""

    tokens: int  # of the pool
    page: int
    requests: int
    context: int
    chunk: int | None  # None: prompts are computed whole
    most_prefill: int
    radix: bool
    overlap: bool

    @property
    def longest(self) -> int:
        """Tokens of the longest request."""
        return min(self.context - 1, self.tokens - 1)

    @property
    def longest_prompt(self) -> int:
        """A prompt of so many tokens or more is refused."""
        return self.longest - _INPUT_MARGIN


def settings_of(args: Arguments, sizes: Sizes) -> Settings:
    """The scheduler of a server whose pools have `sizes`.

    Raises:
        Refused: something whose steps are not written down.
    """
    options, reading = args.options, args.reading
    for wrong, what in (
        (bool(reading.sliding) or bool(reading.ratios), "a pool for windows beside that of all tokens"),
        (reading.stateful, "states that the radix cache keeps"),
        (reading.encoder is not None, "an encoder's tokens"),
        (bool(args.speculation), "drafts"),
        (options.pp_size > 1, "pipeline stages"),
        (options.dcp_size > 1, "decode context parallelism"),
        (options.disaggregation_mode != "null", "prefill and decode servers apart"),
    ):
        if wrong:
            raise Refused(f"the steps of SGLang with {what} are not written down", _SEE)
    return Settings(
        tokens=sizes.tokens // args.page_size * args.page_size,
        page=args.page_size,
        requests=sizes.requests,
        context=reading.context,
        chunk=args.chunked_prefill_size if args.chunked_prefill_size > 0 else None,
        most_prefill=options.max_prefill_tokens,
        radix=args.radix,
        overlap=args.overlap,
    )
