"""One suite of laws that every objective keeps; each loss against NumPy; what a step costs."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    assert_gradient_is_the_slope,
    cross_entropy,
    in_single,
    kl,
    make_mlp,
    mlp_weights,
    numpy_mlp,
    softmax,
    total,
)

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.neighborhoods import L2, Color, Composite, LInf, Noise, Spatial
from keras_srt.objectives import (
    KLR,
    OBJECTIVES,
    RST,
    RT,
    SRT,
    UAT,
    Adversarial,
    Batch,
    Standard,
    StepPasses,
    Target,
    Trades,
    WorstOfK,
    losses,
)
from keras_srt.objectives.srt import Prepared
from keras_srt.training.model import RobustModel

# One row for each objective.
CASES = {
    "standard": Standard(),
    "adversarial": Adversarial(),
    "trades": Trades(robust_weight=6),
    "uat": UAT(fixed_weight=0.5, online_weight=2),
    "uat_ot": UAT(fixed_weight=0),
    "uat_ft": UAT(online_weight=0),
    "rst": RST(),
    "worst_of_k": WorstOfK(num_samples=4),
    "klr": KLR(num_samples=4),
    "rt": RT(robust_weight=0.5),
    "srt": SRT(robust_weight=0.5),
}
PIXEL = LInf(epsilon=0.1, num_steps=3)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=4)
SEED = (1, 2)

each_case = pytest.mark.parametrize("name", CASES)


def neighborhood_of(name):
    """Where an objective of the suite searches: in a ball, or where it needs draws."""
    return TURN if name in ("worst_of_k", "klr") else PIXEL


def prepare(name, classifier, batch, scale=1.0):
    """What a case of the suite prepares."""
    return CASES[name].prepare(classifier, batch, neighborhood_of(name), SEED, scale)


@pytest.fixture
def batch(images, labels, unlabeled):
    """Four labeled images and six without labels, but with a teacher's answers."""
    answers = tf.constant([2, 0, 1, 1, 0, 2])
    return Batch(tf.constant(images), tf.constant(labels), tf.constant(unlabeled), answers)


def state_of(classifier):
    """Every number that a classifier holds, BatchNorm statistics included."""
    return [value.numpy() for value in classifier.variables]


# --- every objective -----------------------------------------------------------------


def test_every_objective_is_in_this_suite():
    assert {case.name for case in CASES.values()} == set(OBJECTIVES)


@each_case
def test_terms_have_the_names_that_are_announced(name, batch, make_classifier):
    case, classifier = CASES[name], make_classifier()
    terms = case.terms(classifier, prepare(name, classifier, batch))
    assert tuple(terms) == case.term_names
    for term in terms.values():
        assert term.values.dtype == tf.float32
        assert term.values.shape.rank == 1
        assert np.all(np.isfinite(term.values))
        assert np.all(term.values >= 0)


@each_case
def test_preparation_leaves_the_classifier_as_it_was(name, batch, make_classifier):
    classifier = make_classifier()
    classifier(batch.images, training=True)  # statistics that are not the initial ones
    before = state_of(classifier)
    prepare(name, classifier, batch)
    for old, new in zip(before, state_of(classifier), strict=True):
        np.testing.assert_array_equal(new, old)


@each_case
def test_the_loss_terms_move_the_statistics_of_batch_norm(name, batch, make_classifier):
    case, classifier = CASES[name], make_classifier()
    prepared = prepare(name, classifier, batch)
    before = state_of(classifier)
    case.terms(classifier, prepared)
    changed = [np.any(a != b) for a, b in zip(before, state_of(classifier), strict=True)]
    moving = ["moving" in value.name for value in classifier.variables]
    assert changed == moving
    assert any(moving)


@each_case
def test_what_is_prepared_carries_no_gradient(name, batch, make_classifier):
    case, classifier = CASES[name], make_classifier()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(batch.images)
        prepared = prepare(name, classifier, batch)
        made = [part for part in tf.nest.flatten(prepared) if part is not None]
        made = [part for part in made if part.dtype.is_floating and part is not batch.images]
        sums = [tf.reduce_sum(part) for part in made]
    for value in sums:
        assert tape.gradient(value, classifier.trainable_variables[0]) is None
    if case.uses_neighborhood:
        assert made


