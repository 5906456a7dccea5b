"""The linear probe: loaded weights, trained parameters, and the checkpoints that it refuses."""

from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from modules import LinearProbe, SimCLR

SHAPE, K = (3, 16, 16), 4
ENCODER: dict[str, Any] = {"backbone": "test_resnet", "options": {"channels": [8, 8, 16, 16]}}


@pytest.fixture
def pretrained() -> SimCLR:
    torch.manual_seed(1)
    model = SimCLR(SHAPE, K, hidden=8, projection=4, **ENCODER)
    model.encoder.train()(torch.randn(32, *SHAPE))  # the checkpoint has running averages too
    return model


def saved(model: torch.nn.Module, folder: Path, **settings: Any) -> str:
    file = folder / "best.ckpt"
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": {"small_stem": True, **settings}}, file)
    return str(file)


def probe(checkpoint: str | None = None, **settings: Any) -> LinearProbe:
    torch.manual_seed(2)
    return LinearProbe(SHAPE, K, checkpoint, **{**ENCODER, **settings})


@pytest.mark.parametrize("frozen", [True, False])
def test_it_starts_from_the_checkpoints_encoder(pretrained: SimCLR, tmp_path: Path, frozen: bool) -> None:
    model = probe(saved(pretrained, tmp_path), freeze_backbone=frozen)
    for name, value in pretrained.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value), name
    images = torch.randn(8, *SHAPE)
    features = pretrained.eval().encoder(images)
    logits = model.eval()(images)
    torch.testing.assert_close(logits, features @ model.output.weight.T + model.output.bias)
    assert model.loss(logits, torch.arange(8) % K).item() == pytest.approx(log(K), rel=0.05)
    assert model.expected_initial_loss() == log(K)


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_a_runs_folder_means_its_best_checkpoint(pretrained: SimCLR, tmp_path: Path, name: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match=r"has no checkpoints/best\.ckpt; use a \.ckpt file or the folder of a run"):
        probe(str(tmp_path))
    Path(saved(pretrained, tmp_path / "checkpoints")).rename(tmp_path / "checkpoints" / name)
    loaded = probe(str(tmp_path)).encoder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in pretrained.encoder.state_dict().items())


@pytest.mark.parametrize("as_built", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_only_what_is_not_frozen_is_trained(pretrained: SimCLR, tmp_path: Path, frozen: bool, as_built: bool) -> None:
    model = probe(saved(pretrained, tmp_path), freeze_backbone=frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    if not as_built:  # Lightning starts training in the mode in which the model was built
        model.train()
    for _ in range(2):
        loss = model.loss(model(torch.randn(8, *SHAPE)), torch.arange(8) % K)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == ({"output"} if frozen else {"encoder", "output"})


def test_without_a_checkpoint_it_starts_at_random_with_the_same_network(pretrained: SimCLR, tmp_path: Path) -> None:
    scratch, tuned = probe(freeze_backbone=False), probe(saved(pretrained, tmp_path), freeze_backbone=False)
    assert [p.shape for p in scratch.parameters()] == [p.shape for p in tuned.parameters()]
    assert torch.equal(scratch.output.weight, tuned.output.weight)
    assert not torch.equal(next(scratch.encoder.parameters()), next(tuned.encoder.parameters()))


def test_another_encoder_is_named(pretrained: SimCLR, tmp_path: Path) -> None:
    file = saved(pretrained, tmp_path, **ENCODER)
    sentence = (
        r"best\.ckpt differs from this model's; set model\.backbone to test_resnet, model\.small_stem to true "
        r'and model\.options to \{"channels": \[8, 8, 16, 16\]\}\.'
    )
    with pytest.raises(ValueError, match=sentence):
        probe(file, options={"channels": [8, 8, 16, 24]})
    with pytest.raises(ValueError, match=sentence):
        probe(file, backbone="resnet10t", options=None)


def test_a_checkpoint_of_another_topic_is_refused(tmp_path: Path) -> None:
    file = saved(probe(), tmp_path, _class_path="modules.LinearProbe")
    with pytest.raises(ValueError, match=r"best\.ckpt is a checkpoint of LinearProbe, not of SimCLR; use one that"):
        probe(file)


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "There is no checkpoint at"), (b"junk", "can't be read as a")]
)
def test_files_that_are_not_checkpoints_are_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    file = tmp_path / "best.ckpt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        probe(str(file))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt is a checkpoint of another model, not of SimCLR"):
        probe(str(tmp_path / "list.pt"))
