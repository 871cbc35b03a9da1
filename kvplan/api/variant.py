"""`kvplan.variant`: a model rewritten."""

from kvplan.api.given import Source
from kvplan.domain.model import Model
from kvplan.domain.variants import variant as rewritten
from kvplan.errors import OptionError, shown
from kvplan.loading import load


def variant(model: Source, text: str, *, infer: bool = False) -> Model:
    """`model` rewritten; its name says how: `llama-3.1-8b [mqa+cla=2]`.

    Args:
        model: anything that `kvplan.load` takes.
        text: `mha`, `gqa=K`, `mqa`, `mla=RANK+ROPE`, `state`, `window=W`, `full`, `index=D`,
            `cla=N`, `loop=N`, joined by `+` in any order; `window=1024:5/6`, `window=512:sliding` and `state:3/4` are for some
            of the layers.
        infer: read an unknown architecture by shape.

    Raises:
        OptionError: an unknown or contradictory rewrite, a number that does not fit, or a model without attention.
        KvplanError: a model that cannot be read.

    >>> variant("llama-3.1-8b", "mqa+cla=2").name
    'llama-3.1-8b [mqa+cla=2]'
    """
    if not isinstance(text, str):
        raise OptionError(f"variant: a text is needed, got {shown(text)}", hint="such as `mqa+cla=2`")
    return rewritten(load(model, infer=infer), text)
