"""The cost model: FLOPs by hand, laws of the prediction, and the benchmark that uses it."""

import sys

import pytest
from helpers import ROOT

from keras_srt.core.errors import InvalidSettings
from keras_srt.objectives import StepPasses
from keras_srt.pipeline.cost import MACHINES, Machine, Work, fit_throughput, measure_model, predict

sys.path.append(str(ROOT / "benchmarks"))

import scaling

from keras_srt.core.tensorflow import keras

WORK = Work("w", 2e9, 50, 25_000_000, 128, StepPasses(128, 1280, 150), steps=1000)
MACHINE = Machine("m", tflops=100, efficiency=0.5, price=3.0)


def test_the_flops_of_a_convolution_are_those_computed_by_hand():
    """5×5 kernel, 3 → 7 channels, stride 2 on 9×9 without padding: 3×3 places."""
    layers = [keras.Input((9, 9, 3)), keras.layers.Conv2D(7, 5, strides=2, use_bias=False)]
    size = measure_model(keras.Sequential(layers))
    assert size.forward_flops == 2 * (5 * 5 * 3) * 7 * (3 * 3) == 9450
    assert (size.layers, size.parameters) == (1, 5 * 5 * 3 * 7)


def test_grouped_depthwise_dense_and_nested_layers_count():
    inner = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Conv2D(8, 3, groups=2)])
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            inner,
            keras.layers.BatchNormalization(),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.Dense(5),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )
    grouped, depthwise = 2 * 3 * 3 * 2 * 8 * 16, 2 * 3 * 3 * 8 * 16
    at_each_place, last = 2 * 8 * 5 * 16, 2 * 5 * 10
    size = measure_model(model)
    assert size.forward_flops == grouped + depthwise + at_each_place + last
    assert size.layers == 4
    assert size.parameters == (3 * 3 * 2 * 8 + 8) + 16 + (72 + 8) + 45 + 60


def test_a_prediction_by_hand():
    made = predict(WORK, MACHINE, devices=16)
    flops = 2e9 * (128 + 2 * 1280 + 3 * 150)
    assert WORK.step_flops == flops
    assert made.compute == pytest.approx(flops / (16 * 50e12))
    assert made.launch == pytest.approx((128 + 2560 + 450) / 128 * 50 * 1e-5)
    assert made.reduce == pytest.approx(2 * 15 / 16 * 1e8 / 6.25e9)
    assert made.step == pytest.approx(made.compute + made.launch + made.reduce)
    assert made.hours == pytest.approx(1000 * made.step / 3600)
    assert made.price == pytest.approx(16 * 3 * made.hours)


def test_more_devices_share_the_arithmetic_and_nothing_else():
    one, eight = predict(WORK, MACHINE), predict(WORK, MACHINE, 8)
    assert one.reduce == 0
    assert eight.compute == pytest.approx(one.compute / 8)
    assert eight.launch == one.launch
    assert eight.step < one.step < 8 * eight.step
    assert eight.price > one.price
    # Beyond a node the gradients take the slower way.
    assert predict(WORK, MACHINE, 9).reduce > 10 * eight.reduce


def test_decoding_bounds_a_step_only_where_it_is_slower():
    slow = MACHINE._replace(decoding=10.0)
    assert predict(WORK, slow).step == predict(WORK, MACHINE).step
    decoded = WORK._replace(decoded=True)
    assert predict(decoded, slow).step == pytest.approx(12.8)
    assert predict(decoded, MACHINE).step == predict(WORK, MACHINE).step


def test_a_fitted_machine_gives_the_measured_time_back():
    assert predict(WORK, fit_throughput(WORK, 0.4)).step == pytest.approx(0.4)
    twice = WORK._replace(forward_flops=2 * WORK.forward_flops)
    assert predict(twice, fit_throughput(WORK, 0.4)).step == pytest.approx(0.8)


@pytest.mark.parametrize("devices", [0, 129])
def test_a_device_without_an_image_is_refused(devices):
    with pytest.raises(InvalidSettings, match=f"devices: got {devices}; allowed: 1 to"):
        predict(WORK, MACHINE, devices)


def test_the_benchmark_predicts_the_reference_settings():
    work = scaling.cifar(64)
    assert work.images == 128
    assert work.steps == 385 * 120  # 26 labeled images of a batch, 120 epochs
    assert work.passes == StepPasses(128, 1280, 154)
    assert work.parameters == pytest.approx(46.16e6, rel=1e-3)
    assert work.forward_flops == pytest.approx(13.32e9, rel=1e-3)


def test_the_tables_say_what_was_predicted(monkeypatch):
    monkeypatch.setattr(scaling, "cifar", lambda devices: WORK._replace(name="first"))
    monkeypatch.setattr(scaling, "imagenet", lambda devices: WORK._replace(name="second"))
    rows = scaling.predictions(list(MACHINES.values()))
    assert len(rows) == 2 * len(MACHINES) * 3
    lines = scaling.predictions_table(rows).splitlines()[2:]
    assert [line.count("|") for line in lines] == [11] * len(rows)
    made = predict(WORK, MACHINES["a100"], 8)
    assert lines[1].startswith(f"| first | NVIDIA A100 SXM | 8 | 128 | {1000 * made.step:.0f} |")
    part = {"fitted": "x", "tflops": 0.5, "rows": []}
    part["rows"] = [
        {"size": "near", "predicted": 1.1, "measured": 1.0, "error": 0.1},
        {"size": "far", "predicted": 0.8, "measured": 1.0, "error": -0.2},
    ]
    text = scaling.check_table(part)
    assert "500.0 GFLOP/s" in text
    assert "| near | 1100 | 1000 | +10.0% | ≤ 0.15: yes |" in text
    assert "| far | 800 | 1000 | -20.0% | ≤ 0.15: **no** |" in text
