"""The results of a probe: a Markdown page, and all values as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protemb_train.probe.encoders import Encoder
from protemb_train.probe.labels import TASKS
from protemb_train.probe.probe import Row
from protemb_train.probe.scores import Interval

SHOWN = {"secondary_structure": ("accuracy", "accuracy"), "residue_type": ("accuracy", "accuracy")}
NUMBER = ("r2", "R2")
"""Score shown on the page and its heading, for classes and quantities; the JSON file has all scores."""


@dataclass(frozen=True, slots=True, eq=False)
class ProbeReport:
    """Results of a probe and their data.

    Parameters
    ----------
    rows : sequence of Row
        Result of `protemb_train.probe.probe.probe`.
    encoders : sequence of Encoder
        Encoders with their records.
    about : dict
        Plain values: command, origin, corpus, chains and residues of both sets.
    """

    rows: Sequence[Row]
    encoders: Sequence[Encoder]
    about: dict[str, Any]

    def seen_elsewhere(self) -> list[str]:
        """Return encoders trained on another corpus, which may contain chains of this one."""
        names = ("corpus_sha256", "corpus_clusters_sha256")
        other = [
            e.name
            for e in self.encoders
            if e.twin and not any(e.record.get(n) and e.record[n] == self.about.get(n) for n in names)
        ]
        return list(dict.fromkeys(other))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        records = {e.name: e.record for e in self.encoders if e.record}
        return {
            **self.about,
            "encoders": records,
            "another_corpus": self.seen_elsewhere(),
            "rows": [row.as_dict() for row in self.rows],
        }

    def as_markdown(self) -> str:
        """Return the page: one score per label, and the gain over the untrained network."""
        about = self.about
        sides = [f"{about[s]['chains']} chains ({about[s]['residues']} residues)" for s in ("fit", "test")]
        blocks = [
            f"    {about['command']}",
            f"Linear probes, fitted on {sides[0]} of split val, tested on {sides[1]} of test, one chain "
            "per cluster. Residue types are hidden. Brackets are 95% intervals over test "
            "chains. Width: features of a residue. The JSON file of this name has more scores.",
            f"Corpus {about['corpus']}, SHA-256 {about['corpus_sha256']}; commit "
            f"{about['origin']['commit']}.",
        ]
        if other := self.seen_elsewhere():
            blocks.append(
                f"Pre-trained on another corpus, which may contain these chains: {', '.join(other)}."
            )
        for title, gain in (("Scores", False), ("Gain over the untrained network, paired", True)):
            if any(row.gain or not gain for row in self.rows):
                blocks.append(f"## {title}\n\n{_table(self.rows, gain=gain)}")
        return "\n\n".join(blocks) + "\n"


def _cell(interval: Interval | None, *, signed: bool) -> str:
    if interval is None:
        return ""
    sign = "+" if signed else ""
    low, high = f"{interval.low:{sign}.3f}", f"{interval.high:{sign}.3f}"
    return f"{interval.value:{sign}.3f} ({low}, {high})"


def _table(rows: Sequence[Row], *, gain: bool) -> str:
    tasks = [task for task in TASKS if any(row.task == task.name for row in rows)]
    score = {task.name: SHOWN.get(task.name, NUMBER) for task in tasks}
    titles = ["encoder", "sigma", "readout", "width", *(f"{t.title}, {score[t.name][1]}" for t in tasks)]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    found: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for row in rows:
        value = (row.gain if gain else row.scores).get(score[row.task][0])
        if value is not None:
            sigma = "" if row.sigma is None else f"{row.sigma:g}"
            key = (row.encoder, sigma, row.readout, str(row.width))
            found.setdefault(key, {})[row.task] = _cell(value, signed=gain)
    for label, cells in found.items():
        lines.append("| " + " | ".join([*label, *(cells.get(t.name, "") for t in tasks)]) + " |")
    return "\n".join(lines)
