"""Range checks of the settings of `FastConvNet`."""

from collections.abc import Sequence
from typing import Literal, get_args

from common.errors import UserError
from common.ranges import check_range
from modules.base.label_smoothing import check_label_smoothing
from modules.fast_convnet.test_time_augmentation import TestTimeAugmentation

FilterOptimizer = Literal["muon", "sgd"]


def check_network(input_shape: Sequence[int], widths: Sequence[int], convs_per_group: int) -> None:
    """Refuses settings that no network can be built from.

    Raises:
        ValueError: If the inputs are not images (C, H, W) or too small for the groups, or a number is below 1.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"A convolutional network takes images (C, H, W), but the data has shape {tuple(input_shape)}; choose a "
            "preprocessing that keeps them images, such as standardize."
        )
    side, groups = min(input_shape[1:]) - 1, len(widths)  # the first layer reduces height and width by one pixel
    if side < 2**groups:
        raise UserError(
            f"{groups} groups halve maps of {side} pixels {groups} times, one fewer than the image has; set at most "
            f"{max(0, side.bit_length() - 1)} widths, or use larger images."
        )
    accepted = "a list of at least one number of channels, each at least 1"
    check_range("widths", list(widths), bool(widths) and min(widths) >= 1, accepted)
    check_range("convs_per_group", convs_per_group, convs_per_group >= 1, "at least 1")


def check_recipe(
    optimizer: FilterOptimizer,
    bias_lr_scale: float,
    whitening_bias_epochs: int,
    lookahead: int,
    label_smoothing: float,
    test_time_augmentation: TestTimeAugmentation,
) -> None:
    """Refuses settings of the recipe that the optimizer, the schedule and the whitening do not check themselves.

    Raises:
        ValueError: If a value is out of its range.
    """
    check_range("bias_lr_scale", bias_lr_scale, bias_lr_scale > 0, "> 0, such as 64")
    check_range("whitening_bias_epochs", whitening_bias_epochs, whitening_bias_epochs >= 0, "at least 0")
    check_range("lookahead", lookahead, lookahead >= 0, "at least 0")
    check_label_smoothing(label_smoothing)
    for name, choice, accepted in (
        ("optimizer", optimizer, get_args(FilterOptimizer)),
        ("test_time_augmentation", test_time_augmentation, get_args(TestTimeAugmentation)),
    ):
        check_range(name, repr(choice), choice in accepted, f"one of {', '.join(accepted)}")
