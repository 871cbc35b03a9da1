"""What was asked and is not what it looks like: a length beyond the model, encoder tokens that matter or do not, a release
of which nothing was read. Said beside the number, by every engine alike.
"""

from collections.abc import Iterator

from kvplan.domain.lengths import trained_tokens
from kvplan.domain.model import Cross, Model
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.evidence import records
from kvplan.engines.kernel.releases import Release, parse_version, written


def remarks(about: About, release: Release, model: Model, workload: Workload) -> Iterator[str]:
    """What a reader must know of the question itself."""
    yield from about_release(about, release)
    yield from beyond(model, workload.seq_len)
    yield from about_encoder(model, workload.encoder_len)


def about_release(about: About, release: Release) -> Iterator[str]:
    """That a release is not among those whose rules were read: newer ones get the newest rules, older ones the oldest."""
    asked = written(release)
    if release > parse_version(about.latest):
        yield f"{about.name} {asked} is newer than {about.latest}, the last whose rules were read: they are used"
    known = records(about)
    read = bool(about.read_since) and release >= parse_version(about.read_since)
    if known.held and release < known.first and not read:
        oldest = written(known.first)
        yield f"{about.name} {asked} is older than {oldest}, the oldest that is recorded: what changed before is not known"


def beyond(model: Model, tokens: int) -> Iterator[str]:
    """That a sequence is longer than the model is made for."""
    limit = trained_tokens(model)
    if limit is not None and tokens > limit:
        yield f"{tokens:,} tokens are more than the model's own limit of {limit:,} (-s max)"


def about_encoder(model: Model, encoder_len: int) -> Iterator[str]:
    """That cross-attention counts nothing because no encoder tokens were given; or that they change nothing."""
    cross = [memory for layer in model.layers for memory in layer.memories if isinstance(memory, Cross)]
    asks = any(memory.tokens is None for memory in cross)
    if asks and not encoder_len:
        yield "no encoder tokens were given, so cross-attention counts nothing: the input's or the image's are --encoder-len N"
    elif encoder_len and not asks:
        fixed = next((memory.tokens for memory in cross), None)
        if fixed is not None:
            yield f"encoder tokens change nothing: the model fixes them, {fixed:,}"
        else:
            yield "encoder tokens change nothing: no layer has cross-attention (image tokens in a prompt count in -s)"
