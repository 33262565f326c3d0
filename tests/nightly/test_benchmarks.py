"""The benchmarks of cost: what they count, how they sum up, and what their page says."""

import json
import sys

import numpy as np
import pytest
from helpers import ROOT
from linear_models import linear

sys.path.append(str(ROOT / "benchmarks"))

import evaluation_cost
import exhaustive
import measuring
import passes
import peer_jobs
import peers
import step_cost
import time_to_robustness
import trainings
from exhaustive import first_or_last

from keras_srt import SRT, Adversarial, Composite, LInf, Spatial, evaluate_robustness
from keras_srt.attacks import PGD, GridAdv, TargetModel
from keras_srt.attacks.criterion import Criterion
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Passes
from keras_srt.neighborhoods.draws import fold
from keras_srt.objectives import StepPasses

MACHINE = {
    "processor": "Abacus",
    "cores": 2,
    "flags": ["avx512_bf16"],
    "memory_gib": 16.0,
    "system": "Linux",
    "python": "3.11.0",
    "versions": {"tensorflow": "2.15.1"},
    "threads": {"OMP_NUM_THREADS": "1"},
    "load": 0.1,
    "date": "2026-01-02",
}
STEP_ROW = {
    "neighborhood": "spatial",
    "seconds": {
        "step": [0.250, 0.240, 0.244],
        "bare": [0.180, 0.180, 0.180],
        "transforms": [0.020, 0.020, 0.020],
        "float32": [0.500, 0.480, 0.488],
    },
}
STEP = {
    "machine": MACHINE,
    "model": "SmallCNN",
    "images": 128,
    "labeled": 21,
    "k": 10,
    "precision": "float32",
    "rows": [STEP_ROW],
}


# Summing up.


def test_quartiles_are_those_of_numpy():
    values = [0.5, 9.0, 3.0, 4.0, 1.0, 2.0, 7.0]
    low, median, high = np.percentile(values, [25, 50, 75])
    assert measuring.spread(values) == (median, low, high, 7)


def test_the_spread_of_one_measurement_is_itself():
    assert measuring.spread([2.5]) == (2.5, 2.5, 2.5, 1)


def test_a_ratio_is_taken_round_by_round():
    # Twice as long in every round, although the medians alone say 2.5.
    ours, theirs = [2.0, 20.0, 200.0], [1.0, 10.0, 100.0]
    assert measuring.ratio(ours, theirs)[:3] == (2.0, 2.0, 2.0)


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError):
        measuring.ratio([1.0, 2.0], [1.0])


def test_programs_take_turns_in_changing_order(capsys):
    calls = []
    programs = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = measuring.interleave(programs, rounds=3, warm_up=1)
    assert "".join(calls) == "baabbaab"
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    assert "4/4" in capsys.readouterr().err


def test_the_machine_is_described():
    described = measuring.machine()
    assert described.keys() == MACHINE.keys()
    assert described["cores"] >= 1
    assert described["memory_gib"] > 0.1
    assert described["versions"]["tensorflow"].startswith("2.")
    text = measuring.describe(MACHINE)
    assert "2 cores of Abacus (avx512_bf16), 16 GiB" in text
    assert "tensorflow 2.15.1, OMP_NUM_THREADS=1" in text


# Passes.


class Counter:
    """A classifier that notes how many images it gets, and in which mode."""

    def __init__(self):
        self.weight = tf.Variable(tf.ones([3]))
        self.trainable_variables = [self.weight]
        self.seen = {False: 0, True: 0}

    def __call__(self, images, training):
        self.seen[training] += images.shape[0]
        return tf.reduce_mean(images, [1, 2, 3])[:, None] * self.weight


@pytest.mark.parametrize(
    ("objective", "neighborhood"),
    [
        (SRT(), LInf(epsilon=0.1, num_steps=4)),
        (SRT(), Spatial(num_samples=3)),
        (SRT(), Composite(stages=(LInf(epsilon=0.1, num_steps=2), Spatial(num_samples=3)))),
        (Adversarial(), LInf(epsilon=0.1, num_steps=2)),
    ],
)
def test_the_bare_passes_are_those_of_the_objective(objective, neighborhood):
    unlabeled = 4 if objective.uses_unlabeled else 0
    asked = objective.passes(neighborhood, 2, unlabeled)
    images, labels = tf.random.stateless_uniform([2 + unlabeled, 5, 5, 1], [1, 2]), [0, 1, 2, 0]
    counter = Counter()
    labels = tf.constant((labels * 2)[: 2 + unlabeled])
    result = passes.bare_step(counter, asked, images, labels)()
    assert np.isfinite(result)
    assert counter.seen == {False: asked.forward + asked.gradient, True: asked.training}


