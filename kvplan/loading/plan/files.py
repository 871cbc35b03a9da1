"""The files that a plan is put together from: itself, and those that it includes. Bounded, and never outside its folder."""

from pathlib import Path
from typing import Final

from kvplan.errors import SpecError
from kvplan.files import read_bounded, resolved
from kvplan.limits import PLAN_DEPTH, PLAN_FILES, PLAN_MEMBERS
from kvplan.loading.yaml_spec.fields import Fields, shown
from kvplan.loading.yaml_spec.nodes import MAX_BYTES, ListNode, Node, Scalar, at, parse_yaml

#: What an included file may hold.
_KEYS: Final = ("include", "members", "notes")


class PlanFiles:
    """Member nodes of a plan and of what it includes; a file that includes itself in the end is refused."""

    def __init__(self, plan: Path | None) -> None:
        self.root = None if plan is None else resolved(plan.parent, SpecError)
        self.open: list[Path] = [] if plan is None else [resolved(plan, SpecError)]
        self._parsed: dict[Path, Node] = {}  # each file is read once, however often it is included
        self._included_files = 0

    def members(self, top: Fields, folder: Path | None) -> list[tuple[Node, str]]:
        """The member nodes of a file, those of its includes first, each with its source.

        Raises:
            SpecError: too many members, or an include that cannot be read or must not be.
        """
        found: list[tuple[Node, str]] = []
        if top.has("include"):
            if folder is None:
                top.refuse("include", "needs a plan that is a file", hint="put the members into the plan")
            node = top.entries["include"]
            entries = node.items if isinstance(node, ListNode) else (node,)
            for entry in entries:
                found += self._included(top, entry, folder)
        if top.has("members"):
            found += [(node, top.source) for node in top.items("members")]
        if len(found) > PLAN_MEMBERS:
            top.refuse("members", f"are {len(found)} in all, and at most {PLAN_MEMBERS} are allowed")
        return found

    def _included(self, top: Fields, entry: Node, folder: Path) -> list[tuple[Node, str]]:
        if not isinstance(entry, Scalar) or not isinstance(entry.value, str):
            top.refuse("include", f"must be a file name or a list of them, got {shown(entry)}")
        path, where = folder / entry.value, at(top.source, entry.line)
        self._included_files += 1
        if self._included_files > PLAN_FILES:
            raise SpecError(f"{where}: more than {PLAN_FILES} files are included", hint="put members into fewer files")
        try:
            found_at = resolved(path, SpecError)
        except SpecError as problem:
            raise SpecError(f"{where}: `include`: {problem}", hint=problem.hint) from problem
        if found_at in self.open:
            raise SpecError(
                f"{where}: `include` goes in a circle: `{entry.value[:80]}` is being read already",
                hint="take one of the includes out",
            )
        if self.root is None or not found_at.is_relative_to(self.root):
            raise SpecError(
                f"{where}: `include` leads out of the plan's folder: `{entry.value[:80]}`", hint="keep the files beside the plan"
            )
        if len(self.open) > PLAN_DEPTH:
            raise SpecError(f"{where}: `include` is nested too deeply", hint="include the files directly")
        if found_at not in self._parsed:
            try:
                raw = read_bounded(path, MAX_BYTES, SpecError, "a YAML plan")
            except SpecError as problem:
                raise problem.at(where, SpecError) from problem
            self._parsed[found_at] = parse_yaml(raw, str(path))
        self.open.append(found_at)
        inner = Fields(self._parsed[found_at], str(path), "", _KEYS)
        found = self.members(inner, path.parent)
        self.open.pop()
        return found
