"""Calculations of the benchmarks: number of multiplications, fitted curves, and written pages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import complexes, dimers, record, roofline
from benchmarks.experiments import archive, near_pairs

from protemb_sdk import Embedder, read_chain, read_chains
from protemb_sdk._model.models import EXAMPLE, find_model
from protemb_train.network.neighbours import EDGE
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import BASE, BASE_1

ARRAYS = (
    "ca_coords", "residue_index", "auth_seq", "label_seq", "insertion_code", "residue_name",
    "chain_of_residue",
)  # fmt: skip


@pytest.mark.parametrize("model", ["base", "base-int8"])
def test_the_roofline_counts_the_multiplications_of_the_network(model: str) -> None:
    length = 48
    kernels = roofline.profiled(find_model(model).path.read_bytes(), roofline.compact_chain(length))
    counted = sum(kernel.products for kernel in kernels if "Conv" in kernel.operator)
    # The features of the graph are padded to full blocks of channels.
    assert counted / length**2 == pytest.approx(2 * ScoreNetwork(BASE_1).multiplications, rel=0.01)
    three = sum(kernel.products for kernel in kernels if kernel.kind == roofline.CONVOLUTIONS[3])
    assert three == 2 * 8 * 9 * BASE_1.bottleneck**2 * length**2
    kinds = {roofline.STEM, *roofline.CONVOLUTIONS.values(), roofline.REST, roofline.STATES}
    assert {kernel.kind for kernel in kernels} == kinds
    edges = 2 * length * BASE.neighbours * EDGE * BASE.single_channels
    layers = [kernel for kernel in kernels if kernel.kind == roofline.STATES and kernel.products == edges]
    assert len(layers) == sum(BASE.messages)


def test_the_lower_bound_is_the_larger_of_arithmetic_and_memory_time() -> None:
    machine = roofline.Machine(1e9, 2e9, 8e9, 1e9)
    assert roofline.Kernel("", "Conv", 4_000, 1_000, 0.0).floor(machine) == pytest.approx(2e-6)
    assert roofline.Kernel("", "Conv", 1_000, 1_000, 0.0).floor(machine) == pytest.approx(1e-6)
    assert roofline.Kernel("", "QLinearConv", 16_000, 1_000, 0.0).floor(machine) == pytest.approx(2e-6)


def test_the_cost_of_an_archive_follows_the_fitted_curve() -> None:
    seconds = {n: 2e-3 + 1e-6 * n**2 for n in (64, 128, 256, 512)}
    assert archive.fitted(seconds, 300.0**2) == pytest.approx(2e-3 + 0.09)
    assert archive.human(9.04e12, ["B", "kB", "MB", "GB", "TB", "PB"]) == "9.04 TB"


def test_the_archive_is_estimated_from_the_recorded_pages(tmp_path: Path) -> None:
    found = archive.measured()
    assert {64, 128, 256, 512} <= set(found["base", archive.CORE])
    assert any(archive.GPU in device for _, device in found)
    assert all(math.isfinite(s) and s > 0 for law in found.values() for s in law.values())
    archive.main(tmp_path / "archive.md")
    assert "An estimate" in (tmp_path / "archive.md").read_text()


def test_shares_of_a_straight_chain_follow_from_its_geometry() -> None:
    length, radius = 640, 30
    line = np.zeros((length, 3))
    line[:, 0] = np.arange(length) * 4.0
    near, tiles_32, tiles_64, needed = near_pairs.shares(line, radius)
    apart = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    assert near == pytest.approx((apart <= 6).mean())  # 24 angstrom
    # Both residues of the pair may be moved.
    assert needed == pytest.approx((apart <= 6 + 2 * radius).mean(), rel=0.02)
    assert tiles_32 == pytest.approx((20 + 2 * 19) / 20**2) and tiles_64 == pytest.approx(
        (10 + 2 * 9) / 10**2
    )


def test_rows_of_a_table_have_ratios_to_the_fastest(tmp_path: Path) -> None:
    source, target = tmp_path / "run.json", tmp_path / "page.md"
    source.write_text(
        '{"machine_info": {"cpu": {"brand_raw": "x", "count": 2}, "python_version": "3"}, "benchmarks": ['
        '{"group": "64 residues", "name": "protemb b", "stats": {"median": 0.002}, "extra_info": {"n": 1}},'
        '{"group": "64 residues", "name": "a", "stats": {"median": 0.001}, "extra_info": {}}]}'
    )
    record.main(source, target)
    assert "| benchmark | median | ratio | n |" in target.read_text()
    assert "| protemb b | 2 ms | 2.00 | 1 |" in target.read_text()
    assert next(archive.medians(target)) == ("64 residues", "a", 0.001)
    record.draw(source, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 5_000


def test_groups_of_the_same_benchmarks_share_a_table(tmp_path: Path) -> None:
    times = {"1 x 64": (0.002, 0.001), "1 x 128": (0.004, 0.003), "8 x 64": (0.016, 2.5)}
    rows = [
        {"group": f"{size} residues, to vectors", "name": name, "stats": {"median": t}, "extra_info": {}}
        for size, of in times.items()
        for name, t in zip(("a", "b"), of, strict=True)
    ]
    about = {"cpu": {"brand_raw": "x", "count": 2}, "python_version": "3"}
    (tmp_path / "run.json").write_text(json.dumps({"machine_info": about, "benchmarks": rows}))
    record.main(tmp_path / "run.json", tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text().split("\n\n")
    assert page[2] == "## Median time to vectors" and len(page) == 4
    assert page[3].splitlines() == [
        "| benchmark | 1 x 64 residues | 1 x 128 residues | 8 x 64 residues |",
        "|---|---|---|---|",
        "| b | 1 ms | 3 ms | 2.5 s |",
        "| a | 2 ms | 4 ms | 16 ms |",
    ]


def test_copies_of_a_protein_are_told_from_different_proteins() -> None:
    one, other = read_chains(EXAMPLE, assembly="1").chains
    short = replace(other, **{name: getattr(other, name)[3:] for name in ARRAYS}, sequence=other.sequence[3:])
    rows = dimers.same_residues((one, short))
    assert rows is not None and (rows[0] == rows[1] + 3).all() and len(rows[0]) == 67
    assert dimers.same_residues((one, read_chain((one.ca_coords, one.sequence[::-1])))) is None


def test_the_page_on_complexes_has_the_difference_of_equal_copies() -> None:
    text, *_, row = complexes.copy_lines(Embedder(device="cpu"), [])
    page = (Path(complexes.__file__).parent / "complexes.md").read_text().splitlines()
    assert text in page and row in page


def test_contacts_of_complexes_are_easy_for_a_linear_probe() -> None:
    one, other = read_chains(EXAMPLE, assembly="1").chains
    found = [dimers.embedded(Embedder(device="cpu"), name, (one, other)) for name in "xy"]
    together, share = complexes.probed(found, complexes.between_rows, most=complexes.NEGATIVES)
    assert share == found[0].contacts.mean() and together > 0.5 > share
    moved, _ = complexes.probed(found, lambda dimer: complexes.interface_rows(dimer, True))
    assert moved > 0.9
