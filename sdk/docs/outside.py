"""Pages of the site that lie elsewhere in the repository: recorded tables, READMEs, notebooks.

A page links to a file as it lies in the repository, so that the link works there too. Here links to what is
in the site lead to its pages, and of links to anything else the words stay.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = PurePosixPath("sdk/docs")
FOLDERS = {"benchmarks": "benchmarks", "train/results": "results"}
FILES = {
    "train/README.md": "train.md",
    "export/README.md": "export.md",
    "sdk/examples/README.md": "examples.md",
    "train/results/levels.png": "results/levels.png",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def pages() -> dict[str, str]:
    """Return, of each file outside, the page that it becomes."""
    found = dict(FILES)
    for folder, place in FOLDERS.items():
        found |= {f"{folder}/{path.name}": f"{place}/{path.name}" for path in (ROOT / folder).glob("*.md")}
    for path in (ROOT / DOCS / "notebooks").glob("*.ipynb"):
        found[str(DOCS / "notebooks" / path.name)] = f"notebooks/{path.stem}.md"
    return found


PAGES = pages()
ORIGINS = {page: origin for origin, page in PAGES.items()}


def as_markdown(notebook: Path) -> str:
    """Return the cells of a notebook, which is kept without results."""
    parts = []
    for cell in json.loads(notebook.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join(parts)


def content(path: Path) -> str:
    """Return a page, with a title."""
    text = as_markdown(path) if path.suffix == ".ipynb" else path.read_text()
    return text if re.search(r"^# ", text, re.M) else f"# {path.stem}\n\n{text}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside."""
    for origin, page in PAGES.items():
        path = ROOT / origin
        if path.suffix == ".png":
            files.append(File.generated(config, page, abs_src_path=str(path)))
        else:
            files.append(File.generated(config, page, content=content(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site."""
    here = page.file.src_uri
    origin = PurePosixPath(ORIGINS.get(here, str(DOCS / here)))

    def led(match: re.Match[str]) -> str:
        picture, words, target, anchor = match.groups()
        if not target or ":" in target:
            return match[0]
        file = os.path.normpath(origin.parent / target)
        inside = file.removeprefix(f"{DOCS}/") if file.startswith(f"{DOCS}/") else ""
        there = PAGES.get(file, inside)
        if files.get_file_from_path(there) is None:
            return match[0] if inside else words  # a dead link within the site is for MkDocs to find
        return f"{picture}[{words}]({os.path.relpath(there, PurePosixPath(here).parent)}{anchor or ''})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else LINK.sub(led, part) for part in parts)
