"""Container limits: what a cgroup leaves, read from a made-up root."""

from pathlib import Path

import pytest

from kvplan.questions.validate import host_memory
from kvplan.questions.validate.host_memory import available_bytes, cgroup_headrooms, resident_bytes


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_version_2_limits_count_from_the_group_to_its_parents(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/box/memory.max": "max\n",
            "sys/fs/cgroup/pod/box/memory.current": "100\n",
            "sys/fs/cgroup/pod/memory.max": "1000\n",
            "sys/fs/cgroup/pod/memory.current": "700\n",
            "sys/fs/cgroup/pod/memory.stat": "anon 500\ninactive_file 150\n",
            "sys/fs/cgroup/memory.max": "5000\n",
            "sys/fs/cgroup/memory.current": "1000\n",
        },
    )
    assert list(cgroup_headrooms(root)) == [450, 4000]


def test_version_1_limits_are_those_of_the_memory_controller(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/box\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "900\n",
            "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "400\n",
            "sys/fs/cgroup/memory/box/memory.stat": "total_inactive_file 30\n",
        },
    )
    assert list(cgroup_headrooms(root)) == [530]


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert list(cgroup_headrooms(tmp_path)) == []


@pytest.mark.parametrize(("headrooms", "expected"), [([], None), ([7, 5], 5), ([-3], 0)])
def test_the_tightest_limit_counts(monkeypatch: pytest.MonkeyPatch, headrooms: list[int], expected: int | None) -> None:
    monkeypatch.setattr(host_memory, "cgroup_headrooms", lambda: iter(headrooms))
    found = available_bytes()
    assert found > 2**20 if expected is None else found == expected


def test_this_process_is_resident() -> None:
    assert resident_bytes() > 2**20
