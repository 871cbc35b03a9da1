"""Model types of the library that generate without a cache of keys and values, or with several models in turn.

They are known by name, so that the answer is the reason and not a guess. Source: `modeling_*.py` of transformers
5.23 (`_supports_default_dynamic_cache`, `generate`).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.reader import Decoder, Reader, reader

_SPEECH: Final = "makes the whole waveform at once and keeps no keys and values"
_REASONS: Final = {
    "bark": "is three models that run in turn (`semantic_config`, `coarse_acoustics_config`, `fine_acoustics_config`)",
    "blt": "keeps keys and values of bytes and not of its patches, whose number depends on the text",
    "fastspeech2_conformer": _SPEECH,
    "fastspeech2_conformer_with_hifigan": _SPEECH,
    "reformer": "keeps hashed buckets of hidden states, not keys and values",
    "vits": _SPEECH,
    "xlnet": "keeps hidden states of earlier segments (`mems`), not keys and values",
}


@reader
def _cacheless(c: Config, model_type: str, reason: str) -> Decoder:
    """Nothing that could be planned.

    Raises:
        ConfigError: always, with the reason.
    """
    c.refuse("model_type", f"is `{model_type}`, which {reason}", hint="describe what it keeps in YAML (docs/guides/specs.md)")


ROWS: Final[dict[str, Reader]] = {model_type: _cacheless(model_type, reason) for model_type, reason in _REASONS.items()}
