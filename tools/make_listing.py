"""Write model_specs/listing.json, what `kvplan models` shows of every entry, or check that it is current.

python tools/make_listing.py            write (`make index`)
python tools/make_listing.py --check    exit 1 when it is stale
"""

import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this tree's models, whatever is installed

from kvplan.api.models import worked_out
from kvplan.loading.catalogue import listing, names


def main() -> int:
    """Write or check the listing."""
    rows = ",\n".join(msgspec.json.encode(worked_out(name)).decode() for name in names())
    text = f"[\n{rows}\n]\n"
    if "--check" not in sys.argv[1:]:
        listing().write_text(text, encoding="utf-8")
        return 0
    if not listing().is_file() or listing().read_text(encoding="utf-8") != text:
        print("stale: model_specs/listing.json; run `make index`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
