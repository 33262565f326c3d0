"""The benchmarks of cost: what they count, how they sum up, and what their page says."""

import sys

import numpy as np
import pytest
from helpers import ROOT
from linear_models import linear

sys.path.append(str(ROOT / "benchmarks"))

import evaluation_cost
import harness
import peer_steps
import peers
import step_cost
import steps
from evaluation_cost import first_success

from keras_srt import SRT, Adversarial, Composite, LInf, Spatial, evaluate_robustness
from keras_srt.attacks import PGD, GridAdv, TargetModel
from keras_srt.attacks.criterion import Criterion
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
    assert harness.spread(values) == (median, low, high, 7)


def test_the_spread_of_one_measurement_is_itself():
    assert harness.spread([2.5]) == (2.5, 2.5, 2.5, 1)


def test_a_ratio_is_taken_round_by_round():
    # Twice as long in every round, although the medians alone say 2.5.
    ours, theirs = [2.0, 20.0, 200.0], [1.0, 10.0, 100.0]
    assert harness.ratio(ours, theirs)[:3] == (2.0, 2.0, 2.0)


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError):
        harness.ratio([1.0, 2.0], [1.0])


def test_programs_take_turns_in_changing_order(capsys):
    calls = []
    programs = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = harness.interleave(programs, rounds=3, warm_up=1)
    assert "".join(calls) == "baabbaab"
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    assert "4/4" in capsys.readouterr().err


def test_the_machine_is_described():
    described = harness.machine()
    assert described.keys() == MACHINE.keys()
    assert described["cores"] >= 1
    assert described["memory_gib"] > 0.1
    assert described["versions"]["tensorflow"].startswith("2.")
    text = harness.describe(MACHINE)
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
    result = steps.bare_step(counter, asked, images, labels)()
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
    steps.bare_step(classifier, StepPasses(12, 8, 5), images, labels)()
    assert sorted(counted) == [4] * 5 + [5]


@pytest.mark.parametrize("wrong", [StepPasses(5, 8, 6), StepPasses(8, 5, 6), StepPasses(8, 8, 9)])
def test_passes_that_are_no_whole_rounds_are_refused(wrong):
    with pytest.raises(ValueError, match="whole rounds over 4 images"):
        steps.bare_step(Counter(), wrong, tf.ones([4, 2, 2, 1]), tf.zeros([4], tf.int32))


def test_the_step_is_the_one_of_the_issue():
    counts = SRT().passes(step_cost.NEIGHBORHOODS["pixel"], 21, 107)
    assert counts == StepPasses(128, 1280, 149)
    counts = SRT().passes(step_cost.NEIGHBORHOODS["spatial"], 21, 107)
    assert counts == StepPasses(128 * 11, 0, 149)


def test_every_peer_gets_the_same_job():
    assert (peer_steps.IMAGES, peer_steps.LABELED, peer_steps.STEPS) == (128, 21, 10)
    ball = LInf(epsilon=peer_steps.EPSILON, num_steps=peer_steps.STEPS)
    assert ball.solver.step_size == pytest.approx(peer_steps.STEP_SIZE)
    for ours, theirs in peers.PAIRS:
        assert peer_steps.JOBS[ours].task == peer_steps.JOBS[theirs].task


def test_the_twin_in_torch_has_as_many_weights():
    pytest.importorskip("torch")
    from keras_srt import SmallCNN

    twin = peer_steps._torch_model()
    ours = SmallCNN().build(peer_steps.SHAPE, peer_steps.CLASSES)
    trained = sum(weight.shape.num_elements() for weight in ours.trainable_variables)
    assert sum(weight.numel() for weight in twin.parameters()) == trained


# Exhaustive search.


def test_the_first_that_is_true_or_the_last():
    reached = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 0]], bool)
    assert first_success(reached).tolist() == [1, 0, 2]


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
    assert 0.1 < searched.adversarial.mean() < 0.9
    np.testing.assert_array_equal(outcome.surviving(attack.name), ~searched.adversarial)
    assert sum(searched.needed) < sum(searched.every)


def test_the_passes_of_exhaustive_search_are_counted(weak):
    classifier, images, labels = weak
    target_model, criterion, n = TargetModel(classifier), Criterion(labels), len(images)
    attack = PGD(epsilon=0.06, num_steps=8, step_size=0.01)
    searched = evaluation_cost.search_steps(
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
        "needed": [20, 5],
        "seconds": {"forward": [1.0, 2.0], "gradient": [3.0, 4.0], "transform": [0.5, 0.5]},
    }
    assert evaluation_cost.bare_seconds(row, transforms=False) == [3.5, 6.0]
    assert evaluation_cost.bare_seconds(row, transforms=True) == [4.5, 7.0]


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
    ((pair, times),) = peers.compare(rows).items()
    assert (pair, times.median) == (("keras_srt", "Torch"), 1.25)
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
    assert text.endswith("| keras_srt / Torch | 1.25 (1.25–1.25)× |")


def test_the_table_of_evaluations():
    row = {
        "attack": "gridadv",
        "model": "standard",
        "images": 10,
        "clean": 0.9,
        "accuracy": 0.1,
        "same_verdicts": 10,
        "needed": [20, 0],
        "seconds": {"ours": [0.33], "forward": [0.1], "gradient": [0.3], "transform": [0.05]},
        "exhaustive_seconds": 3.3,
        "others": [{"attack": "a 1: B", "images": 5, "seconds": 1.0}],
    }
    steps = {"attack": "pgd", "seconds": {**row["seconds"], "replayed": [0.3]}, "others": []}
    text = evaluation_cost.to_markdown({"images": 10, "rows": [row, row | steps]})
    assert "| 1.10 (1.10–1.10) | 1.10 (1.10–1.10) | 10.0× | 10 of 10 |" in text
    assert (
        "| `gridadv`, standard | 90.0% → 10.0% | 30.3 | 2.0 | 1.65 (1.65–1.65) | "
        "1.10 (1.10–1.10) | – | 10.0× | 10 of 10 |"
    ) in text
    assert text.endswith("| `gridadv`, standard | a 1: B | 5 | 5 | 30.3 | 6.1× |")


def test_what_the_steal_is_its_share_of_all_processors_time(tmp_path):
    count = tmp_path / "stat"
    count.write_text("cpu  100 0 50 800 10 0 0 40 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    clock = harness.StealClock(count)
    assert clock.share() is None  # no time has passed
    count.write_text("cpu  150 0 60 820 10 0 0 60 9 0\n")
    assert clock.share() == 0.2
    assert harness.StealClock(tmp_path / "missing").share() is None
