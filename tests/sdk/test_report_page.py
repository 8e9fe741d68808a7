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

from protemb_sdk import Embedder, Embedding, OutputError, Skipped, StructureError, cli, report
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
    assert all(0 < len(row["near"]) <= report.NEIGHBOURS for row in data["chains"][3:8])  # of one fibril
    for n, row in enumerate(data["chains"]):
        assert n not in [other for other, _ in row["near"]]
        assert all(cosine >= report.SIMILAR for _, cosine in row["near"])
    assert len(first["near"]) == 1 and not data["chains"][8]["near"]


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
    assert (
        re.search('id="name">1a8o_A[^<]*: 70 residues<', page)
        and page.count("<button") == 3  # of one similar chain and of the view
    )
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
            const [legend, caption] = ["kinds", "painted"].map((id) => by(id).textContent);
            by("paint").value = "embedding";
            by("paint").onchange();
            const [plain, painted] = ["kinds", "painted"].map((id) => by(id).textContent);
            const components = painted.includes("principal components");
            const numbered = ticks(chains[0]).map(([, label]) => label);
            const together = points[0].members;
            by("clusters").children[0].click();
            document.title = [before !== view.toDataURL(), chains[2].ribbon.length].join();
            by("about").textContent = [legend, caption, plain, components, numbered, together].join("; ");
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
    about = page[page.index('id="about"') :]
    assert about[: about.index("</div>")].endswith(
        ">helixstrandother; Helices and strands are assigned from C-alpha positions.; ; true; "
        "160,170,180,190,200,210,220; 0,1"  # numbers of 1A8O, of which there are two copies
    )
    most = np.linalg.norm(chain.ca_coords[:, None] - chain.ca_coords, axis=-1).max()
    assert f'id="farthest">{5 * np.ceil(most / 5):.0f} angstrom</span>' in page
    assert 'id="near"><tr><td>no similar chain: all similarities are below 0.3</td></tr>' in page
    numbers = [row["cluster"] for row in data]
    sizes = [numbers.count(number) for number in sorted(set(numbers))]
    for number, size in enumerate(sizes, 1):
        assert (f"cluster {number}: {size} chains</button>" in page) == (size > 1)
    alone = sizes.count(1)
    assert alone and f"{alone} chain{'s' * (alone > 1)} alone in a cluster</button>" in page
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    assert body.count("<tr") == numbers.count(1)  # the others are hidden


def test_every_chain_is_in_the_legend_of_many_clusters(
    embeddings: list[Embedding], tmp_path: Path, chromium: Callable[..., str]
) -> None:
    out = tmp_path / "report.html"
    write_report([e for e in embeddings[:2] for _ in range(12)], out, cluster_similarity=0.5)
    text = out.read_text()
    for n in range(24):  # eleven clusters of two, and two chains alone
        number = n // 2 + 1 if n < 22 else n - 10
        text = text.replace('"cluster":1}', f'"cluster":{number} }}', 1)
    out.write_text(text)
    page = chromium(out, "--dump-dom")
    legend = re.findall(r"</i>([^<]*)</button>", page)
    named = [f"cluster {n}: 2 chains" for n in range(1, 10)]
    assert legend == [*named, "2 smaller clusters: 4 chains", "2 chains alone in a cluster"]
    colours = re.findall(r'<button[^>]*><i style="background: ([^"]*)"', page)
    assert len(set(colours)) == len(colours) == 11