@each_case
def test_the_gradient_takes_what_is_prepared_for_constant(name, batch, make_classifier):
    case, classifier = CASES[name], make_classifier()
    weights, start = classifier.trainable_variables, classifier.get_weights()
    with tf.GradientTape() as outer:
        inside = total(case, classifier, prepare(name, classifier, batch))
    classifier.set_weights(start)  # the statistics of BatchNorm have moved
    prepared = tf.nest.map_structure(
        lambda part: None if part is None else tf.constant(part.numpy()),
        prepare(name, classifier, batch),
    )
    with tf.GradientTape() as tape:
        value = total(case, classifier, prepared)
    np.testing.assert_allclose(inside, value, rtol=1e-6)
    for one, other in zip(
        outer.gradient(inside, weights), tape.gradient(value, weights), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)
        assert np.any(other != 0)


@each_case
def test_the_neighborhood_is_searched_for_a_worse_loss(name, batch, make_classifier):
    case, classifier = CASES[name], make_classifier(batch_norm=False)
    full = total(case, classifier, prepare(name, classifier, batch, 1.0))
    none = total(case, classifier, prepare(name, classifier, batch, 0.0))
    assert (full > none) == case.uses_neighborhood
    if not case.uses_neighborhood:
        assert full == none


@each_case
def test_unlabeled_images_matter_just_where_they_are_used(name, batch, make_classifier):
    case, classifier = CASES[name], make_classifier(batch_norm=False)

    def value(its_batch):
        return total(case, classifier, prepare(name, classifier, its_batch))

    other = batch._replace(unlabeled=1.0 - batch.unlabeled)
    assert (value(batch) != value(other)) == case.uses_unlabeled


@each_case
def test_labels_matter(name, batch, make_classifier):
    case, classifier = CASES[name], make_classifier(batch_norm=False)

    def value(its_batch):
        return total(case, classifier, prepare(name, classifier, its_batch, 0.0))

    assert value(batch) != value(batch._replace(labels=(batch.labels + 1) % 3))


# --- losses --------------------------------------------------------------------------

LOGITS = np.float32([[2, -1, 0.5], [0, 3, 3.5], [-2, 1, 1], [50, -40, 0]])
OWN = np.float32([[1, 0, 0], [0.3, -0.2, 2], [0, 1, -1], [0.1, 0.2, 0.3]])
ANSWERS = np.int32([0, 1, 2, 0])
ONE_HOT = np.eye(3)[ANSWERS]


def test_cross_entropy():
    found = losses.cross_entropy(Target(ANSWERS), tf.constant(LOGITS))
    np.testing.assert_allclose(found, cross_entropy(LOGITS, ANSWERS), atol=1e-6)


def test_kl():
    found = losses.kl(Target(ANSWERS, tf.constant(OWN)), tf.constant(LOGITS))
    np.testing.assert_allclose(found, kl(OWN, LOGITS), rtol=1e-6, atol=1e-6)
    same = losses.kl(Target(ANSWERS, tf.constant(OWN)), tf.constant(OWN))
    np.testing.assert_allclose(same, 0, atol=1e-7)


def test_margin_is_above_zero_just_for_wrong_answers():
    found = losses.margin(Target(ANSWERS), tf.constant(LOGITS))
    np.testing.assert_allclose(found, [-1.5, 0.5, 0, -50], atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("keras:MeanSquaredError", np.mean((softmax(LOGITS) - ONE_HOT) ** 2, axis=1)),
        (keras.losses.MeanAbsoluteError(), np.mean(abs(softmax(LOGITS) - ONE_HOT), axis=1)),
        (
            "keras:CategoricalHinge",
            np.maximum(
                0,
                1
                + np.max(softmax(LOGITS) * (1 - ONE_HOT), axis=1)
                - np.sum(softmax(LOGITS) * ONE_HOT, axis=1),
            ),
        ),
        (
            keras.losses.CategoricalCrossentropy(label_smoothing=0.3),
            -np.sum((0.7 * ONE_HOT + 0.1) * np.log(np.maximum(softmax(LOGITS), 1e-7)), axis=1),
        ),
        (
            "keras:SparseCategoricalCrossentropy",
            -np.log(np.maximum(1e-7, softmax(LOGITS)[np.arange(4), ANSWERS])),
        ),
    ],
)
def test_keras_losses_get_probabilities_and_give_one_loss_for_each_image(loss, expected):
    found = losses.get(loss)(Target(ANSWERS), tf.constant(LOGITS))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_function_is_taken_as_it_is():
    def loss(target, logits):
        return logits[:, 0]

    assert losses.get(loss) is loss
    assert SRT(robust_loss=loss).robust_loss is loss


@pytest.mark.parametrize("name", ["keras:NoSuchLoss", "keras:Reduction", "keras:"])
def test_a_name_that_keras_lacks_is_refused(name):
    with pytest.raises(InvalidSettings, match=f"got '{name}'.*class name of a Keras loss"):
        losses.get(name)


