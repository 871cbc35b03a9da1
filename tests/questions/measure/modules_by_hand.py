"""Modules that somebody wrote by hand: a cache in a Python list, a ring buffer on the module, a compressed memory, and worse."""

from typing import Any

import torch
from torch import nn

CONFIG: dict[str, Any] = {
    "vocab": 50,
    "width": 24,
    "num_layers": 3,
    "kv": 2,
    "dim": 6,
    "span": 16,
    "group": 4,
    "recent": 10,
    "max_seq_len": 99,
}


class Based(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config["vocab"], config["width"])


class ListCache(Based):
    """`past` is a list of layers, each a list with one pair a token."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        made = [nn.Linear(config.width, 2 * config.kv * config.dim) for _ in range(config.num_layers)]
        self.parts = nn.ModuleList(made)

    def forward(self, input_ids: torch.Tensor, past: Any = None) -> tuple[torch.Tensor, Any]:
        x = self.embed(input_ids)
        past = past or [[] for _ in self.parts]
        for part, cache in zip(self.parts, past, strict=True):
            for token in part(x).unbind(1):
                key, value = token.unflatten(-1, (2, self.config.kv, -1)).unbind(1)
                cache.append((key.clone(), value.clone()))
        return x, past


class Ring(Based):
    """Each layer's last tokens lie in a buffer, made at the first call."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList([nn.Linear(config["width"], config["width"]) for _ in range(config["num_layers"])])
        for block in self.blocks:
            block.register_buffer("ring", None, persistent=False)
        self.seen = 0

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            y = block(x)
            if block.ring is None:
                block.ring = y.new_zeros(y.shape[0], self.config["span"], y.shape[-1])
            for i in range(y.shape[1]):
                block.ring[:, (self.seen + i) % self.config["span"]] = y[:, i]
        self.seen += x.shape[1]
        return x


class Compressive(Based):
    """The last tokens as they are, and one mean in float32 for each group of four."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList([nn.Linear(config["width"], config["width"]) for _ in range(config["num_layers"])])
        self.seen = 0

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        groups = (self.seen + x.shape[1]) // self.config["group"] - self.seen // self.config["group"]
        for block in self.blocks:
            y = block(x)
            recent = torch.cat([getattr(block, "recent", y[:, :0]), y], 1)
            new = recent.float().mean(1, keepdim=True).expand(-1, groups, -1)
            block.memory = torch.cat([getattr(block, "memory", new[:, :0]), new], 1)
            block.recent = recent[:, -self.config["recent"] :].clone()
        self.seen += x.shape[1]
        return x


class Steps(Based):
    """Keys and values in one tensor, whose room grows by 16 tokens at a time."""

    def forward(self, input_ids: torch.Tensor, past: Any = None) -> tuple[torch.Tensor, Any]:
        x = self.embed(input_ids)
        seen = x.shape[1] + (past["seen"] if past else 0)
        return x, {"seen": seen, "kv": x.new_zeros(2, x.shape[0], 3, -(-seen // 16) * 16, 8)}


class FixedBatch(Ring):
    """As many serving codes do: room for eight sequences, however many there are."""

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            if block.ring is None:
                block.ring = x.new_zeros(8, self.config["span"], x.shape[-1])
            block.ring[: len(x), self.seen % self.config["span"]] = block(x)[:, -1]
        self.seen += x.shape[1]
        return x


class Square(Based):
    """Keeps a score for every pair of tokens."""

    def forward(self, input_ids: torch.Tensor, past: Any = None) -> tuple[torch.Tensor, Any]:
        seen = input_ids.shape[1] + (past.shape[1] if past is not None else 0)
        return self.embed(input_ids), torch.zeros(len(input_ids), seen, seen)


class Forgets(Based):
    """Nothing lives on."""

    def forward(self, input_ids: torch.Tensor, past: Any = None) -> torch.Tensor:
        out: torch.Tensor = self.embed(input_ids)
        return out


class Unbuilt(Based):
    """Asks for a key that no config has."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.rank = config["no_such_key"]


class Unrun(Based):
    """Cannot take a second token."""

    def forward(self, input_ids: torch.Tensor, past: Any = None) -> tuple[torch.Tensor, Any]:
        x = self.embed(input_ids)
        if past is not None:
            raise RuntimeError("no second step")
        return x, x


class Distant(Based):
    """A window that lies far off; it may look at its numbers, and refuse long prompts."""

    def forward(self, input_ids: torch.Tensor, past: Any = None) -> tuple[torch.Tensor, Any]:
        x = self.embed(input_ids)
        if self.config.get("looks"):
            float(x.sum())  # which the meta device cannot say
        if x.shape[1] > self.config.get("most", 10**6):
            raise ValueError("too long")
        seen = x if past is None else torch.cat([past[0], x], 1)
        return x, (seen[:, -self.config["sliding_window"] :].clone(),)
