"""Precision-recall and ROC curves of each class against all others, of the last validation and of the test.

For a class, its probability p is compared with a threshold t:

    TP, FP      images with p ≥ t that are of the class, and that are not
    precision   TP / (TP + FP)
    recall      TP / images of the class                        (in ROC: true positive rate)
    fpr         FP / images of all other classes                (false positive rate)
    AP          Σ (recall − previous recall) · precision        (average precision)
    AUC         area under the ROC curve, by trapezoids

No scores are kept: a batch is counted into bins of the log-odds ln p / (1 − p), at whose edges the thresholds are. The
counts add up over batches and processes, and bins near p = 0 and p = 1 are as fine as those between.

Source: J. Davis, M. Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006.

Shapes: B images in a batch, K classes, T bins.
"""

from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.logit_reader import BufferedLogitReader
from callbacks.media import Chart, log_chart
from callbacks.pictures import DPI, Text, figure_to_array, show, write_texts
from callbacks.pixel_pictures import class_names

_BINS, _LARGEST = 10_000, 16.0  # of the log-odds, which float32 probabilities resolve up to ±16
_MOST_CLASSES = 20  # with more, one curve of all classes together is drawn
_POINTS = 100  # of a curve in a picture or chart


class Curves(NamedTuple):
    """The curves of a class, from the highest threshold to the lowest."""

    precision: np.ndarray
    recall: np.ndarray
    fpr: np.ndarray

    @property
    def average_precision(self) -> float:
        """AP, in [0, 1]."""
        return float((np.diff(self.recall, prepend=0.0) * self.precision).sum())

    @property
    def area(self) -> float:
        """AUC, in [0, 1]."""
        return float(np.trapezoid(np.append(0.0, self.recall), np.append(0.0, self.fpr)))

    def thinned(self) -> "Curves":
        """Returns at most 100 points, the first and the last among them."""
        along = self.recall + self.fpr  # evenly spaced along the ROC curve, not by thresholds
        chosen = np.unique(np.searchsorted(along, np.linspace(along[0], along[-1], _POINTS)))
        return Curves(*(values[chosen] for values in self))


class PrecisionRecallCurve(BufferedLogitReader):
    """Draws precision-recall and ROC curves at the end of `fit` (validation images) and of `test`.

    W&B gets them as charts too. With more than 20 classes, the curves are those of all classes together: every image
    counts once for each class.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Tensor | None = None  # (K or 1, 2, T) int64: of each class its images and all others by bin

    def reset(self) -> None:
        super().reset()
        self.counts = None

    def count(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Adds images to the counts."""
        if self.counts is None:
            number = logits.shape[1] if logits.shape[1] <= _MOST_CLASSES else 1
            self.counts = torch.zeros(number, 2, _BINS, dtype=torch.int64, device=logits.device)
        count_by_bin(logits, labels, self.counts)

    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        self.flush()
        if self.counts is None:  # nothing was evaluated
            return
        counts = trainer.strategy.reduce(self.counts, reduce_op="sum").cpu().numpy()
        names = ["all classes"] if len(counts) == 1 else class_names(trainer, len(counts))
        curves = {name: curves_of(of_class) for name, of_class in zip(names, counts, strict=True) if of_class[0].any()}
        show(trainer, f"curves/{split}", draw_curves(curves, split), caption=split)
        log_chart(trainer, f"charts/precision_recall/{split}", precision_recall_chart(curves, split))
        log_chart(trainer, f"charts/roc/{split}", roc_chart(curves, split))


def count_by_bin(logits: Tensor, labels: Tensor, counts: Tensor) -> None:
    """Counts images by class, by whether they are of it, and by bin of log-odds.

    Args:
        logits: Logits (B, K).
        labels: True classes (B,).
        counts: Counts (K, 2, T) int64, to which the batch is added: at 0 the images of the class, at 1 all others. If
            it is (1, 2, T), those of all classes together.
    """
    log_p = logits.float().log_softmax(1)
    odds = (log_p - torch.log1p(-log_p.exp())).nan_to_num(-_LARGEST).clamp(-_LARGEST, _LARGEST)  # (B, K)
    bins = ((odds + _LARGEST) * (_BINS / (2 * _LARGEST))).long().clamp(max=_BINS - 1)
    classes = torch.arange(logits.shape[1], device=labels.device)
    others = (labels[:, None] != classes).long()  # (B, K)
    cells = ((2 * classes if len(counts) > 1 else 0) + others) * _BINS + bins
    counts.view(-1).index_add_(0, cells.flatten(), torch.ones_like(cells.flatten()))


