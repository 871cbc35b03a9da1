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
LEAST_FACTOR: Final = 0.14
RATIO_STEPS: Final = 600
#: Requests that wait and whose prefix is used so that it is not forgotten, and once in how many passes
#: (`WAITING_QUEUE_PREFIX_MATCH_MAX`, `WAITING_PREFIX_REFRESH_INTERVAL`).
TOUCHED: Final = 128
TOUCHED_EACH: Final = 32
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

    conservativeness: float = 1.0

    @property
    def first_ratio(self) -> float:
        """Of the output that may still come, what admission keeps free at first."""
        return min(FIRST_RATIO * self.conservativeness, 1.0)

    @property
    def least_ratio(self) -> float:
        """And at least."""
        return min(self.first_ratio * LEAST_FACTOR, 1.0)

    @property
    def decay(self) -> float:
        """What it falls by in a step of decoding."""
        return (self.first_ratio - self.least_ratio) / RATIO_STEPS

    def most_output(self, prompt: int, output: int) -> int:
        """Tokens that a request is given at most (`init_req_max_new_tokens`, `max_new_tokens_for_memory`)."""
        memory = self.tokens - -(-prompt // self.page) * self.page - self.page - 1
        return max(0, min(output, self.longest - prompt - 1, memory))

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
        conservativeness=options.schedule_conservativeness,
    )
