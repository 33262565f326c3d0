"""One suite of laws that every model keeps, and the sizes that papers publish."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models import MODELS, MobileNetV2, ResNet, ResNet50, SmallCNN, WideResNet

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SHAPE = (32, 32, 3)  # the least that the networks for photos take

# One row for each model: a small one, and images that are too small for it.
CASES = {
    "small_cnn": (SmallCNN(width=4, hidden=8, mean=MEAN, std=STD), (10, 10, 3)),
    "wide_resnet": (WideResNet(depth=10, widening=1, mean=MEAN, std=STD), None),
    "resnet": (ResNet(filters=(4, 4, 8, 8), blocks=1, mean=MEAN, std=STD), None),
    "mobilenet_v2": (MobileNetV2(width=0.1, mean=MEAN, std=STD), (31, 32, 3)),
    "resnet50": (ResNet50(mean=MEAN, std=STD), (31, 32, 3)),
}

each_case = pytest.mark.parametrize("name", CASES)
each_precision = pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])


@pytest.fixture(scope="module")
def built():
    """Builds a case once for all tests that leave it as it is: those for photos take seconds.

    A model has the same weights whatever its precision and normalization are.
    """

    @functools.cache
    def build(name, precision="float32", mean=MEAN, std=STD):
        keras.utils.set_random_seed(0)
        case = dataclasses.replace(CASES[name][0], mean=mean, std=std)
        return case.build(SHAPE, 7, precision)

    return build


@pytest.fixture
def photos():
    """Five color images in [0, 1]."""
    return np.random.default_rng(3).random((5, *SHAPE), np.float32)


def num_trainable(model):
    """Numbers that training changes."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_every_model_is_in_this_suite():
    assert {case.name for case, _ in CASES.values()} == set(MODELS)
    assert all(case.name == name for name, (case, _) in CASES.items())


@each_case
@each_precision
def test_float32_images_to_float32_logits(name, precision, photos, built):
    model = built(name, precision)
    assert model.input_shape == (None, *SHAPE)
    assert model.output_shape == (None, 7)
    assert model.input.dtype == tf.float32
    logits = model(photos)
    assert logits.dtype == tf.float32
    assert np.all(np.isfinite(logits))
    assert all(weight.dtype == tf.float32 for weight in model.weights)
    assert model.layers[-1].name == "logits"
    assert model.layers[-1].activation is keras.activations.linear
    convolutions = [x for x in model.submodules if isinstance(x, keras.layers.Conv2D)]
    inner = {layer.compute_dtype for layer in convolutions}
    assert inner == {"bfloat16" if precision == "mixed_bfloat16" else "float32"}
    assert keras.mixed_precision.global_policy().name == "float32"


@each_case
def test_mixed_precision_is_close_to_full_precision(name, photos, built):
    full, mixed = built(name)(photos), built(name, "mixed_bfloat16")(photos)
    assert 0 < np.max(np.abs(mixed - full)) < 0.1 * np.max(np.abs(full))


@each_case
@pytest.mark.parametrize(("mean", "std"), [(MEAN, STD), ((0.1,), (0.5,)), ((0.1,), STD)])
def test_normalization_is_inside(name, mean, std, photos, built):
    """f(x) is the plain model's answer on (x - mean)/std."""
    inside, plain = built(name, mean=mean, std=std), built(name, mean=(0.0,), std=(1.0,))
    by_hand = (photos - np.float32(mean)) / np.float32(std)
    size = float(np.max(np.abs(inside(photos))))
    np.testing.assert_allclose(inside(photos), plain(by_hand), rtol=1e-4, atol=1e-4 * size)
    assert np.max(np.abs(inside(photos) - plain(photos))) > 1e-3 * size


@each_case
@each_precision
def test_json_and_weights_bring_the_model_back(name, precision, photos, tmp_path):
    model = CASES[name][0].build(SHAPE, 7, precision)
    model(photos, training=True)  # statistics of BatchNorm that are not the initial ones
    model.save_weights(tmp_path / "model.weights.h5")
    back = keras.models.model_from_json(json.dumps(json.loads(model.to_json())))
    back.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(back(photos), model(photos))


@each_case
def test_each_image_is_answered_by_itself_in_inference(name, photos, built):
    model = built(name)
    together = model(photos, training=False)
    for index in range(len(photos)):
        np.testing.assert_allclose(
            model(photos[index : index + 1], training=False)[0], together[index], atol=1e-5
        )


