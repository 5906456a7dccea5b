"""Preprocessing against numpy in float64 and scikit-learn, its inverse, and its weights as images."""

import re
from typing import Any, get_args

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from datamodules.images.preprocessing import _CHUNK, Method, Preprocessing

SHAPE = (3, 4, 5)


def correlated_images(count: int = 400, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Images whose pixels are correlated, like those of photographs, and whose channels have different means."""
    rng = np.random.default_rng(seed)
    dimensions = int(np.prod(shape))
    mixing = rng.standard_normal((dimensions, dimensions)) * np.linspace(1, 0.1, dimensions)[:, None]
    values = rng.standard_normal((count, dimensions)) @ mixing
    values = values / values.std() * 30 + np.repeat(rng.uniform(90, 160, shape[0]), dimensions // shape[0])
    return torch.from_numpy(np.clip(values, 0, 255).astype(np.uint8).reshape(count, *shape))


def fitted(method: Method, images: Tensor, num_components: int | None = None) -> Preprocessing:
    preprocessing = Preprocessing(method, num_components)
    preprocessing.fit(images)
    return preprocessing


def unit(images: Tensor) -> np.ndarray[Any, Any]:
    return images.numpy().astype(np.float64) / 255


@pytest.mark.parametrize("count", [1, 2, 400])
def test_affine_methods_equal_numpy(count: int) -> None:
    images, others = correlated_images(count), correlated_images(20, seed=1)
    x, new = unit(images), unit(others)
    channel_mean, channel_std = x.mean((0, 2, 3), keepdims=True)[0], x.std((0, 2, 3), keepdims=True)[0]
    expected = {
        "scale": 2 * new - 1,
        "mean_image": new - x.mean(0),
        "standardize": (new - channel_mean) / channel_std,
    }
    for method, values in expected.items():
        outputs = fitted(method, images)(others)  # type: ignore[arg-type]
        assert outputs.dtype == torch.float32
        np.testing.assert_allclose(outputs, values, atol=2e-5)


def test_more_images_than_are_fitted_at_a_time() -> None:
    images = correlated_images(2 * _CHUNK + 37, shape=(2, 2, 3))
    x = unit(images)
    np.testing.assert_allclose(fitted("mean_image", images)(images[-50:]), x[-50:] - x.mean(0), atol=1e-6)
    standard = fitted("standardize", images)(images).double()
    np.testing.assert_allclose(standard.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std((0, 2, 3), unbiased=False), 1, atol=1e-5)
    reference = PCA().fit(x.reshape(len(x), -1))
    variances = fitted("pca", images)(images).double().var(0, unbiased=True)
    np.testing.assert_allclose(variances, reference.explained_variance_, rtol=1e-3)


@pytest.mark.parametrize("num_components", [1, 7, None])
def test_pca_equals_scikit_learns_up_to_signs(num_components: int | None) -> None:
    images, others = correlated_images(), correlated_images(30, seed=1)
    reference = PCA(num_components, svd_solver="full").fit(unit(images).reshape(400, -1))
    expected = reference.transform(unit(others).reshape(30, -1))
    outputs = fitted("pca", images, num_components)(others).numpy()
    assert outputs.shape == expected.shape == (30, num_components or 60)
    signs = np.sign((outputs * expected).sum(0))
    np.testing.assert_allclose(outputs * signs, expected, atol=1e-3)
    variances = fitted("pca", images, num_components)(images).var(0, unbiased=True)
    np.testing.assert_allclose(variances, reference.explained_variance_, rtol=1e-3)


@pytest.mark.parametrize("num_components", [5, 20])
def test_pca_and_whitening_equal_the_singular_value_decomposition(num_components: int) -> None:
    """X = U S Vᵀ for centered images X: the principal directions are V, the variances S²/N."""
    images, others = correlated_images(), correlated_images(30, seed=1)
    flat = unit(images).reshape(400, -1)
    _, singular, v = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    projected = (unit(others).reshape(30, -1) - flat.mean(0)) @ v[:num_components].T
    whitened = projected / np.sqrt(singular[:num_components] ** 2 / 400 + 1e-5)
    for method, expected in (("pca", projected), ("whiten", whitened)):
        outputs = fitted(method, images, num_components)(others).numpy()  # type: ignore[arg-type]
        signs = np.sign((outputs * expected).sum(0))
        np.testing.assert_allclose(outputs * signs, expected, rtol=1e-3, atol=2e-3)


def test_whitened_directions_with_any_variance_have_unit_variance_and_no_correlation() -> None:
    images = correlated_images()
    whitened = fitted("whiten", images)(images).double()
    variances = PCA().fit(unit(images).reshape(400, -1)).explained_variance_ * 399 / 400
    covariance = (whitened.mT @ whitened / 400).numpy()
    # The formula's small constant takes from each variance λ the factor λ / (λ + 1e-5).
    np.testing.assert_allclose(covariance, np.diag(variances / (variances + 1e-5)), atol=2e-3)
    assert variances[-1] < 1e-3 < variances[0]
    large = variances > 1e-2
    np.testing.assert_allclose(np.diag(covariance)[large], 1, atol=3e-3)


def test_directions_without_variance_are_not_amplified() -> None:
    images = correlated_images()
    images[:, 1] = 100  # 20 of the 60 directions are empty
    outputs = fitted("whiten", images)(images)
    assert outputs.isfinite().all()
    assert outputs[:, 40:].abs().max() < 0.1


def test_signs_of_components_do_not_depend_on_the_order_of_the_images() -> None:
    images = correlated_images()
    shuffled = images[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    one, other = (fitted("pca", training, 10)(images) for training in (images, shuffled))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


@pytest.mark.parametrize("method", get_args(Method))
def test_inverse_returns_the_pixels(method: Method) -> None:
    images = correlated_images()
    preprocessing = fitted(method, images)
    back = preprocessing.inverse(preprocessing(images[:10]))
    assert back.shape == (10, *SHAPE)
    np.testing.assert_allclose(back, unit(images[:10]), atol=2e-4)


@pytest.mark.parametrize("method", ["pca", "whiten"])
def test_inverse_of_a_few_components_is_the_projection_on_them(method: Method) -> None:
    images = correlated_images()
    reference = PCA(6, svd_solver="full").fit(unit(images).reshape(400, -1))
    projection = reference.inverse_transform(reference.transform(unit(images).reshape(400, -1)))
    preprocessing = fitted(method, images, 6)
    back = preprocessing.inverse(preprocessing(images))
    np.testing.assert_allclose(back.flatten(1), projection.clip(0, 1), atol=2e-4)


def test_inverse_stays_within_pixels() -> None:
    preprocessing = fitted("standardize", correlated_images())
    back = preprocessing.inverse(torch.tensor([-100.0, 100.0]).reshape(2, 1, 1, 1).expand(2, *SHAPE))
    assert back.unique().tolist() == [0, 1]


@pytest.mark.parametrize("num_components", [None, 5])
@pytest.mark.parametrize("method", get_args(Method))
def test_weights_as_images_are_the_gradient_of_the_score(method: Method, num_components: int | None) -> None:
    if num_components and method not in ("pca", "whiten"):
        num_components = None
    preprocessing = fitted(method, correlated_images(), num_components)
    output_shape = preprocessing.output_shape(SHAPE)
    weights = torch.randn(4, *output_shape, generator=torch.Generator().manual_seed(0))
    pixels = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(1), requires_grad=True)
    scores = (preprocessing(pixels * 255) * weights).flatten(1).sum(1)
    gradients = torch.cat([torch.autograd.grad(score, pixels, retain_graph=True)[0] for score in scores])
    templates = preprocessing.weights_as_images(weights, SHAPE)
    assert templates.shape == (4, *SHAPE)
    torch.testing.assert_close(templates, gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_batches_are_read_and_not_changed(method: Method, dtype: torch.dtype) -> None:
    images = correlated_images()
    preprocessing = fitted(method, images)
    batch = images[:8].to(dtype)
    kept = batch.clone()
    outputs = preprocessing(batch)
    assert torch.equal(batch, kept)
    assert outputs.dtype == (dtype if method == "pixels" else torch.float32)
    torch.testing.assert_close(outputs.float(), preprocessing(images[:8]).float(), atol=1e-4, rtol=1e-4)


def test_pixels_stay_uint8() -> None:
    images = correlated_images()
    preprocessing = fitted("pixels", images)
    assert torch.equal(preprocessing(images), images)
    assert preprocessing(images).dtype == torch.uint8
    assert preprocessing.output_shape(SHAPE) == SHAPE
    np.testing.assert_allclose(preprocessing.inverse(images), unit(images), atol=1e-7)


@pytest.mark.parametrize("method", get_args(Method))
def test_output_shape_is_the_shape_of_the_output(method: Method) -> None:
    images = correlated_images()
    for num_components in (None, 1, 9) if method in ("pca", "whiten") else (None,):
        preprocessing = Preprocessing(method, num_components)
        announced = preprocessing.output_shape(SHAPE)  # known before the fit: models are made from it
        preprocessing.fit(images)
        assert tuple(preprocessing(images[:2]).shape[1:]) == announced


@pytest.mark.parametrize("method", ["standardize", "pca", "whiten"])
@pytest.mark.parametrize("value", [0, 1, 37, 101, 255])
def test_images_without_variation_are_refused(method: Method, value: int) -> None:
    constant = torch.full((7, 3, 32, 32) if method == "standardize" else (80, *SHAPE), value, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"^All training images [^.]*; use preprocessing mean_image or scale\.$"):
        fitted(method, constant)


def test_one_gray_level_in_one_pixel_is_variation_enough() -> None:
    images = torch.full((2000, 1, 20, 20), 101, dtype=torch.uint8)
    images[3, 0, 4, 5] += 1
    outputs = fitted("standardize", images)(images).double()
    assert outputs.std(unbiased=False).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("count", "wanted", "most"), [(400, 61, 60), (20, 20, 19), (20, None, 19)])
def test_more_components_than_images_or_pixels_are_refused(count: int, wanted: int | None, most: int) -> None:
    with pytest.raises(ValueError, match=f"can't compute {wanted or 60} components of {count} .* at most {most}\\.$"):
        fitted("pca", correlated_images(count), wanted)
    fitted("pca", correlated_images(count), most)


@pytest.mark.parametrize(
    ("method", "num_components", "message"),
    [
        (
            "zca",
            None,
            "preprocessing is 'zca'; it must be one of scale, pixels, mean_image, standardize, imagenet, pca, whiten.",
        ),
        ("scale", 5, "num_components is 5 with preprocessing scale; it must be at least 1 with pca or whiten"),
        ("pca", 0, "num_components is 0 with preprocessing pca; it must be at least 1"),
        ("whiten", -3, "num_components is -3 with preprocessing whiten; it must be at least 1"),
    ],
)
def test_wrong_settings_are_named(method: Any, num_components: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Preprocessing(method, num_components)


def test_imagenet_is_torchvisions_normalization_with_its_constants() -> None:
    from torchvision.transforms import Normalize

    images = torch.randint(256, (5, 3, 6, 4), dtype=torch.uint8)
    preprocessing = Preprocessing("imagenet")
    preprocessing.fit(images)
    expected = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(images / 255)
    torch.testing.assert_close(preprocessing(images), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(preprocessing.inverse(expected), images / 255, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"^preprocessing imagenet is for RGB images; use standardize"):
        Preprocessing("imagenet").fit(images[:, :1])