def test_no_bare_pass_is_left_out_by_the_graph_optimizer():
    """Equal passes would be found equal, and made but once."""
    counted = []

    def count(images):
        counted.append(len(images))
        return np.float32(0)

    def classifier(images, training):
        # Without a state, so that nothing but its input keeps a call apart from another.
        zero = tf.numpy_function(count, [images], tf.float32, stateful=False)
        return tf.reduce_mean(images, [1, 2, 3])[:, None] * weight + tf.ensure_shape(zero, [])

    weight = tf.Variable(tf.ones([3]))
    classifier.trainable_variables = [weight]
    images, labels = tf.ones([4, 2, 2, 1]), tf.zeros([4], tf.int32)
    passes.bare_step(classifier, StepPasses(12, 8, 5), images, labels)()
    assert sorted(counted) == [4] * 5 + [5]


@pytest.mark.parametrize("wrong", [StepPasses(5, 8, 6), StepPasses(8, 5, 6), StepPasses(8, 8, 9)])
def test_passes_that_are_no_whole_rounds_are_refused(wrong):
    with pytest.raises(ValueError, match="whole rounds over 4 images"):
        passes.bare_step(Counter(), wrong, tf.ones([4, 2, 2, 1]), tf.zeros([4], tf.int32))


def test_the_step_is_the_one_of_the_issue():
    counts = SRT().passes(step_cost.NEIGHBORHOODS["pixel"], 21, 107)
    assert counts == StepPasses(128, 1280, 149)
    counts = SRT().passes(step_cost.NEIGHBORHOODS["spatial"], 21, 107)
    assert counts == StepPasses(128 * 11, 0, 149)


def test_every_peer_gets_the_same_job():
    assert (peer_jobs.IMAGES, peer_jobs.LABELED, peer_jobs.STEPS) == (128, 21, 10)
    ball = LInf(epsilon=peer_jobs.EPSILON, num_steps=peer_jobs.STEPS)
    assert ball.solver.step_size == pytest.approx(peer_jobs.STEP_SIZE)
    for pair in peers.PAIRS:
        assert peer_jobs.JOBS[pair.ours].task == peer_jobs.JOBS[pair.theirs].task


def test_the_twin_in_torch_has_as_many_weights():
    pytest.importorskip("torch")
    from keras_srt import SmallCNN

    twin = peer_jobs._torch_model()
    ours = SmallCNN().build(peer_jobs.SHAPE, peer_jobs.CLASSES)
    trained = sum(weight.shape.num_elements() for weight in ours.trainable_variables)
    assert sum(weight.numel() for weight in twin.parameters()) == trained


# Start-up.


# Exhaustive search.


def test_the_first_that_is_true_or_the_last():
    reached = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 0]], bool)
    assert first_or_last(reached).tolist() == [1, 0, 2]


@pytest.fixture
def weak():
    """A linear classifier that some images are near the border of, and its images."""
    generator = np.random.default_rng(0)
    images = np.float32(generator.random((30, 7, 7, 1)))
    classifier = linear(generator.normal(size=(7, 7, 1, 3)))
    return classifier, images, np.int32(np.argmax(classifier(tf.constant(images)), axis=1))


@pytest.mark.parametrize(
    "attack",
    [
        PGD(epsilon=0.06, num_steps=8, step_size=0.01),
        GridAdv(max_rotation=6, max_translation=0.1, grid=(3, 3, 5)),
    ],
    ids=["pgd", "gridadv"],
)
def test_the_verdict_is_that_of_exhaustive_search_image_by_image(weak, attack):
    classifier, images, labels = weak
    target_model = TargetModel(classifier, batch_size=len(images))
    outcome = evaluate_robustness(target_model, images, labels, [attack])
    searched = evaluation_cost.search(
        attack, target_model, images, Criterion(outcome.clean_classes)
    )
    assert 0.1 < searched.fooled.mean() < 0.9
    np.testing.assert_array_equal(outcome.surviving(attack.name), ~searched.fooled)
    assert sum(searched.needed) < sum(searched.every)


def test_the_passes_of_exhaustive_search_are_counted(weak):
    classifier, images, labels = weak
    target_model, criterion, n = TargetModel(classifier), Criterion(labels), len(images)
    attack = PGD(epsilon=0.06, num_steps=8, step_size=0.01)
    searched = exhaustive.search_steps(
        attack, target_model, images, criterion, fold(tf.constant([0, 0]), 0)
    )
    assert searched.every == Passes(n, 8 * n) == Passes(target_model.queries - 8 * n, 8 * n)
    forward, gradient = zip(*searched.rounds, strict=True)
    assert len(searched.rounds) == 9
    assert gradient[0] == n
    assert list(gradient) == sorted(gradient, reverse=True)
    assert searched.needed == Passes(sum(forward), sum(gradient))
    # The attack itself asks for just what is needed.
    target_model = TargetModel(classifier)
    attack.run(target_model, images, criterion, fold(tf.constant([0, 0]), 0))
    assert target_model.queries == sum(searched.needed)