def curves_of(counts: np.ndarray) -> Curves:
    """Returns the curves of a class with images, of counts (2, T): a point for each bin that has images."""
    used = counts.any(0)
    true, false = counts[:, used][:, ::-1].cumsum(1)  # TP and FP from the highest threshold down
    return Curves(true / (true + false), true / true[-1], false / max(false[-1], 1))


def precision_recall_chart(curves: dict[str, Curves], split: str) -> Chart:
    """Returns W&B's chart of precision against recall."""
    rows = [
        (name, round(float(recall), 4), round(float(precision), 4))
        for name, curve in curves.items()
        for precision, recall, _ in zip(*curve.thinned(), strict=True)
    ]
    return _chart(rows, ("recall", "precision"), ("Recall", "Precision"), f"{split}: precision against recall")


def roc_chart(curves: dict[str, Curves], split: str) -> Chart:
    """Returns W&B's chart of the true against the false positive rate."""
    rows = [
        (name, round(float(fpr), 4), round(float(tpr), 4))
        for name, curve in curves.items()
        for fpr, tpr in [(0, 0), *((fpr, tpr) for _, tpr, fpr in zip(*curve.thinned(), strict=True))]
    ]
    axes = ("False positive rate", "True positive rate")
    return _chart(rows, ("fpr", "tpr"), axes, f"{split}: ROC")


def _chart(rows: list[tuple[str, float, float]], columns: tuple[str, str], axes: tuple[str, str], title: str) -> Chart:
    fields = {"x": columns[0], "y": columns[1], "class": "class"}
    texts = {"title": title, "x-axis-title": axes[0], "y-axis-title": axes[1]}
    return Chart("wandb/area-under-curve/v0", ("class", *columns), rows, fields, texts)


def draw_curves(curves: dict[str, Curves], split: str) -> np.ndarray:
    """Draws both kinds of curves side by side, with AP and AUC of each class; (height, width, 3) uint8."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure

    width, height, top = 11.0, 4.6, 0.9  # inches, and the upper end of the axes as a fraction
    figure = Figure(figsize=(width, height), dpi=DPI)
    # A layout that measures all texts takes as long as drawing them, and so does a legend.
    left, right = (figure.add_axes((x, 0.12, 0.3, top - 0.12)) for x in (0.06, 0.555))
    palette = colormaps["tab10" if len(curves) <= 10 else "tab20"]
    texts = [
        Text(f"{kind} by class", (x * width * DPI, (1 - top) * height * DPI))
        for kind, x in (("AP", 0.43), ("AUC", 0.925))
    ]
    for number, (name, curve) in enumerate(curves.items()):
        color, (precision, recall, fpr) = to_hex(palette(number % palette.N)), curve.thinned()
        left.plot(recall, precision, color=color, linewidth=1.2)
        right.plot([0, *fpr], [0, *recall], color=color, linewidth=1.2)
        y = ((1 - top) * height + 0.21 + 0.18 * number) * DPI
        for value, x in ((curve.average_precision, 0.43), (curve.area, 0.925)):
            texts.append(Text(f"{name}  {value:.3f}", (x * width * DPI, y), color))
    right.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle=":")
    labels = (("recall", "precision"), ("false positive rate", "true positive rate"))
    for axis, (xlabel, ylabel) in zip((left, right), labels, strict=True):
        ticks = (0, 0.25, 0.5, 0.75, 1)
        axis.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=ticks, yticks=ticks)
        axis.grid(alpha=0.3)
    left.set_title(f"{split}: precision against recall", fontsize=10)
    right.set_title(f"{split}: ROC", fontsize=10)
    return write_texts(figure_to_array(figure), texts)
