"""timm's networks for small images: stem, weights, mixing, mirror, compilation, and every refusal."""

from math import log
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from common.errors import UserError
from modules import TimmClassifier
from modules.captioning.image_encoder import ImageEncoder
from modules.networks.backbones import create_encoder
from tests.command_line import run_pipeline

TINY = "test_resnet"  # timm's own for tests: 0.5 million parameters
SHAPE, K = (3, 32, 32), 5


def tiny(name: str = TINY, **settings: object) -> TimmClassifier:
    torch.manual_seed(0)
    return TimmClassifier(SHAPE, K, name, **settings)  # type: ignore[arg-type]


def last_maps(model: TimmClassifier) -> torch.Size:
    maps: Tensor = model.network.forward_features(torch.zeros(1, *SHAPE))  # type: ignore[operator]
    return maps.shape[2:]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("resnet18", (1, 1), (4, 4)),
        ("test_resnet", (1, 1), (4, 4)),
        ("tf_efficientnet_lite0", (1, 1), (2, 2)),
        ("mobilenetv3_small_050", (1, 1), (2, 2)),
        ("densenet121", (1, 1), (4, 4)),
    ],
)
def test_small_stem_keeps_the_maps_large(name: str, before: tuple[int, int], after: tuple[int, int]) -> None:
    plain, small = tiny(name, small_stem=False).eval(), tiny(name).eval()
    assert last_maps(plain) == before
    assert last_maps(small) == after
    assert small(torch.zeros(2, *SHAPE)).shape == (2, K)


def test_resnet18_is_the_one_of_the_paper() -> None:
    """11.17 million parameters with a 3×3 stem and ten classes, and strides only where the channels double."""
    model = TimmClassifier(SHAPE, 10)
    assert sum(p.numel() for p in model.parameters()) == 11_173_962
    assert model.templates().shape == (64, 3, 3, 3)
    images, labels = torch.randn(32, *SHAPE), torch.randint(10, (32,))
    assert F.cross_entropy(model(images), labels).item() == pytest.approx(log(10), rel=0.05)
    assert model.expected_initial_loss() == log(10)


def test_a_large_filter_is_cut_to_its_center() -> None:
    torch.manual_seed(0)
    whole: Any = timm.create_model("resnet18", num_classes=K)
    torch.manual_seed(0)
    cut = TimmClassifier(SHAPE, K, "resnet18")
    assert torch.equal(cut.templates(), whole.conv1.weight[:, :, 2:5, 2:5])


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    source = timm.create_model(TINY, num_classes=1000)
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(source.state_dict(), file)
    else:
        save_file(source.state_dict(), file)
    model = tiny(pretrained=str(file))
    stored = {n: p for n, p in source.state_dict().items() if not n.startswith("fc.")}
    for name, value in model.network.state_dict().items():
        if name in stored:
            assert torch.equal(value, stored[name]), name
    assert model.network.get_classifier().out_features == K  # type: ignore[operator]


@pytest.mark.parametrize("as_built", [True, False])  # Lightning begins to train with every layer as it was built
def test_a_frozen_backbone_stays_as_it_was(as_built: bool) -> None:
    model = tiny(freeze_backbone=True)
    if not as_built:
        model.train()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.loss(model(torch.randn(8, *SHAPE)), torch.randint(K, (8,))).backward()
    optimizer.step()
    changed = {n for n, v in model.network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"fc.weight", "fc.bias"}


def test_label_smoothing_in_training_alone() -> None:
    model = tiny(label_smoothing=0.2)
    logits, labels = torch.randn(6, K, dtype=torch.float64), torch.randint(K, (6,))
    targets = torch.full((6, K), 0.2 / K, dtype=torch.float64)
    targets[range(6), labels] += 0.8
    smoothed = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(model.train().loss(logits, labels), smoothed)
    torch.testing.assert_close(model.eval().loss(logits, labels), F.cross_entropy(logits, labels))


def test_mixup_mixes_images_and_targets_alike() -> None:
    model = tiny(mixup=1.0, label_smoothing=0.0)
    images = torch.stack([torch.full(SHAPE, float(i)) for i in range(6)])
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    mixed, targets = model.training_targets(images.clone(), labels)
    one_hot = F.one_hot(labels, K).float()
    share = float((mixed[0, 0, 0, 0] - 5) / (0 - 5))  # image 0 is paired with image 5
    assert 0 <= share <= 1
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.flip(0))
    torch.testing.assert_close(targets, share * one_hot + (1 - share) * one_hot.flip(0))


def test_cutmix_mixes_targets_by_area() -> None:
    model = tiny(cutmix=1.0, label_smoothing=0.0)
    images = torch.stack([torch.full(SHAPE, float(i)) for i in range(4)])
    labels = torch.arange(4)
    mixed, targets = model.training_targets(images.clone(), labels)
    assert set(mixed.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}  # pasted, not blended
    share = float((mixed[0] == 0).float().mean())
    torch.testing.assert_close(targets[0, 0], torch.tensor(share))
    torch.testing.assert_close(targets.sum(1), torch.ones(4))


