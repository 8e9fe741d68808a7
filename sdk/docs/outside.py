"""MkDocs hook: add pages from other folders of the repository (recorded tables, READMEs, notebooks).

Links in a page are relative to its place in the repository. Here they are changed to pages of the site.
A link to a file that is not part of the site is replaced by its text.
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
FOLDERS = {
    "benchmarks": "benchmarks",
    "benchmarks/experiments": "benchmarks/experiments",
    "train/results": "results",
}
FILES = {
    "train/README.md": "train.md",
    "export/README.md": "export.md",
    "sdk/examples/README.md": "examples.md",
    "tests/faults/results.md": "results/faults.md",
    "train/results/levels-former.png": "results/levels-former.png",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def pages() -> dict[str, str]:
    """Return the page of the site for each added file."""
    found = dict(FILES)
    for folder, place in FOLDERS.items():
        found |= {f"{folder}/{path.name}": f"{place}/{path.name}" for path in (ROOT / folder).glob("*.md")}
    for path in (ROOT / DOCS / "notebooks").glob("*.ipynb"):
        found[str(DOCS / "notebooks" / path.name)] = f"notebooks/{path.stem}.md"
    return found


PAGES = pages()
ORIGINS = {page: origin for origin, page in PAGES.items()}


def as_markdown(notebook: Path) -> str:
    """Return the cells of a notebook; notebooks are stored without results."""
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
    """Add the files."""
    for origin, page in PAGES.items():
        path = ROOT / origin
        if path.suffix == ".png":
            files.append(File.generated(config, page, abs_src_path=str(path)))
        else:
            files.append(File.generated(config, page, content=content(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links to pages of the site."""
    here = page.file.src_uri
    origin = PurePosixPath(ORIGINS.get(here, str(DOCS / here)))

    def relinked(match: re.Match[str]) -> str:
        picture, words, target, anchor = match.groups()
        if not target or ":" in target:
            return match[0]
        file = os.path.normpath(origin.parent / target)
        inside = file.removeprefix(f"{DOCS}/") if file.startswith(f"{DOCS}/") else ""
        there = PAGES.get(file, inside)
        if files.get_file_from_path(there) is None:
            return match[0] if inside else words  # MkDocs reports a dead link within the site
        return f"{picture}[{words}]({os.path.relpath(there, PurePosixPath(here).parent)}{anchor or ''})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else LINK.sub(relinked, part) for part in parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep options of commands in tables and their values together; browsers break lines at hyphens."""
    whole = r'<span style="white-space: nowrap">\g<0></span>'
    return re.sub(
        r"(?<=<td><code>)[^<]+", lambda code: re.sub(r"(?<= )\S*-\S+( [^\s-]\S*)?", whole, code[0]), html
    )
