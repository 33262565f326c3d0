"""The teacher of `rst` and `uat`: a stage of the run that labels what has no labels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny
from teacher_runs import assert_same_run, configured
from tiny_runs import train_in

from keras_srt.attacks import TargetModel
from keras_srt.config import loader as configs
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.formatting import format_duration
from keras_srt.core.tensorflow import keras
from keras_srt.data import DatasetInfo, Images, Split
from keras_srt.data.source import InMemoryDataset
from keras_srt.objectives import RST, UAT, Standard
from keras_srt.pipeline import data as data_module
from keras_srt.pipeline import teacher
from keras_srt.pipeline.classifiers import load_best_classifier
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.cost import StepTime
from keras_srt.pipeline.data import InMemoryData, load_training_data
from keras_srt.pipeline.describe import describe_cost
from keras_srt.pipeline.evaluate import measure
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.report import make_report
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.teacher_config import teacher_config
from keras_srt.pipeline.train import train
from keras_srt.training.model import RobustModel

INFO = DatasetInfo("made up", (16, 16, 1), tuple("0123456789"), 1000, 200)


pytestmark = pytest.mark.usefixtures("eager", "untimed")


@pytest.fixture(scope="module")
def finished(eager, untimed, tmp_path_factory):
    """A run of `rst` with its teacher."""
    return train_in(tmp_path_factory.mktemp("runs") / "whole", configured())


# The stage.


def test_the_best_teacher_labels_the_unlabeled_images_in_the_order_of_the_split(finished):
    config = configured()
    dataset = config.data.dataset.open()
    info, (images, _) = dataset.info, dataset.load_train()
    split = Split.load(finished.split)
    classifier = load_best_classifier(config, finished.teacher, info)
    expected = classifier(np.float32(images[split.unlabeled] / 255.0)).numpy().argmax(axis=1)
    found = np.load(finished.pseudo_labels, allow_pickle=False)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_the_summary_is_that_of_the_history(finished):
    found = json.loads(finished.teacher_summary.read_text())
    rows = finished.teacher.read_history()
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), int(row["step"])))
    assert [int(row["step"]) for row in rows] == [3, 4]
    assert "val_robust_accuracy" not in rows[0]
    assert found.pop("train_seconds") > 0
    assert found.pop("val_accuracy") == pytest.approx(float(best["val_accuracy"]), abs=1e-6)
    assert found == {
        "objective": "standard",
        "steps": 4,
        "best_step": int(best["step"]),
        "labeled": 40,
        "pseudo_labeled": 50,
    }


def test_the_student_has_a_history_of_its_own(finished):
    rows = finished.read_history()
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert {"clean", "robust", "val_robust_accuracy"} <= set(rows[0])


def test_a_finished_run_asks_nobody(finished, monkeypatch):
    before = finished.best_weights.read_bytes()
    monkeypatch.setattr(teacher, "label_unlabeled", None)
    monkeypatch.setattr(InMemoryDataset, "load_train", None)
    train(RunContext.open(configured(), finished, resume=True))
    assert finished.best_weights.read_bytes() == before


def test_true_labels_of_unlabeled_images_are_never_used(finished, tmp_path, monkeypatch):
    config = configured()
    images, labels = config.data.dataset.open().load_train()
    split = Split.load(finished.split)
    poisoned = labels.copy()
    poisoned[split.unlabeled] = (labels[split.unlabeled] + 5) % 10
    run = RunFolder(tmp_path / "poisoned")
    run.claim(config.to_json(), resume=False)
    split.save(run.split)  # drawing it looks at all labels: each class gets its share
    monkeypatch.setattr(InMemoryDataset, "load_train", lambda *_: Images(images, poisoned))
    train(RunContext.open(config, run))
    assert_same_run(run, finished)


def test_the_student_is_given_the_answers_of_the_teacher(tmp_path, monkeypatch):
    given = []
    answers = np.arange(50, dtype=np.int32) % 10
    monkeypatch.setattr(teacher, "label_unlabeled", lambda *_: answers)
    monkeypatch.setattr(data_module, "training_batches", lambda *_, **named: given.append(named))
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **named: None)
    train_in(tmp_path / "run", configured())
    assert given[0]["pseudo_labels"] is answers


# The saved answers.


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (np.zeros(49, np.int32), r"got int32 \[49\]; allowed: int32 \[50\]"),
        (np.zeros(50), r"got float64 \[50\]"),
        (np.full(50, 10, np.int32), "got class ids from 10 to 10; allowed: 0 to 9"),
        (np.full(50, -1, np.int32), "got class ids from -1 to -1"),
        (None, "can't be read"),
    ],
)
def test_answers_of_another_split_are_refused(answers, words, tmp_path):
    run = RunFolder(tmp_path)
    run.teacher.path.mkdir()
    if answers is None:
        run.pseudo_labels.write_bytes(b"\x93NUMPY")
    else:
        np.save(run.pseudo_labels, answers)
    split = Split(np.arange(40), np.arange(40, 90), np.arange(90, 120), 0, "stratified")
    data = InMemoryData(np.zeros((120, 16, 16, 1), np.uint8), None, split)
    config = configured()
    context = RunContext(
        config, SimpleNamespace(info=INFO), make_plan(config, INFO), run, None, resume=True
    )
    with pytest.raises(UserError, match=words) as caught:
        teacher.label_unlabeled(context, data)
    assert "pseudo_labels.npy" in str(caught.value)
    assert "--resume labels the images again" in str(caught.value)


# The teacher's config.


def teacher_of(config):
    return teacher_config(config, make_plan(config, INFO).steps)


def test_the_teacher_is_standard_training_on_the_labeled_images():
    config = configured(training__strength_warmup=0.5, training__labeled_per_batch=4)
    made = teacher_of(config)
    assert made.objective == Standard()
    plan = make_plan(made, INFO)
    assert (plan.sizes.labeled, plan.sizes.unlabeled, plan.steps) == (16, 0, 4)
    assert (plan.interval, plan.strength_steps, plan.teacher) == (3, 0, None)
    assert (made.data, made.model, made.seed) == (config.data, config.model, config.seed)
    assert made.training.learning_rate == config.training.learning_rate


def test_by_default_it_has_as_many_steps_as_the_student():
    config = configured({"name": "uat", "teacher_steps": None})
    assert make_plan(config, INFO).teacher.steps == teacher_of(config).training.steps == 6
    length = {"training__steps": None, "training__epochs": 3, "training__labeled_per_batch": 8}
    epochs = configured({"name": "uat", "teacher_steps": None}, **length)
    assert teacher_of(epochs).training.epochs is None
    assert teacher_of(epochs).training.steps == make_plan(epochs, INFO).steps == 15


@pytest.mark.parametrize(
    ("length", "milestones", "steps", "expected"),
    [
        ({"training__steps": 100}, [50, 75], 100, (50, 75)),
        ({"training__steps": 100}, [50, 75], 20, (10, 15)),
        ({"training__steps": None, "training__epochs": 4}, [2, 3], 20, (10, 15)),
        ({"training__steps": 100}, [50, 51], 4, (2,)),
        ({"training__steps": 100}, [1, 99], 3, ()),
    ],
)
def test_milestones_keep_their_share_of_the_length(length, milestones, steps, expected):
    schedule = {"name": "step", "milestones": milestones, "factor": 0.3}
    config = configured(
        {"name": "rst", "teacher_steps": steps}, training__schedule=schedule, **length
    )
    found = teacher_of(config).training.schedule
    assert found.milestones == expected
    assert found.name == ("step" if expected else "constant")
    assert not expected or found.factor == 0.3


# Reports.


def test_the_plan_names_the_cost_of_the_teacher():
    plan = make_plan(configured(), INFO)
    text = describe_cost(plan, StepTime(1.0, 16))
    # A step of RST on 16 images with 2 ascent steps: 16 + 2·2·16 + 3·32 = 176 forward passes.
    seconds = format_duration(4 * 3 * 16 / 176)
    first = text.splitlines()[0]
    assert first == (
        f"teacher   4 steps first, without a search: about {seconds}; then it labels 50 images"
    )
    assert plan.teacher.steps == 4
    without = make_plan(configured({"name": "uat", "fixed_weight": 0}), INFO)
    assert without.teacher is None
    assert "teacher" not in describe_cost(without, StepTime(1.0, 16))


def test_half_of_a_batch_of_rst_is_unlabeled_and_uat_shares_in_proportion():
    assert make_plan(configured(), INFO).sizes == (8, 8)
    assert make_plan(configured(training__labeled_per_batch=5), INFO).sizes == (5, 11)
    assert make_plan(configured("uat"), INFO).sizes == (7, 9)  # 16 · 40 / 90


@pytest.mark.parametrize(
    ("objective", "instead"), [("rst", "trades"), ("uat", "adversarial"), ("srt", "rt")]
)
def test_data_without_unlabeled_images_are_refused(objective, instead):
    settings = {"data__unlabeled": 0, "training__labeled_per_batch": None}
    words = f"the objective '{instead}', its equivalent without unlabeled images"
    with pytest.raises(InvalidSettings, match=rf"^data\.unlabeled: got 0 .*{words}"):
        configs.parse(tiny(objective={"name": objective}, **settings), COMPONENTS)
    settings["data__unlabeled"] = None  # all the rest, of which there is none
    config = configs.parse(tiny(objective={"name": objective}, **settings), COMPONENTS)
    with pytest.raises(InvalidSettings, match=f"^data: got no unlabeled images.*{words}"):
        make_plan(config, INFO._replace(num_train=70))


def test_a_teacher_that_predicts_one_class_is_warned_of(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(teacher, "train_classifier", lambda *_: None)
    monkeypatch.setattr(teacher, "_summary", lambda *_: {"val_accuracy": 0.1, "best_step": 3})
    one_class = SimpleNamespace(predict=lambda *_, **__: np.eye(10)[[4, 4, 4]])
    monkeypatch.setattr(RunContext, "best_classifier", one_class)
    context = RunContext.open(configured(), RunFolder(tmp_path))
    labels = teacher.label_unlabeled(context, load_training_data(context))
    assert labels.tolist() == [4, 4, 4]
    assert "gave all unlabeled images one class" in caplog.text


@pytest.mark.parametrize("objective", [RST, UAT])
@pytest.mark.parametrize("steps", [0, 1.5, "many"])
def test_steps_of_the_teacher_are_a_whole_number(objective, steps):
    with pytest.raises(InvalidSettings, match=r"teacher_steps: got .* of at least 1"):
        objective(teacher_steps=steps)


def test_the_report_has_the_summary_of_the_teacher(finished):
    config = configured()
    context = RunContext.open(config, finished)
    target_model = TargetModel(context.best_classifier, 10)
    evaluation = measure(config, target_model, context.source.test(10))
    report = make_report(config, context.source, evaluation, "tiny", trained=context)
    assert report["teacher"] == json.loads(finished.teacher_summary.read_text())


# A teacher with settings and a teacher of its own.

CHAIN = {
    "objective": {"name": "noisy_student", "label_smoothing": 0.1},
    "augmentation": {"cutout": 4, "flip": True},
    "training": {"steps": 3, "initial_weights": "teacher", "learning_rate": 0.02},
    "temperature": 0.5,
    "teacher": {"training": {"steps": 2}},
}


def chained(**changes):
    """A tiny run of `srt` with a noisy student as its teacher."""
    settings = {"training__initial_weights": "teacher", "teacher": CHAIN, **changes}
    objective = {"name": "srt", "pseudo_labels": "teacher"}
    return configs.parse(tiny(objective=objective, data__unlabeled=50, **settings), COMPONENTS)


@pytest.fixture(scope="module")
def chain(eager, untimed, tmp_path_factory):
    """A finished run of `chained`, and the models that took over the weights of a teacher."""
    started = []
    start_from = RobustModel.start_from

    def spy(model, classifier):
        start_from(model, classifier)
        started.append((model.objective.name, model.classifier.get_weights()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RobustModel, "start_from", spy)
        run = train_in(tmp_path_factory.mktemp("chain") / "run", chained())
    return run, started


def test_a_teacher_can_have_settings_and_a_teacher(chain):
    plan, (run, _) = make_plan(chained(), INFO), chain
    assert (plan.teacher.steps, plan.teacher.teacher.steps) == (3, 2)
    assert plan.teacher.teacher.teacher is None
    first = describe_cost(plan, StepTime(1.0, 16)).splitlines()[0]
    assert first.startswith("teacher   2 + 3 steps first, without a search: about ")
    steps = [folder.read_history()[-1]["step"] for folder in (run.teacher.teacher, run.teacher)]
    assert [int(step) for step in steps] == [2, 3]


def test_soft_pseudo_labels_are_means_over_flips_at_a_temperature(chain):
    run, _ = chain
    student = RunContext.open(chained(), run)
    data = load_training_data(student)
    images = np.concatenate(list(data.unlabeled_batches(50)))
    views = images, images[:, :, ::-1]  # both teachers are trained with flips
    context = student
    for temperature in (0.5, 1.0):
        labels = np.load(context.folder.pseudo_labels)
        context = teacher.teacher_context(context)
        p = np.mean([tf.nn.softmax(context.best_classifier(view)) for view in views], axis=0)
        p = p ** (1 / temperature)
        assert labels.dtype == np.float16
        np.testing.assert_allclose(labels, p / p.sum(1, keepdims=True), atol=1e-3)


def test_students_start_from_the_weights_of_their_teachers(chain):
    run, started = chain
    assert [name for name, _ in started] == ["noisy_student", "srt"]  # inner teachers first
    context = RunContext.open(chained(), run)
    for _, weights in reversed(started):
        context = teacher.teacher_context(context)
        for one, other in zip(weights, context.best_classifier.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((49, 10), np.float16), r"got float16 \[49, 10\]; allowed: float16 \[50, 10\]"),
        (np.zeros(50, np.int32), r"got int32 \[50\]"),
        (np.full((50, 10), np.nan, np.float16), "values that are not probabilities"),
    ],
)
def test_soft_labels_of_another_split_are_refused(labels, words, tmp_path):
    context = RunContext.open(chained(), RunFolder(tmp_path), resume=True)
    context.folder.teacher.path.mkdir()
    np.save(context.folder.pseudo_labels, labels)
    with pytest.raises(UserError, match=words):
        teacher.label_unlabeled(context, load_training_data(context))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": {"training": {"stepz": 3}}}, r"^teacher\.training\.stepz: "),
        ({"teacher": {"objective": "nosy"}}, r"^teacher\.objective\.name: got 'nosy'"),
        ({"teacher": {"augmentation": {"cutout": -1}}}, r"^teacher\.augmentation\.cutout: got -1"),
        ({"teacher": {"model": {"name": "vgg"}}}, r"^teacher\.model\.name: got 'vgg'"),
        ({"teacher": {"objective": "rt"}}, "^teacher\\.objective: got 'rt'; allowed: 'standard'"),
        ({"objective": "srt"}, "^teacher: got a teacher with the objective 'srt', which uses none"),
        ({"objective": "srt", "teacher": None}, "^training.initial_weights: got a teacher"),
    ],
)
def test_invalid_teachers_are_refused(changes, words):
    settings = {"training__initial_weights": "teacher", "teacher": CHAIN, "data__unlabeled": 50}
    settings["objective"] = {"name": "srt", "pseudo_labels": "teacher"}
    config = configs.parse(tiny(**settings | changes), COMPONENTS)
    with pytest.raises(InvalidSettings, match=words):
        make_plan(config, INFO)
