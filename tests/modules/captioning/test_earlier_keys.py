"""State dicts of version 0.1, which had `places`, `look` and numbered norms, load into the models of today."""

import pickle
import re
from copy import deepcopy
from typing import Any

import pytest
import torch

from modules import CaptionLSTM, CaptionRNN, CaptionTransformer
from modules.captioning.captioner import Captioner
from tests.modules.captioning.captioning import WORDS, random_captions


def of_version_0_1(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The state dict under the keys of version 0.1."""
    renamed = {}
    for key, value in state_dict.items():
        key = re.sub(r"^encoder\.positions$", "encoder.places", key)
        key = key.replace("self_attention_norm", "norms.0").replace("cross_attention_norm", "norms.1")
        last = 1 if key.startswith("encoder_layers") else 2  # layers over the grid have no cross-attention
        key = key.replace("feed_forward_norm", f"norms.{last}")
        renamed[re.sub(r"^encoder_layers\.", "look.", key)] = value
    return renamed


@pytest.mark.parametrize(
    "model",
    [
        CaptionRNN((4, 3), WORDS, 8),
        CaptionLSTM((4, 3), WORDS, 8),
        CaptionTransformer((4, 3), WORDS, 8, 2, 2, encoder_layers=2),
        CaptionTransformer((4, 3), WORDS, 8, 1, 2, encoder_layers=1, norm="post"),
    ],
    ids=["rnn", "lstm", "pre-norm", "post-norm"],
)
def test_earlier_keys_are_read(model: Captioner) -> None:
    inputs, words = torch.randn(2, 4, 3), random_captions(2, 5)
    earlier = of_version_0_1(model.state_dict())
    assert earlier.keys() != model.state_dict().keys()
    others = [deepcopy(model), pickle.loads(pickle.dumps(model))]  # as weight averages and spawned processes copy it
    for other in others:
        for parameter in other.parameters():
            torch.nn.init.normal_(parameter)
        assert not torch.equal(other(inputs, words), model(inputs, words))
        assert str(other.load_state_dict(earlier)) == "<All keys matched successfully>"
        assert torch.equal(other(inputs, words), model(inputs, words))
    assert earlier.keys() == of_version_0_1(model.state_dict()).keys()  # the caller's dict is left as it is


def test_the_order_of_the_parameters_is_that_of_earlier_optimizers() -> None:
    """Optimizer states are saved by the parameters' order: attention, feed-forward network, then the norms."""
    layer = CaptionTransformer((4, 3), WORDS, 8, 1, 2).layers[0]
    names = dict.fromkeys(name.split(".")[0] for name, _ in layer.named_parameters())
    norms = ["self_attention_norm", "cross_attention_norm", "feed_forward_norm"]
    assert list(names) == ["self_attention", "cross_attention", "feed_forward", *norms]


def test_unknown_keys_are_still_refused() -> None:
    model = CaptionRNN((4, 3), WORDS, 8)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*look"):
        model.load_state_dict({**model.state_dict(), "look.0.weight": torch.zeros(1)})
