"""Label smoothing: cross-entropy against targets that leave a little probability to every class.

    q_k = (1 − ε) [k = y] + ε / K              target of class k for an image of class y
    L   = mean over images of − Σ_k q_k log softmax(s)_k

ε = 0 is the plain cross-entropy. With ε > 0 the loss has its minimum at finite logits, so a network does not grow its
weights to be ever more certain of the training labels. The formula is that of torch's `F.cross_entropy`.

Source: C. Szegedy et al., arXiv 1512.00567, section 7.

Shapes: K classes.
"""

from common.ranges import check_range


def check_label_smoothing(label_smoothing: float) -> None:
    """Checks the smoothing ε.

    Raises:
        ValueError: If it is not in [0, 1).
    """
    check_range("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "in [0, 1)")
