"""The budget of one prefill: how much of which prompt is computed in it.

Source: sglang 0.5.23, `managers/schedule_policy.py:PrefillAdder`, `mem_cache/prefill_budget.py:PrefillBudget`.
"""

from collections.abc import Sequence

from kvplan.engines.sglang.scheduler.request import Request
from kvplan.engines.sglang.scheduler.settings import CLIPPED, Settings
from kvplan.engines.sglang.scheduler.tree import Tree


class Adder:
    """The prompts of one prefill; counts are of tokens."""

    def __init__(self, settings: Settings, tree: Tree, free: int, running: Sequence[Request], ratio: float) -> None:
        """`ratio` is what is kept free of the output that `running` may still be given."""
        self.settings, self.tree, self.free = settings, tree, free
        self.requests: list[tuple[Request, int]] = []  # with tokens to compute
        self.rows = 0  # of these, with a row already: a prompt that goes on
        self.chunked: Request | None = None  # new, and cut
        self.turned_away = False  # the last that was tried: there is no room for it
        self.input, self.chunk = settings.most_prefill, settings.chunk
        self.total: float = sum(min(r.limit - r.given, CLIPPED) * ratio for r in running)
        self.now = 0

    @property
    def room(self) -> bool:
        """Whether there is any, with and without what is reserved for output."""
        return self.left > 0 and self.free + self.tree.evictable - self.now > 0

    @property
    def spent(self) -> bool:
        """Whether the tokens of a step are (`budget_state`: OTHER)."""
        return self.room and (self.input <= 0 or (self.chunk is not None and self.chunk <= 0))

    @property
    def left(self) -> float:
        """Tokens that are free or can be evicted, less what is reserved."""
        return self.free + self.tree.evictable - self.total

    def go_on(self, request: Request) -> Request | None:
        """The next part of a prompt that was cut; None where that is the last."""
        chunk = self.chunk or 0
        most = min(chunk, int(self.left))
        if most <= 0:
            most = chunk
        rest = request.prompt + request.given - request.held
        new = min(rest, most)
        self.requests.append((request, new))
        self.rows += 1
        self._reserve(new, min(request.limit, CLIPPED) if rest <= most else 0)
        return request if rest > most else None

    def add(self, request: Request) -> bool:
        """A request that waits, if there is room; whether the next one may be tried."""
        tree, page, known = self.tree, self.settings.page, request.prompt + request.given
        hit, node = tree.match(request.first(known - 1)) if self.settings.radix else (0, tree.root)
        new = known - hit
        tree.lock(node)
        if new + min(max(request.limit - request.given, 0), CLIPPED) + page >= self.left:
            tree.unlock(node)
            self.turned_away = True
            return False
        whole, reserved = -(-new // page) * page, min(request.limit, CLIPPED)
        if self.chunk is None:
            if self.requests and whole >= self.input:
                tree.unlock(node)
                return False
        elif whole > self.chunk:
            new = (hit + self.chunk // page * page) // page * page - hit
            if new <= 0:
                tree.unlock(node)
                return False
            self.chunked, reserved = request, 0
        request.node, request.cached, request.held = node, hit, hit
        request.hits.append(hit)
        self.requests.append((request, new))
        self._reserve(new, reserved)
        return self.room and not self.spent

    def _reserve(self, new: int, output: int) -> None:
        page = self.settings.page
        whole = -(-new // page) * page
        self.total += whole + page + output
        self.now += whole + page
        self.input -= whole
        if self.chunk is not None:
            self.chunk -= whole
