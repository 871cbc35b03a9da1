"""A model's tensors beside its config: what a ledger of a process's memory is worked out from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from kvplan.domain.parameters import Parameter

if TYPE_CHECKING:  # a text model's ledger does not load the rules of images
    from kvplan.domain.media.processor import Processor


class Described(Struct, frozen=True, kw_only=True):
    """What an engine needs of a model to say what it loads.

    Attributes:
        parameters: every tensor of the checkpoint, in construction order.
        config: config.json; `text` its text part completed with class defaults; `text_type` that part's model type.
        drafter: tensors of the drafter that serves beside it, if any.
        processor: what its preprocessing does with images, where it sees and that was read.
    """

    parameters: tuple[Parameter, ...]
    config: Mapping[str, Any]
    text: Mapping[str, Any]
    text_type: str
    drafter: tuple[Parameter, ...] = ()
    processor: "Processor | None" = None
