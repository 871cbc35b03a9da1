"""ERNIE 4.5 of Baidu, text and vision. (The BERT called `ernie` is in `bert`.)"""

from typing import Final

from kvplan.architectures.kit.heads import Row
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader

ROWS: Final[dict[str, Reader]] = {
    "ernie4_5": plain(Row(18, 16, 1024, 2, 128)),
    "ernie4_5_moe": plain(Row(28, 20, 2560, 4, refuses_null=("kv_heads",))),
    "ernie4_5_vl_moe_text": plain(Row(28, 20, 2560, 4, refuses_null=("kv_heads",))),
}
