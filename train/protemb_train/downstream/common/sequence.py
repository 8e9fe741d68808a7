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

# These count positions from the padding token on, so that many fewer are left for tokens.
_OFFSET_POSITIONS = ("esm", "roberta", "xlm-roberta")

# Parts of a model that its last hidden state does not pass through; a masked model is stored without them.
_BESIDE = ("pooler.", "contact_head.")


@contextmanager
def hugging_face() -> Iterator[Any]:
    """Give the transformers library, without its progress bars and load reports.

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
    """Return the windows a long chain is read in, and which residues are taken from each.

    Neighbouring windows overlap by half of their size or more, and hand over in the middle of the overlap: a
    residue has a quarter of a window on either side, or reaches the end of the chain.

    Parameters
    ----------
    length, size : int
        Residues of the chain, and of a window at most.

    Returns
    -------
    list of tuple of slice
        Residues shown, and residues taken; the latter cover the chain, each residue once, in order.
    """
    starts = [*range(0, max(length - size, 0), max(size // 2, 1)), max(length - size, 0)]
    handovers = [(later + earlier + size) // 2 for earlier, later in pairwise(starts)]
    borders = [0, *handovers, length]
    return [
        (slice(start, min(start + size, length)), slice(first, last))
        for start, first, last in zip(starts, borders[:-1], borders[1:], strict=True)
    ]


class SequenceEncoder:
    """A protein language model: ESM-2, ProtBert, TAPE's transformer or our own, out of a local folder.

    Nothing is fetched from the network, no pickle is opened, and no code out of the folder is run.

    Parameters
    ----------
    path : path
        Folder in Hugging Face's layout, as `save_pretrained` writes it: configuration, safetensors weights
        and tokenizer of a masked language model.
    threads : int, optional
        CPU threads while embedding; torch's own choice by default.

    Attributes
    ----------
    name : str
        Name of the folder.
    channels : int
        D, the width of an embedding.
    window : int or None
        Residues the model takes at once; longer chains are read in `windows`. None where it takes any length.

    Raises
    ------
    ModelError
        If the folder is missing, holds no safetensors weights, no masked language model, weights that do not
        fill the model, or a tokenizer that does not give one token a residue.
    ProtembError
        If transformers is not installed.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path, self.threads = Path(path), threads
        if not self.path.is_dir():
            raise ModelError(
                "no such folder; name one with a language model in Hugging Face's layout "
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
        """Hash of the weights; of all files one after the other, where there are several."""
        whole = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    whole.update(block)
        return whole.hexdigest()

    def embed(self, sequence: str) -> NDArray[np.float32]:
        """Return the last hidden state, special tokens left out.

        Parameters
        ----------
        sequence : str
            One-letter codes, in either case; whatever is not one of the 20 residues is shown as X.

        Returns
        -------
        ndarray, float32, shape (L, D)
            A row a residue. The same sequence gives the same rows, whatever was embedded before.

        Raises
        ------
        EmbeddingError
            If the sequence is empty, the tokens are not one a residue, or the result is not finite.
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
                "use a model with one token a residue",
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
    except Exception as error:  # foreign files make transformers raise nearly anything
        raise ModelError(f"not a language model in Hugging Face's layout ({_reason(error)})", path) from error
    if type(config) not in hf.MODEL_FOR_MASKED_LM_MAPPING or config.is_encoder_decoder:
        raise ModelError(
            f"holds a model of type {config.model_type!r}, not a masked language model; "
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
            "no model.safetensors in it; pickled weights are not opened, so save the model again "
            "with save_pretrained of a recent transformers",
            path,
        )
    try:
        return [path / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError("does not say which files hold the weights", index) from error


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
    # transformers fills what is missing at random, with a warning.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_BESIDE))
    if missing:
        raise ModelError(
            f"the weights do not fill the model, {missing[0]} is missing for one; "
            "get the folder again from where it came",
            path,
        )
    return model.eval()


def _between(tokenizer: Any, path: Path) -> str:
    """Return what the tokenizer wants between two residues: a blank, or nothing."""
    for between in (" ", ""):
        encoded = tokenizer(between.join(_RESIDUES), return_special_tokens_mask=True)
        marks = encoded["special_tokens_mask"]
        tokens = [t for t, special in zip(encoded["input_ids"], marks, strict=True) if not special]
        distinct = set(tokens) - set(tokenizer.all_special_ids)
        if len(tokens) == len(distinct) == len(_RESIDUES):
            return between
    raise ModelError(
        "its tokenizer does not give each of the 20 residues a token of its own; "
        "use a model of protein sequences with one token a residue",
        path,
    )


def _window(config: Any, tokenizer: Any, path: Path) -> int | None:
    """Return how many residues fit into the positions the model was made for."""
    limits = [tokenizer.model_max_length]  # astronomically large where the tokenizer sets none
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    residues = min(limits) - len(tokenizer("")["input_ids"])
    if residues < 1:
        raise ModelError(f"the model has no room for a residue ({min(limits)} positions)", path)
    return int(residues) if residues < 1_000_000 else None
