"""InternLM of the Shanghai AI Laboratory."""

from typing import Final

from kvplan.architectures.kit.heads import Row
from kvplan.architectures.kit.plain import plain
from kvplan.architectures.kit.reader import Reader

ROWS: Final[dict[str, Reader]] = {
    "internlm": plain(Row(32, 32, 4096)),
    "internlm2": plain(Row(32, 32, 4096, refuses_remainder=True)),
    "internlm3": plain(Row(48, 32, 4096, 2, 128, refuses_remainder=True)),
}
