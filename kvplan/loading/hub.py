"""Models on the hub, by `owner/name`: only config.json is fetched, never code or weights."""

from kvplan import architectures
from kvplan.domain.model import Model
from kvplan.limits import CONFIG_BYTES
from kvplan.loading.config_json import parse_config
from kvplan.loading.fetch import HubFile
from kvplan.loading.foreign import as_hub_config


def load_from_hub(repo_id: str, *, infer: bool = False) -> Model:
    """Fetch (or take from the cache) a repository's config.json and read it.

    `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured.

    Raises:
        EnvironmentMissing: huggingface_hub is not installed, the hub is out of reach, or offline mode is on.
        UnknownModel: no such repository, a gated one, or one without a config.json.
        ConfigError, UnknownArchitecture: its config.json cannot be read as a model.
    """
    raw = HubFile(repo_id, "config.json").whole(CONFIG_BYTES)
    source = f"{repo_id}/config.json"
    data = as_hub_config(parse_config(raw, source), source)
    return architectures.read(data, source=source, name=repo_id.rpartition("/")[2], infer=infer)
