"""Write what kvplan keeps of its YAML files as they were parsed (the catalogue's specs, the GPUs), or check that it is current.

python tools/make_parsed.py            write (`make index`)
python tools/make_parsed.py --check    exit 1 when it is stale: kvplan then parses the files that were changed
"""

import sys
from pathlib import Path
from zlib import crc32

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this tree's files, whatever is installed

from kvplan.domain.gpus import DATA, KEPT, Kept, read_gpus
from kvplan.loading.catalogue import folder, names
from kvplan.loading.parsed import FILE, Parsed, checksum
from kvplan.loading.yaml_spec.nodes import MapNode, parse_yaml


def specs() -> bytes:
    """The text of model_specs/parsed.jsonl."""
    return b"".join(msgspec.json.encode(_spec(name)) + b"\n" for name in names())


def _spec(name: str) -> Parsed:
    path = folder() / f"{name}.yaml"
    raw = path.read_bytes()
    root = parse_yaml(raw, str(path))
    assert isinstance(root, MapNode), path
    return Parsed(name, checksum(raw), root)


def cards() -> bytes:
    """The text of kvplan/domain/gpus_kept.json: one line a card."""
    text = DATA.read_bytes()
    kept = Kept(checksum=crc32(text), gpus=read_gpus(text, DATA.name))
    lines = b",\n".join(map(msgspec.json.encode, kept.gpus))
    return b'{"checksum":%d,"gpus":[\n%b\n]}\n' % (kept.checksum, lines)


def main() -> int:
    """Write both files, or say which is stale."""
    made = {folder() / FILE: specs(), KEPT: cards()}
    if "--check" not in sys.argv[1:]:
        for path, text in made.items():
            path.write_bytes(text)
        return 0
    stale = [path for path, text in made.items() if not path.is_file() or path.read_bytes() != text]
    for path in stale:
        print(f"stale: {path.name}; run `make index`", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
