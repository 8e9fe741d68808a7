"""matplotlib's figure, which also shows itself in a notebook. Imported by `_base.output.figures` only."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

CSS_PIXELS = 96
"""Of an inch."""


class Picture(Figure):
    """A figure that needs no pyplot: without it, notebooks show other figures as text."""

    def png(self) -> bytes:
        """Return the figure as PNG."""
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height in a page; a PNG may have more pixels, for screens that show them."""
        width, height = self.get_size_inches().tolist()
        return round(CSS_PIXELS * width), round(CSS_PIXELS * height)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.png(), dict(zip(("width", "height"), self.pixels, strict=True))