def test_names_on_the_map_cover_no_point_and_no_name(
    embeddings: list[Embedding], tmp_path: Path, chromium: Callable[..., str]
) -> None:
    out = tmp_path / "report.html"
    write_report(embeddings, out)
    page = chromium(
        acted(
            out,
            """
            const wrong = [], number = (text) => Number(text) > 0;
            const shared = [...new Set(points)].map((p) => p.members.length);
            const counts = shared.filter((size) => size > 1).join();
            if (counts !== "2,2,2") wrong.push(`chains at one point: ${counts}`);
            for (let n = 0; n < chains.length; n++) {
              choose(n);
              const names = [], write = CanvasRenderingContext2D.prototype.fillText;
              CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
                names.push([text, x, x + this.measureText(text).width, y - 9, y + 2]);
              };
              drawMap();
              CanvasRenderingContext2D.prototype.fillText = write;
              const nearest = chains[n].near.slice(0, 1).map(([k]) => k);
              const wanted = [n, ...nearest].map((k) => brief(chains[k].id));
              const texts = names.map(([text]) => text);
              const found = [texts.filter((text) => !number(text)), texts.filter(number)];
              if (found.join("; ") !== [wanted, counts].join("; ")) wrong.push(`${n}: ${texts}`);
              names.forEach(([, a, b, c, d], k) => names.slice(k + 1).forEach(([, e, f, g, h]) => {
                if (a < f && e < b && c < h && g < d) wrong.push(`${n}: two names`);
              }));
              for (const [text, left, right, top, bottom] of names)
                if (places.some(([x, y]) => x > left && x < right && y > top && y < bottom)) wrong.push(text);
            }
            document.title = wrong.join("; ") || "none";
            """,
        ),
        "--dump-dom",
    )
    assert "<title>none</title>" in page


def test_what_was_skipped_is_folded_by_reason(
    embeddings: list[Embedding], tmp_path: Path, chromium: Callable[..., str]
) -> None:
    out = tmp_path / "report.html"
    ligands = [Skipped(f"{n:02}.cif", "", "describes a ligand") for n in range(60)]
    alone = "holds no protein chain to embed (chain B: has 1 residue)"
    chains = [
        Skipped("1lcd.cif", "B", "is nucleic acid (DNA), not protein", kind="is nucleic acid"),
        Skipped("1lcd.cif", "", "cannot be read to its end"),
        Skipped("few.pdb", "B", "has 1 residue", kind="has few residues"),
        Skipped("few.pdb", "", alone),
    ]
    write_report(embeddings, out, skipped=[*chains, *ligands])
    groups = {group["reason"]: group for group in data_of(out)["skipped"]}
    assert next(iter(groups)) == "describes a ligand" and groups["describes a ligand"]["count"] == 60
    assert groups["is nucleic acid"]["names"] == ["1lcd.cif, chain B: is nucleic acid (DNA), not protein"]
    assert groups["cannot be read to its end"]["names"] == ["1lcd.cif"]
    assert groups["has few residues"]["count"] == 1 and alone not in groups  # which its chain says already
    page = chromium(out, "--dump-dom")
    assert "63 skipped, for 4 reasons</summary>" in page and "60: describes a ligand</summary>" in page
    assert (
        page.count("<li>00.cif</li>") == 1 and "<li>and 10 more</li>" in page and "<details open" not in page
    )
    write_report(embeddings, out)
    assert re.search('<details id="skipped"[^>]* hidden', chromium(out, "--dump-dom"))


def test_columns_are_equally_high_and_the_table_is_whole(
    embeddings: list[Embedding], tmp_path: Path, chromium: Callable[..., str]
) -> None:
    out = tmp_path / "report.html"
    write_report(embeddings, out, cluster_similarity=0.5)
    script = "document.title = [...document.querySelectorAll('section')].map((s) => s.offsetHeight).join();"
    page = chromium(acted(out, script), "--dump-dom", "--window-size=1200,1000")
    left, right, _ = map(int, page[page.index("<title>") + 7 : page.index("</title>")].split(","))
    assert abs(left - right) < 10
    assert re.search('<div id="more"[^>]* hidden', page)  # nothing to scroll to


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
          document.title = [inside.documentElement.scrollWidth, wide("view"), wide("pairs"),
            inside.getElementById("more").hidden].join();
        };</script>"""
    )
    page = chromium(frame, "--allow-file-access-from-files", "--dump-dom")
    found = re.search("<title>(.*?)</title>", page)
    assert found is not None
    *sizes, hidden = found[1].split(",")
    whole, view, pairs = map(int, sizes)
    assert whole <= 420 and view >= 380 and pairs >= 300
    assert hidden == "false"  # columns are cut: a line says so
