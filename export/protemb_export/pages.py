"""The page of a model card of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protemb_export.head_page import as_head_page
from protemb_export.page import as_page
from protemb_export.quality_page import as_quality_page

PAGES = {"sites": as_head_page, "quality": as_quality_page}


def page_of(card: Mapping[str, Any]) -> str:
    """Return the card of a model or of a predictor as Markdown.

    Parameters
    ----------
    card : mapping
        From `read_card`.
    """
    return PAGES.get(str(card.get("kind")), as_page)(card)
