"""Where everything lies: layers, weights, caches, states and the output buffer, by device.

Source: llama.cpp 0c1e57098, `src/llama-kv-cache.cpp`, `src/llama-memory-recurrent.cpp` (each layer's tensors in the buffer of
its device, all on the host with `--no-kv-offload`), `src/llama-context.cpp` (`output_reserve`, the constructor's
`pipeline_parallel`), and the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from kvplan.domain.stored import StoredTensor
from kvplan.engines.llama_cpp.context import Context, Refusal
from kvplan.engines.llama_cpp.memory import Tensor
from kvplan.engines.llama_cpp.placement.devices import HOST, Device, Host, SplitMode, cache_type, taking_part
from kvplan.engines.llama_cpp.placement.split import HOST_LAYER, layers_to_devices
from kvplan.engines.llama_cpp.placement.weights import PLAIN, Buffers, Loading, buffers
from kvplan.gguf.hparams import Hparams


class Asked(Struct, frozen=True, kw_only=True):
    """What a command line says of placement, by llama.cpp's names.

    Attributes:
        n_gpu_layers: blocks and the output layer that go to devices, the last ones; negative: all.
        tensor_split: shares of the devices; None: by free memory.
        use_devices: `-dev`; None: all.
        offload_kqv: False (`--no-kv-offload`): caches and states stay on the host.
        loading: how weights are loaded.
    """

    n_gpu_layers: int = -1
    split_mode: SplitMode = "layer"
    main_gpu: int = 0
    tensor_split: tuple[float, ...] | None = None
    use_devices: tuple[str, ...] | None = None
    offload_kqv: bool = True
    loading: Loading = Loading()


class Part(Struct, frozen=True, kw_only=True):
    """What lies on one device, or on the host (which comes last and is called `Host`); bytes of buffers, padding included.

    Attributes:
        blocks: numbers of the blocks that lie here.
        model: bytes of weights by buffer.
        output_bytes: the logits' buffer, which is always in host memory.
    """

    name: str
    blocks: tuple[int, ...]
    has_output: bool
    model: Mapping[str, int]
    kv_bytes: int
    state_bytes: int
    output_bytes: int = 0

    @property
    def n_layers(self) -> int:
        """Blocks here."""
        return len(self.blocks)

    @property
    def model_bytes(self) -> int:
        """All weights here."""
        return sum(self.model.values())


class Placed(Struct, frozen=True, kw_only=True):
    """A model and one context over devices and host.

    Attributes:
        devices: those that take part, in the engine's order.
        parts: one for each of them, then the host's.
        layers: the device of each block and, last, of the output layer; -1 is the host.
        n_layers_offloaded: as the log prints it (`41/65`).
        pipeline_parallel: whether several batches are computed at once, which takes four copies of the inputs.
        largest_on_host: bytes of the largest matrices on the host, which the first device may be given copies of.
        next_on_host: bytes of the largest of those that are second in their block; None: what lies on the host is guessed.
        moved: whether tensors were moved by name.
        experts: whether experts lie on each device.
        output: the device that holds the matrix of the logits.
        in_blocks: weights with a block's number, and whether they lie on the host; empty where no tensors are known.
        experts_on_host: whether experts are among those that do.
    """

    devices: tuple[Device, ...]
    parts: tuple[Part, ...]
    layers: tuple[int, ...]
    n_layers_offloaded: str
    pipeline_parallel: bool
    largest_on_host: tuple[int, ...] = ()
    next_on_host: int | None = None
    moved: bool = False
    experts: tuple[bool, ...] = ()
    output: int = HOST_LAYER
    in_blocks: tuple[tuple[StoredTensor, bool], ...] = ()
    experts_on_host: bool = False

    @property
    def host(self) -> Part:
        """What lies on the host."""
        return self.parts[-1]

    @property
    def copies(self) -> int:
        """Copies of a graph's inputs (`GGML_SCHED_MAX_COPIES`)."""
        return 4 if self.pipeline_parallel else 1


