"""The cases that `kvplan conformance` carries, from tests/golden: `python tools/make_conformance.py [--check]`."""

import lzma
import sys
from pathlib import Path

from kvplan.api.conformance import SHIPPED, conformance_cases, lines

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
TARGET = ROOT / "kvplan" / "questions" / "audit" / SHIPPED
#: What was recorded for others to be judged by: real models, no random ones.
FILES = (
    "transformers", "transformers_524", "vllm", "vllm_033", "llama_cpp", "sglang", "sglang_planning", "mlx_lm", "exllamav3",
    "lmdeploy", "papers",
)  # fmt: skip


def text() -> str:
    """The file, decompressed."""
    return "\n".join(lines(conformance_cases(GOLDEN / f"{name}.jsonl" for name in FILES))) + "\n"


def main() -> int:
    """Write it, or say that it is not current (what it holds counts, not how it is compressed)."""
    made = text().encode()
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.is_file() and lzma.decompress(TARGET.read_bytes()) == made else 1
    TARGET.write_bytes(lzma.compress(made, preset=9 | lzma.PRESET_EXTREME))
    return 0


if __name__ == "__main__":
    sys.exit(main())
