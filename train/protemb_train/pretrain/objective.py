"""The training step of pre-training as a Lightning module: eq. 5 and the auxiliary objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from protemb_sdk import ProtembError
from protemb_train.corpus.corpus import Corpus
from protemb_train.network.config import NetworkConfig, PretrainConfig
from protemb_train.network.features import UNKNOWN
from protemb_train.network.loss import score_matching_loss
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.noise import denoising_score
from protemb_train.network.single import four_means
from protemb_train.pretrain.auxiliary import Damaged, StepBatches
from protemb_train.pretrain.crops import Batch, CropBatches, WholeChains
from protemb_train.pretrain.judge import judge_states
from protemb_train.pretrain.local_geometry import CLASSES, QUANTITIES, local_geometry

VALIDATION_BATCHES = 16
LDDT_VARIANCE = 0.06
"""Variance of the residue lDDT of damaged structures; predicting the mean has a loss of 1."""
DECAY, LEAST_RATE = 0.2, 1 / 30
"""Schedule "decay": length of its last part relative to the run, and lowest relative learning rate."""


class TrainingError(ProtembError):
    """A run cannot start, cannot be continued, or has diverged."""


class Predicted(NamedTuple):
    """Outputs of a network and its heads for a batch; None for missing heads.

    Parameters
    ----------
    gradient : Tensor, float32, shape (B, L, 3), or None
        Estimated gradient of log p on the coordinates, in 1/angstrom; None without a pair map.
    types : Tensor, shape (B, L, 20), or None
        Logits of the residue types, for residues whose type is masked or possibly swapped.
    sites : Tensor, shape (B, L), or None
        Logits of the contact sites of cut chains.
    profile : Tensor, shape (B, L, 20), or None
        Log probabilities of the residue types from structure alone.
    geometry : Tensor, shape (B, L, Q, classes), or None
        Logits of the local geometry (`local_geometry`).
    """

    gradient: Tensor | None
    types: Tensor | None
    sites: Tensor | None
    profile: Tensor | None
    geometry: Tensor | None


class Pretraining(pl.LightningModule):
    """A score network with its losses and optimiser.

    Parameters
    ----------
    training, validation : Corpus
        Chains for training, and for the choice of the best checkpoint.
    network, config : NetworkConfig, PretrainConfig
        Shape of the network and the recipe.
    steps : int
        Length of the run, which determines the schedule.
    seed : int
        Seed of the batches; the weights are drawn from torch's generator.
    record : dict
        Plain values stored in the checkpoint: preset, recipe, corpus and its hash, commit.
    workers : int
        Number of processes that create batches; 0 uses this process. The batches are the same.
    damaged : sequence of Damaged
        Damaged structures, for recipes that use them.
    """

    def __init__(
        self,
        training: Corpus,
        validation: Corpus,
        network: NetworkConfig,
        config: PretrainConfig,
        steps: int,
        seed: int,
        record: dict[str, Any],
        workers: int = 0,
        damaged: Sequence[Damaged] = (),
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            {"network": network.as_dict(), "steps_planned": steps, "seed": seed, "record": record}
        )
        self.training_chains, self.validation_chains = training, validation
        self.config, self.steps, self.seed, self.workers = config, steps, seed, workers
        self.damaged = damaged
        self.network = ScoreNetwork(network)
        if network.exchanges is None and any(
            (config.site_loss, config.profile_loss, config.geometry_loss, config.damage_loss)
        ):
            raise TrainingError(
                "site_loss, profile_loss, geometry_loss and damage_loss require a single representation; set "
                "exchanges in [network], or these losses to 0"
            )
        if network.messages is None and not config.pair_map:
            raise TrainingError(
                "pair_map is false, but the network has no messages; set messages in [network]"
            )
        # Not part of the network: embeddings do not include them.
        width = 4 * network.channels if network.exchanges is None else network.single_channels
        self.type_head = nn.Linear(width, UNKNOWN) if config.type_loss else None
        self.site_head = nn.Linear(width, 1) if config.site_loss else None
        self.geometry_head = nn.Linear(width, QUANTITIES * CLASSES) if config.geometry_loss else None
        self.damage_head = nn.Linear(width, 1) if config.damage_loss else None

    def forward(self, batch: Batch) -> Predicted:
        """Return the outputs of the network and the heads for a batch of chains of one length.

        The heads use the single representation, or else the four means of the pair map.
        """
        inputs = batch["noisy"], batch["types"], batch["index"], batch["sigma"]
        single = self.network.single
        if not self.config.pair_map:
            assert single is not None  # checked at the start
            states = self.network.states_without_map(*inputs[:3])
            types, sites, geometry = self._heads(states.state)
            return Predicted(None, types, sites, single.log_profile(states.structure), geometry)
        if single is None:
            pair_BCLL = self.network.embed(*inputs)
            state, profile = None, None
        else:
            pair_BCLL, states = self.network.embed_all(*inputs)
            state, profile = states.state, single.log_profile(states.structure)
        gradient = self.network.gradient(pair_BCLL, batch["noisy"], batch["sigma"])
        if state is None and self.type_head is not None:
            state = four_means(pair_BCLL, batch["noisy"])
        types, sites, geometry = self._heads(state)
        return Predicted(gradient, types, sites, profile, geometry)

    def _heads(self, state: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if state is None:
            return None, None, None
        types = None if self.type_head is None else self.type_head(state)
        sites = None if self.site_head is None else self.site_head(state)[..., 0]
        geometry = None if self.geometry_head is None else self.geometry_head(state)
        return types, sites, None if geometry is None else geometry.unflatten(2, (QUANTITIES, CLASSES))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum of all losses on a batch; a loss that is not finite raises a `TrainingError`."""
        loss, levels = self._crop_loss(batch) if self.config.pair_map else (self._zero(), "")
        if self._has_auxiliary:
            loss = loss + self._auxiliary_loss(batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"step {self.global_step}: the loss is {loss.item()} (noise levels {levels or 'all'} "
                "angstrom); lower the learning rate, or check the chains of this step"
            )
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def _crop_loss(self, batch: Batch) -> tuple[Tensor, str]:
        """Return the loss on the crops, and the noise levels where it is not finite."""
        predicted = self(batch)
        loss_B = _per_sample(predicted.gradient, batch)
        length = batch["coords"].shape[1]
        loss = loss_B.mean() / (3 * length) if self.config.per_residue_loss else loss_B.mean() / 2
        if predicted.types is not None:
            types = type_loss(predicted.types, batch["asked"], batch["true_types"])
            loss = loss + self.config.type_loss * types
            self.log("type_loss", types.detach())
        self.log("share", loss_B.detach().mean() / (3 * length), prog_bar=True)
        broken = batch["sigma"][~torch.isfinite(loss_B)]
        return loss, ", ".join(f"{s:.3g}" for s in sorted(set(broken.tolist())))

    def _zero(self) -> Tensor:
        return self.network.conv_out.weight.new_zeros(())

    def _auxiliary_loss(self, batch: Batch) -> Tensor:
        """Return the weighted sum of the losses on pieces and whole chains; each is a mean over residues."""
        config, total = self.config, self._zero()
        pieces = [(piece, self.forward(piece)) for piece in batch["pieces"]]  # not compiled: lengths differ
        if pieces and config.pair_map:
            residues = 3 * sum(piece["coords"].shape[1] for piece, _ in pieces)
            eq5 = torch.stack([_per_sample(result.gradient, piece).sum() for piece, result in pieces]).sum()
            total = total + config.piece_loss * eq5 / residues
            self.log("piece_share", eq5.detach() / residues)
        # Messages are fast: without the map, residue types of whole chains are masked and predicted too.
        named = pieces if config.pair_map else [*pieces, *((c, self.forward(c)) for c in batch["chains"])]
        if named and config.type_loss:
            types = type_loss(
                torch.cat([result.types[0] for _, result in named if result.types is not None]),
                torch.cat([piece["asked"][0] for piece, _ in named]),
                torch.cat([piece["true_types"][0] for piece, _ in named]),
            )
            total = total + config.type_loss * types
            self.log("piece_type_loss", types.detach())
        if pieces and config.site_loss:
            logit = torch.cat([result.sites[0] for _, result in pieces if result.sites is not None])
            label = torch.cat([piece["touching"][0] for piece, _ in pieces])
            sites = F.binary_cross_entropy_with_logits(logit, label.float()) / math.log(2)
            total = total + config.site_loss * sites
            self.log("site_loss", sites.detach())
        if named and config.geometry_loss:
            logits = [result.geometry.flatten(0, 2) for _, result in named if result.geometry is not None]
            classes = [local_geometry(chain["coords"], chain["index"]).flatten() for chain, _ in named]
            geometry = F.cross_entropy(torch.cat(logits), torch.cat(classes)) / math.log(CLASSES)
            total = total + config.geometry_loss * geometry
            self.log("geometry_loss", geometry.detach())
        if config.damage_loss and batch["damaged"]:
            assert self.damage_head is not None
            states = [self._state(model) for model in batch["damaged"]]
            predicted = torch.cat([self.damage_head(state)[0, :, 0].sigmoid() for state in states])
            true = torch.cat([model["lddt"][0] for model in batch["damaged"]])
            known = torch.isfinite(true)
            damage = (predicted - true)[known].square().mean() / LDDT_VARIANCE
            total = total + config.damage_loss * damage
            self.log("damage_loss", damage.detach())
        if config.profile_loss:
            assert self.network.single is not None  # checked at the start
            profiles = [(piece["true_types"], result.profile) for piece, result in named]
            for chain in batch["chains"] if config.pair_map else ():
                state = self.network.structure_state(chain["noisy"], chain["index"], chain["sigma"])
                profiles.append((chain["true_types"], self.network.single.log_profile(state)))
            true = torch.cat([types[0] for types, _ in profiles])
            log_profile = torch.cat([profile[0] for _, profile in profiles if profile is not None])
            profile_loss = type_loss(log_profile, true != UNKNOWN, true)
            total = total + config.profile_loss * profile_loss
            self.log("profile_loss", profile_loss.detach(), prog_bar=True)
        return total

    def _state(self, batch: Batch) -> Tensor:
        inputs = batch["noisy"], batch["types"], batch["index"], batch["sigma"]
        if not self.config.pair_map:
            return self.network.states_without_map(*inputs[:3]).state
        return self.network.embed_all(*inputs)[1].state

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log eq. 5 relative to predicting zero."""
        if not self.config.pair_map:
            return
        gradient = self.forward(batch).gradient  # not compiled: every whole chain has its own length
        share = _per_sample(gradient, batch).mean() / (3 * batch["coords"].shape[1])
        self.log("val_share", share, batch_size=1, prog_bar=True, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of residue types and contact sites on validation chains and pieces."""
        if self.network.single is not None and self.config.validate_on == "chains":
            found = judge_states(
                self.network, self.site_head, self.validation_chains, pair_map=self.config.pair_map
            )
            self.log_dict({f"val_{name}": value for name, value in found.items()}, sync_dist=True)

    def _groups(self) -> list[dict[str, Any]]:
        """Return the weights by learning rate, the largest first."""
        config, single = self.config, self.network.single
        rate = dict.fromkeys(self.parameters(), config.learning_rate)
        small = (single, self.type_head, self.site_head, self.geometry_head, self.damage_head)
        slow = () if single is None else single.without_map()
        for modules, factor in ((small, config.small_rate), (slow, config.messages_rate)):
            for weight in (w for module in modules if module is not None for w in module.parameters()):
                rate[weight] *= factor
        return [
            {"params": [weight for weight in rate if rate[weight] == value], "lr": value}
            for value in sorted(set(rate.values()), reverse=True)
        ]

    def configure_optimizers(self) -> Any:
        """Return Adam with the learning rates and the schedule of the recipe."""
        optimizer = torch.optim.Adam(self._groups(), lr=self.config.learning_rate)
        warmup = self.config.warmup_steps

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
            if self.config.schedule == "constant":
                return rise
            if self.config.schedule == "decay":
                left = (self.steps - step) / (DECAY * self.steps)
                return rise * max(LEAST_RATE, min(1.0, left))
            return rise * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches from the current step on, so that a resumed run continues exactly."""
        start, rank = self.trainer.global_step, self.trainer.global_rank
        arguments = self.training_chains, self.network.config, self.config, self.seed, start, rank
        batches = (
            StepBatches(*arguments, damaged=self.damaged) if self._has_auxiliary else CropBatches(*arguments)
        )
        return DataLoader(batches, batch_size=None, num_workers=self.workers, pin_memory=self.on_gpu)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation crops or whole chains, the same each time."""
        network = self.network.config
        if self.config.validate_on == "chains":
            return DataLoader(WholeChains(self.validation_chains, network), batch_size=None)
        crops = CropBatches(self.validation_chains, network, self.config, seed=0)
        return DataLoader([crops.batch(step) for step in range(VALIDATION_BATCHES)], batch_size=None)  # type: ignore[arg-type]

    @property
    def _has_auxiliary(self) -> bool:
        return bool(self.config.pieces or self.config.chains or self.config.damaged)

    @property
    def on_gpu(self) -> bool:
        """Whether the run is on a GPU."""
        return self.trainer.strategy.root_device.type == "cuda"


def _per_sample(gradient: Tensor | None, batch: Batch) -> Tensor:
    assert gradient is not None  # only called with a pair map
    target = denoising_score(batch["coords"], batch["noisy"], batch["sigma"])
    return score_matching_loss(gradient, target, batch["sigma"])


def type_loss(logits_BLT: Tensor, asked_BL: Tensor, true_BL: Tensor) -> Tensor:
    """Return the cross entropy of the residues to predict, in units of ln 20.

    A uniform prediction has a loss of 1; a batch without residues to predict has a loss of 0.

    Parameters
    ----------
    logits_BLT : Tensor, shape (B, L, 20)
        Unnormalised log probabilities.
    asked_BL : Tensor, bool, shape (B, L)
        Residues to predict.
    true_BL : Tensor, int64, shape (B, L)
        True types.
    """
    # Others have the ignored target: the shape does not depend on the mask.
    target = torch.where(asked_BL, true_BL, -100)
    total = F.cross_entropy(logits_BLT.flatten(0, -2), target.flatten(), reduction="sum")
    return total / asked_BL.sum().clamp(min=1) / math.log(UNKNOWN)
