"""Sequence embeddings: the last hidden state of a protein language model in a Hugging Face folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protemb_sdk import ALPHABET, EmbeddingError, ModelError, ProtembError
from protemb_sdk._structure.chain import encode_sequence

_RESIDUES = ALPHABET.rstrip("X")

# These models number positions from the padding token, which reduces the number of tokens.
_OFFSET_POSITIONS = ("esm", "roberta", "xlm-roberta")

# Parts of a model that do not contribute to the last hidden state; masked models are stored without them.
_BESIDE = ("pooler.", "contact_head.")


@contextmanager
def hugging_face() -> Iterator[Any]:
    """Yield the transformers library, without progress bars and load reports.

    Raises
    ------
    ProtembError
        If it is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "transformers":
            raise
        raise ProtembError(
            "sequence embeddings need transformers: pip install 'protemb-sdk[cpu,train,sequence]'"
        ) from None
    talk = transformers.utils.logging
    verbosity, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        yield transformers
    finally:
        talk.set_verbosity(verbosity)
        if bars:
            talk.enable_progress_bar()


def windows(length: int, size: int) -> list[tuple[slice, slice]]:
    """Return the windows in which a long chain is processed, and the residues used from each.

    Adjacent windows overlap by at least half of their size, and the results change over in the middle of the
    overlap: a residue has a quarter of a window on either side, or is near the end of the chain.

    Parameters
    ----------
    length, size : int
        Number of residues of the chain, and the largest number in a window.

    Returns
    -------
    list of tuple of slice
        Input residues and used residues; the latter cover the chain, each residue once, in order.
    """
    starts = [*range(0, max(length - size, 0), max(size // 2, 1)), max(length - size, 0)]
    handovers = [(later + earlier + size) // 2 for earlier, later in pairwise(starts)]
    borders = [0, *handovers, length]
    return [
        (slice(start, min(start + size, length)), slice(first, last))
        for start, first, last in zip(starts, borders[:-1], borders[1:], strict=True)
    ]


class SequenceEncoder:
    """A protein language model (ESM-2, ProtBert, TAPE's transformer or our own) in a local folder.

    Nothing is downloaded, no pickle is opened, and no code of the folder is run.

    Parameters
    ----------
    path : path
        Folder in Hugging Face's layout, as written by `save_pretrained`: configuration, safetensors weights
        and tokenizer of a masked language model.
    threads : int, optional
        Number of CPU threads for embedding; by default that of torch.

    Attributes
    ----------
    name : str
        Name of the folder.
    channels : int
        D, the width of an embedding.
    window : int or None
        Largest number of residues per run; longer chains are processed in `windows`. None if unlimited.

    Raises
    ------
    ModelError
        If the folder is missing, contains no safetensors weights or no masked language model, the weights are
        incomplete, or the tokenizer does not produce one token per residue.
    ProtembError
        If transformers is not installed.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path, self.threads = Path(path), threads
        if not self.path.is_dir():
            raise ModelError(
                "the folder does not exist; pass a folder with a language model in Hugging Face's layout "
                "(config.json, model.safetensors, tokenizer)",
                path,
            )
        self.name = self.path.resolve().name
        with hugging_face() as hf:
            config = _configuration(hf, self.path)
            self.weights = _weights(self.path)
            self._tokenizer = _tokenizer(hf, self.path)
            self._model = _model(hf, self.path)
        self._between = _between(self._tokenizer, self.path)
        self.channels = int(config.hidden_size)
        self.window = _window(config, self._tokenizer, self.path)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the weights; of all their files in order, if there are several."""
        whole = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    whole.update(block)
        return whole.hexdigest()

    def embed(self, sequence: str) -> NDArray[np.float32]:
        """Return the last hidden state without special tokens.

        Parameters
        ----------
        sequence : str
            One-letter codes in either case; letters other than the 20 residues are replaced by X.

        Returns
        -------
        ndarray, float32, shape (L, D)
            One row per residue. The result does not depend on sequences embedded before.

        Raises
        ------
        EmbeddingError
            If the sequence is empty, tokens and residues do not correspond, or the result is not finite.
        """
        if not sequence:
            raise EmbeddingError("the sequence is empty; pass one-letter codes of residues")
        letters = "".join(ALPHABET[t] for t in encode_sequence(sequence))
        length = len(letters)
        rows = np.empty((length, self.channels), dtype=np.float32)
        with _threads(self.threads):
            for shown, taken in windows(length, self.window or length):
                window = self._embed_window(letters[shown])
                rows[taken] = window[taken.start - shown.start : taken.stop - shown.start]
        if not np.isfinite(rows).all():
            raise EmbeddingError(f"the embedding of {length} residues is not finite", self.path)
        return rows

    def _embed_window(self, letters: str) -> NDArray[np.float32]:
        inputs = self._tokenizer(
            self._between.join(letters), return_special_tokens_mask=True, return_tensors="pt"
        )
        residue = inputs.pop("special_tokens_mask")[0] == 0
        with torch.inference_mode():
            hidden = self._model(**inputs).last_hidden_state[0]
        if residue.sum() != len(letters) or len(hidden) != len(residue):
            raise EmbeddingError(
                f"{int(residue.sum())} tokens, {len(hidden)} rows, {len(letters)} residues; "
                "use a model with one token per residue",
                self.path,
            )
        rows: NDArray[np.float32] = hidden[residue].numpy()
        return rows


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")


def _configuration(hf: Any, path: Path) -> Any:
    try:
        config = hf.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds of exceptions for invalid files
        raise ModelError(f"not a language model in Hugging Face's layout ({_reason(error)})", path) from error
    if type(config) not in hf.MODEL_FOR_MASKED_LM_MAPPING or config.is_encoder_decoder:
        raise ModelError(
            f"contains a model of type {config.model_type!r}, not a masked language model; "
            "use one such as ESM-2 or ProtBert",
            path,
        )
    return config


def _weights(path: Path) -> list[Path]:
    whole, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise ModelError(
            "contains no model.safetensors; pickled weights are not opened, so save the model again "
            "with save_pretrained of a recent transformers",
            path,
        )
    try:
        return [path / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError("does not list the files of the weights", index) from error


def _tokenizer(hf: Any, path: Path) -> Any:
    try:
        return hf.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"its tokenizer cannot be read ({_reason(error)})", path) from error


def _model(hf: Any, path: Path) -> Any:
    try:
        model, report = hf.AutoModel.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(f"its weights cannot be read ({_reason(error)})", path) from error
    # transformers initialises missing weights at random, with a warning.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_BESIDE))
    if missing:
        raise ModelError(
            f"the weights are incomplete: {missing[0]} is missing; download the folder again",
            path,
        )
    return model.eval()


def _between(tokenizer: Any, path: Path) -> str:
    """Return the separator that the tokenizer needs between two residues: a space, or nothing."""
    for between in (" ", ""):
        encoded = tokenizer(between.join(_RESIDUES), return_special_tokens_mask=True)
        marks = encoded["special_tokens_mask"]
        tokens = [t for t, special in zip(encoded["input_ids"], marks, strict=True) if not special]
        distinct = set(tokens) - set(tokenizer.all_special_ids)
        if len(tokens) == len(distinct) == len(_RESIDUES):
            return between
    raise ModelError(
        "its tokenizer does not have one token for each of the 20 residues; "
        "use a model of protein sequences with one token per residue",
        path,
    )


def _window(config: Any, tokenizer: Any, path: Path) -> int | None:
    """Return the number of residues that fit into the positions of the model."""
    limits = [tokenizer.model_max_length]  # a very large number if the tokenizer sets none
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    residues = min(limits) - len(tokenizer("")["input_ids"])
    if residues < 1:
        raise ModelError(f"the model has no positions for residues ({min(limits)} positions)", path)
    return int(residues) if residues < 1_000_000 else None
