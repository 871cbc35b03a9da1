"""What the theory reads of a config: the cache that the checkpoint asks for."""

from kvplan.domain.model import Model
from kvplan.domain.storage.cache import checkpoint_cache


def own_cache(model: Model) -> str:
    """The cache dtype that the checkpoint's config asks for; empty where it asks for none."""
    return checkpoint_cache(model.origin)