def test_a_loss_that_does_not_exist_is_refused_with_the_nearest_one():
    with pytest.raises(InvalidSettings) as caught:
        SRT(robust_loss="cross_entropi")
    assert caught.value.problems == (
        "robust_loss: got 'cross_entropi'; allowed: cross_entropy, kl, margin, keras:NAME; "
        "did you mean 'cross_entropy'?",
    )


@pytest.mark.parametrize(
    ("objective", "field"),
    [
        (SRT, "clean_loss"),
        (RT, "clean_loss"),
        (Standard, "clean_loss"),
        (Adversarial, "robust_loss"),
        (Trades, "clean_loss"),
        (RST, "clean_loss"),
        (WorstOfK, "robust_loss"),
        (KLR, "clean_loss"),
    ],
)
def test_kl_to_true_labels_is_refused(objective, field):
    with pytest.raises(InvalidSettings) as caught:
        objective(**{field: "kl"})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{field}: got 'kl'; allowed: cross_entropy, margin, keras:NAME")


@pytest.mark.parametrize("loss", ["cross_entropy", "kl", "margin", "keras:CategoricalHinge"])
def test_srt_takes_any_robust_loss(loss, batch, make_classifier):
    case, classifier = SRT(robust_loss=loss), make_classifier(batch_norm=False)
    prepared = case.prepare(classifier, batch, PIXEL, SEED)
    expected = losses.get(loss)(prepared.target, classifier(prepared.perturbed))
    found = case.terms(classifier, prepared)["robust"].values
    np.testing.assert_allclose(found, expected, atol=1e-6)


# --- SRT and RT ----------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize(("objective", "count"), [(SRT, 10), (RT, 4)])
def test_the_loss_is_equation_15_with_separate_means(objective, count, epsilon, batch):
    weights = mlp_weights()
    classifier, _ = make_mlp(weights)
    case = objective(robust_weight=0.7)
    ball = LInf(epsilon=epsilon, num_steps=3)
    prepared = case.prepare(in_single(classifier), batch, ball, SEED)
    images = np.concatenate([batch.images, batch.unlabeled])[:count]
    perturbed = prepared.perturbed.numpy()
    assert perturbed.shape == images.shape
    assert np.max(abs(perturbed - images)) == pytest.approx(epsilon, abs=1e-6)

    answers = np.argmax(numpy_mlp(images, *weights), axis=1)
    clean = cross_entropy(numpy_mlp(batch.images, *weights), batch.labels.numpy())
    robust = cross_entropy(numpy_mlp(perturbed, *weights), answers)
    expected = np.sum(clean) / 4 + 0.7 / count * np.sum(robust)
    np.testing.assert_allclose(total(case, classifier, prepared), expected, atol=1e-6)
    np.testing.assert_array_equal(prepared.target.labels, answers)


def test_rt_is_srt_without_unlabeled_images(batch, make_classifier):
    classifier = make_classifier(batch_norm=False)

    def value(objective, its_batch):
        return total(objective, classifier, objective.prepare(classifier, its_batch, PIXEL, SEED))

    empty = value(SRT(robust_weight=2), batch._replace(unlabeled=None))
    assert value(RT(robust_weight=2), batch) == empty
    assert value(SRT(robust_weight=2), batch) != empty
    none = batch._replace(unlabeled=batch.unlabeled[:0])
    np.testing.assert_allclose(value(SRT(robust_weight=2), none), empty, rtol=1e-6)


def test_the_second_term_asks_for_the_models_own_answer_whatever_the_labels(batch, make_classifier):
    case, classifier = SRT(), make_classifier(batch_norm=False)

    def robust(labels):
        prepared = case.prepare(classifier, batch._replace(labels=labels), PIXEL, SEED)
        return case.terms(classifier, prepared)["robust"].values

    np.testing.assert_array_equal(robust(batch.labels), robust((batch.labels + 1) % 3))


def test_the_search_starts_from_the_answers_of_inference_mode(batch, make_classifier):
    classifier = make_classifier()
    for _ in range(3):
        classifier(1.0 - batch.images, training=True)
    prepared = SRT().prepare(classifier, batch, PIXEL, SEED)
    everything = tf.concat([batch.images, batch.unlabeled], axis=0)
    logits = classifier(everything, training=False)
    np.testing.assert_allclose(prepared.target.logits, logits, atol=1e-6)
    np.testing.assert_array_equal(prepared.target.labels, np.argmax(logits, axis=1))
    found = PIXEL.maximize(
        everything,
        lambda x: losses.cross_entropy(prepared.target, classifier(x, training=False)),
        SEED,
    )
    np.testing.assert_allclose(prepared.perturbed, found.images, atol=1e-6)


