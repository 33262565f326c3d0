"""The benchmarks of cost: what they count, how they sum up, and what their page says."""

import json
import sys

import numpy as np
import pytest
from helpers import ROOT, python
from linear_models import linear

sys.path.append(str(ROOT / "benchmarks"))

import evaluation_cost
import exhaustive
import growth
import kernels
import measuring
import page
import passes
import peer_jobs
import peers
import precision_cost
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
from keras_srt.neighborhoods.base import fold
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


def test_a_line_is_fitted_with_its_r_squared():
    x, y = [1, 2, 3, 4], [2.0, 4.0, 5.0, 4.0]
    line = growth.fit_line(x, y)
    slope, intercept = np.polyfit(x, y, 1)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))
    assert line.r_squared == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


def test_growth_leaves_out_the_first_quarter():
    assert growth.grown([1, 50, 100, 100, 100, 101, 103, 103]) == pytest.approx(3 / 100)


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
    assert step_cost.ASKED == {"pixel": 1.05, "spatial": 1.15, "composite": 1.10}


def test_every_peer_gets_the_same_job():
    assert (peer_jobs.IMAGES, peer_jobs.LABELED, peer_jobs.STEPS) == (128, 21, 10)
    ball = LInf(epsilon=peer_jobs.EPSILON, num_steps=peer_jobs.STEPS)
    assert ball.step_length == pytest.approx(peer_jobs.STEP_SIZE)
    for pair in peers.PAIRS:
        assert peer_jobs.JOBS[pair.ours].task == peer_jobs.JOBS[pair.theirs].task


def test_the_twin_in_torch_has_as_many_weights():
    pytest.importorskip("torch")
    from keras_srt import SmallCNN

    twin = peer_jobs._torch_model()
    ours = SmallCNN().build(peer_jobs.SHAPE, peer_jobs.CLASSES)
    trained = sum(weight.shape.num_elements() for weight in ours.trainable_variables)
    assert sum(weight.numel() for weight in twin.parameters()) == trained


def test_what_onednn_says_is_read():
    log = [
        "onednn_verbose,info,oneDNN v3.2",
        "onednn_verbose,exec,cpu,reorder,jit:uni,undef,a,,,32x1x3x3,9.0",
        "onednn_verbose,exec,cpu,convolution,brgconv:avx512_core_bf16,forward_training,a,,,p,1.5",
        "onednn_verbose,exec,cpu,convolution,brgconv:avx512_core_bf16,forward_training,a,,,p,2.5",
        "onednn_verbose,exec,cpu,convolution,jit:avx512_core,backward_data,a,,,p,3.0",
        "a warning, with commas",
    ]
    assert kernels.read(log, passes=2) == [
        {
            "direction": "forward_training",
            "kernel": "brgconv:avx512_core_bf16",
            "calls": 1.0,
            "ms": 2.0,
        },
        {"direction": "backward_data", "kernel": "jit:avx512_core", "calls": 0.5, "ms": 1.5},
    ]


# Start-up.


@pytest.mark.parametrize(("name", "code"), [("train.py --help", 0), ("a config error", 2)])
def test_what_takes_seconds_to_import_is_left_out(name, code):
    _, *arguments = growth.COMMANDS[name]
    script = (
        "import sys; from keras_srt.cli.main import main\n"
        f"try:\n    code = main(['train', *{arguments!r}])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "slow = {'tensorflow', 'keras', 'tensorflow_datasets', 'matplotlib', 'sklearn', 'scipy'}\n"
        "print(code, sorted(slow & set(sys.modules)))"
    )
    process = python("-c", script)
    assert process.stdout.endswith(f"{code} []\n"), process.stdout + process.stderr


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
    np.testing.assert_array_equal(outcome.still_right(attack.name), ~searched.fooled)
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
        "| SRT spatial | 244 (242–247) | 180 (180–180) | 20.0 (20.0–20.0) | 1.22 (1.21–1.23) "
        "| ≤ 1.15: **no** |"
    )


@pytest.mark.parametrize(
    ("ms", "verdict"),
    [
        (4.0, "mixed_bfloat16 takes 2.00 of float32. With these kernels no arrangement"),
        (1.0, "mixed_bfloat16 takes 0.50 of float32. The kernels leave room for it."),
    ],
)
def test_a_lower_precision_is_judged_by_its_kernels(ms, verdict):
    kernel = {"kernel": "brgconv", "direction": "backward_data", "calls": 4.0}
    both = {"float32": [{**kernel, "ms": 2.0}], "mixed_bfloat16": [{**kernel, "ms": ms}]}
    text = step_cost.to_markdown({**STEP, "precision": "mixed_bfloat16", "kernels": both})
    assert verdict in text
    assert "| 0.500 (0.500–0.500) | ≤ 0.62: yes |" in text


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


def test_the_tables_of_growth():
    document = {
        "memory": {"steps": 5000, "resident": [90, 100, 100, 101], "date": "2026-11-27"},
        "pipeline": {
            "steps": 2,
            "seconds": {"fixed": [1.0], "pipeline": [1.05], "batches alone": [0.01]},
        },
        "start_up": {"train.py --help": [0.2, 0.2, 0.3]},
    }
    text = growth.to_markdown(document)
    assert "| 5,000 steps in 4 intervals | 101 | +1.00% | ≤ 0.02: yes | 2026-11-27 |" in text
    assert "| 500 (500–500) | 525 (525–525) | 5.00 (5.00–5.00) | 1.05 (1.05–1.05) " in text
    assert "≤ 1.03: **no**" in text
    assert "| train.py --help | 0.200 (0.200–0.250) | ≤ 1: yes |" in text