@each_case
def test_the_gradient_reaches_every_weight_and_the_image(name, photos):
    model = CASES[name][0].build(SHAPE, 7)
    images = tf.constant(photos)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(tf.square(model(images, training=True)))
    gradients = tape.gradient(loss, [images, *model.trainable_weights])
    assert all(np.any(gradient != 0) for gradient in gradients)


@each_case
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("field", ["mean", "std"])
def test_as_many_means_as_channels(name, count, field):
    case = type(CASES[name][0])(**{field: (0.5,) * count})
    with pytest.raises(InvalidSettings) as caught:
        case.build(SHAPE, 7)
    assert caught.value.problems == (
        f"{field}: got {count} values; allowed: 1, or 3, one per channel of the images",
    )


@each_case
@pytest.mark.parametrize("std", [(0.0,), (-1.0,), ()])
def test_a_standard_deviation_is_above_zero(name, std):
    with pytest.raises(InvalidSettings, match=r"^std"):
        type(CASES[name][0])(std=std)


@pytest.mark.parametrize("name", [name for name, (_, small) in CASES.items() if small])
@each_precision
def test_images_that_are_too_small_are_refused(name, precision):
    case, too_small = CASES[name]
    with pytest.raises(InvalidSettings) as caught:
        case.build(too_small, 7, precision)
    assert keras.mixed_precision.global_policy().name == "float32"
    (problem,) = caught.value.problems
    assert problem == (
        f"name: got '{name}' for images of {too_small}; allowed: a model that supports this size, "
        "or images of another size"
    )


