"""HTML that notebooks show of results; text from files is escaped."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from protemb_sdk._base.errors import OutputError

if TYPE_CHECKING:
    from protemb_sdk._base.figure import Picture

# Seconds between two drawings of a progress bar.
_PAUSE = 0.2


def card(facts: Mapping[str, object], picture: Callable[[], Picture] | None = None) -> str:
    """Return a table of facts beside a small picture.

    Parameters
    ----------
    facts : mapping
        Titles of rows, and what they hold.
    picture : callable, optional
        It makes the picture; without matplotlib there is only the table.
    """
    rows = [_row("th", [title], "td", [value]) for title, value in facts.items()]
    table = f"<table>{''.join(rows)}</table>"
    try:
        drawn = None if picture is None else picture()
    except OutputError:  # matplotlib is an extra
        drawn = None
    if drawn is None:
        return table
    data, (width, height) = base64.b64encode(drawn.png()).decode(), drawn.pixels
    image = f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="">'
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:center">{table}{image}</div>'


def listing(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Return a table with a title for each column."""
    body = "".join(_row("td", row) for row in rows)
    return f"<table><thead>{_row('th', columns)}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Iterable[object], other: str = "", more: Iterable[object] = ()) -> str:
    found = [f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells]
    found += [f"<{other}>{html.escape(str(cell))}</{other}>" for cell in more]
    return f"<tr>{''.join(found)}</tr>"


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar below the cell of a notebook, and give what updates it; it stays with its last state.

    Rich would need ipywidgets for it.
    """
    import IPython.display

    shown: Any = IPython.display  # its functions have no types
    begun = drawn = time.monotonic()
    last = 0

    def bar(done: int) -> Any:
        passed = time.monotonic() - begun
        size = "" if total is None else f' value="{done}" max="{total}"'
        of = "" if total is None else f" of {total:,}"
        speed = f", {done / passed:.1f} a second" if done and passed else ""
        text = f"{what} {done:,}{of} inputs, {passed:.0f} s{speed}"
        return shown.HTML(f"<progress{size}></progress> {html.escape(text)}")

    handle = shown.display(bar(0), display_id=True)

    def update(done: int, _: int | None) -> None:
        nonlocal drawn, last
        last = done
        if time.monotonic() - drawn >= _PAUSE:
            drawn = time.monotonic()
            handle.update(bar(done))

    try:
        yield update
    finally:
        handle.update(bar(last))