def test_mirror_is_the_mean_of_both_sides() -> None:
    model = tiny().eval()
    images = torch.randn(3, *SHAPE)
    expected = (model(images) + model(images.flip(-1))) / 2
    torch.testing.assert_close(model.test_logits(images), expected)
    torch.testing.assert_close(model.test_logits(images.flip(-1)), expected)
    model.mirror_test = False
    torch.testing.assert_close(model.test_logits(images), model(images))


def test_image_size_resizes_first() -> None:
    model = tiny(image_size=64).eval()
    images = torch.randn(2, *SHAPE)
    enlarged = F.interpolate(images, size=(64, 64), mode="bicubic", antialias=True)
    torch.testing.assert_close(model(images), model.network(enlarged))


@pytest.mark.slow
def test_compiled_it_computes_the_same_and_its_weights_keep_their_names() -> None:
    plain, compiled = tiny("test_byobnet").eval(), tiny("test_byobnet", compile=True).eval()
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    compiled.load_state_dict(plain.state_dict())
    images = torch.randn(2, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), plain(images), rtol=1e-4, atol=1e-4)
    assert compiled.network._compiled_call_impl is not None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "resnet81"}, "timm has no model 'resnet81'; did you mean resnet1"),
        ({"name": "vit_tiny_patch16_224"}, "cuts images into patches of 16 pixels .* set small_stem to false"),
        ({"pretrained": "nowhere.safetensors"}, "pretrained is 'nowhere.safetensors', and there is no such file"),
        (
            {"pretrained": "hub", "name": "resnet10t.none"},
            "timm has no pretrained weights for 'resnet10t.none'; give a file of weights, or leave pretrained out",
        ),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must be in"),
        ({"mixup": -1.0}, "mixup is -1.0; it must be ≥ 0"),
        ({"image_size": 0}, "image_size is 0; it must be at least 1 pixel"),
        ({"options": {"widths": 3}}, "timm can't create test_resnet with {'widths': 3}"),
    ],
)
def test_refusals(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tiny(**settings)  # type: ignore[arg-type]


def test_a_patch_network_takes_smaller_patches() -> None:
    model = tiny("vit_tiny_patch16_224", small_stem=False, options={"img_size": 32, "patch_size": 8, "depth": 1})
    assert model(torch.zeros(2, *SHAPE)).shape == (2, K)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match=r"The weights .*other.safetensors' can't be used for test_resnet"):
        tiny(pretrained=str(file))
    file.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"The weights .*other.safetensors' can't be used for test_resnet"):
        tiny(pretrained=str(file))


@pytest.mark.parametrize("number", [1, 3, 65])
def test_the_last_image_of_an_odd_batch_is_not_mixed(number: int) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(number, *SHAPE), torch.randint(K, (number,))
    mixed, targets = tiny(mixup=1.0, label_smoothing=0.1).training_targets(images.clone(), labels)
    assert mixed.shape == images.shape
    torch.testing.assert_close(mixed[-1], images[-1], rtol=0, atol=0)
    if number == 1:
        assert targets is labels  # smoothed by the loss
        return
    smoothed = torch.full((K,), 0.1 / K)
    smoothed[labels[-1]] += 0.9
    torch.testing.assert_close(targets[-1], smoothed)
    torch.testing.assert_close(targets.sum(1), torch.ones(number))
    assert not torch.equal(mixed[:-1], images[:-1])


@pytest.mark.parametrize(
    ("name", "options"),
    [("test_vit", {}), ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 1}), ("test_vit2", {"patch_size": 4})],
)
def test_a_transformer_is_created_for_the_size_of_the_images(name: str, options: dict[str, Any]) -> None:
    model = tiny(name, small_stem=False, options=options)
    assert model.eval()(torch.zeros(2, *SHAPE)).shape == (2, K)


