"""Weights as loaded: vLLM's own tensors in the order in which its modules are built, through the caching allocator.

Beside them it keeps small things: rotary tables, four scales an attention layer, DeepGEMM's workspace. What `Model loading
took` prints is what the allocator counts of them, so a tensor of 20 MiB or more counts whole segments.

Source: `model_executor/model_loader/base_loader.py:load_model` within `DeviceMemoryProfiler`; 0.26.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from kvplan.domain.caching_allocator import UNLIMITED, Allocator
from kvplan.domain.latest import latest
from kvplan.domain.parameters import Parameter
from kvplan.engines.kernel.releases import Release
from kvplan.engines.vllm.ledger import releases
from kvplan.engines.vllm.ledger.quantised import Quantised, converts, elements_of, tensors_of
from kvplan.engines.vllm.ledger.rotary import Rotary
from kvplan.engines.vllm.ledger.tensors import LATENTS_APART, Rank, Tensor, engine_classes, modules
from kvplan.units import MIB

_SPLIT_LIMIT: Final = 20 * MIB
_SCALES: Final = 4  # k, v, q and softmax scales stay on the device, a float32 each
_QUANTISED_SCALES: Final = 5  # what the fp8 method registers on an attention layer for checkpoints that bring scales
_SCALE_BYTES: Final = 4
DEEP_GEMM_BYTES: Final = 32 * MIB


class Beside(Struct, frozen=True, kw_only=True):
    """What the engine's classes keep beside the checkpoint's tensors.

    Attributes:
        text_type: model type of the text decoder, which some classes of the engine go by.
        rotary: layer type -> table; "" serves every layer.
        layer_types: the config's, one a layer, where tables differ.
        latent_copy: bytes of the plain copy of a layer's kv_b that latent attention keeps, 0 where it reads kv_b itself.
        index_buffer: bytes of the chosen positions of a full batch, which all indexers share; `index_table`: they rotate by
            a table of their own.
        deep_gemm: DeepGEMM is initialised while the first layer is built.
        tower_table: the rotary table of a vision tower, built behind its patches.
        buffers: bytes of further tensors that the model's class keeps.
        scalars: small tensors beside the layers (Gemma's normaliser); `scalars_a_layer` beside each attention (ALiBi slopes).
        mixer_buffers: bytes of what each recurrent layer keeps beside its parameters.
        untied: the text part has a head of its own, whatever the wrapper says.
    """

    text_type: str = ""
    rotary: Mapping[str, Rotary] = field(default_factory=dict)
    layer_types: Sequence[str] = ()
    latent_copy: int = 0
    index_buffer: int = 0
    index_table: bool = False
    deep_gemm: bool = False
    tower_table: Rotary | None = None
    buffers: Sequence[int] = ()
    scalars: int = 0
    scalars_a_layer: int = 0
    mixer_buffers: Sequence[int] = ()
    untied: bool = False


class Loaded(Struct, frozen=True, kw_only=True):
    """Bytes as the allocator counts them, what it reserved, the sum of the tensors, and their elements."""

    bytes: int
    reserved: int
    exact: int
    parameters: int


class _Loading:
    """The allocator while a model is built."""

    def __init__(self, max_split: int) -> None:
        self.memory = Allocator(max_split)
        self.exact = 0
        self.elements = 0

    def take(self, size: int) -> None:
        self.memory.take(size)
        self.exact += size

    def table(self, table: Rotary) -> None:
        self.exact += self.memory.size(table.make(self.memory))

    def tensor(self, tensor: "Sized") -> None:
        for size in tensor.sizes:
            self.take(size)
        self.elements += tensor.elements


class Sized(Struct, frozen=True, kw_only=True):
    """One tensor of a module: what the allocator is asked for, in order, and its elements."""

    sizes: tuple[int, ...]
    elements: int
    opens_tower: bool  # a table of the tower is built behind it


class Module(Struct, frozen=True, kw_only=True):
    """One module, as it is built: its layer, its tensors, and whether it is a mixer or an attention."""

    layer: int | None
    tensors: tuple[Sized, ...]
    mixes: bool
    attends: bool


@latest(8)  # what is kept beside the tensors differs by more: by cache dtype, by the tokens of a step
def _built(
    parameters: Sequence[Parameter], rank: Rank, text_type: str, untied: bool, quantised: Quantised | None
) -> tuple[Module, ...]:
    """The modules in the order in which they are built."""
    found: list[Module] = []
    alike: dict[tuple[object, ...], Module] = {}  # by their tensors: a scheme may name layers, else equal ones are as large
    classes = engine_classes(parameters, text_type, untied)
    for group in modules(classes, rank):
        layer, same = group[0].layer, tuple((id(t.parameter), t.shape, t.pieces) for t in group)
        if quantised is not None or same not in alike:
            alike[same] = Module(
                layer=layer,
                tensors=tuple(_sized(tensor, rank.item_bytes, quantised) for tensor in group),
                mixes=any(t.parameter.component == "mixer" for t in group),
                attends=any(t.parameter.component == "attention" for t in group),
            )
        found.append(replace(alike[same], layer=layer))
    return tuple(found)


def _sized(tensor: Tensor, item_bytes: int, quantised: Quantised | None) -> Sized:
    p = tensor.parameter
    scheme = quantised if quantised is not None and converts(p, quantised, tensor.layer) else None
    return Sized(
        sizes=tuple(tensors_of(p, tensor.shape, item_bytes, scheme, tensor.pieces)),
        elements=elements_of(p, tensor.shape, scheme, tensor.pieces),
        opens_tower=p.role == "patch" and p.component == "vision",
    )


@latest(16)  # GPUs that are compared differ in memory, and most load the same
def load(
    parameters: Sequence[Parameter], rank: Rank, release: Release, beside: Beside, quantised: Quantised | None = None
) -> Loaded:
    """What loading leaves allocated on one rank."""
    rank = replace(rank, joins_latents=beside.text_type not in LATENTS_APART)
    loading = _Loading(_SPLIT_LIMIT if releases.SPLIT_LIMIT_LOADING.at(release) else UNLIMITED)
    scaled = quantised is not None and quantised.name == "fp8" and not beside.latent_copy
    scales = _SCALES + beside.scalars_a_layer + (_QUANTISED_SCALES if scaled else 0)
    tower_table = beside.tower_table
    made: set[Rotary] = set()
    attentions = 0
    for module in _built(parameters, rank, beside.text_type, beside.untied, quantised):
        for tensor in module.tensors:
            loading.tensor(tensor)
            if tower_table is not None and tensor.opens_tower:
                loading.table(tower_table)
                tower_table = None
        if module.mixes:
            for size in beside.mixer_buffers:
                loading.take(size)
        if not module.attends:
            continue
        table = _table_of(module.layer, beside)
        if table is not None and table not in made:
            made.add(table)
            for _ in range(2 if beside.index_table else 1):
                loading.table(table)
            loading.take(beside.index_buffer)
        for _ in range(scales):
            loading.memory.take(_SCALE_BYTES)
        if beside.deep_gemm and not attentions:
            loading.memory.take(DEEP_GEMM_BYTES)
        attentions += 1
    for size in (*beside.buffers, *[_SCALE_BYTES] * beside.scalars, *[beside.latent_copy] * attentions):
        loading.take(size)
    elements = loading.elements + (_SCALES * attentions if scaled else 0)
    return Loaded(bytes=loading.memory.allocated, reserved=loading.memory.reserved, exact=loading.exact, parameters=elements)


def _table_of(layer: int | None, beside: Beside) -> Rotary | None:
    """The rotary table that a layer's attention uses."""
    kind = beside.layer_types[layer] if layer is not None and layer < len(beside.layer_types) else ""
    return beside.rotary.get(kind, beside.rotary.get(""))
