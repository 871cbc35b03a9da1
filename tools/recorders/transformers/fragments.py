"""What PyTorch's allocator needs beside tensors while a prompt's pass runs on a card that is just large enough.

    python tools/recorders/transformers/fragments.py OUT.jsonl CONFIG.json,BATCH,TOKENS ...

The storages of a pass of transformers' own code without data (`peaks`, all layers) are taken and given back in their order by
the allocator's rules; when the card is full it gives the driver back what no tensor uses, and tries once more. The smallest card
on which the pass ends is searched to 1 MiB; the weights lie beside it.
"""

import gc
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import peaks
import torch
import transformers

from kvplan.domain.caching_allocator import SMALL_BYTES, Allocator, round_size, segment_size
from kvplan.units import MIB

_NEVER = 1 << 62


class Full(Exception):
    """The card is."""


class Capped(Allocator):
    """A card of so many bytes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def take(self, size: int) -> int:
        rounded = round_size(size)
        fits = any(block >= rounded for block, _, _ in self._free[rounded <= SMALL_BYTES])
        if size > 0 and not fits and self.reserved + segment_size(rounded) > self._most:
            self.empty_cache()
            if self.reserved + segment_size(rounded) > self._most:
                raise Full
        return super().take(size)


class Trace:
    """Takes and gives, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []  # handle, bytes; a give has -1

    def take(self, size: int) -> int:
        self.events.append((len(self.events), size))
        return len(self.events) - 1

    def give(self, handle: int) -> None:
        self.events.append((handle, -1))


def traced(config: dict[str, Any], batch: int, tokens: int) -> list[tuple[int, int]]:
    """A pass's takes and gives."""
    made = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16).eval()
    ids = torch.zeros((batch, tokens), dtype=torch.long, device="meta")
    gc.collect()
    gc.disable()
    storages: Any = peaks.Storages([*model.parameters(), *model.buffers(), ids])
    storages.allocator = trace = Trace()
    with torch.no_grad(), peaks.Attention(), storages:
        held = model(ids, use_cache=True, logits_to_keep=1)
        events = trace.events[:]
    del held
    gc.enable()
    return events


def replayed(events: list[tuple[int, int]], most: int = _NEVER) -> Capped:
    """The allocator after a pass on a card of so many bytes.

    Raises:
        Full: it does not end there.
    """
    card, handles = Capped(most), dict[int, int]()
    for handle, size in events:
        if size < 0:
            card.give(handles.pop(handle))
        else:
            handles[handle] = card.take(size)
    return card


def smallest(events: list[tuple[int, int]]) -> int:
    """The smallest card."""
    ample = replayed(events)
    below, enough = ample.peak - 1, ample.reserved
    while enough - below > MIB:
        middle = (below + enough) // 2
        try:
            replayed(events, middle)
            enough = middle
        except Full:
            below = middle
    return enough


def main() -> None:
    warnings.filterwarnings("ignore")
    with Path(sys.argv[1]).open("w") as out:
        for name, batch, tokens in (argument.split(",") for argument in sys.argv[2:]):
            events = traced(json.loads(Path(name).read_text()), int(batch), int(tokens))
            ample = replayed(events)
            row = {
                "config": Path(name).stem, "engine_version": transformers.__version__, "batch": int(batch), "prefill": int(tokens),
                "peak_bytes": ample.peak, "reserved_bytes": ample.reserved, "smallest_bytes": smallest(events),
            }  # fmt: skip
            out.write(json.dumps(row) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
