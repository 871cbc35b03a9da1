"""Where `transformers` does otherwise than the config says, in words: what `explain` and the tables tell beside the numbers.

Sources: the modeling and configuration files that `transformers_families` names for each change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kvplan.domain.model import Model
from kvplan.engines.transformers.models import Version, as_kept, ignored_state_dtype, text_type

_UNSHARED: Final = "transformers reads neither `use_cla` nor `cla_share_factor`: every layer caches"
_BROADCAST: Final = (
    "transformers broadcasts keys and values to every query head before it caches them (`new_decoder_architecture`, "
    "models/falcon/modeling_falcon.py): the saving of grouped heads does not exist there"
)
#: Text model type -> why the library's layers are not the config's.
_WHY: Final[Mapping[str, str]] = {
    "hunyuan": _UNSHARED,
    "hunyuan_v1_dense": _UNSHARED,
    "hunyuan_v1_moe": _UNSHARED,
    "hunyuan_vl_text": _UNSHARED,
    "falcon": _BROADCAST,
    "RefinedWeb": _BROADCAST,
    "RefinedWebModel": _BROADCAST,
    "gpt_neo": "local layers are only a mask in transformers (`GPTNeoSelfAttention`): their cache keeps every token",
    "mpt": "transformers does not read `attn_config.kv_n_heads` (`MptAttention`): every query head caches its own",
    "mimo_v2_flash": "transformers derives the sliding layers' heads and window itself and ignores the `swa_*` keys",
    "xlstm": "transformers allocates `num_hidden_layers` states, however many blocks there are (`xLSTMCache`)",
}


def departures(model: Model, version: Version) -> Iterator[str]:
    """One sentence for each thing that the library changes or ignores without saying so."""
    kind = text_type(model)
    if as_kept(model, version).layers != model.layers:
        yield _WHY.get(kind, f"this release of transformers keeps the layers of `{kind}` otherwise than later ones")
    if ignored_state_dtype(model):
        yield "transformers ignores `mamba_ssm_cache_dtype`: its states are float32"
