"""Names of files and chains are shown literally, not as markup or formulas; and messages of commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import gemmi
import pytest

from protemb_sdk._base.console import out_console
from protemb_sdk._cli.summary import size_of

from .conftest import Run


def test_names_are_not_printed_as_markup(protemb: Run, structures: Path, tmp_path: Path) -> None:
    structure = gemmi.read_structure(str(structures / "1a8o.cif"))
    structure[0]["A"].name = "[/x]"
    path = tmp_path / "top [red] :star:.cif"
    structure.make_mmcif_document().write_file(str(path))
    name = "top [red] :star:_[/x]"
    done = protemb("quality", path)
    assert done.status == 0 and name in done.out
    done = protemb("sites", path, "-o", tmp_path / "x.csv")
    assert done.status == 0 and name in done.out
    done = protemb("embed", path, "-o", tmp_path / "x.npz")
    assert done.status == 0 and name in done.out
    done = protemb("sites", tmp_path / "no [/x] :star:.cif", "-o", tmp_path / "x.csv")
    assert done.status == 1 and "no [/x] :star:.cif: no such file" in done.errors[0]


@pytest.mark.filterwarnings("error")
def test_names_are_not_drawn_as_formulas(protemb: Run, structures: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from protemb_sdk import QualityScorer
    from protemb_sdk._cli.quality import profiles

    paths = [tmp_path / r"$\frac$.pdb", tmp_path / "_hidden.pdb"]
    for path in paths:
        shutil.copy(structures / "1orc.pdb", path)
    for number, path in enumerate(paths):
        picture = tmp_path / f"{number}.svg"
        assert protemb("plot", path, "-o", picture).status == 0 and picture.stat().st_size > 10_000
        assert protemb("quality", path, "--plot", picture, "-q").status == 0
    scorer = QualityScorer(device="cpu")
    figure = profiles([scorer.score(path) for path in paths])
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    shown = [text.get_text().split("  ")[0] for text in legend.get_texts()]
    assert shown == [r"$\frac$_A", "_hidden_A"]
    drawn = [line.get_color() for line in figure.axes[0].lines]
    assert [line.get_color() for line in legend.get_lines()] == drawn


def test_printing_in_a_limited_encoding_does_not_fail(model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "protemb_sdk.cli", "quality", model],
        capture_output=True, timeout=120, env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"1a8o_A" in done.stdout and b"????" in done.stdout


def test_equal_identifiers_are_told_apart_by_their_files(
    protemb: Run, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_console, "_width", 400)
    files = [tmp_path / folder / "same.pdb" for folder in ("one", "two")]
    for path, name in zip(files, ("1orc.pdb", "1a8o.pdb"), strict=True):
        path.parent.mkdir()
        shutil.copy(structures / name, path)
    shutil.copy(structures / "1orc.pdb", tmp_path / "other.pdb")
    wanted = [f"same_A ({path})" for path in files]
    done = protemb("embed", tmp_path, "-o", tmp_path / "x.npz")
    assert done.status == 0 and all(name in done.out for name in wanted)
    assert "other_A" in done.out and "other_A (" not in done.out
    done = protemb("quality", tmp_path)
    assert all(name in done.out for name in wanted)
    page = tmp_path / "x.html"
    assert protemb("report", tmp_path, "-o", page).status == 0
    assert all(f'"id":"{name}"' in page.read_text() for name in (*wanted, "other_A"))
    pytest.importorskip("usearch", reason="needs the extra search")
    store, index = tmp_path / "store", tmp_path / "index"
    assert protemb("embed", tmp_path / "one", tmp_path / "two", "-o", store).status == 0
    assert protemb("index", store, "-o", index).status == 0
    done = protemb("search", files[0], "--index", index)
    assert all(name in done.out for name in wanted)
    done = protemb("cluster", store, "-o", tmp_path / "c.csv", "--similarity", "0.99")
    assert all(name in done.out for name in wanted)


# --- messages -----------------------------------------------------------------------------------------


def test_predict_refuses_bundled_and_missing_heads(protemb: Run, model: Path, tmp_path: Path) -> None:
    for name in ("quality", "sites"):
        done = protemb("predict", model, "--head", name, "-o", tmp_path / "x.csv")
        assert done.status == 1 and "is a bundled head" in done.errors[0] and "of your own" in done.errors[0]
        assert f"protemb {name};" in done.errors[0] and "no head named" not in done.errors[0]
    done = protemb("predict", model, "--head", tmp_path / "no.onnx", "-o", tmp_path / "x.csv")
    assert (
        done.status == 1 and "no.onnx: no such file; pass a head made by protemb finetune" in done.errors[0]
    )


@pytest.mark.parametrize(
    "options", [["--half"], ["--level", "bogus"], ["--engine", "foo"], ["--level", "pair"]]
)
def test_options_of_a_folder_are_refused_for_a_file(
    protemb: Run, model: Path, tmp_path: Path, options: list[str]
) -> None:
    for ending in ("npz", "parquet"):
        done = protemb("embed", model, "-o", tmp_path / f"x.{ending}", *options)
        assert done.status == 1 and "--half, --level and --engine are for a folder" in done.errors[0]
    assert [path.name for path in tmp_path.iterdir()] == [model.name]


def test_small_sizes_are_not_printed_as_zero(protemb: Run, model: Path, tmp_path: Path) -> None:
    done = protemb("report", model, "-o", tmp_path / "x.html")
    assert done.status == 0 and done.out.rstrip().endswith(" KiB") and " 0.0 " not in done.out
    for size, shown in ((100, "0.1 KiB"), (2**20 - 1024, "1023.0 KiB"), (3 * 2**19, "1.5 MiB")):
        (tmp_path / "x").write_bytes(b"x" * size)
        assert size_of(tmp_path / "x") == shown
