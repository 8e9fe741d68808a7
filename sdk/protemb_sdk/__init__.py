"""Structure embeddings of proteins: a structure file in, vectors out, without PyTorch.

>>> from protemb_sdk import Embedder
>>> embedder = Embedder()
>>> embedding = embedder.embed("1a8o.cif")
>>> embedding.protein.shape, embedding.residue.shape
((64,), (70, 64))

Importing this package costs next to nothing: gemmi, ONNX Runtime and Numba are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protemb_sdk._chain import ALPHABET, Chain, Skipped
    from protemb_sdk._embedder import Embedder
    from protemb_sdk._embedding import Embedding
    from protemb_sdk._errors import (
        ChainError,
        DeviceError,
        EmbeddingError,
        ModelError,
        OutputError,
        ProtembError,
        StructureError,
    )
    from protemb_sdk._fill import embed_into_store
    from protemb_sdk._labels import LabelPrediction, LabelPredictor
    from protemb_sdk._many import EmbeddingRun
    from protemb_sdk._models import Model, list_models
    from protemb_sdk._pooling import clip_windows, mean_over_columns
    from protemb_sdk._quality import QualityScore, QualityScorer
    from protemb_sdk._readouts import list_readouts
    from protemb_sdk._residue import mean_over_rows
    from protemb_sdk._sites import SitePrediction, SitePredictor
    from protemb_sdk._structure import read_chain, read_chains
    from protemb_sdk._version import __version__

_HOME = {
    "ALPHABET": "_chain",
    "Chain": "_chain",
    "ChainError": "_errors",
    "DeviceError": "_errors",
    "Embedder": "_embedder",
    "Embedding": "_embedding",
    "EmbeddingError": "_errors",
    "EmbeddingRun": "_many",
    "LabelPrediction": "_labels",
    "LabelPredictor": "_labels",
    "Model": "_models",
    "ModelError": "_errors",
    "OutputError": "_errors",
    "ProtembError": "_errors",
    "QualityScore": "_quality",
    "QualityScorer": "_quality",
    "SitePrediction": "_sites",
    "SitePredictor": "_sites",
    "Skipped": "_chain",
    "StructureError": "_errors",
    "__version__": "_version",
    "clip_windows": "_pooling",
    "embed_into_store": "_fill",
    "list_models": "_models",
    "list_readouts": "_readouts",
    "mean_over_columns": "_pooling",
    "mean_over_rows": "_residue",
    "read_chain": "_structure",
    "read_chains": "_structure",
}

__all__ = [
    "ALPHABET",
    "Chain",
    "ChainError",
    "DeviceError",
    "Embedder",
    "Embedding",
    "EmbeddingError",
    "EmbeddingRun",
    "LabelPrediction",
    "LabelPredictor",
    "Model",
    "ModelError",
    "OutputError",
    "ProtembError",
    "QualityScore",
    "QualityScorer",
    "SitePrediction",
    "SitePredictor",
    "Skipped",
    "StructureError",
    "__version__",
    "clip_windows",
    "embed_into_store",
    "list_models",
    "list_readouts",
    "mean_over_columns",
    "mean_over_rows",
    "read_chain",
    "read_chains",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