def test_small_cnn_has_the_size_of_trades():
    """Four convolutions, and dense layers on 4·4·64 features: 28 → 26 → 24 → 12 → 10 → 8 → 4."""
    model = SmallCNN().build((28, 28, 1), 10)
    convolutions = (9 * 1 + 1) * 32 + (9 * 32 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    dense = (1024 + 1) * 200 + (200 + 1) * 200 + (200 + 1) * 10
    assert convolutions + dense == 312_202
    assert model.count_params() == 312_202


def test_small_cnn_drops_units_in_training_alone():
    model = SmallCNN(width=2, hidden=8).build((16, 16, 1), 3)
    x = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    np.testing.assert_array_equal(model(x), model(x))
    assert np.any(model(x, training=True) != model(x, training=True))


def test_wrn_34_10_has_the_published_size():
    """46.2 million; of these the running statistics of BatchNorm are not trained."""
    model = WideResNet().build((32, 32, 3), 10)
    weights, width = 27 * 16, 16
    for filters in (160, 320, 640):
        for block in range(5):
            weights += 2 * width + 9 * width * filters + 2 * filters + 9 * filters * filters
            weights += width * filters if block == 0 else 0
            width = filters
    weights += 2 * 640 + 640 * 10 + 10
    assert weights == 46_160_474
    assert num_trainable(model) == 46_160_474
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == 34


@pytest.mark.parametrize(("depth", "blocks"), [(10, 1), (16, 2), (22, 3), (28, 4)])
def test_wrn_has_6_blocks_and_4_more_layers(depth, blocks):
    model = WideResNet(depth=depth, widening=1).build((8, 8, 3), 10)
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == 3 * blocks
    # The depth counts the shortcuts of three stages; the first has none if it isn't wider.
    convolutions = sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    assert convolutions == depth - 1


@pytest.mark.parametrize("depth", [11, 12, 15, 35])
def test_wrn_depths_between_are_refused(depth):
    with pytest.raises(InvalidSettings, match=f"^depth: got {depth}; allowed: 6·blocks"):
        WideResNet(depth=depth)


def test_resnet_shortcuts_have_no_weights():
    """(16; 16, 32, 64; 5 blocks) of Engstrom et al. at 32×32: convolutions 3×3 only."""
    model = ResNet().build((32, 32, 3), 10)
    kernels = [w.shape for w in model.trainable_weights if len(w.shape) == 4]
    assert len(kernels) == 1 + 3 * 5 * 2
    assert {tuple(shape[:2]) for shape in kernels} == {(3, 3)}
    weights, width = 27 * 16, 16
    for filters in (16, 32, 64):
        for _ in range(5):
            weights += 2 * width + 9 * width * filters + 2 * filters + 9 * filters * filters
            width = filters
    assert num_trainable(model) == weights + 2 * 64 + 64 * 10 + 10


def test_resnet_shortcuts_pool_and_pad_with_zeros_on_both_sides():
    from keras_srt.models.residual import padding_shortcut

    x = np.random.default_rng(0).random((2, 4, 6, 3), np.float32)
    found = padding_shortcut(tf.constant(x), 8, 2).numpy()
    pooled = x.reshape(2, 2, 2, 3, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found[..., 2:5], pooled, atol=1e-6)
    np.testing.assert_array_equal(found[..., :2], 0)
    np.testing.assert_array_equal(found[..., 5:], 0)
    np.testing.assert_array_equal(padding_shortcut(tf.constant(x), 3, 1), x)


@pytest.mark.parametrize("size", [1, 3, 5, 6, 7, 11])
def test_resnet_shortcuts_fit_images_of_any_size(size):
    """Nothing is broadcast where a stage halves an odd size."""
    model = ResNet(filters=(2, 2, 3, 4), blocks=1).build((size, size, 1), 3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Add):
            shapes = {tuple(part.shape) for part in layer.input}
            assert shapes == {tuple(layer.output.shape)}


@pytest.mark.parametrize("filters", [(8,), (), (8, 4), (4, 8, 7)])
def test_resnet_stages_never_become_narrower(filters):
    with pytest.raises(InvalidSettings, match=r"^filters: got"):
        ResNet(filters=filters)


# ------------------------------------------------------------------------------ keras.applications


APPLICATIONS = {
    "mobilenet_v2": (
        MobileNetV2(width=0.35, batch_norm_momentum=0.8),
        lambda **settings: keras.applications.MobileNetV2(alpha=0.35, **settings),
    ),
    "resnet50": (
        ResNet50(batch_norm_momentum=0.8),
        lambda **settings: keras.applications.ResNet50V2(**settings),
    ),
}


@pytest.fixture(params=APPLICATIONS, scope="module")
def application(request):
    """One of ours, and how Keras makes its own."""
    return APPLICATIONS[request.param]


@pytest.fixture(scope="module")
def model(application):
    """Ours, built; no test changes it."""
    return application[0].build(SHAPE, 7)


@pytest.mark.parametrize("file", ["no_top.h5", "no_top.weights.h5"])
def test_weights_of_keras_applications_are_read(file, application, photos, tmp_path):
    ours, make = application
    theirs = make(include_top=False, weights=None, pooling="avg", input_shape=SHAPE)
    for layer in theirs.layers:  # statistics of BatchNorm that are not the initial ones
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-1, 1, layer.moving_mean.shape[0]))
    theirs.save_weights(tmp_path / file)
    ours = dataclasses.replace(ours, weights=str(tmp_path / file))
    model = ours.build(SHAPE, 7)
    normalized = (photos - 0.5) / 0.5  # as these weights take them
    wanted = theirs(normalized, training=False).numpy()
    backbone = model.get_layer("backbone")
    size = np.max(np.abs(wanted))
    assert np.max(np.abs(backbone(normalized, training=False) - wanted)) > 1e-2 * size
    ours.initialize(model)
    np.testing.assert_allclose(backbone(normalized, training=False), wanted, atol=1e-5 * size)


def test_the_momentum_of_batch_norm_is_the_one_set(model):
    norms = [x for x in model.submodules if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) > 40
    assert {norm.momentum for norm in norms} == {0.8}


@pytest.mark.parametrize("content", [None, b"", b"\x89HDF\r\n\x1a\nnothing", "another network"])
def test_weights_that_cannot_be_read_change_nothing(content, application, model, tmp_path):
    path = tmp_path / "other.weights.h5"
    if content == "another network":
        SmallCNN(width=2, hidden=8).build(SHAPE, 7).save_weights(path)
    elif content is not None:
        path.write_bytes(content)
    ours = dataclasses.replace(application[0], weights=str(path))
    before = model.get_weights()
    with pytest.raises(InvalidSettings) as caught:
        ours.initialize(model)
    (problem,) = caught.value.problems
    assert problem.startswith(f"weights: got '{path}', which can't be read as the weights of ")
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_resnet50_has_the_size_that_keras_documents():
    """23,564,800 without the top, and 2048 x 10 + 10 for the classes."""
    model = ResNet50().build((224, 224, 3), 10)
    assert model.count_params() == 23_564_800 + 20_490
