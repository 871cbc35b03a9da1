"""In which buffer each tensor of a GGUF file lies, and what the buffers take.

Source: llama.cpp 0c1e57098, `src/llama-model-loader.cpp` (`create_tensor`, `load_all_data`), `src/llama-arch.cpp`
(`LLM_TENSOR_INFOS`), `src/llama-model.cpp` (`make_cpu_buft_list`, `make_gpu_buft_list`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from kvplan.domain.stored import StoredTensor
from kvplan.engines.llama_cpp.memory import pad
from kvplan.engines.llama_cpp.placement.devices import HOST, HOST_ALIGNMENT, Device, Host
from kvplan.engines.llama_cpp.placement.patterns import Override
from kvplan.engines.llama_cpp.placement.split import HOST_LAYER
from kvplan.gguf.hparams import Hparams
from kvplan.gguf.known import NO_CACHE

MAPPED: Final = "CPU_Mapped"
PLAIN: Final = "CPU"
REPACKED: Final = "CPU_REPACK"
#: Tensors without a block number that rows are looked up in: always the host's.
_INPUT: Final = frozenset({"token_embd", "position_embd", "token_types", "per_layer_token_embd"})
#: Without a block number, and yet of the first block.
_FIRST: Final = frozenset({"token_embd_norm", "per_layer_model_proj", "per_layer_proj_norm"})
#: One copy in each buffer that has a layer that rotates by it.
_ROPE: Final = frozenset({"rope_freqs", "rope_factors_long", "rope_factors_short"})
_LARGEST: Final = 3  # tensors whose sizes are kept: no more are copied at once
#: Architectures whose final norm goes by the name of the embedding's.
_NORM_LAST: Final = frozenset({"lfm2", "lfm2moe"})
#: Architectures that load this tensor of their NextN blocks in every context.
_ALWAYS: Final = {"glm-dsa": "exp_probs_b.bias", "deepseek32": "exp_probs_b.bias"}


class Loading(Struct, frozen=True, kw_only=True):
    """How weights are loaded.

    Attributes:
        mmap: whether the file is mapped; None: where every device takes it.
        no_host: no pinned host buffers.
        repack: whether matrices on the host may be laid out anew.
        load_mtp: whether NextN blocks are loaded (`--spec-type draft-mtp`).
        moved: tensors that go elsewhere by name.
    """

    mmap: bool | None = None
    no_host: bool = False
    repack: bool = True
    load_mtp: bool = False
    moved: tuple[Override, ...] = ()


class Matrix(Struct, frozen=True, kw_only=True):
    """A block's weight that something is multiplied by.

    Attributes:
        rows, columns: elements that come out and that go in.
        depth: how many of them lie one on another: experts.
        host: bytes of its copy on the first device; 0 where it does not lie on the host.
    """

    rows: int
    columns: int
    depth: int = 1
    host: int = 0


class Buffers(Struct, frozen=True, kw_only=True):
    """Bytes of weights: of each device, and of the host's buffers by name."""

    devices: tuple[int, ...]
    host: Mapping[str, int]
    largest_on_host: tuple[int, ...] = ()  # of the matrices that operations on the host multiply by
    next_on_host: int = 0  # the largest of those that are second in their block
    experts: tuple[bool, ...] = ()  # whether experts lie on each device
    output: int = HOST_LAYER  # where the matrix of the logits lies
    in_blocks: tuple[tuple[StoredTensor, bool], ...] = ()  # weights with a block's number, and whether they lie on the host
    experts_on_host: bool = False


def buffers(
    h: Hparams,
    tensors: Sequence[StoredTensor],
    layers: Sequence[int],
    devices: Sequence[Device],
    loading: Loading,
    host: Host,
) -> Buffers:
    """What the weights take where.

    Args:
        h: the model.
        tensors: of the file, with their offsets.
        layers: the device of each block and of the output layer (`layers_to_devices`).
        devices: those that take part.
        loading: how.
        host: what the processor repacks.
    """
    maps = all(device.maps_files for device in devices) if loading.mmap is None else loading.mmap
    pinned = next((device.backend.pinned for device in devices if device.backend.pinned), "") if not loading.no_host else ""
    plain = MAPPED if maps else PLAIN
    on_device = [0] * len(devices)
    on_host: dict[str, int] = {}
    mapped: dict[int, list[tuple[int, int]]] = {}
    seen: set[tuple[str, str | int]] = set()
    multiplied: list[int] = []
    by_block: dict[int | None, list[int]] = {}
    in_blocks: list[tuple[StoredTensor, bool]] = []
    experts_on_host = False
    experts = [False] * len(devices)
    output = layers[-1]
    number = {device.name: index for index, device in enumerate(devices)}

    def host_buffer(tensor: StoredTensor, *, rows: bool) -> str:
        if pinned:  # a mapped file is not pinned
            return plain if maps else pinned
        return REPACKED if loading.repack and _repacks(tensor, host, rows=rows) else plain

    for tensor, place, rows in _uses(h, tensors, layers, load_mtp=loading.load_mtp):
        to: str | int = host_buffer(tensor, rows=rows) if place == HOST_LAYER else place
        for override in loading.moved:
            if override.moves(tensor.name):
                to = number.get(override.buffer, -1)
                to = host_buffer(tensor, rows=rows) if to == HOST_LAYER else to
                break
        if isinstance(to, str) and not rows and len(tensor.dims) > 1:
            multiplied.append(tensor.bytes)
            by_block.setdefault(tensor.block, []).append(tensor.bytes)
        on_the_host = isinstance(to, str)
        if tensor.block is not None:
            in_blocks.append((tensor, on_the_host))
            experts_on_host = experts_on_host or (on_the_host and "_exps." in tensor.name)
        if isinstance(to, int) and "_exps." in tensor.name:
            experts[to] = True
        if tensor.name == "output.weight":
            output = to if isinstance(to, int) else HOST_LAYER
        if (tensor.name, to) in seen:
            continue
        seen.add((tensor.name, to))
        if isinstance(to, int):
            on_device[to] += devices[to].backend.alloc(tensor.type, tensor.dims[0], tensor.bytes)
        elif to == MAPPED:
            mapped.setdefault(tensor.part, []).append((tensor.offset, tensor.offset + tensor.bytes))
        else:
            on_host[to] = on_host.get(to, 0) + HOST.alloc(tensor.type, tensor.dims[0], tensor.bytes)
    for ranges in mapped.values():  # one range of each file, whatever lies between
        on_host[MAPPED] = on_host.get(MAPPED, 0) + max(end for _, end in ranges) - min(start for start, _ in ranges)
    largest = tuple(sorted(multiplied, reverse=True)[:_LARGEST])
    return Buffers(
        devices=tuple(on_device),
        host=on_host,
        largest_on_host=largest,
        next_on_host=max((sorted(sizes)[-2] for sizes in by_block.values() if len(sizes) > 1), default=0),
        experts=tuple(experts),
        output=output,
        in_blocks=tuple(in_blocks),
        experts_on_host=experts_on_host,
    )