def test_the_page_is_made_of_the_figures(tmp_path):
    (tmp_path / "step_cost.json").write_text(json.dumps(STEP))
    text = page.to_markdown(page.PARTS, tmp_path)
    assert "- Step cost: SRT spatial: ≤ 1.15: **no**" in text
    assert "python benchmarks/step_cost.py --output docs/benchmarks/step_cost.json" in text
    assert text.count("Not measured yet.") == len(page.PARTS) - 1
    assert "- Peers: not measured yet" in text
    assert "2 cores of Abacus" in text


def test_figures_of_another_machine_stand_beside(tmp_path):
    for machine, name in (("Abacus", "step_cost.json"), ("Slide rule", "step_cost.old.json")):
        document = {**STEP, "machine": {**STEP["machine"], "processor": machine}}
        (tmp_path / name).write_text(json.dumps(document))
    text = page.to_markdown(page.PARTS, tmp_path)
    assert "- Step cost: SRT spatial: ≤ 1.15: **no**" in text
    assert "- Step cost (old): SRT spatial: ≤ 1.15: **no**" in text
    first, _, second = text.partition("### Step cost: old")
    assert "2 cores of Abacus" in first
    assert "2 cores of Slide rule" in second
    assert "Slide rule" not in first


def test_the_page_in_the_documentation_says_what_the_figures_say():
    expected = page.to_markdown(page.PARTS, measuring.FOLDER)
    assert page.PAGE.read_text(encoding="utf-8") == expected


def test_a_change_of_accuracy_is_that_of_paired_proportions():
    # Images that only the one or only the other gets right, against NumPy's standard error.
    changes = np.repeat([-1, 1, 0], [30, 10, 960])
    change, half = precision_cost.difference(30, 10, 1000)
    assert change == pytest.approx(changes.mean())
    assert half == pytest.approx(1.96 * changes.std() / np.sqrt(1000))
    assert precision_cost.difference(0, 0, 5) == (0.0, 0.0)
    before = {"clean": np.array([1, 1, 0, 0, 1], bool)}
    after = {"clean": np.array([1, 0, 0, 1, 0], bool)}
    assert precision_cost.compare(before, after) == ({"clean": 2}, {"clean": 1})


def test_a_config_that_cannot_be_used_is_one_line(capsys):
    assert precision_cost.main(["--set", "training.steps=0"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert "training.steps" in message
    assert "allowed" in message


def test_the_table_of_precisions_has_the_change_over_all_seeds():
    rows = [
        {
            "seed": seed,
            "n": 100,
            "steps": 5,
            "float32": {"seconds": 10.0, "clean": 90, "robust": 50},
            "mixed_bfloat16": {"seconds": 5.0, "clean": 89 + 2 * seed, "robust": 46},
            "lost": {"clean": 1, "robust": 4},
            "won": {"clean": 2 * seed, "robust": 0},
        }
        for seed in (0, 1)
    ]
    document = {"config": "a.json", "variant": "b", "overrides": ["c=1"], "rows": rows}
    text = precision_cost.to_markdown({**document, "attacks": ["fgsm", "pgd"]})
    title = "`a.json --variant b --set c=1`; under attack: the worst case of `fgsm`, `pgd`\n"
    assert text.startswith(title)
    assert page.not_kept(text) == ["seed 2: not measured: **no**"]
    assert text.splitlines()[-4:-1] == [
        "| seed 0 | 5 | 90.00% | 89.00% | -1.00 ± 1.95 | 50.00% | 46.00% | -4.00 ± 3.84 | 100 |",
        "| seed 1 | 5 | 90.00% | 91.00% | +1.00 ± 3.39 | 50.00% | 46.00% | -4.00 ± 3.84 | 100 |",
        "| mean |  | 90.00% | 90.00% | +0.00 ± 1.96 | 50.00% | 46.00% | -4.00 ± 2.72 | 200 |",
    ]


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


def test_a_training_that_stays_below_the_goal_has_no_time():
    row = {"steps": 3000, "clean": 0.99, "ci95": [0.91, 0.93], "n": 10000}
    rows = [
        {"seed": 0, "seconds": 421.4, "accuracy": 0.9212, **row},
        {"seed": 1, "seconds": 601.0, "steal": 0.381, "accuracy": 0.9300, **row},
        {"seed": 2, "seconds": 90.0, "accuracy": 0.9211, **row},
    ]
    document = {"criterion": "spatial", "variant": "quick", "overrides": ["a=1"], "rows": rows}
    text = time_to_robustness.to_markdown(document)
    assert text.startswith("`mnist_spatial.json --variant quick --set a=1`\n")
    cells = [line.strip("| ").split(" | ") for line in text.splitlines()[-3:]]
    assert [line[0] for line in cells] == [f"`spatial`, seed {seed}" for seed in range(3)]
    assert [line[2:5] for line in cells] == [
        ["421", "–", "≤ 600: yes"],
        ["601", "38%", "≤ 600: **no**"],
        ["90", "–", ""],
    ]
    assert [line[7] for line in cells] == ["≥ 0.9212: yes", "≥ 0.9212: yes", "≥ 0.9212: **no**"]
    assert page.not_kept(text) == [
        "`spatial`, seed 1: ≤ 600: **no**",
        "`spatial`, seed 2: ≥ 0.9212: **no**",
    ]


def test_seeds_that_were_not_measured_are_rows_too():
    row = {"seed": 1, "seconds": 421.4, "steps": 3000, "clean": 0.99, "accuracy": 0.93}
    rows = [{**row, "ci95": [0.92, 0.94], "n": 10000}]
    document = {"criterion": "spatial", "variant": "quick", "overrides": [], "rows": rows}
    assert page.not_kept(time_to_robustness.to_markdown(document)) == [
        "`spatial`, seed 0: not measured: **no**",
        "`spatial`, seed 2: not measured: **no**",
    ]
