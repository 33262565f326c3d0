"""The choice of a network by the time of its steps."""

import pytest

from keras_srt.folders.network_choice import (
    FEWEST_STEPS,
    Candidate,
    Limits,
    by_pixels,
    candidates,
    choose,
)

FAST, MIDDLE, SLOW, SLOWEST = (
    Candidate({"name": name}, size, 64)
    for name, size in (("fast", 32), ("middle", 32), ("slow", 64), ("slowest", 96))
)
AMONG = [FAST, MIDDLE, SLOW, SLOWEST]
SECONDS = {"fast": 0.1, "middle": 0.2, "slow": 1.0, "slowest": 9.0}


def seconds_of(network):
    return SECONDS[network.model["name"]]


def test_the_slowest_network_that_fits_is_chosen():
    # 70% of 1,000 s are 3,500 steps of 0.2 s, or 700 of 1 s.
    choice = choose(AMONG, 1000, seconds_of, seconds_of)
    assert (choice.chosen, choice.steps) == (MIDDLE, 3500)
    assert [timed.candidate for timed in choice.timed] == [FAST, MIDDLE, SLOW]
    assert choice.table().splitlines() == [
        "network  size  batch  s a step  1,500 steps",
        "slow       64     64      1.00       25 min  too slow",
        "middle     32     64      0.20        5 min  chosen: 3,500 steps in 12 min",
        "fast       32     64      0.10        2 min",
    ]


@pytest.mark.parametrize(
    ("seconds", "chosen", "steps"),
    [(100, FAST, 700), (10**6, SLOWEST, 6000), (0.01, FAST, 1), (300, FAST, 2100)],
)
def test_steps_fit_into_the_time(seconds, chosen, steps):
    choice = choose(AMONG, seconds, seconds_of, seconds_of)
    assert (choice.chosen, choice.steps) == (chosen, steps)
    fits = steps * seconds_of(chosen) <= 0.7 * seconds
    assert fits or steps == 1


@pytest.mark.parametrize(
    ("time", "fastest", "advice"),
    [
        (100, 0.1, "only 700 steps of 1,500 fit, and the accuracy will be low; give --time 4m"),
        (0.01, 0.1, "only 1 step of 1,500 fit, and the accuracy will be low; give --time 4m"),
        (100, 9.0, "only 7 steps of 1,500 fit, and the accuracy will be low; give --time 6h"),
    ],
)
def test_too_little_time_is_a_warning_with_the_time_that_is_enough(time, fastest, advice):
    choice = choose([FAST], time, lambda _: fastest, lambda _: fastest)
    assert choice.advice() == f"warning: {advice} or more"
    # The time that it names is enough.
    assert choose([FAST], choice.enough_time + 1, lambda _: fastest, seconds_of).advice() == ""


def test_enough_time_has_no_advice():
    assert choose(AMONG, 300, seconds_of, seconds_of).advice() == ""


def test_a_measured_step_overrules_the_estimate():
    measured = []

    def measure(network):
        measured.append(network)
        return 10 * seconds_of(network)

    choice = choose(AMONG, 4000, seconds_of, measure)  # estimate: slow fits
    assert measured == [SLOW, MIDDLE, FAST]
    assert (choice.chosen, choice.steps) == (FAST, 2800)
    assert choice.steps >= FEWEST_STEPS


def test_pretrained_networks_need_few_steps():
    limits = Limits.of_pretrained(243, 16)  # 40 and 100 passes
    assert limits == (608, 1519)
    choice = choose(AMONG, 1000, seconds_of, seconds_of, limits)  # 700 steps of 1 s, 77 of 9 s
    assert (choice.chosen, choice.steps) == (SLOW, 700)
    assert choice.table().startswith("network  size  batch  s a step  608 steps\n")
    assert choose(AMONG, 3000, seconds_of, seconds_of, limits).steps == 1519
    assert choose([SLOW], 100, seconds_of, seconds_of, limits).steps == 70
    assert Limits.of_pretrained(10, 32) == (200, 200)
    assert Limits.of_pretrained(10**6, 32) == (1500, 6000)


def test_sizes_of_a_network_are_estimated_from_one():
    timed = []

    def seconds(network):
        timed.append(network.size)
        return 0.9

    estimate = by_pixels(seconds)
    networks = candidates(224, 3, "resnet50", "w.h5")
    assert [estimate(each) for each in networks] == pytest.approx([0.9, 1.6, 2.5, 4.9])
    assert timed == [96]


@pytest.mark.parametrize(
    ("size", "arguments", "found"),
    [
        (224, ("resnet50", "w.h5"), [96, 128, 160, 224]),
        (128, (None, "w.h5"), [96, 128]),
        (64, (None, "w.h5"), [96]),
        (64, ("resnet9", None), [32, 48, 64]),
        (28, ("resnet9", None), [32]),
    ],
)
def test_a_network_that_is_asked_for(size, arguments, found):
    listed = candidates(size, 3, *arguments)
    assert [each.size for each in listed] == found
    name, weights = arguments
    model = {"name": name or "mobilenet_v2"} | ({"weights": weights} if weights else {})
    assert all(each.model == model for each in listed)


@pytest.mark.parametrize(
    ("size", "channels", "networks"),
    [
        (28, 1, ["small_cnn 16 28", "small_cnn 32 28"]),
        (32, 3, ["small_cnn 16 32", "resnet9 8 32", "resnet9 16 32", "resnet9 32 32"]),
        (224, 3, ["mobilenet_v2 96", "mobilenet_v2 128", "mobilenet_v2 160", "mobilenet_v2 224"]),
    ],
)
def test_networks_for_kinds_of_images(size, channels, networks):
    found = [f"{each.title} {each.size}" for each in candidates(size, channels)]
    assert found[-len(networks) :] == networks
    assert all(each.size <= size for each in candidates(size, channels))
