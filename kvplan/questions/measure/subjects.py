"""A model that can be run from a clean start: the library's own class, or any module, with its cache returned or held.

What runs is a copy that shares the weights, so that nothing of a run is left on the model that was given. Where the code
allows it, the weights of that copy lie on torch's meta device: shapes and storages are real, and nothing is computed.
"""

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from kvplan.domain.workload import Workload
from kvplan.engines.transformers.engine import Transformers
from kvplan.questions.measure.depth import LAYERS
from kvplan.questions.measure.observed import Facts, NotMeasured, Point
from kvplan.questions.measure.tensors import Mark, as_held, inside, marks, on_modules
from kvplan.questions.validate.against_transformers import cache_argument, encoder_width, make_cache
from kvplan.questions.validate.devices import import_torch

#: What `forward` of a module may call the cache that it takes.
_PASTS: Final = ("past", "past_key_values", "cache", "past_kv", "kv_cache", "caches", "state", "states", "memory", "mems")
_HEADS: Final = ("decoder_attention_heads", "num_attention_heads", "n_head", "n_heads", "num_heads", "heads")
_LONGEST: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "block_size", "context_length")
_MOST_NUMBERS: Final = 2000


class Subject:
    """A model that is run again and again, each time as if for the first time."""

    def __init__(self, network: Any, *, config: Mapping[str, Any] | None = None, source: str = "") -> None:
        self.torch = import_torch()
        self.network = network
        self.library = is_library(network)
        self.values: Mapping[str, Any] = config if config is not None else _values_of(network)
        self.source = source
        self.meta = False
        self.kept: Any = None  # a copy that may be run again
        self.with_numbers: Callable[[], Subject] | None = None  # of one that was built on the meta device

    def on_meta(self) -> "Subject":
        """The same model on the meta device."""
        moved = Subject(self._copy(meta=True), config=self.values, source=self.source)
        moved.meta = True
        return moved

    def _copy(self, *, meta: bool = False) -> Any:
        """A copy that shares the weights, or whose weights lie on the meta device; all else is its own."""
        memo: dict[int, Any] = {}
        for weight in self.network.parameters():
            memo[id(weight)] = self.torch.nn.Parameter(weight.detach().to("meta"), weight.requires_grad) if meta else weight
        if meta:
            memo |= {id(buffer): buffer.to("meta") for buffer in self.network.buffers()}
        try:
            return copy.deepcopy(self.network, memo)
        except Exception as problem:
            raise NotMeasured(
                f"the model cannot be copied: {words_of(problem)}", hint="what hangs on it must be plain: no locks, no open files"
            ) from problem

    @property
    def device(self) -> Any:
        """Where the weights are; of a module without any, where torch puts new tensors."""
        first = next(iter(self.network.parameters()), None)
        return self.torch.device("meta" if self.meta else "cpu") if first is None else first.device

    @property
    def dtype(self) -> str:
        """The dtype that most weights have."""
        sizes: dict[str, int] = {}
        for weight in self.network.parameters():
            name = str(weight.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + weight.numel()
        return max(sizes, key=sizes.__getitem__) if sizes else "float32"

    def _place(self) -> Any:
        """Where tensors are made that say nothing of a device."""
        return nullcontext() if str(self.device) == "cpu" else self.torch.device(self.device)

    def facts(self) -> Facts:
        """What the class and its config say."""
        numbers = _numbers(self.values)
        library = ""
        if self.library:
            import transformers

            library = f"transformers {transformers.__version__}"
        return Facts(
            name=type(self.network).__name__[:100],
            dtype=self.dtype,
            source=self.source,
            library=library,
            torch=str(self.torch.__version__),
            device=str(self.device),
            layers=_first(numbers, LAYERS),
            attention_heads=_first(numbers, _HEADS),
            max_tokens=_first(numbers, _LONGEST),
            encoder=self.library and bool(self.network.config.is_encoder_decoder),
            numbers=numbers,
        )

    def run(self, batch_size: int, seq_len: int, prompt_len: int, encoder_len: int = 0, *, check: bool = False) -> Point:
        """A prompt at once, then one token a step, on a copy that nothing was run on.

        Raises:
            NotMeasured: the code fails, or keeps nothing that it hands back or holds.
        """
        network = self._copy().eval() if self.kept is None else self.kept
        going = _Library(self, network, batch_size, encoder_len) if self.library else _Plain(self, network, batch_size)
        first = on_modules(network)
        before = marks(first)
        held: list[Any] = []
        at_last: dict[tuple[str, ...], Mark] = {}
        with _quiet(), self._place(), self.torch.no_grad():
            lengths = (prompt_len, *[1] * (seq_len - prompt_len))
            for length in lengths[:-1]:
                going.step(length)
            held = [*going.returned(), *on_modules(network)]  # held on to, so that no tensor takes another's place
            at_last = marks(held)
            going.step(lengths[-1])
        own = on_modules(network)
        inner = {id(tensor) for _, tensor in own}
        returned = [(path, tensor) for path, tensor in going.returned() if id(tensor) not in inner]
        found = as_held(returned, own, before, at_last)
        if self.library and not any(one.own for one in found):
            self.kept = network  # all that it keeps, it hands back
        del first, held
        return Point(
            batch_size=batch_size, seq_len=seq_len, prompt_len=prompt_len, encoder_len=encoder_len, held=found, check=check
        )


class _Plain:
    """Any module: `forward(input_ids, past=None)`, or `forward(input_ids)` and a cache of its own."""

    def __init__(self, subject: Subject, network: Any, batch_size: int) -> None:
        self.torch, self.device, self.network, self.batch_size = subject.torch, subject.device, network, batch_size
        parameters = list(inspect.signature(network.forward).parameters.values())
        named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.name = next((name for name in _PASTS if name in named[1:]), "")
        self.past: Any = None

    def step(self, length: int) -> None:
        """The next tokens."""
        ids = self.torch.zeros((self.batch_size, length), dtype=self.torch.long, device=self.device)
        output = self.network(ids, **({self.name: self.past} if self.name else {}))
        if isinstance(output, tuple) and len(output) > 1:
            self.past = output[1] if len(output) == 2 else output[1:]
        elif self.name:
            self.past = getattr(output, self.name, None)

    def returned(self) -> list[Any]:
        """The tensors of the cache that came back."""
        return inside(self.past)


class _Library:
    """A class of transformers: its own cache object, made as `generate` makes it."""

    def __init__(self, subject: Subject, network: Any, batch_size: int, encoder_len: int) -> None:
        self.torch, self.device, self.network, self.batch_size = subject.torch, subject.device, network, batch_size
        workload = Workload(batch_size=batch_size, seq_len=1, encoder_len=encoder_len)
        self.cache: Any = make_cache(network, Transformers(), workload)
        self.name = cache_argument(network)
        self.fixed: dict[str, Any] = {"use_cache": True}
        self.ids = "input_ids"
        if network.config.is_encoder_decoder:
            from transformers.modeling_outputs import BaseModelOutput

            shape = (batch_size, encoder_len, encoder_width(network.config))
            hidden = self.torch.zeros(shape, dtype=network.dtype, device=self.device)
            self.fixed["encoder_outputs"] = BaseModelOutput(last_hidden_state=hidden)
            self.fixed["encoder_outputs"].attention_mask = None  # speech encoders hand one on
            self.ids = "decoder_input_ids"

    def step(self, length: int) -> None:
        """The next tokens."""
        ids = self.torch.ones((self.batch_size, length), dtype=self.torch.long, device=self.device)
        given = {self.name: self.cache} if self.cache is not None else {}
        output = self.network(**{self.ids: ids}, **self.fixed, **given)
        self.cache = getattr(output, self.name, self.cache)

    def returned(self) -> list[Any]:
        """The tensors of the cache object."""
        return inside(self.cache)


def is_library(network: Any) -> bool:
    """Whether a module, or a class, is a model of transformers."""
    kind = network if isinstance(network, type) else type(network)
    return any(base.__name__ == "PreTrainedModel" and base.__module__.startswith("transformers.") for base in kind.__mro__)


def words_of(problem: BaseException) -> str:
    """An exception's kind and the first line of its words."""
    lines = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0][:200]}" if lines else type(problem).__name__


def _values_of(network: Any) -> Mapping[str, Any]:
    """The config that a live module has, if it looks like one."""
    held = getattr(network, "config", None)
    if isinstance(held, Mapping):
        return held
    if is_library(network):
        held = network.config.get_text_config(decoder=True)
        found = dict(held.to_dict())
        return found | {new: getattr(held, new, None) for new in held.attribute_map}
    return vars(held) if hasattr(held, "__dict__") else {}


def _numbers(values: Mapping[str, Any]) -> dict[str, int]:
    """Whole numbers of a config, and of the sections in it, by key."""
    found: dict[str, int] = {}
    for key, value in list(values.items())[:_MOST_NUMBERS]:
        if isinstance(value, Mapping):
            found = _numbers(value) | found
        elif isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
            found[str(key)[:100]] = value
    return dict(list(found.items())[:_MOST_NUMBERS])


def _first(numbers: Mapping[str, int], names: tuple[str, ...]) -> int | None:
    return next((numbers[name] for name in names if name in numbers), None)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
