"""3Di states (van Kempen et al. 2024, doi:10.1038/s41587-023-01773-0) of C-alpha traces, by mini3di.

3Di needs backbone atoms, which a C-alpha trace lacks. They are reconstructed with the statistics of PULCHRA
(Rotkiewicz and Skolnick 2008, doi:10.1002/jcc.20906). About 90% of the letters equal those of the true
backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import ALPHABET, ProtembError

STATES = 20
CARBON, NITROGEN = 4, 6
"""Indices of the atoms C and N among the eight of a template; its first four are C-alphas."""


class ThreeDiEncoder:
    """`states`: the 3Di letter of each residue as one-hot vectors, 20 channels; independent of residue types.

    Raises
    ------
    ProtembError
        If `mini3di` or `pulchra` is not installed.
    """

    name = "3di"
    vectors: tuple[str, ...] = ("states",)
    usual: tuple[str, ...] = ("states",)
    structural: tuple[str, ...] = ("states",)

    def __init__(self) -> None:
        try:
            import mini3di
            from pulchra.data.loader import load_nco_stats
            from pulchra.reconstruction.backbone import prepare_rbins
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("mini3di", "pulchra"):
                raise
            raise ProtembError(
                f"3Di states require {error.name}: pip install 'protemb-sdk[cpu,train,rivals]'"
            ) from None
        self._encoder: Any = mini3di.Encoder()
        self._bins: Any = prepare_rbins
        templates = np.asarray(load_nco_stats()[0], dtype=np.float64)
        self._templates = templates[: np.append(np.flatnonzero(templates[:, 0] < 0), len(templates))[0]]

    @property
    def about(self) -> dict[str, object]:
        return {"encoder": self.name, "mini3di": version("mini3di"), "pulchra": version("pulchra")}

    def encode(
        self,
        ca_coords: NDArray[np.floating],
        residue_type: NDArray[np.int64],
        residue_index: NDArray[np.int64],
        wanted: Sequence[str],
    ) -> dict[str, NDArray[np.float32]]:
        """Return residue vectors by name; see `VectorEncoder`."""
        letters = np.array([ALPHABET.index(letter) for letter in self.letters(ca_coords)])
        return {"states": (letters[:, None] == np.arange(STATES)).astype(np.float32)}

    def log_profile(self, ca_coords: NDArray[np.floating], residue_index: NDArray[np.int64]) -> None:
        """Return None: 3Di predicts no residue types."""

    def letters(self, ca_coords: NDArray[np.floating]) -> str:
        """Return the 3Di sequence of a chain, L letters of the 20 residues; D where the state is undefined.

        Parameters
        ----------
        ca_coords : ndarray, shape (L, 3)
            C-alpha coordinates in angstrom.
        """
        coords = np.asarray(ca_coords, dtype=np.float64)
        nitrogen, carbon = self.backbone(coords)
        beta = np.full_like(coords, np.nan)  # mini3di reconstructs it from N, CA and C
        return str(self._encoder.build_sequence(self._encoder.encode_atoms(coords, beta, nitrogen, carbon)))

    def backbone(self, ca_coords: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the atoms N and C of each residue, (L, 3) each, as placed by `pulchra.Pulchra`.

        PULCHRA searches the templates one by one, which takes seconds per chain; this is the same search with
        arrays. Every residue is treated as alanine: prolines have separate templates, and the states must not
        depend on residue types.
        """
        length = len(ca_coords)
        # Two residues before and after, in a straight line.
        before, behind = ca_coords[0] - ca_coords[1], ca_coords[-1] - ca_coords[-2]
        longer = np.concatenate(
            [
                [ca_coords[0] + 2 * before, ca_coords[0] + before],
                ca_coords,
                [ca_coords[-1] + behind, ca_coords[-1] + 2 * behind],
            ]
        )
        bins = np.asarray(self._bins(ca_coords), dtype=np.float64)
        gap = np.abs(bins[:, None] - self._templates[None, :, :3]) @ np.array([1.0, 1.0, 0.2])
        template = self._templates[gap.argmin(axis=1), 3:].reshape(length + 1, 8, 3)
        target = np.stack([longer[k : k + length + 1] for k in range(4)], axis=1)
        laid = superposed(template, target)
        return laid[:-1, NITROGEN], laid[1:, CARBON]


def superposed(mobile: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sets of points, each superposed on its target by its first points.

    Parameters
    ----------
    mobile : ndarray, shape (N, M, 3)
        N sets of M points.
    target : ndarray, shape (N, K, 3)
        Targets of the first K points of each set.
    """
    count = target.shape[1]
    centre, goal = mobile[:, :count].mean(axis=1, keepdims=True), target.mean(axis=1, keepdims=True)
    u, _, v = np.linalg.svd((mobile[:, :count] - centre).swapaxes(1, 2) @ (target - goal))
    mirrored = np.linalg.det(u @ v) < 0
    u[mirrored, :, -1] *= -1
    return np.asarray((mobile - centre) @ (u @ v) + goal)
