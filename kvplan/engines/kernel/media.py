"""Images, video and audio in an engine whose own preprocessing was not read: as the model's processor does, and that is said."""

from collections.abc import Callable
from typing import Any

from kvplan.domain.media.asked import Media
from kvplan.domain.media.processor import Processor
from kvplan.domain.media.use import Use
from kvplan.domain.model import Model
from kvplan.engines.kernel.engine import Engine

#: What `About.media` names: of an engine of its own kind.
Used = Callable[[Any, Model, Processor, Media], Use]


def as_processed(engine: Engine, model: Model, processor: Processor, media: Media) -> Use:
    """What the media of a request are by the model's own processor.

    Raises:
        NotTaken: the processor refuses one.
        Refused: the model takes no such media.
    """
    theory = engine.about.theory
    note = () if theory else (f"counted as the model's own processor does: what {engine.name} does otherwise was not read",)
    return Use(media=media, engine=engine.name, cost=processor.cost(media), source=processor.source, read=theory, notes=note)
