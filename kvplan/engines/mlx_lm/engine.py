"""`mlx-lm`: the arrays of its prompt cache, as `generate_step` and the server's `BatchGenerator` leave them.

A prompt is read in chunks of `prefill_step_size`, its last token alone; then every token is one call. Arrays grow by 256
rows, rotate at a window, or are cut to a chunk, so `allocated_bytes` count whole arrays and `payload_bytes` the tokens in
them. Without `prompt_len` all tokens were prompt. Several sequences are a batch of the server, whose rows follow the longest.

Sources: mlx_lm/generate.py, mlx_lm/models/cache.py, mlx_lm/models/*.py; mlx-lm 0.32.2 with mlx 0.32.4. Shapes and dtypes were
recorded on a CPU; Metal runs the same Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from kvplan.domain.model import Cross, Model
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.engine import Engine, Prepared, Serving
from kvplan.engines.kernel.tensors import At, Count, Piece, at_most
from kvplan.engines.mlx_lm.about import ABOUT
from kvplan.engines.mlx_lm.facts import MlxLmFacts, cache_facts
from kvplan.engines.mlx_lm.growth import Calls
from kvplan.engines.mlx_lm.layers import Moment, Storage, peak_bytes, pieces
from kvplan.engines.mlx_lm.models import Reading, read
from kvplan.engines.mlx_lm.options import MlxLmOptions
from kvplan.engines.mlx_lm.refusals import quantised, why_not_batched, why_not_looped, why_not_quantised
from kvplan.errors import Refused

_DEFAULT: Final = MlxLmOptions()


def _unpacked(storage: Storage) -> Storage:
    return replace(storage, bits=None)


class MlxLm(Engine):
    """The library's prompt caches; see the module's docstring."""

    about: ClassVar[About] = ABOUT
    Options: ClassVar[type[Any]] = MlxLmOptions
    options: MlxLmOptions

    def on(self, model: Model) -> MlxLmOn:
        """The prompt cache that the library makes for `model`.

        Raises:
            Refused: the library has no module for the model's type.
        """
        return MlxLmOn(self, model)


class MlxLmOn(Prepared):
    """The prompt cache of one model."""

    engine: MlxLm

    def __init__(self, engine: MlxLm, model: Model) -> None:
        super().__init__(engine, model)
        self.reading = self._reading()
        if len(self.reading.layers) != len(model.layers):  # a module that reads the number of layers under another key
            self.read = replace(model, layers=self.reading.layers)
        options = engine.options
        self.storage = Storage(
            dtype=self.kv_dtype, bits=options.kv_bits, group=options.kv_group_size, start=options.quantized_kv_start
        )
        self.unquantised = why_not_quantised(self.reading, options)
        self._unbatched = why_not_batched(self.reading, options)
        self.linear_in_batch = not self._unbatched

    def _reading(self) -> Reading:
        found = read(self.model, self.engine.options.max_kv_size)
        if found is None:
            raise Refused(f"mlx-lm: Model type {self.model.model_type} not supported.", see="kvplan engines lists others")
        if any(isinstance(m, Cross) for layer in self.model.layers for m in layer.memories):
            raise Refused("mlx-lm runs decoders only: it keeps nothing of an encoder")
        reason = why_not_looped(found, self.model)
        if reason:
            raise Refused(reason)
        return found

    @property
    def kv_dtype(self) -> str:
        """The activations' dtype: the model's, or the one that it was converted to."""
        return self.engine.options.dtype_for(self.model.dtype)

    @property
    def stored(self) -> str:
        """The dtype, or the bits and the group that keys and values are packed in."""
        bits = self.engine.options.kv_bits
        return self.kv_dtype if bits is None else f"{bits} bits in groups of {self.engine.options.kv_group_size}"

    def moment(self, at: At[Count]) -> Moment[Count]:
        """How the tokens came."""
        options = self.engine.options
        prompt = at.seq_len if options.prompt_len is None else at_most(at.seq_len, options.prompt_len)
        return Moment(calls=Calls.of(at.seq_len, prompt, options.prefill_step_size), sequences=at.batch_size)

    def check(self, at: At[int]) -> None:
        """Quantising fails in the call after which enough tokens are cached; some models run one sequence at a time."""
        if self.unquantised is not None and self.unquantised.at(at.seq_len, self.storage.start):
            below = f"leave out kv_bits, or stay below quantized_kv_start={self.storage.start:,} tokens"
            raise Refused(f"mlx-lm: {self.unquantised.reason}", see=below)
        if self._unbatched and at.batch_size > 1:
            raise Refused(self._unbatched, see="ask for one sequence: «batch_size 1»")

    def tensors(self, at: At[Count]) -> Iterator[Piece[Count]]:
        """Every array, equal ones together."""
        return pieces(self.reading.entries, self.storage, self.moment(at))

    def most_bytes(self, at: At[int]) -> int:
        """The most that the arrays take between two calls until `at`; prompts are read `prompt_concurrency` at a time."""
        together = min(at.batch_size, self.engine.options.prompt_concurrency)
        moment = self.moment(At(at.seq_len, together))
        extra = peak_bytes(self.reading.entries, self.storage, moment) - self.totals(At(at.seq_len, together)).allocated
        return self.totals(at).allocated + extra

    def bytes_per_token(self, seq_len: Count, payload: Count | None = None) -> Count:
        """What the next token of one sequence adds, packed where the cache is: the call that packs it is not a token's price."""
        if self.storage.bits is None:
            return super().bytes_per_token(seq_len, payload)
        plain, packed = (self._growth(storage, seq_len) for storage in (_unpacked(self.storage), replace(self.storage, start=0)))
        return plain + (packed - plain) * (seq_len >= self.storage.start)

    def _growth(self, storage: Storage, seq_len: Count) -> Count:
        now, then = (self.moment(At(seq_len + more, seq_len * 0 + 1)) for more in (0, 1))
        entries = self.reading.entries
        added: Count = seq_len * 0
        for later, earlier in zip(pieces(entries, storage, then), pieces(entries, storage, now), strict=True):
            added = added + (later.payload - earlier.payload) * later.count
        return added

    def facts(self, workload: Workload) -> MlxLmFacts:
        """The cache objects, and the peak."""
        at = At(workload.seq_len, workload.batch_size)
        found = self.totals(at)
        return MlxLmFacts(
            entries=len(self.reading.entries),
            kv_bytes=found.allocated - found.state,
            state_bytes=found.state,
            peak_bytes=self.most_bytes(at),
            caches=cache_facts(self.reading.entries, self.storage, self.moment(at)),
        )

    def notes(self, workload: Workload) -> tuple[str, ...]:
        """What the library ignores or does without saying so."""
        options, found = self.engine.options, list(super().notes(workload))
        if not self.reading.module:
            found.append("no config behind the model: full layers grow, sliding ones rotate, latents stay latent")
        if options.max_kv_size is not None and not self.reading.traits.plain:
            found.append(f"max_kv_size does nothing: {self.reading.module or 'such a model'} makes its own caches")
        if options.kv_bits is not None and not quantised(self.reading.entries):
            found.append("kv_bits does nothing: no cache of this model is quantised")
        elif options.kv_bits is not None and workload.seq_len < options.quantized_kv_start:
            found.append(f"kv_bits takes effect once {options.quantized_kv_start:,} tokens are cached (quantized_kv_start)")
        if workload.batch_size > options.decode_concurrency:
            found.append(f"beyond {options.decode_concurrency} sequences the server lets others wait (decode_concurrency)")
        at = At(workload.seq_len, workload.batch_size)
        peak = self.most_bytes(at)
        if peak > self.totals(at).allocated:
            found.append(f"while a prompt is read the arrays take up to {peak:,} bytes")
        if self.engine.version != self.engine.about.latest:
            found.append(f"the rules are those of mlx-lm {self.engine.about.latest}; no other release was studied")
        return tuple(found)

    def typed(self, workload: Workload) -> str:
        """The options of the server, or of `mlx_lm.generate`, which alone has `--max-kv-size`."""
        return self.command(self.asked(workload))

    def command(self, serving: Serving) -> str:
        """The server's command line; `mlx_lm.generate`'s where only that has the option."""
        flags = self._flags(serving.batch_size, serving.context)
        return " ".join((flags[0], f"--model {quote(serving.model)}", *flags[1:]))

    def needs(self, serving: Serving) -> tuple[str, ...]:
        """A checkpoint in another dtype, where one was asked for, and in another format: both are converted once."""
        found = list(super().needs(serving))
        if self.kv_dtype != self.model.dtype:
            found.append(f"needs a checkpoint in {self.kv_dtype} (mlx_lm.convert --dtype {self.kv_dtype})")
        return tuple(found)

    def _flags(self, batch_size: int, context: int) -> list[str]:
        """The program, then what differs from its defaults.

        The server keeps finished prompts' caches beside the running ones; `--prompt-cache-bytes` bounds both together.
        """
        options = self.engine.options
        flags = (
            []
            if options.prefill_step_size == _DEFAULT.prefill_step_size
            else [f"--prefill-step-size {options.prefill_step_size}"]
        )
        if options.kv_bits is not None:
            flags.append(f"--kv-bits {options.kv_bits} --kv-group-size {options.kv_group_size}")
            flags.append(f"--quantized-kv-start {options.quantized_kv_start}")
        if options.max_kv_size is not None and self.reading.traits.plain:
            return ["mlx_lm.generate", f"--max-kv-size {options.max_kv_size}", *flags]
        flags.append(f"--decode-concurrency {batch_size} --prompt-concurrency {min(batch_size, options.prompt_concurrency)}")
        if options.prompt_cache_size != _DEFAULT.prompt_cache_size:
            flags.append(f"--prompt-cache-size {options.prompt_cache_size}")
        limit = options.prompt_cache_bytes
        flags.append(f"--prompt-cache-bytes {self.totals(At(context, batch_size)).allocated if limit is None else limit}")
        return ["mlx_lm.server", *flags]
