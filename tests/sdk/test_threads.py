"""Number of threads: the cores that the process may use, not those of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protemb_sdk._base import threads as _threads


@pytest.mark.parametrize(
    ("quota", "cores", "expected"),
    [
        ("max 100000", 16, 16), ("400000 100000", 16, 4), ("150000 100000", 16, 2), ("50000 100000", 16, 1),
        ("400000 100000", 2, 2), ("nonsense", 3, 3), ("1 0", 3, 3),
    ],
)  # fmt: skip
def test_threads_follow_affinity_and_the_cgroup_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cores: int, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(_threads, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert _threads.usable_threads() == expected


def test_without_cgroups_the_affinity_mask_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_threads, "CPU_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert _threads.usable_threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _threads.usable_threads() == 1
