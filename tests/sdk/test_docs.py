"""Tests of the documentation: the code runs, and the site builds without broken links."""

from __future__ import annotations

import base64
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from protemb_export import cli as export_cli
from protemb_sdk import Embedder, cli, embed_into_store
from protemb_sdk.search import build_index

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "sdk" / "docs"
NEEDED = {"databases": ("lancedb", "qdrant_client")}  # packages that no extra installs
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "models")


def evaluate_bash(example: Example) -> None:
    """Run each line with the entry points of this environment."""
    for line in filter(None, map(str.strip, str(example.parsed).splitlines())):
        program, *arguments = shlex.split(line, comments=True)
        module = {"protemb": "protemb_export.app", "protemb-export": "protemb_export.cli"}[program]
        done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"


@pytest.fixture(scope="module")
def workplace(structures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the pages use: a structure and a folder of structures."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(ROOT / "sdk" / "protemb_sdk" / "bundled" / "1a8o.cif", folder)
    shutil.copytree(structures, folder / "structures")
    return folder


@pytest.fixture
def work_folder(workplace: Path, tmp_path: Path) -> Iterator[Path]:
    folder, before = tmp_path / "work", Path.cwd()
    shutil.copytree(workplace, folder)
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_runs(page: Path, work_folder: Path) -> None:
    for name in ("matplotlib", *NEEDED.get(page.stem, ())):
        pytest.importorskip(name, reason=f"needs {name}")
    sybil = Sybil(parsers=[PythonCodeBlockParser(), CodeBlockParser("bash", evaluate_bash)])
    for example in sybil.parse(page).examples():
        example.evaluate()


def test_code_of_the_readme_runs(work_folder: Path, embedder: Embedder) -> None:
    embed_into_store(embedder, work_folder / "structures", work_folder / "store")
    build_index(work_folder / "store", work_folder / "index")
    examples = list(Sybil(parsers=[PythonCodeBlockParser()]).parse(ROOT / "README.md").examples())
    assert examples
    for example in examples:
        example.evaluate()


@pytest.mark.parametrize("name", ["pre_training", "tasks"])
def test_figures_of_the_pages_are_drawn(name: str, embedder: Embedder, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    draw = runpy.run_path(str(DOCS / "figures.py"))[name]
    draw(embedder).savefig(tmp_path / "figure.png")


def test_the_figure_of_the_readme_is_drawn(embedder: Embedder, structures: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    script = runpy.run_path(str(DOCS / "overview.py"))
    embedding = embedder.embed(structures / "1a8o.cif", pair=True)
    helices = script["helices_of"](embedding.chain)
    assert [tuple(embedding.auth_seq[list(ends)]) for ends in helices] == [
        (161, 175), (179, 187), (196, 204), (211, 218)
    ]  # fmt: skip
    script["overview"](embedding, helices).savefig(tmp_path / "figure.png")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a broken link is a warning, which `--strict` makes an error."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("built") / "site"
    config = ROOT / "sdk" / "mkdocs.yml"
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        str(config),
        "-d",
        str(folder),
    ]
    environment: dict[str, Any] = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr
    return folder


def test_the_site_has_all_pages_with_links_between_them(site: Path) -> None:
    for outside in (
        "benchmarks", "benchmarks/experiments/archive", "results", "train", "export", "notebooks/first_look"
    ):  # fmt: skip
        assert (site / outside / "index.html").exists()
    trust = (site / "trust" / "index.html").read_text()
    assert 'href="../results/sites-frozen/"' in trust and 'href="../benchmarks/search/"' in trust
    page = (site / "features" / "index.html").read_text()
    assert '<span style="white-space: nowrap">--labels labels.csv</span>' in page
    page = (site / "reference" / "index.html").read_text()
    assert "Embedder" in page and "memory_limit" in page
    assert len(list(site.rglob("index.html"))) >= len(PAGES)


def test_the_front_page_shows_a_protein_first_and_leads_to_every_task(site: Path) -> None:
    page = (site / "index.html").read_text()
    article = page[page.index("<article") :]
    assert re.findall(r"<img[^>]* src=\"([^\"]+)\"", article) == ["overview.png"]
    cards = re.search(r'<div class="grid cards">.*?</div>', article, re.S)
    assert cards is not None
    links = re.findall(r'href="howto/(\w+)/"', cards[0])
    assert links == ["proteome", "neighbours", "sites", "quality", "finetune", "pictures"]
    tabs = re.search(r'<nav class="md-tabs".*?</nav>', page, re.S)
    assert tabs is not None and all(
        f" {name}" in tabs[0] for name in ("Home", "Guides", "Models", "Benchmarks")
    )


@pytest.mark.parametrize("word", ["NMR", "multimer", "complex"])
def test_the_search_finds_the_words_of_structural_biology(site: Path, word: str) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {
        entry["location"].split("#")[0]
        for entry in index["docs"]
        if word.lower() in re.sub(r"<[^>]+>", "", f"{entry['title']} {entry['text']}").lower()
    }
    assert {"reading/", "howto/proteome/"} <= found


def test_commands_of_the_table_of_features_exist() -> None:
    page = (DOCS / "features.md").read_text()
    commands = re.findall(r"`protemb (\w+)([^`]*)`", page)
    assert len(commands) >= 12
    made = page[: page.index("\n| ")]  # what the commands read is there, or the page tells how to make it
    assert all(name in made for name in ("-o store", "-o index", "[`labels.csv`](", '"model.fcz"'))
    for name, rest in commands:
        app = export_cli.app if name == "finetune" else cli.app
        typer.main.get_command(app).commands[name].make_context(name, shlex.split(rest))  # type: ignore[attr-defined]


SHOWN = {
    "first_look": ("<th>pair</th><td>(247, 247, 64)</td>", '<img src="data:image/png', "<th>sites</th>"),
    "a_folder": (
        "</progress> embedding 12 of 12 inputs",
        "<th>chains</th><td>18</td>",
        "<th>TM-score</th>",
        "structures/1a8o.pdb)</td>",
        "note: in 2 of 4 hits",
    ),
}


@pytest.mark.parametrize("notebook", sorted(DOCS.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run_and_are_stored_without_outputs(notebook: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
    book = nbformat.read(notebook, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)
    client = nbclient.NotebookClient(
        book, timeout=200, resources={"metadata": {"path": str(notebook.parent)}}
    )
    client.execute()
    outputs = [output for cell in code for output in cell.outputs]
    assert "ipywidgets" not in str(outputs)  # Rich's bar would ask for it
    shown = [output.data for output in outputs if "data" in output]
    (picture, *_) = [data["image/png"] for data in shown if "image/png" in data]
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    tables = "".join(data.get("text/html", "") for data in shown)
    for part in SHOWN[notebook.stem]:
        assert part in tables, part


def tracked_pages() -> list[Path]:
    folders = ("sdk", "train", "export", "benchmarks", "tests")
    pages = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.md")
        if "node_modules" not in path.parts
    ]
    return [*ROOT.glob("*.md"), *pages]


@pytest.mark.parametrize("page", tracked_pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_have_existing_targets(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    for target in local:
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} is not there"
        if anchor and found.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{target}: no such heading"
