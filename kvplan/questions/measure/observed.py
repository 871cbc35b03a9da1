"""What was seen of a model: tensors that lived on, at several lengths and batch sizes; plain values that a process sends.

The bounds are of what another process may answer: it runs somebody's code, and is not believed.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from kvplan.errors import InputError

#: Tensors of one run, and runs of one observation, at most.
MOST_TENSORS: Final = 50_000
MOST_POINTS: Final = 40

Tokens = Annotated[int, Meta(ge=0, le=2**24)]
Whole = Annotated[int, Meta(ge=0, le=2**53)]
Word = Annotated[str, Meta(max_length=100)]


class NotMeasured(InputError):
    """A class that cannot be built or run: whose code failed, where, and how."""


class Held(Struct, frozen=True, kw_only=True):
    """One tensor after a run. `path` leads to it: names, and places in a list as `#3/12`.

    A storage that another tensor owns counts 0 bytes here. `own` tensors hang on the module itself, the others on what
    `forward` handed back; `stepped` says that the last decode step wrote it.
    """

    path: Annotated[tuple[Word, ...], Meta(max_length=64)]
    shape: Annotated[tuple[Whole, ...], Meta(max_length=64)]
    dtype: Word
    view_bytes: Whole
    storage_bytes: Whole
    own: bool = False
    stepped: bool = True


class Point(Struct, frozen=True, kw_only=True):
    """One run: `batch_size` sequences, a prompt at once and the rest of `seq_len` token by token."""

    batch_size: Annotated[int, Meta(ge=1, le=1024)]
    seq_len: Annotated[int, Meta(ge=1, le=2**24)]  # tokens
    prompt_len: Tokens
    encoder_len: Tokens = 0
    held: Annotated[tuple[Held, ...], Meta(max_length=MOST_TENSORS)] = ()
    check: bool = False  # kept out of the fit, to be predicted


class Facts(Struct, frozen=True, kw_only=True):
    """What the class and its config say of themselves."""

    name: Word  # of the class
    dtype: Word  # of its parameters
    source: Annotated[str, Meta(max_length=400)] = ""  # where the class was read
    library: Word = ""  # with its release, where the class is a library's
    torch: Word = ""
    device: Word = "meta"
    layers: Annotated[int, Meta(ge=1, le=2**24)] | None = None
    attention_heads: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**40)] | None = None
    encoder: bool = False
    numbers: Annotated[dict[Word, Whole], Meta(max_length=2000)] = {}  # whole numbers of the config, by key


class Observation(Struct, frozen=True, kw_only=True):
    """All runs of one model, and what a reader must know of them.

    `depths` are layers of the stacks that were run where these were fewer than the model has: `points` are then those of the
    first, written as runs of all layers; the last was predicted.
    """

    facts: Facts
    points: Annotated[tuple[Point, ...], Meta(min_length=1, max_length=MOST_POINTS)]
    remarks: Annotated[tuple[Annotated[str, Meta(max_length=400)], ...], Meta(max_length=40)] = ()
    seconds: Annotated[float, Meta(ge=0, le=10**6)] = 0.0
    depths: Annotated[tuple[Annotated[int, Meta(ge=1, le=2**24)], ...], Meta(max_length=3)] = ()
