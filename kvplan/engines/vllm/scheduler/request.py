"""A request while the scheduler knows it."""

from typing import Literal

from kvplan.engines.vllm.scheduler.hashes import Tokens


class Request:
    """One request; counts are of tokens."""

    __slots__ = (
        "admitted_at", "computed", "finished", "finished_at", "first_token_at", "hits", "in_flight", "index", "junction",
        "loaded", "max_tokens", "pending", "preemptions", "prefilling", "priority", "quiet_until", "stale", "status", "tokens",
    )  # fmt: skip

    def __init__(self, index: int, tokens: Tokens, max_tokens: int, priority: int) -> None:
        self.index, self.tokens, self.max_tokens, self.priority = index, tokens, max_tokens, priority
        self.computed = 0  # scheduled ones included
        self.in_flight = 0  # scheduled, and their step's output not yet read
        self.pending = 0  # tokens that a step in flight will give
        self.stale = 0  # of those in flight, what was scheduled before the last preemption
        self.junction = 0  # where others' known prefix ends beyond this one's hit
        self.quiet_until = 0  # up to so many tokens no block is taken, given back or made known
        self.prefilling = False
        self.finished = False
        self.status: Literal["waiting", "running", "preempted"] = "waiting"
        self.preemptions = 0
        self.hits: list[int] = []  # tokens, one entry an admission
        self.loaded: list[int] = []  # tokens that memory below the device had, one entry an admission
        self.admitted_at: int | None = None
        self.first_token_at: int | None = None
        self.finished_at: int | None = None

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return self.tokens.prompt

    @property
    def known(self) -> int:
        """Tokens that are known: the prompt and what was given."""
        return self.tokens.known

    @property
    def prefill_end(self) -> int:
        """Where computing what is known ends."""
        return max(self.prompt, self.known - 1)

    @property
    def order(self) -> tuple[int, int]:
        """Its place among others by priority: the smaller, the earlier."""
        return self.priority, self.index
