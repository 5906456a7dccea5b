"""timm's Muon: matrices move along the nearest matrix with all singular values 1, all else is moved by AdamW.

The Newton–Schulz iteration that finds it is in bfloat16 with timm, whatever the network is in. On a core with AVX2
alone a step for ResNet-18 takes 29 s so, and 1 s in float32; where bfloat16 is only imitated, it is float32 here.

Source: K. Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024,
https://kellerjordan.github.io/posts/muon/
"""

import timm.optim

from common.dtype_support import FastStep


class Muon(FastStep, timm.optim.Muon):
    """timm's Muon with its settings."""
