"""docs/common_slips.md: its links exist, the right forms hold and the slips do not, in numbers."""

import re
from math import log
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import SimCLR
from modules.contrastive.nt_xent import NTXent
from modules.gan.gan_losses import adversarial_loss
from modules.linear.loss_gradients import cross_entropy_backward, hinge_loss, hinge_loss_backward

PAGE = Path(__file__).resolve().parents[1] / "docs" / "common_slips.md"
LABELS = torch.tensor([0, 2, 1, 1])


def test_links_lead_to_files_and_readme_to_the_page() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(links) >= 7 and all((PAGE.parent / link).is_file() for link in links)
    assert "(docs/common_slips.md)" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")


def test_softmax() -> None:
    scores = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(scores, LABELS), scores)
    p, one_hot = scores.detach().softmax(1), F.one_hot(LABELS, 3)
    torch.testing.assert_close(gradient, (p - one_hot) / 4)
    torch.testing.assert_close(cross_entropy_backward(scores.detach(), LABELS), gradient)
    slip = (one_hot - p) / 4
    assert float((slip - gradient).norm() / gradient.norm()) == pytest.approx(2)


def test_hinge() -> None:
    scores, label = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0])
    assert hinge_loss(scores, label).item() == 0 and not hinge_loss_backward(scores, label).any()
    assert (scores[0, 1:] + 1 > 0).all()  # the indicator without s_y
    shifted = torch.tensor([[0.5, 1.0, 0.2]])
    torch.testing.assert_close(hinge_loss_backward(shifted + 50, label), hinge_loss_backward(shifted, label))


def test_least_squares_discriminator_minimizes() -> None:
    loss = adversarial_loss("least_squares")
    ideal, worse = (torch.ones(3), torch.zeros(3)), (torch.full((3,), 9.0), torch.full((3,), -9.0))
    assert loss.discriminator(*ideal).item() == 0 < loss.discriminator(*worse).item()


def view_losses(z: Tensor, temperature: float) -> Tensor:
    """ℓ of each of the 2N views (2N, D), whose other view is N further, by equation (1) of arXiv 2002.05709."""
    s = F.cosine_similarity(z[:, None], z[None], dim=2) / temperature
    number, losses = len(z), []
    for i in range(number):
        others = [k for k in range(number) if k != i]
        losses.append(-s[i, (i + number // 2) % number] + s[i, others].logsumexp(0))
    return torch.stack(losses)


def test_simclr_is_the_mean_over_all_views() -> None:
    first, second = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    losses = view_losses(torch.cat([first, second]), 0.5)
    loss = NTXent(0.5)(first, second)
    torch.testing.assert_close(loss, losses.sum() / 10)
    assert float(losses[:5].sum() / 10) < 0.7 * float(loss)  # 1/(2N) over N terms
    assert float((losses[:5] - losses[5:]).abs().max()) > 0.01  # ℓ(i, j) is not ℓ(j, i)
    page = PAGE.read_text(encoding="utf-8")
    assert f"{log(2 * 512 - 1):.2f}, not {log(2 * 512 - 1) / 2:.2f}" in page


def test_simclr_compares_the_projections() -> None:
    torch.manual_seed(0)
    model = SimCLR((3, 16, 16), 10, backbone="test_resnet").eval()
    views = torch.randn(4, 2, 3, 16, 16)
    model.count_training_batch = lambda *_, **__: None  # type: ignore[method-assign]  # needs a Trainer
    h = model.features(views.transpose(0, 1).flatten(0, 1))
    z = model.projector(h)
    loss = model.training_step((views, LABELS), 0)
    torch.testing.assert_close(loss, NTXent(model.nt_xent.temperature)(*z.split(4)))
    assert not torch.allclose(loss, NTXent(model.nt_xent.temperature)(*h.split(4)))
