"""The shipped tables of flags are what the golden ones say."""

import make_flags
from each import each

TABLES = sorted(make_flags.GOLDEN.glob("*.json"))


@each("path", TABLES, ids=lambda path: path.stem)
def test_a_shipped_table_is_current_and_bounded(path: "make_flags.Path") -> None:
    shipped = make_flags.ENGINES / make_flags.FOLDERS.get(path.stem, path.stem) / "flags.json"
    made = make_flags.made(path)
    assert shipped.read_text(encoding="utf-8") == made, "python tools/make_flags.py"
    assert len(made) <= make_flags.MOST
