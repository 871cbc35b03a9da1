"""GPT by name: OpenAI's 1, 2 and gpt-oss, EleutherAI's Neo, NeoX and J, GPT-SW3, and GPTBigCode (StarCoder).

Sources: `configuration_*.py` of each in transformers 5.23.
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import GPT, MHA, Row, read_heads
from kvplan.architectures.kit.layers import FULL, SLIDING, decoder, full
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Decoder, Reader, reader
from kvplan.architectures.kit.sliding import every, sliding

_GPT2: Final = Row(12, 12, 768, names=GPT)
_NEO: Final = MHA._replace(layers=("num_layers", "num_hidden_layers"), heads=("num_heads", "num_attention_heads"))


@reader
def _neo(c: Config, row: Row) -> Decoder:
    """`attention_types` is a list of [pattern, repetitions]; local layers see `window_size` tokens.

    transformers keeps every token in local layers all the same (a mask only): that is the engine's business.
    """
    heads = read_heads(c, row)
    kinds: list[str] = []
    for i, entry in enumerate(c.items("attention_types") or [[["global", "local"], heads.layers // 2]]):
        match entry:
            case [list(names), int(times)] if times <= heads.layers and not {*map(str, names)} - {"global", "local"}:
                kinds += [SLIDING if name == "local" else FULL for name in names] * times
            case _:
                c.refuse(f"attention_types[{i}]", 'must be like [["global", "local"], 12]')
    if len(kinds) != heads.layers:
        c.refuse("attention_types", f"describes {len(kinds)} layers of {heads.layers}")
    return decoder(c, heads, kinds, c.integer("window_size", default=256))


@reader
def _bigcode(c: Config, row: Row) -> Decoder:
    heads = read_heads(c, row)
    return full(c, heads._replace(kv=1 if c.flag("multi_query", default=True) else heads.query))


ROWS: Final[dict[str, Reader]] = {
    "gpt-sw3": plain(_GPT2),
    "gpt2": plain(_GPT2),
    "gpt_bigcode": _bigcode(_GPT2),
    "gpt_neo": _neo(Row(24, 16, 2048, names=_NEO)),
    "gpt_neox": plain(Row(44, 64, 6144, names=MHA)),
    "gpt_neox_japanese": plain(Row(32, 32, 2560, names=MHA)),
    "gpt_oss": sliding(Row(36, 64, 2880, 8, 64, refuses_null=("kv_heads", "head_dim"), window=128), every(2)),
    "gptj": plain(Row(28, 16, 4096, names=GPT)),
    "openai-gpt": plain(_GPT2),
}