def test_a_transformer_gets_the_size_to_which_images_are_resized() -> None:
    model = tiny("vit_tiny_patch16_224", small_stem=False, image_size=48, options={"depth": 1})
    assert model.eval()(torch.zeros(2, *SHAPE)).shape == (2, K)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "inception_v3",
            {"small_stem": False},
            r"inception_v3 can't take images of 32×32 pixels: .*resize them to the 299",
        ),
        (
            "vit_tiny_patch16_224",
            {"small_stem": False, "options": {"img_size": 64, "depth": 1}},
            r"vit_tiny_patch16_224 with options .*can't take images of 32×32 pixels: Input height \(32\) doesn't match",
        ),
        (TINY, {"options": {"global_pool": ""}}, r"test_resnet with options .* can't take images of 32×32 pixels"),
        (TINY, {"options": {"num_classes": 7}}, r"options has 'num_classes', .* it is that of the data"),
        (TINY, {"options": {"in_chans": 1}}, r"options has 'in_chans', .* it is that of the images"),
        (TINY, {"options": {"features_only": True}}, r"options has 'features_only', .* one vector for each image"),
        (TINY, {"options": {"pretrained": True}}, r"options has 'pretrained', .* set pretrained to hub"),
        (
            TINY,
            {"options": {"checkpoint_path": "x.pth"}},
            r"options has 'checkpoint_path', .* set pretrained to the file",
        ),
        ("hf-hub:someone/resnet18", {}, r"The model 'hf-hub:someone/resnet18' is not one of timm's own"),
        ("timm/resnet19.a1_in1k", {}, r"timm has no model 'resnet19.a1_in1k'"),
    ],
)
def test_what_timm_or_the_images_do_not_allow(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(name, **settings)


@pytest.mark.parametrize("prefix", ["timm/", "hf_hub:timm/", "hf-hub:timm/"])
def test_names_with_the_prefixes_of_the_hub(prefix: str) -> None:
    named = tiny(f"{prefix}{TINY}.r160_in1k")
    for ours, plain in zip(named.parameters(), tiny().parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=0)


def test_a_network_with_two_heads_can_be_frozen() -> None:
    model = tiny("deit_tiny_distilled_patch16_224", small_stem=False, freeze_backbone=True, options={"depth": 1})
    trained = {name for name, parameter in model.network.named_parameters() if parameter.requires_grad}
    assert trained == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


def test_encoders_of_other_topics_take_the_same_networks() -> None:
    encoder, features = create_encoder(SHAPE, "vit_tiny_patch16_224", False, {"depth": 1})
    assert encoder(torch.zeros(2, *SHAPE)).shape == (2, features)
    with pytest.raises(UserError, match="inception_v3 can't take images of 32×32 pixels"):
        create_encoder(SHAPE, "inception_v3", False, None)
    captions = ImageEncoder(SHAPE, 16, backbone="test_vit")
    assert captions(torch.zeros(2, *SHAPE)).shape[::2] == (2, 16)


def test_a_batch_of_one_image_that_shrinks_to_one_position() -> None:
    model = TimmClassifier((3, 8, 8), K, TINY).train()
    with pytest.raises(ValueError, match="training batch of one image"):
        model(torch.randn(1, 3, 8, 8))
    assert model.eval()(torch.randn(1, 3, 8, 8)).shape == (1, K)


def test_flat_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes images \(C, H, W\), but the data has shape \(3072,\)"):
        TimmClassifier((3072,), K, TINY)


RECIPE = [
    "fit", "--config", "resnet", "--model.backbone", TINY, "--data", "Digits", "--data.batch_size", "64",
    "--model.mixup", "0.2", "--model.cutmix", "1", "--trainer.max_epochs", "2", "--trainer.precision", "32-true",
]  # fmt: skip


@pytest.mark.slow
def test_the_whole_recipe_resumes_exactly(tmp_path: Path) -> None:
    """Average of the weights, schedule, mixing: a run that is killed ends with the weights of one that is not."""
    runs = {}
    for name, often in (("whole", []), ("killed", ["--last_checkpoint.every_n_train_steps", "7"])):
        folder = tmp_path / name
        folder.mkdir()
        killer = "{class_path: tests.kill.KillAtStep, init_args: {step: 31}}"
        average = "{class_path: lightning.pytorch.callbacks.EMAWeightAveraging, init_args: {decay: 0.9}}"
        callbacks = f"--trainer.callbacks=[{average}{', ' + killer if often else ''}]"
        finished = run_pipeline("train", [*RECIPE, *often, callbacks], folder)
        assert finished.code == (-9 if often else 0), finished.err
        (run,) = (folder / "logs" / "resnet").iterdir()
        if often:
            again = ["fit", "--ckpt_path", str(run), f"--trainer.callbacks=[{average}]"]
            finished = run_pipeline("train", again, folder)
            assert finished.code == 0, finished.err
        checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        runs[name] = checkpoint["state_dict"], checkpoint["current_model_state"]
        assert not any("_orig_mod" in key for key in checkpoint["state_dict"])
    for whole, killed in zip(runs["whole"], runs["killed"], strict=True):
        assert whole.keys() == killed.keys()
        for key, value in whole.items():
            assert torch.equal(value, killed[key]), key
    average, current = runs["whole"]
    assert any(not torch.equal(average[key], current[key]) for key in average)
    finished = run_pipeline("train", ["test", "--ckpt_path", str(run)], tmp_path)
    assert finished.code == 0, finished.err


@pytest.mark.slow
def test_a_checkpoint_does_not_need_the_pretrained_weights_any_more(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model(TINY).state_dict(), file)
    short = ["fit", *RECIPE[1:], "--trainer.max_epochs", "1", "--trainer.callbacks", "null"]
    finished = run_pipeline("train", [*short, "--model.pretrained", str(file)], tmp_path)
    assert finished.code == 0, finished.err
    file.unlink()
    (run,) = (tmp_path / "logs" / "resnet").iterdir()
    for command in (["test"], ["fit", "--trainer.max_epochs", "2"]):
        finished = run_pipeline("train", [command[0], "--ckpt_path", str(run), *command[1:]], tmp_path)
        assert finished.code == 0, finished.err
    assert f"pretrained: {file}" in (run / "config.yaml").read_text()
    refused = run_pipeline("train", [*short, "--model.pretrained", str(file)], tmp_path)
    assert refused.code == 2 and "there is no such file; give hub or a file of weights." in refused.err
