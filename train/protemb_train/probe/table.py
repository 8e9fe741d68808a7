"""A probe as people and programs read it: tables in Markdown, and everything in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protemb_train.probe.encoders import Encoder
from protemb_train.probe.labels import TASKS
from protemb_train.probe.probe import Row
from protemb_train.probe.scores import Interval

SHOWN = {
    "secondary_structure": {"accuracy": "accuracy", "macro_f1": "macro-F1"},
    "residue_type": {"accuracy": "accuracy", "log_likelihood": "log-likelihood", "perplexity": "perplexity"},
}
SHOWN_NUMBER = {"r2": "R2", "spearman": "Spearman"}


@dataclass(frozen=True, slots=True, eq=False)
class ProbeReport:
    """What a probe found, and on what.

    Parameters
    ----------
    rows : sequence of Row
        From `protemb_train.probe.probe.probe`.
    encoders : sequence of Encoder
        The networks among them say what file they came from.
    about : dict
        Plain values: command, origin, corpus, chains and residues of both sides.
    """

    rows: Sequence[Row]
    encoders: Sequence[Encoder]
    about: dict[str, Any]

    def seen_elsewhere(self) -> list[str]:
        """Return encoders of another corpus and other clusters: chains of this one may have trained them."""
        names = ("corpus_sha256", "corpus_clusters_sha256")
        other = [
            e.name
            for e in self.encoders
            if e.twin and not any(e.record.get(n) and e.record[n] == self.about.get(n) for n in names)
        ]
        return list(dict.fromkeys(other))

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        records = {e.name: e.record for e in self.encoders if e.record}
        return {
            **self.about,
            "encoders": records,
            "another_corpus": self.seen_elsewhere(),
            "rows": [row.as_dict() for row in self.rows],
        }

    def as_markdown(self) -> str:
        """Return one table a label."""
        about = self.about
        sides = [f"{about[s]['chains']} chains ({about[s]['residues']} residues)" for s in ("fit", "test")]
        head = (
            f"    {about['command']}\n\n"
            f"Fitted on {sides[0]} of split val, judged on {sides[1]} of split test, one chain a cluster; "
            f"residue types are hidden from every row. In brackets 95% intervals over test chains; gain is "
            f"over the untrained twin, paired. Width is what the probe sees of a residue.\n\n"
            f"Corpus {about['corpus']}, SHA-256 {about['corpus_sha256']}; commit {about['origin']['commit']}."
        )
        blocks = [head]
        if other := self.seen_elsewhere():
            blocks.append(
                f"Pre-trained on another corpus, and may have seen these chains: {', '.join(other)}."
            )
        for task in TASKS:
            rows = [row for row in self.rows if row.task == task.name]
            if rows:
                blocks.append(f"## {task.title}\n\n{_table(rows, SHOWN.get(task.name, SHOWN_NUMBER))}")
        return "\n\n".join(blocks) + "\n"


def _cell(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return ""
    sign = "+" if signed else ""
    low, high = f"{interval.low:{sign}.3f}", f"{interval.high:{sign}.3f}"
    return f"{interval.value:{sign}.3f} ({low}, {high})"


def _table(rows: Sequence[Row], shown: dict[str, str]) -> str:
    titles = ["row", "sigma", "readout", "width", *shown.values(), *(f"gain, {t}" for t in shown.values())]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        sigma = "" if row.sigma is None else f"{row.sigma:g}"
        cells = [row.encoder, sigma, row.readout, str(row.width)]
        cells += [_cell(row.scores[name]) for name in shown]
        cells += [_cell(row.gain.get(name), signed=True) for name in shown]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
