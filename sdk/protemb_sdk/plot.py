"""Figures of embeddings (extra `plot`)."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from protemb_sdk._base.errors import EmbeddingError
from protemb_sdk._base.output import picture_kind, written_whole
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._embed.picture import Profile, draw, principal_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protemb_sdk._predict.quality import QualityScore
    from protemb_sdk._predict.sites import SitePrediction

__all__ = ["picture", "principal_colours", "save_picture"]


def picture(
    embedding: Embedding, sites: SitePrediction | None = None, quality: QualityScore | None = None
) -> Figure:
    """Draw the distance map beside the pair embedding, and the residue embedding along the chain.

    Colours of an embedding are its first three principal components. Axes are numbered as the authors number
    residues. Helices and strands, assigned from C-alpha positions, are above the residue embedding.

    Parameters
    ----------
    embedding : Embedding
        With its pair level (`pair=True`).
    sites : SitePrediction, optional
        Of the same chain: a profile of the probability of touching another protein.
    quality : QualityScore, optional
        Of the same chain: a profile of expected lDDT.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    EmbeddingError
        If the pair embedding was not kept, or a profile belongs to another chain.
    OutputError
        If matplotlib is not installed.

    Examples
    --------
    >>> from protemb_sdk import Embedder, plot
    >>> embedding = Embedder(device="cpu").embed("1a8o.cif", pair=True)
    >>> plot.picture(embedding).savefig("1a8o.png")
    """
    for profile in (sites, quality):
        if profile is not None and profile.chain.sequence != embedding.sequence:
            raise EmbeddingError(f"the profile is of another chain, {profile.chain.id}", embedding.id)
    profiles = []
    if sites is not None:
        title = f"probability of touching another protein; {int(sites.is_site.sum())} residues called sites"
        profiles.append(Profile(title, sites.probability, sites.threshold))
    if quality is not None:
        title = f"expected lDDT of each residue; of the whole chain {quality.lddt:.2f}"
        profiles.append(Profile(title, quality.residue_lddt))
    return draw(embedding.chain, embedding.readout("residue"), embedding.pair, profiles)


def save_picture(
    embedding: Embedding,
    path: str | PathLike[str],
    sites: SitePrediction | None = None,
    quality: QualityScore | None = None,
) -> Path:
    """Write `picture` to an image file, completely or not at all.

    Parameters
    ----------
    embedding, sites, quality
        As in `picture`.
    path : path
        File to write; its extension is that of an image format, such as `.png` or `.svg`.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written, or its extension is not an image format.

    Examples
    --------
    >>> from protemb_sdk import Embedder, plot
    >>> embedding = Embedder(device="cpu").embed("1a8o.cif", pair=True)
    >>> plot.save_picture(embedding, "1a8o.svg").name
    '1a8o.svg'
    """
    target = Path(path)
    kind = picture_kind(target)
    figure = picture(embedding, sites, quality)
    with written_whole(target) as part:
        figure.savefig(part, format=kind)
    return target
