"""Comparison of evaluations: loss per noise level of several networks, as a table and as a plot."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from protemb_sdk import ProtembError
from protemb_sdk._base.output import written_whole

EVALUATED_ON = {"split": "split", "corpus_sha256": "corpus"}
"""Properties that evaluations must share to be compared, and their names in messages."""


def read_judgement(path: Path) -> dict[str, Any]:
    """Return the `judgement` of a file of `protemb-train judge`, with `split` and `corpus_sha256`.

    Older files lack the latter two, which are then omitted.

    Raises
    ------
    ProtembError
        If the file is missing or has another format.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        judgement = loaded["judgement"]
        levels = [{name: float(level[name]) for name in ("sigma", "share")} for level in judgement["levels"]]
        mean, floor = float(judgement["mean_share"]), float(judgement["floor"])
        evaluated_on = {name: str(loaded[name]) for name in EVALUATED_ON if name in loaded}
        chains = int(judgement["chains"])
        return {"mean_share": mean, "floor": floor, "chains": chains, "levels": levels, **evaluated_on}
    except (OSError, ValueError, KeyError, TypeError) as error:  # invalid JSON is a ValueError
        raise ProtembError(f"is not an evaluation of protemb-train judge ({error!r})", path) from error


def read_curve(folder: Path, points: int = 40) -> list[dict[str, float]]:
    """Return the training curve of a run: mean training share and validation share over its steps.

    Parameters
    ----------
    folder : Path
        Folder of a run with `metrics.csv`, and those of its earlier parts; without them the curve is empty.
    points : int, default 40
        Number of intervals to average over.

    Returns
    -------
    list of dict
        `step`, `share` (of the zero predictor's loss on training crops) and, for intervals with a
        validation, `val_share`.
    """
    rows: dict[int, dict[str, float]] = {}
    # In the order of the run, so that the last result of a repeated step is used.
    earlier = sorted(folder.glob("metrics-before-step-*.csv"), key=lambda p: int(p.stem.rpartition("-")[2]))
    for table in [*earlier, folder / "metrics.csv"]:
        if not table.exists():
            continue
        with table.open(newline="") as file:
            for row in csv.DictReader(file):
                seen = {name: float(row[name]) for name in ("share", "val_share") if row.get(name)}
                rows.setdefault(int(row["step"]) + 1, {}).update(seen)
    if not rows:
        return []
    width = max(rows) / points
    stretches: dict[int, list[tuple[int, dict[str, float]]]] = {}
    for step, values in sorted(rows.items()):
        stretches.setdefault(min(points - 1, int((step - 1) // width)), []).append((step, values))
    curve = []
    for members in stretches.values():
        point: dict[str, float] = {"step": members[-1][0]}
        for name in ("share", "val_share"):
            found = [values[name] for _, values in members if name in values]
            if found:
                point[name] = round(sum(found) / len(found), 4)
        curve.append(point)
    return curve


def as_table(judgements: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table with one row per noise level and one column per network.

    Parameters
    ----------
    judgements : dict
        Results of `read_judgement` by name of the network.

    Raises
    ------
    ProtembError
        If they have different noise levels, numbers of chains, splits or corpora.
    """
    names = list(judgements)
    first = judgements[names[0]]
    sigmas = [level["sigma"] for level in first["levels"]]
    for name, other in judgements.items():
        if [level["sigma"] for level in other["levels"]] != sigmas or other["chains"] != first["chains"]:
            raise ProtembError(
                f"{name} and {names[0]} were evaluated on different levels or chains; use the same"
            )
    for key, what in EVALUATED_ON.items():
        known = {name: judgement[key] for name, judgement in judgements.items() if key in judgement}
        one = next(iter(known), "")
        for name, value in known.items():
            if value != known[one]:
                raise ProtembError(f"{name} and {one} were evaluated on different {what}; use the same")
    rows = [f"| noise level, angstrom | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for k, sigma in enumerate(sigmas):
        shares = (f"{judgements[name]['levels'][k]['share']:.3f}" for name in names)
        rows.append(f"| {sigma:.3g} | {' | '.join(shares)} |")
    means = (f"**{judgements[name]['mean_share']:.3f}**" for name in names)
    rows.append(f"| **mean** | {' | '.join(means)} |")
    head = f"Share of the zero predictor's loss on {first['chains']} whole held-out chains; "
    return f"{head}floor {first['floor']:.3f}.\n\n" + "\n".join(rows) + "\n"


def draw(judgements: dict[str, dict[str, Any]], out: Path) -> None:
    """Write a PNG of the loss per noise level, one line per network, with the zero predictor and the floor.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)  # needs no window system
    axes = figure.add_subplot()
    for name, judgement in judgements.items():
        sigma = [level["sigma"] for level in judgement["levels"]]
        share = [level["share"] for level in judgement["levels"]]
        axes.plot(
            sigma, share, marker="o", markersize=3, label=f"{name} (mean {judgement['mean_share']:.3f})"
        )
    axes.axhline(1.0, color="grey", linestyle="--", linewidth=1, label="predicting zero")
    floor = next(iter(judgements.values()))["floor"]
    axes.axhline(floor, color="grey", linestyle=":", linewidth=1, label="floor (6 of 3L degrees of freedom)")
    axes.set(xscale="log", xlabel="noise level, Å", ylabel="share of the zero predictor's loss")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 0.95))  # below the line at 1
    with written_whole(out) as part:
        figure.savefig(part)