def test_needed_passes_are_priced_by_full_batches():
    row = {
        "images": 10,
        "seconds": {"forward": [1.0, 2.0], "gradient": [3.0, 4.0], "transform": [0.5, 0.5]},
    }
    needed = {"forward": 20, "gradient": 5}
    assert evaluation_cost.bare_seconds(row, needed, transforms=False) == [3.5, 6.0]
    assert evaluation_cost.bare_seconds(row, needed, transforms=True) == [4.5, 7.0]


# Tables.


def test_the_step_is_compared_with_passes_and_transforms():
    assert step_cost.relative(STEP_ROW).median == pytest.approx(0.244 / 0.2)
    *_, row = step_cost.to_markdown(STEP).splitlines()
    assert row == (
        "| SRT spatial | 244 (242–247) | 180 (180–180) | 20.0 (20.0–20.0) | 1.22 (1.21–1.23) |"
    )


def test_peers_are_compared_in_pairs_that_were_measured():
    rows = [
        {"job": "keras_srt", "task": "srt", "library": "a 1", "seconds": [0.4, 0.4]},
        {"job": "Torch", "task": "srt", "library": "b 2", "seconds": [0.5, 0.5]},
        {"job": "ART", "task": "adversarial", "library": "c 3", "seconds": [1.0, 1.0]},
    ]
    ((pair, times),) = peers.compare(rows)
    assert (pair.theirs, times.median) == ("Torch", 1.25)
    text = peers.to_markdown(
        {
            "model": "M",
            "images": 128,
            "labeled": 21,
            "k": 10,
            "epsilon": 0.3,
            "steps_in_a_row": 4,
            "rows": rows,
        }
    )
    assert "| keras_srt | srt | a 1 | 400 (400–400) | 320 |" in text
    assert text.endswith("| keras_srt by Torch | 1.25 (1.25–1.25)× | ≥ 1.3: **no** |")


def test_the_table_of_evaluations():
    row = {
        "attack": "gridadv",
        "model": "standard",
        "images": 10,
        "clean": 0.9,
        "accuracy": 0.1,
        "same_verdicts": 10,
        "needed": {"forward": 20, "gradient": 0},
        "every": {"forward": 7760, "gradient": 0},
        "seconds": {"ours": [0.33], "forward": [0.1], "gradient": [0.3], "transform": [0.05]},
        "exhaustive_seconds": 3.3,
        "others": [{"library": "a 1", "attack": "B", "images": 5, "seconds": 1.0}],
    }
    steps = {"attack": "pgd", "seconds": {**row["seconds"], "replayed": [0.3]}, "others": []}
    text = evaluation_cost.to_markdown({"images": 10, "rows": [row, row | steps]})
    assert "| ≤ 1.15: yes | 1.10 (1.10–1.10) | ≤ 1.15: yes | 10.0× |" in text
    assert (
        "| `gridadv`, standard | 90.0% → 10.0% | 30.3 | 2.0 | 1.65 (1.65–1.65) | "
        "1.10 (1.10–1.10) | ≤ 1.15: yes | – | – | 10.0× (≥ 20: **no**) | 10 of 10 |"
    ) in text
    assert text.endswith("| `gridadv`, standard | a 1: B | 5 | 5 | 30.3 | 6.1× |")


def test_what_the_steal_is_its_share_of_all_processors_time(tmp_path):
    count = tmp_path / "stat"
    count.write_text("cpu  100 0 50 800 10 0 0 40 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    clock = measuring.StealClock(count)
    assert clock.share() is None  # no time has passed
    count.write_text("cpu  150 0 60 820 10 0 0 60 9 0\n")
    assert clock.share() == 0.2
    assert measuring.StealClock(tmp_path / "missing").share() is None


def test_rows_are_kept_where_the_settings_are_the_same(tmp_path):
    file = tmp_path / "rows.json"
    before = {"load": 0.1, "date": "2026-11-26", "cores": 2}
    document = {"machine": before, "attack": {"grid": (5, 5, 31)}, "rows": []}
    rows = [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    file.write_text(json.dumps({**document, "rows": rows}))
    now = {**document, "machine": {**before, "load": 0.7, "date": "2026-11-27"}}
    assert trainings.kept_rows(now, file) == rows
    for changed, path in (
        ({"machine": {**before, "cores": 4}}, file),
        ({"attack": {"grid": (3, 3, 31)}}, file),
        ({}, tmp_path / "missing.json"),
        ({}, None),
    ):
        with pytest.raises(UserError, match="--keep"):
            trainings.kept_rows({**now, **changed}, path)


def test_an_equal_classifier_is_timed_anew_and_not_attacked_anew():
    rows = [{"seed": 0, "accuracy": 0.5}, {"seed": 1, "classifier": "a", "accuracy": 0.9}]
    again = {"seed": 1, "classifier": "a", "seconds": 3.0}
    assert time_to_robustness.known(rows, again) == {**again, "accuracy": 0.9}
    assert time_to_robustness.known(rows, {**again, "classifier": "b"}) is None
    assert time_to_robustness.known(rows, {**again, "seed": 0}) is None
