"""What the graph of one prompt batch is made of: the model's widths and the batch."""

from __future__ import annotations

from msgspec import Struct

from kvplan.gguf.hparams import Hparams


class Sizes(Struct, frozen=True, kw_only=True):
    """One batch of one model.

    Attributes:
        tokens: of the batch.
        outputs: of them whose logits are computed.
        sequences: of the batch.
        host: the number of the host's heap.
        offloads: whether operations whose weights lie on the host are moved to the first device.
        snapshots: of earlier states that a scan gives beside the last one (`n_rs_seq`).
    """

    h: Hparams
    tokens: int
    outputs: int
    sequences: int
    host: int
    offloads: bool
    snapshots: int = 0

    def number(self, name: str) -> int:
        """A whole number of the header, the largest of a list; 0 where there is none."""
        value = self.h.keys.get(f"{self.h.arch}.{name}")
        value = max(value, default=0) if isinstance(value, list | tuple) else value
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
