"""Comparison of evaluations in a table and a plot, and the training curve of a run in several parts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from protemb_sdk._base.errors import OutputError, ProtembError
from protemb_train import cli
from protemb_train.pretrain.levels import as_table, draw, read_curve, read_judgement


def judgement(*shares: float, chains: int = 5, first: float = 10.0) -> dict[str, Any]:
    levels = [{"sigma": first / 10**k, "share": share} for k, share in enumerate(shares)]
    return {"mean_share": sum(shares) / len(shares), "floor": 0.02, "chains": chains, "levels": levels}


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def metrics(path: Path, rows: list[tuple[int, object, object]]) -> None:
    lines = ["loss,share,step,val_share", *(f"1.0,{share},{step},{val}" for step, share, val in rows)]
    path.write_text("\n".join(lines) + "\n")


def test_the_table_has_one_row_per_level_and_one_column_per_network() -> None:
    table = as_table({"base": judgement(0.9, 0.5), "paper": judgement(0.95, 0.75)})
    assert table.startswith("Share of the zero predictor's loss on 5 whole held-out chains; floor 0.020.\n")
    assert table.splitlines()[2:] == [
        "| noise level, angstrom | base | paper |",
        "|---|---|---|",
        "| 10 | 0.900 | 0.950 |",
        "| 1 | 0.500 | 0.750 |",
        "| **mean** | **0.700** | **0.850** |",
    ]


@pytest.mark.parametrize(
    "other", [judgement(0.9, 0.5, chains=4), judgement(0.9), judgement(0.9, 0.5, first=5)]
)
def test_evaluations_on_different_levels_or_chains_are_not_compared(other: dict[str, Any]) -> None:
    with pytest.raises(ProtembError, match="other and base were evaluated on different levels or chains"):
        as_table({"base": judgement(0.9, 0.5), "other": other})


@pytest.mark.parametrize(
    ("key", "what"), [("split", "different split"), ("corpus_sha256", "different corpus")]
)
def test_evaluations_on_different_splits_or_corpora_are_not_compared(
    tmp_path: Path, key: str, what: str
) -> None:
    def read(name: str, **fields: str) -> dict[str, Any]:
        return read_judgement(written(tmp_path / f"{name}.json", {"judgement": judgement(0.9, 0.5)} | fields))

    same = {"split": "test", "corpus_sha256": "a" * 64}
    old, one, other = read("old"), read("one", **same), read("other", **{**same, key: "another"})
    assert as_table({"old": old, "one": one, "again": one})  # older files do not contain this field
    with pytest.raises(ProtembError, match=f"other and one were evaluated on {what}"):
        as_table({"old": old, "one": one, "other": other})


def test_a_plot_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    draw({"base": judgement(0.9, 0.5), "paper": judgement(0.95, 0.75)}, tmp_path / "levels.png")
    assert (tmp_path / "levels.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "levels.png").unlink()

    def full(self: Figure, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OutputError, match=r"levels\.png: cannot be written \(No space left"):
        draw({"base": judgement(0.9, 0.5)}, tmp_path / "levels.png")
    assert not list(tmp_path.iterdir())


def test_an_evaluation_can_be_read(tmp_path: Path) -> None:
    one = judgement(0.9, 0.5)
    assert read_judgement(written(tmp_path / "j.json", {"judgement": one, "curve": []})) == one


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b'"judgement"',
        json.dumps({"judgement": []}).encode(),
        json.dumps({"judgement": {"levels": []}}).encode(),
        json.dumps({"judgement": judgement(0.5) | {"levels": [{"sigma": 1}]}}).encode(),
        json.dumps({"judgement": judgement(0.5) | {"floor": "low"}}).encode(),
    ],
)
def test_files_that_are_not_evaluations_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j.json").write_bytes(content)
    with pytest.raises(
        ProtembError, match=r"j\.json: is not an evaluation of protemb-train judge"
    ) as refused:
        read_judgement(tmp_path / "j.json")
    assert "\n" not in str(refused.value)
    with pytest.raises(ProtembError, match=r"no\.json: is not an evaluation"):
        read_judgement(tmp_path / "no.json")


def test_a_curve_is_averaged_over_intervals_of_steps(tmp_path: Path) -> None:
    assert read_curve(tmp_path) == []
    metrics(
        tmp_path / "metrics.csv", [(9, 0.9, ""), (19, 0.7, ""), (19, "", 0.8), (29, 0.6, ""), (39, 0.4, "")]
    )
    assert read_curve(tmp_path, points=2) == [
        {"step": 20, "share": 0.8, "val_share": 0.8},
        {"step": 40, "share": 0.5},
    ]
    assert [point["step"] for point in read_curve(tmp_path)] == [10, 20, 30, 40]


def test_a_repeated_step_has_its_latest_value(tmp_path: Path) -> None:
    """Each part ends after the checkpoint where the next starts. By name, part 1000 is before part 200."""
    metrics(tmp_path / "metrics-before-step-200.csv", [(199, 0.9, ""), (209, 0.1, "")])
    metrics(tmp_path / "metrics-before-step-1000.csv", [(209, 0.8, ""), (999, 0.7, ""), (1009, 0.2, "")])
    metrics(tmp_path / "metrics.csv", [(1009, 0.6, "")])
    found = {point["step"]: point["share"] for point in read_curve(tmp_path, points=1010)}
    assert found == {200: 0.9, 210: 0.8, 1000: 0.7, 1010: 0.6}


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["protemb-train", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code, capsys.readouterr().err

    return command


def test_the_command_writes_a_table_and_a_plot(compare: Any, tmp_path: Path) -> None:
    a = written(tmp_path / "a.json", {"judgement": judgement(0.9, 0.5)})
    b = written(tmp_path / "b.json", {"judgement": judgement(0.8, 0.4)})
    out = tmp_path / "out" / "levels.md"
    status, output = compare(f"a={a}", f"b={b}", "-o", out)
    assert status == 1 and "does not exist; make it first" in output
    out.parent.mkdir()
    status, output = compare(f"a={a}", f"b={b}", "-o", out)
    assert (status, output.strip()) == (0, str(out))
    assert "| 10 | 0.900 | 0.800 |" in out.read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_command_refuses_invalid_input_and_writes_no_files(compare: Any, tmp_path: Path) -> None:
    a = written(tmp_path / "a.json", {"judgement": judgement(0.9, 0.5)})
    b = written(tmp_path / "b.json", {"judgement": judgement(0.9)})
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "levels.md"
    for arguments, sentence in [
        ([a, "-o", out], "every evaluation needs a name: NAME=FILE"),
        ([f"a={a}", f"b={b}", "-o", out], "b and a were evaluated on different levels or chains"),
        ([f"a={a}", f"a={b}", "-o", out], "two evaluations have the same name"),
        ([f"a={tmp_path / 'no.json'}", "-o", out], "is not an evaluation of protemb-train judge"),
        ([f"a={a}", "-o", out.with_suffix(".png")], "is the name of the plot"),
    ]:
        status, output = compare(*arguments)
        assert status == 1 and sentence in output
        assert not list(out.parent.iterdir())
