"""Values of residues as viewers read them from mmCIF: the categories `_ma_qa_metric` of ModelCIF."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protemb_sdk._structure.predicted import OWN_METRICS

if TYPE_CHECKING:
    import gemmi

    Value = tuple["Metric", int, gemmi.Residue, float]  # with the number of the model; in [0, 1]


@dataclass(frozen=True, slots=True)
class Metric:
    """What the values of residues are.

    Parameters
    ----------
    name : str
        Begins with `OWN_METRICS`. Mol* colours by a metric with pLDDT in its name.
    kind : str
        Type by the dictionary: "pLDDT", or "other" for what it does not list.
    description : str
        One line of text.
    scale : float
        Factor of values in [0, 1]: 100 for pLDDT.
    """

    name: str
    kind: str
    description: str
    scale: float = 1.0


SITES = Metric(
    f"{OWN_METRICS}site probability", "other", "Probability of an interface with another protein, 0 to 1"
)
LDDT = Metric(f"{OWN_METRICS}pLDDT", "pLDDT", "Expected lDDT of C-alphas, 0 to 100", scale=100)


def add_metrics(block: gemmi.cif.Block, values: Iterable[Value]) -> None:
    """Add the tables of metrics by residue to a block of mmCIF.

    Parameters
    ----------
    block : gemmi.cif.Block
        Made of a structure, without metrics.
    values : iterable of Value
        Residues without a label number, which are no
        polymers, are left out, as the dictionary requires one.
    """
    import gemmi

    quote = gemmi.cif.quote
    numbers: dict[Metric, str] = {}
    rows: list[list[str]] = []
    for metric, model, residue, value in values:
        if residue.label_seq is None:
            continue
        number = numbers.setdefault(metric, str(len(numbers) + 1))
        where = (quote(residue.subchain), quote(residue.name), str(residue.label_seq))
        rows.append([*where, number, f"{metric.scale * value:.4g}", str(model), str(len(rows) + 1)])
    if not rows:
        return
    metrics = block.init_loop(
        "_ma_qa_metric.", ["id", "mode", "name", "type", "type_other_details", "description"]
    )
    for metric, number in numbers.items():
        details = quote(metric.description) if metric.kind == "other" else "."
        about = [quote(metric.name), quote(metric.kind), details, quote(metric.description)]
        metrics.add_row([number, "local", *about])
    names = ["label_asym_id", "label_comp_id", "label_seq_id", "metric_id", "metric_value", "model_id"]
    table = block.init_loop("_ma_qa_metric_local.", [*names, "ordinal_id"])
    for row in rows:
        table.add_row(row)
