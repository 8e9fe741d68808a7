"""A small masked language model, for use where a large one is not available.

It has the architecture and the vocabulary of ESM-2, but is trained only on the few thousand chains of the
pre-training corpus. Its folder states this (`protemb.json`).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from protemb_sdk import OutputError
from protemb_sdk._base.output import writable_target, written_whole
from protemb_train.base.origin import origin
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.downstream.common.sequence import hugging_face
from protemb_train.experiments.masking import (
    MASK,
    PAD,
    RESIDUES,
    VOCABULARY,
    LanguageConfig,
    MaskedBatches,
    X,
    assemble,
    crop,
    tokens,
)
from protemb_train.pretrain.crops import Batch
from protemb_train.pretrain.objective import TrainingError
from protemb_train.pretrain.pretrain import quiet_lightning

ANY_LENGTH = (1, 1_000_000)  # residues


class MaskedLanguage(pl.LightningModule):
    """The model with its loss and optimiser.

    Parameters
    ----------
    batches : MaskedBatches
        Training batches.
    config : LanguageConfig
        Shape and recipe; the weights are drawn from torch's generator.
    steps : int
        Length of the run, which determines the schedule.
    """

    def __init__(self, batches: MaskedBatches, config: LanguageConfig, steps: int) -> None:
        super().__init__()
        self.batches, self.config, self.steps = batches, config, steps
        with hugging_face() as hf:
            self.model = hf.EsmForMaskedLM(
                hf.EsmConfig(
                    vocab_size=len(VOCABULARY),
                    pad_token_id=PAD,
                    mask_token_id=MASK,
                    num_hidden_layers=config.layers,
                    hidden_size=config.channels,
                    intermediate_size=4 * config.channels,
                    num_attention_heads=config.heads,
                    position_embedding_type="rotary",
                    # A crop with <cls>, <eos> and the two positions that ESM reserves: longer chains are
                    # embedded in windows, because the model is not trained on larger separations.
                    max_position_embeddings=config.crop + 4,
                    hidden_dropout_prob=0.0,  # chains are seen too rarely in a short run for overfitting
                    attention_probs_dropout_prob=0.0,
                )
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross entropy of the masked residues; raise a `TrainingError` if it is not finite."""
        loss: Tensor = self.model(**batch).loss
        if not torch.isfinite(loss):
            raise TrainingError(
                f"step {self.global_step}: the loss is {loss.item()}; lower the learning rate"
            )
        self.log("perplexity", loss.detach().exp(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Return AdamW with a warm-up and a cosine to a tenth."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / self.config.warmup_steps)
            return rise * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.batches, batch_size=None)


def perplexities(
    model: Any, training: Corpus, validation: Corpus, config: LanguageConfig
) -> dict[str, float | int]:
    """Evaluate a model on residues of validation chains, compared with residue frequencies.

    A crop of one chain per cluster is used. Every known residue is predicted once, masked together with the
    same share of others as in training. All masked residues are shown as <mask>.

    Parameters
    ----------
    model : transformers.EsmForMaskedLM
        Model in eval mode.
    training, validation : Corpus
        Chains for the frequencies (one per cluster), and for the evaluation.
    config : LanguageConfig
        Crop and share of masked residues.

    Returns
    -------
    dict
        `validation_perplexity`, `unigram_perplexity` and `validation_residues`.
    """
    rng, folds = np.random.default_rng(0), round(1 / config.hidden)
    chains = tokens(validation)
    crops = [crop(chains[i], config.crop, rng) for i in validation.one_per_cluster(len(chains), ANY_LENGTH)]
    crops.sort(key=len)  # reduces padding
    fold = [np.where(chain == X, -1, rng.permutation(len(chain)) % folds) for chain in crops]
    known = np.concatenate([chain[chain != X] for chain in crops])
    total = 0.0
    for first in range(0, len(crops), config.batch):
        true, folds_of = crops[first : first + config.batch], fold[first : first + config.batch]
        for this in range(folds):
            hidden = [f == this for f in folds_of]
            shown = [np.where(where, MASK, chain) for where, chain in zip(hidden, true, strict=True)]
            batch = assemble(shown, true, hidden)
            labels = batch.pop("labels")
            with torch.inference_mode():
                logits = model(**batch).logits
            total += F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()
    return {
        "validation_perplexity": math.exp(total / len(known)),
        "unigram_perplexity": math.exp(-np.log(_frequencies(training)[known]).mean()),
        "validation_residues": len(known),
    }


def _frequencies(corpus: Corpus) -> NDArray[np.float64]:
    chains = tokens(corpus)
    seen = np.concatenate([chains[i] for i in corpus.one_per_cluster(len(chains), ANY_LENGTH)])
    count = np.bincount(seen, minlength=len(VOCABULARY))
    share = np.zeros(len(VOCABULARY))
    share[RESIDUES] = (count[RESIDUES] + 1) / (count[RESIDUES] + 1).sum()
    return share


def train_language(
    corpus: str | Path,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    config: LanguageConfig | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model, and write a folder that `SequenceEncoder` and transformers can read.

    Parameters
    ----------
    corpus : path
        Corpus file; the `train` split is used for training, the `val` split for evaluation.
    out : Path
        Folder to write atomically at the end: model, tokenizer and `protemb.json` with its description.
    steps : int
        Number of optimiser steps.
    seed : int, default 0
        Seed of weights and batches; the same seed gives the same weights.
    config : LanguageConfig, optional
        Shape and recipe.
    progress : bool, default True
        Show a progress bar.

    Returns
    -------
    dict
        Contents of `protemb.json`.

    Raises
    ------
    CorpusError
        If the corpus cannot be read, or has no chain for training or evaluation.
    OutputError
        If `out` exists, or cannot be written.
    TrainingError
        If the loss is not finite.
    ProtembError
        If transformers is not installed.
    """
    config = config or LanguageConfig()
    if out.exists():
        raise OutputError("exists already; use another folder, or remove it first", out)
    writable_target(out)
    training, validation = Corpus(corpus, ["train"]), Corpus(corpus, ["val"])
    if not len(validation):
        raise CorpusError("no chain of val to evaluate on", corpus)
    pl.seed_everything(seed, verbose=False)
    module = MaskedLanguage(MaskedBatches(training, config, seed), config, steps)
    with quiet_lightning():
        trainer = pl.Trainer(
            max_steps=steps,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
            gradient_clip_val=1.0,
        )
        trainer.fit(module)
    model = module.model.cpu().eval()
    record = {
        "what": f"a small masked language model trained on {len(training)} sequences of corpus SHA-256 "
        f"{training.sha256}, {steps} steps: not ESM-2, not TAPE",
        **perplexities(model, training, validation, config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "seed": seed,
        "recipe": asdict(config),
        "corpus": training.path.name,
        "corpus_sha256": training.sha256,
        "origin": origin(),
    }
    with written_whole(out) as part, hugging_face() as hf:
        model.save_pretrained(part, save_original_format=False)
        (part / "vocab.txt").write_text("\n".join(VOCABULARY))
        hf.EsmTokenizer(str(part / "vocab.txt")).save_pretrained(part)
        record["sha256"] = hashlib.sha256((part / "model.safetensors").read_bytes()).hexdigest()
        (part / "protemb.json").write_text(json.dumps(record, indent=1) + "\n")
    return record
