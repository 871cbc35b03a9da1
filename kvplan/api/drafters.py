"""The second model of a server that `check` reads: the one that drafts tokens."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from kvplan.api.memory import known_weights
from kvplan.architectures.weights import gguf_tensors
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import option_names
from kvplan.engines.kernel.commandline.commands import Commands
from kvplan.errors import InputError, KvplanError
from kvplan.loading.servers.models import Named, named_model
from kvplan.questions.check import Outcome
from kvplan.questions.estimate import plan


class Drafter(Struct, frozen=True, kw_only=True):
    """A drafter that a server names: the option that holds its model, or the bytes that it takes apart.

    `missing` says why neither is known; `note` what its name was taken for.
    """

    name: str
    draft: Model | None = None
    beside_bytes: int = 0
    missing: str = ""
    note: str = ""

    def within(self, found: Outcome) -> Outcome:
        """The server's outcome: one that starts without a drafter that nobody knows may start with it."""
        if not self.missing or found.status == "does not start":
            return found
        reason = f"its drafter `{self.name[:80]}` is not counted: {self.missing}"
        return replace(found, status="may start" if found.status == "starts" else found.status, reason=reason)


def drafter_of(
    name: str, engine: str, reader: Commands, configs: Mapping[str, Path], *, context: int, sequences: int, infer: bool
) -> Drafter:
    """What is known of the model that a server names as its drafter.

    Args:
        context, sequences: what its own cache holds, where it has one.
    """
    try:
        named = named_model(name, configs, infer=infer, aliases=reader.known_as(name))
        if reader.drafts_apart:
            return Drafter(name=name, beside_bytes=_apart(named, engine, context, sequences), note=named.note)
    except KvplanError as problem:
        return Drafter(name=name, missing=str(problem))
    if "draft" not in option_names(engine):
        return Drafter(name=name, missing=f"what {reader.name} keeps for one is not known here")
    return Drafter(name=name, draft=_with_tensors(named), note=named.note)


def _with_tensors(named: Named) -> Model:
    """The model, with the tensors of a file in the format that its name says."""
    model, dtype = named.model, named.weights_dtype
    made = gguf_tensors(model, dtype) if dtype and not model.tensors else ()
    return replace(model, tensors=made) if made else model


def _apart(drafter: Named, engine: str, context: int, sequences: int) -> int:
    """Bytes of a drafter that is loaded as any model is, with a cache for the same tokens."""
    cache = plan(drafter.model, Workload(seq_len=context, batch_size=sequences), engine)
    if isinstance(cache, NotPredicted):
        raise InputError(cache.reason)
    return known_weights(drafter.source, drafter.model, None, drafter.weights_dtype).bytes + cache.total_bytes
