"""Structure embeddings of proteins: a structure file in, vectors out, without PyTorch.

>>> from protemb_sdk import Embedder
>>> embedder = Embedder()
>>> embedding = embedder.embed("1a8o.cif")
>>> embedding.protein.shape, embedding.residue.shape
((128,), (70, 395))

Importing this package is fast: gemmi, ONNX Runtime and Numba are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protemb_sdk._base.errors import (
        ChainError,
        DeviceError,
        EmbeddingError,
        ModelError,
        OutputError,
        ProtembError,
        StructureError,
    )
    from protemb_sdk._base.version import __version__
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.embedding import Embedding
    from protemb_sdk._embed.many import EmbeddingRun
    from protemb_sdk._model.models import Model, list_models
    from protemb_sdk._model.pooling import clip_windows, mean_over_columns
    from protemb_sdk._model.readouts import list_readouts
    from protemb_sdk._model.residue import mean_over_rows
    from protemb_sdk._predict.labels import LabelPrediction, LabelPredictor
    from protemb_sdk._predict.predictor import PredictionRun
    from protemb_sdk._predict.quality import QualityScore, QualityScorer
    from protemb_sdk._predict.sites import SitePrediction, SitePredictor
    from protemb_sdk._store.fill import StoreSummary, embed_into_store
    from protemb_sdk._structure.chain import ALPHABET, Chain, Skipped
    from protemb_sdk._structure.complexes import join_chains
    from protemb_sdk._structure.fetch import fetch_structure
    from protemb_sdk._structure.protein import StructureRead
    from protemb_sdk._structure.reader import read_chain, read_chains

_HOME = {
    "ALPHABET": "_structure.chain",
    "Chain": "_structure.chain",
    "ChainError": "_base.errors",
    "DeviceError": "_base.errors",
    "Embedder": "_embed.embedder",
    "Embedding": "_embed.embedding",
    "EmbeddingError": "_base.errors",
    "EmbeddingRun": "_embed.many",
    "LabelPrediction": "_predict.labels",
    "LabelPredictor": "_predict.labels",
    "Model": "_model.models",
    "ModelError": "_base.errors",
    "OutputError": "_base.errors",
    "PredictionRun": "_predict.predictor",
    "ProtembError": "_base.errors",
    "QualityScore": "_predict.quality",
    "QualityScorer": "_predict.quality",
    "SitePrediction": "_predict.sites",
    "SitePredictor": "_predict.sites",
    "Skipped": "_structure.chain",
    "StoreSummary": "_store.fill",
    "StructureError": "_base.errors",
    "StructureRead": "_structure.protein",
    "__version__": "_base.version",
    "clip_windows": "_model.pooling",
    "embed_into_store": "_store.fill",
    "fetch_structure": "_structure.fetch",
    "join_chains": "_structure.complexes",
    "list_models": "_model.models",
    "list_readouts": "_model.readouts",
    "mean_over_columns": "_model.pooling",
    "mean_over_rows": "_model.residue",
    "read_chain": "_structure.reader",
    "read_chains": "_structure.reader",
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
    "PredictionRun",
    "ProtembError",
    "QualityScore",
    "QualityScorer",
    "SitePrediction",
    "SitePredictor",
    "Skipped",
    "StoreSummary",
    "StructureError",
    "StructureRead",
    "__version__",
    "clip_windows",
    "embed_into_store",
    "fetch_structure",
    "join_chains",
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
