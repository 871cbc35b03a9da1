"""The transformers library: cache classes by release and model type."""

from kvplan.engines.transformers.about import ABOUT as ABOUT
