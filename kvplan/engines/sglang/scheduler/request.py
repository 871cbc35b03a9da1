"""A request as the scheduler follows it, and what one step computes. Source: sglang 0.5.23, `managers/schedule_batch.py`."""

from msgspec import Struct

from kvplan.engines.sglang.scheduler.tree import Key, Node, cut


class Request:
    """One request; counts are of tokens."""

    __slots__ = (
        "cached",
        "chunks",
        "ended",
        "given",
        "held",
        "hits",
        "index",
        "key",
        "known",
        "limit",
        "node",
        "prompt",
        "refused",
        "retracted",
        "retractions",
        "row",
    )  # fmt: skip

    def __init__(self, index: int, key: Key, prompt: int, limit: int, root: Node) -> None:
        self.index, self.key, self.prompt, self.limit = index, key, prompt, limit
        self.given = 0  # tokens of output that were read
        self.held = 0  # tokens that have a place in the pool
        self.cached = 0  # of these, what the tree holds for it: whole pages
        self.known = 0  # tokens that the last prefill ended at
        self.node = root  # the last node that it holds
        self.chunks = 0  # steps in flight that end inside its prompt
        self.ended = False
        self.refused = False  # too long: a stand-in of one token goes through in its place
        self.retracted = False  # and not admitted again since
        self.retractions = 0
        self.row = False  # it has one
        self.hits: list[int] = []  # tokens, one entry an admission

    def first(self, tokens: int) -> Key:
        """Its first tokens, of prompt and output."""
        if tokens <= self.prompt:
            return cut(self.key, tokens)[0]
        return (*self.key, (("out", self.index), 0, tokens - self.prompt))


class Batch(Struct, frozen=True, eq=False):
    """What one step computes. `prefill` are its tokens of prompts; `chunked` is a request whose prompt goes on."""

    requests: list[Request]
    extends: bool
    prefill: int = 0
    chunked: Request | None = None
    admitted: tuple[Request, ...] = ()

    @property
    def giving(self) -> bool:
        """Whether somebody of it may be given output."""
        return any(request.limit for request in self.requests)