def matrices(in_blocks: Iterable[tuple[StoredTensor, bool]], first: Device) -> dict[int, dict[str, Matrix]]:
    """The weights of each block by name (`ffn_up_exps`); `first`: the device that copies would lie on."""
    found: dict[int, dict[str, Matrix]] = {}
    for tensor, on_host in in_blocks:
        if tensor.block is not None and tensor.name.endswith(".weight"):
            found.setdefault(tensor.block, {})[tensor.name.split(".")[2]] = Matrix(
                rows=tensor.dims[1] if len(tensor.dims) > 1 else 1,
                columns=tensor.dims[0],
                depth=tensor.dims[2] if len(tensor.dims) > 2 else 1,
                host=first.backend.alloc(tensor.type, tensor.dims[0], tensor.bytes) if on_host else 0,
            )
    return found


def _repacks(tensor: StoredTensor, host: Host, *, rows: bool) -> bool:
    """Matrices of few types that are multiplied by, not looked up in."""
    if rows or not host.repacks(tensor.type):
        return False
    matrix = len(tensor.dims) == 2 or (len(tensor.dims) == 3 and "_exps" in tensor.name)
    return matrix and tensor.dims[1] % 8 == 0


def _uses(
    h: Hparams, tensors: Iterable[StoredTensor], layers: Sequence[int], *, load_mtp: bool
) -> Iterator[tuple[StoredTensor, int, bool]]:
    """Each tensor with the device that wants it (-1: the host), and whether rows are looked up in it; some are wanted twice."""
    output, first = layers[-1], layers[0]
    listed = tuple(tensors)
    tied = h.arch not in NO_CACHE and not any(tensor.name == "output.weight" for tensor in listed)
    always = _ALWAYS.get(h.arch, "")
    for tensor in listed:
        block, kind = tensor.block, tensor.kind
        if block is not None:
            if block >= len(layers) - 1:
                continue
            if block >= h.n_layer and not load_mtp and not (always and tensor.name.endswith(f".{always}")):
                continue
            yield tensor, layers[block], False
        elif kind in _INPUT:
            yield tensor, HOST_LAYER, True
            if kind == "token_embd" and tied and tensor.name.endswith(".weight"):
                yield tensor, output, False
        elif kind in _ROPE:
            for place in dict.fromkeys(layers[layer] for layer in range(h.n_layer) if _rotates_by(h, layer)):
                yield tensor, place, False
        elif kind in _FIRST and h.arch not in _NORM_LAST:
            yield tensor, first, False
        else:  # output, its norm, classifiers, dense layers behind it
            yield tensor, output, False


def _rotates_by(h: Hparams, layer: int) -> bool:
    """gemma4 rotates by frequencies of the file in its global layers alone."""
    return not (h.arch == "gemma4" and h.sliding[layer])


def file_order(named: Iterable[tuple[str, str, Sequence[int], int]]) -> tuple[StoredTensor, ...]:
    """Tensors of which only name, type, extents and bytes are known, in the order of the converter's files.

    Those without a block number come first, by name, then block by block by name; each begins at a multiple of 32 bytes.
    """
    made = [StoredTensor(name=name, type=kind.lower(), dims=tuple(dims), bytes=size) for name, kind, dims, size in named]
    made.sort(key=lambda tensor: (-1 if tensor.block is None else tensor.block, tensor.name))
    placed, at = [], 0
    for tensor in made:
        placed.append(StoredTensor(name=tensor.name, type=tensor.type, dims=tensor.dims, bytes=tensor.bytes, offset=at))
        at += pad(tensor.bytes, HOST_ALIGNMENT)
    return tuple(placed)
