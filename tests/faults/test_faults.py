"""After every fault there is an error message of one sentence, and no row is lost or duplicated."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="a store needs pyarrow")
if sys.platform != "linux":
    pytest.skip("faults are made with Linux's means", allow_module_level=True)

spec = importlib.util.spec_from_file_location("faults", Path(__file__).with_name("faults.py"))
assert spec and spec.loader
module = importlib.util.module_from_spec(spec)
sys.modules["faults"] = module
spec.loader.exec_module(module)


@pytest.mark.parametrize("name", module.FAULTS)
def test_no_row_is_lost_or_duplicated(name: str, tmp_path: Path) -> None:
    fault: Callable[[Path], Any] = module.FAULTS[name]
    try:
        found = fault(tmp_path)
    except module.CannotTry as error:
        pytest.skip(str(error))
    assert (found.lost, found.doubled) == (0, 0)
    assert found.seen and "Traceback" not in found.seen


def test_messages_are_escaped_for_markdown() -> None:
    seen = "error: /tmp/abc/files: without if __name__ == '__main__'|?"
    row = module.row("worker killed", module.Fault("kill -9", seen))
    assert row == "| worker killed | kill -9 | `error: /files: without if __name__ == '__main__'/?` | 0 | 0 |"
