"""DeepSeek-V4 in LMDeploy: rows of entries in blocks of 256 tokens, windows and compressors in slots.

Source: lmdeploy 0.18.0 `pytorch/configurations/deepseek_v4.py`, `pytorch/backends/cuda/v4_compressor.py`.
"""

from __future__ import annotations

from typing import Final

from kvplan.domain.model import Compressed, Index, Model, Softmax, Window
from kvplan.engines.lmdeploy import models
from kvplan.engines.lmdeploy.options import LmdeployOptions
from kvplan.engines.lmdeploy.plan import INDEX_SCALE, BlockTensor, Plan, StateTensor
from kvplan.errors import Refused

_BLOCK: Final = 256  # tokens
_ROW: Final = 584  # bytes: 448 of fp8, 64 rotary elements of bf16, 7 scales and one byte; consts.py V4_PACKED_TOKEN_DIM


def deepseek_v4(model: Model, options: LmdeployOptions, dtype: str) -> Plan:
    """Blocks of 256 tokens, whatever is asked: fp8 rows of entries; windows and compressors in slots.

    Source: `configurations/deepseek_v4.py`, `backends/cuda/v4_compressor.py`.
    """
    queries = models.query_heads(model)
    if queries is not None and queries % options.tp:
        raise Refused(f"{queries} attention heads cannot be divided by tp {options.tp}")
    ratios, dim, window, index = _v4_layers(model)
    everywhere = tuple(layer.index for layer in model.layers)
    by_ratio = {ratio: tuple(i for i, found in enumerate(ratios) if found == ratio) for ratio in (4, 128)}
    tensors: list[BlockTensor] = []
    states = [StateTensor(name="window", shape=(window, _ROW), dtype="float8_e4m3fn", layers=everywhere)]
    for ratio, layers in by_ratio.items():
        if not layers:
            continue
        rows = _BLOCK // ratio
        shape = (rows, _ROW)
        tensors.append(BlockTensor(name="entries", shape=shape, dtype="float8_e4m3fn", layers=layers, contiguous=True))
        if ratio == 4:
            keys = (rows, 1, index + INDEX_SCALE)
            tensors.append(BlockTensor(name="index keys", shape=keys, dtype="uint8", layers=layers, contiguous=True))
            states.append(StateTensor(name="compressor", shape=(16, 2 * dim), dtype="float32", layers=layers))
            states.append(StateTensor(name="index compressor", shape=(16, 2 * index), dtype="float32", layers=layers))
        else:
            states.append(StateTensor(name="wide compressor", shape=(256, dim), dtype="float32", layers=layers))
    return Plan(
        block_size=_BLOCK,
        kernel_block_size=_BLOCK,
        tensors=tuple(tensors),
        states=tuple(states),
        dtype=dtype,
        kv_dtype="fp8_e4m3",
        num_layers=len(everywhere),
        kv_heads_total=1,
        k_head_dim=dim,
        v_head_dim=dim,
        window_size=-1,
        vocab_size=models.vocabulary(model),
        own_blocks=True,
    )


def _v4_layers(model: Model) -> tuple[list[int], int, int, int]:
    """Tokens that an entry of each layer stands for (0: it keeps a window alone), the widths, and the window."""
    ratios: list[int] = []
    dim = window = index = 0
    for layer in model.layers:
        ratio = 0
        for memory in layer.memories:
            match memory:
                case Softmax(reach=Compressed(ratio=found)):
                    ratio, dim = found, memory.key_dim
                case Softmax(reach=Window(size=size)):
                    window, dim = size, memory.key_dim
                case Index():
                    index = memory.dim
        if ratio not in (0, 4, 128):
            raise Refused(f"DeepSeek-V4 compression only supports ratios (0, 4, 128), but got [{ratio}].")
        ratios.append(ratio)
    return ratios, dim, window, index