def place(
    h: Hparams,
    context: Context[int],
    tensors: Sequence[StoredTensor],
    asked: Asked,
    devices: Sequence[Device],
    host: Host = Host(),  # noqa: B008  (frozen)
    known: dict[tuple[int, ...], Buffers] | None = None,
) -> Placed | Refusal:
    """Where each layer, tensor, cache and buffer lies.

    Args:
        h: the model.
        context: its context, whose tensors are dealt out with the layers.
        tensors: of the file; empty where they are not known, and then no weights are counted.
        asked: the command line.
        devices: all that there are.
        host: the processor.
        known: the weights' buffers by the devices of the layers, kept between questions that differ in the context alone.
    """
    chosen = taking_part(devices, use_devices=asked.use_devices, split_mode=asked.split_mode, main_gpu=asked.main_gpu)
    if isinstance(chosen, Refusal):
        return chosen
    count = h.n_layer_all
    layers = layers_to_devices(count, asked.n_gpu_layers, chosen, asked.tensor_split, host.total_bytes)
    weights = known.get(layers) if known is not None else None
    if weights is None:
        weights = buffers(h, tensors, layers, chosen, asked.loading, host)
        if known is not None:
            known[layers] = weights
    cache, state = _memory(context, layers, chosen, offload=asked.offload_kqv)
    parts = [
        Part(
            name=device.name,
            blocks=tuple(layer for layer in range(count) if layers[layer] == index),
            has_output=layers[-1] == index,
            model={device.name: weights.devices[index]} if weights.devices[index] else {},
            kv_bytes=cache[index],
            state_bytes=state[index],
        )
        for index, device in enumerate(chosen)
    ]
    parts.append(
        Part(
            name="Host",
            blocks=tuple(layer for layer in range(count) if layers[layer] == HOST_LAYER),
            has_output=layers[-1] == HOST_LAYER,
            model=weights.host,
            kv_bytes=cache[HOST_LAYER],
            state_bytes=state[HOST_LAYER],
            output_bytes=context.output_buffer_bytes,
        )
    )
    wanted = count + 1 if asked.n_gpu_layers < 0 else asked.n_gpu_layers
    return Placed(
        devices=chosen,
        parts=tuple(parts),
        layers=layers,
        largest_on_host=weights.largest_on_host,
        next_on_host=weights.next_on_host if tensors else None,
        moved=bool(asked.loading.moved),
        experts=weights.experts,
        output=weights.output,
        in_blocks=weights.in_blocks,
        experts_on_host=weights.experts_on_host,
        n_layers_offloaded=f"{min(wanted, count + 1)}/{count + 1}",
        pipeline_parallel=len(chosen) > 1
        and wanted > count
        and asked.split_mode == "layer"
        and asked.offload_kqv
        and not asked.loading.moved
        and all(device.backend.events for device in chosen),
    )


def _memory(
    context: Context[int], layers: Sequence[int], devices: Sequence[Device], *, offload: bool
) -> tuple[list[int], list[int]]:
    """Bytes of keys and values, and of states, by device; the host's are last."""
    cache, state = [0] * (len(devices) + 1), [0] * (len(devices) + 1)
    for part in context.parts:
        for tensor in part.tensors:
            place = layers[min(tensor.layer, len(layers) - 2)] if offload else HOST_LAYER
            (cache if tensor.role in {"k", "v"} else state)[place] += _buffer_bytes(tensor, devices, place)
    return cache, state


def _buffer_bytes(tensor: Tensor[int], devices: Sequence[Device], place: int) -> int:
    backend = HOST if place == HOST_LAYER else devices[place].backend
    return backend.alloc(cache_type(tensor.type), int(tensor.shape[0]), tensor.bytes)


def host_buffer_name(part: Part) -> str:
    """What the log calls the buffer of the host's weights."""
    return next(iter(part.model), PLAIN)
