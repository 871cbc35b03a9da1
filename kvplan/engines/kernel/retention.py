"""Which tokens are kept: of all that a layer has seen, those that its reach still needs."""

from __future__ import annotations

from typing import assert_never

from kvplan.domain.model import Chunk, Compressed, Cross, Full, Model, Reach, Steps, Window
from kvplan.engines.kernel.tensors import Count, at_most


def kept_tokens(reach: Reach, tokens: Count) -> Count:
    """Entries that remain of `tokens`: all (in whole steps), the last window or chunk, or one for each full group."""
    match reach:
        case Steps(size=size):
            return -(-tokens // size) * size
        case Full():
            return tokens
        case Window(size=size) | Chunk(size=size):
            return at_most(tokens, size)
        case Compressed(ratio=ratio):
            return tokens // ratio
        case _:
            assert_never(reach)


def cross_tokens(memory: Cross, encoder_len: int) -> int:
    """The encoder positions kept: what the workload has, or the model's fixed length."""
    return memory.tokens if memory.tokens is not None and not encoder_len else encoder_len


def growth_period(model: Model) -> int:
    """Tokens after which every layer's growth repeats: 1, unless entries stand for several tokens."""
    from math import lcm

    reaches = (getattr(memory, "reach", None) for layer in model.layers for memory in layer.memories)
    return lcm(
        *{
            reach.ratio if isinstance(reach, Compressed) else reach.size
            for reach in reaches
            if isinstance(reach, Compressed | Steps)
        }
    )