def test_lambda_zero_leaves_the_standard_gradient(batch, make_classifier):
    classifier = make_classifier(batch_norm=False)
    gradients = []
    for case in (SRT(robust_weight=0), Standard()):
        prepared = case.prepare(classifier, batch, PIXEL, SEED)
        with tf.GradientTape() as tape:
            value = total(case, classifier, prepared)
        gradients.append(tape.gradient(value, classifier.trainable_variables))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_gradient_of_srt_agrees_with_finite_differences(batch):
    classifier, variables = make_mlp(mlp_weights())
    generator = np.random.default_rng(0)
    prepared = Prepared(
        tf.cast(batch.images, tf.float64),
        batch.labels,
        tf.constant(generator.random((10, 8, 8, 2))),
        Target(tf.constant(generator.integers(0, 3, 10), tf.int32)),
    )
    assert_gradient_is_the_slope(SRT(robust_weight=0.7), classifier, variables, prepared)


# --- what a step costs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "neighborhood", "passes"),
    [
        (Standard(), None, StepPasses(0, 0, 4)),
        (Adversarial(), PIXEL, StepPasses(0, 12, 4)),
        (Adversarial(), TURN, StepPasses(20, 0, 4)),
        (RT(), PIXEL, StepPasses(4, 12, 8)),
        (SRT(), PIXEL, StepPasses(10, 30, 14)),
        (SRT(), TURN, StepPasses(50, 0, 14)),
        (SRT(), Composite(stages=(PIXEL, TURN)), StepPasses(60, 30, 14)),
        (SRT(), Composite(stages=(TURN, PIXEL)), StepPasses(50, 30, 14)),
        (Adversarial(), Composite(stages=(PIXEL, TURN)), StepPasses(20, 12, 4)),
        (Adversarial(), Composite(stages=(TURN, L2(epsilon=1))), StepPasses(20, 40, 4)),
        (Adversarial(), Composite(stages=(PIXEL, TURN), mode="joint"), StepPasses(24, 60, 4)),
        (Trades(), PIXEL, StepPasses(4, 12, 8)),
        (Trades(), Color(num_steps=3), StepPasses(8, 12, 8)),
        (Trades(), Composite(stages=(PIXEL, TURN)), StepPasses(24, 12, 8)),
        (RST(), PIXEL, StepPasses(10, 30, 20)),
        (UAT(), PIXEL, StepPasses(6, 48, 16)),
        (UAT(), TURN, StepPasses(86, 0, 16)),
        (UAT(fixed_weight=0), PIXEL, StepPasses(6, 30, 10)),
        (UAT(online_weight=0), PIXEL, StepPasses(0, 30, 10)),
        (WorstOfK(num_samples=3), Spatial(search="grid"), StepPasses(16, 0, 4)),
        (WorstOfK(num_samples=3), Composite(stages=(TURN, TURN)), StepPasses(28, 0, 4)),
        (WorstOfK(num_samples=1), Noise(epsilon=0.1), StepPasses(0, 0, 4)),
        (KLR(num_samples=3), Color(), StepPasses(16, 0, 8)),
    ],
)
def test_a_step_costs_what_is_announced(objective, neighborhood, passes, batch, make_classifier):
    """Counts the images of the convolutions in the graph of a step: one convolution is one pass."""
    assert objective.passes(neighborhood, labeled=4, unlabeled=6) == passes

    model = RobustModel(make_classifier(), neighborhood, objective)
    model.compile("sgd")
    model.optimizer.build(model.classifier.trainable_variables)
    data = {"labeled": (batch.images, batch.labels), "unlabeled": batch.unlabeled}
    data["pseudo_labels"] = batch.pseudo_labels
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(data).graph
    live, found = {*graph.control_outputs, *(tensor.op for tensor in graph.outputs)}, []
    while live:  # what neither a result nor a weight depends on, TensorFlow never runs
        found.append(live.pop())
        before = {tensor.op for tensor in found[-1].inputs} | set(found[-1].control_inputs)
        live |= before.difference(found)

    def images_of(kind, tensor):
        return [op.inputs[tensor].shape[0] for op in found if op.type == kind]

    assert sum(images_of("Conv2D", 0)) == sum(passes)
    assert sum(images_of("Conv2DBackpropInput", 2)) == passes.gradient
    assert images_of("Conv2DBackpropFilter", 0) == [passes.training]
    assert max(images_of("Conv2D", 0)) <= max(passes.training, 10)
