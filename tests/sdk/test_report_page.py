"""The report: one page that opens offline, contains every chain, and escapes names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protemb_sdk import Embedder, Embedding, OutputError, StructureError, cli, report
from protemb_sdk._cli import report as _report_cli
from protemb_sdk.report import write_report


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.fixture(scope="module")
def embeddings(embedder: Embedder, structures: Path) -> list[Embedding]:
    files = [structures / name for name in ("1a8o.cif", "1a8o.pdb", "1orc.pdb", "2beg.pdb.gz", "3jqh.cif")]
    return list(embedder.embed_many(files))


def test_the_page_contains_chains_and_neighbours(
    embeddings: list[Embedding], embedder: Embedder, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    assert write_report(embeddings, out, provenance=embedder.provenance) == 9
    data = data_of(out)
    assert data["about"].startswith("9 chains, ") and "Model base" in data["about"]
    for row, embedding in zip(data["chains"], embeddings, strict=True):
        shared = f" ({embedding.chain.source})" if embedding.id == "1a8o_A" else ""  # by two of the files
        assert (row["id"], row["length"]) == (embedding.id + shared, len(embedding))
        np.testing.assert_allclose(row["xyz"], embedding.chain.centred_coords, atol=0.051)
        assert len(row["colours"]) == 6 * len(embedding) and len(row["numbers"]) == len(embedding)
        assert row["sequence"] == embedding.sequence and len(row["fold"]) == len(embedding)
    first, second = data["chains"][0], data["chains"][1]  # the same chain in two formats
    assert first["near"][0][0] == 1 and second["near"][0][0] == 0 and first["colours"] == second["colours"]
    assert [n for n, _ in first["near"]] != [0] and len(first["near"]) == report.NEIGHBOURS


def test_clusters_are_shown_if_requested(embeddings: list[Embedding], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write_report(embeddings, out)
    assert all("cluster" not in row for row in data_of(out)["chains"])
    write_report(embeddings, out, cluster_similarity=0.5)
    numbers = [row["cluster"] for row in data_of(out)["chains"]]
    assert numbers[0] == numbers[1] and set(numbers) == set(range(1, max(numbers) + 1))
    write_report(embeddings, out, cluster_similarity=-1)
    assert {row["cluster"] for row in data_of(out)["chains"]} == {1}


def test_names_are_escaped(embeddings: list[Embedding], tmp_path: Path) -> None:
    evil = "</script><script>document.title='caught'</script>"
    chain = replace(embeddings[0].chain, name=evil)
    write_report([replace(embeddings[0], chain=chain)], tmp_path / "report.html")
    assert evil not in (tmp_path / "report.html").read_text()
    assert data_of(tmp_path / "report.html")["chains"][0]["id"] == f"{evil}_A"


def test_large_reports_omit_the_structures(
    embeddings: list[Embedding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "SHOWN_RESIDUES", 10)
    write_report(embeddings, tmp_path / "report.html")
    assert all("xyz" not in row for row in data_of(tmp_path / "report.html")["chains"])


def test_empty_reports_and_invalid_paths_are_refused(embeddings: list[Embedding], tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no chain to report on"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(OutputError, match="does not exist"):
        write_report(embeddings, tmp_path / "no" / "report.html")
    with pytest.raises(StructureError, match="no such file or folder"):
        _report_cli.report([tmp_path / "no"], tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def chromium(tmp_path: Path) -> Callable[..., str]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")

    def run(page: Path, *options: str) -> str:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += [
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1300,1200",
            *options,
            page.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    return run


def test_the_page_opens_offline(
    structures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    chromium: Callable[..., str],
) -> None:
    out, picture = tmp_path / "report.html", tmp_path / "page.png"
    monkeypatch.setattr(
        sys, "argv", ["protemb", "report", str(structures), "-o", str(out), "--device", "cpu"]
    )
    with pytest.raises(SystemExit) as done:
        cli.main()
    output = capsys.readouterr()
    assert not done.value.code and f"18 chains -> {out}" in output.out and "nucleic acid" in output.err
    assert not re.search(r"(src|href)=|https?:|@import|url\(", out.read_text().replace("url()", ""))
    page = chromium(out, "--dump-dom")
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    assert body.count("<tr") == 18 and body.count('class="chosen"') == 1
    assert "1a8o_A: 70 residues" in page and page.count("<button") == report.NEIGHBOURS + 2
    chromium(out, f"--screenshot={picture}")
    assert picture.stat().st_size > 50_000


def test_the_script_of_the_page_can_be_parsed() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node")
    text = report.TEMPLATE.read_text()
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    subprocess.run([node, "--check", "-"], input=script, text=True, check=True)


def acted(page: Path, script: str) -> Path:
    """Return a copy of a page in which a script follows its own."""
    text = page.read_text()
    end = text.rindex("</script>")
    copy = page.with_name("acted.html")
    copy.write_text(text[:end] + script + text[end:])
    return copy


def test_pointing_at_the_maps_tells_chains_and_pairs(
    embeddings: list[Embedding], tmp_path: Path, chromium: Callable[..., str]
) -> None:
    out = tmp_path / "report.html"
    write_report(embeddings, out, cluster_similarity=0.5)
    page = chromium(
        acted(
            out,
            """
            const point = (canvas, x, y) => {
              const box = canvas.getBoundingClientRect();
              const at = { clientX: box.left + x, clientY: box.top + y };
              canvas.dispatchEvent(new PointerEvent("pointermove", at));
            };
            const before = view.toDataURL();
            choose(2);
            point(map, ...places[4]);
            point(pairs, pairs.clientWidth * 0.99, pairs.clientWidth * 0.01);
            point(view, ...seen[7]);
            by("paint").value = "fold";
            by("paint").onchange();
            by("clusters").children[0].click();
            document.title = [before !== view.toDataURL(), chains[2].ribbon.length].join();
            """,
        ),
        "--dump-dom",
    )
    data = data_of(out)["chains"]
    chain = embeddings[2].chain
    apart = np.linalg.norm(np.subtract(data[2]["xyz"][0], data[2]["xyz"][-1]))
    ends = [f"{chain.sequence[i]} {chain.auth_seq[i]}" for i in (0, -1)]
    assert f'<output id="pair">{ends[0]} and {ends[1]}: {apart:.1f} angstrom</output>' in page
    assert f'<output id="at">{data[4]["id"]}: {len(embeddings[4])} residues, cluster' in page
    assert f'id="residue" class="soft">{chain.sequence[7]} {chain.auth_seq[7]}</span>' in page
    assert f"<title>true,{6 * (len(chain) - 1)}</title>" in page
    numbers = [row["cluster"] for row in data]
    for number in set(numbers):
        size = numbers.count(number)
        assert f"cluster {number}: {size} chain{'s' * (size > 1)}</button>" in page
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    assert body.count("<tr") == numbers.count(1)  # the others are hidden


def test_the_page_fits_into_420_pixels(
    embeddings: list[Embedding], tmp_path: Path, chromium: Callable[..., str]
) -> None:
    out = tmp_path / "report.html"
    long = replace(embeddings[0], chain=replace(embeddings[0].chain, name="long_" * 40))
    write_report([long, *embeddings], out, cluster_similarity=0.5)
    frame = tmp_path / "frame.html"
    frame.write_text(
        """<iframe src="report.html" style="width:420px;height:900px;border:0"></iframe><script>
        const frame = document.querySelector("iframe");
        frame.onload = () => {
          const inside = frame.contentDocument, wide = (id) => inside.getElementById(id).clientWidth;
          document.title = [inside.documentElement.scrollWidth, wide("view"), wide("pairs")].join();
        };</script>"""
    )
    page = chromium(frame, "--allow-file-access-from-files", "--dump-dom")
    found = re.search("<title>(.*?)</title>", page)
    assert found is not None
    whole, view, pairs = map(int, found[1].split(","))
    assert whole <= 420 and view >= 380 and pairs >= 300
