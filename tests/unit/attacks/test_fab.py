"""FAB: the shortest step to a hyperplane in the box, and distances to known boundaries."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import constant, dual_norm, length, linear, moved, predict_classes, run
from scipy.optimize import linprog, minimize

from keras_srt.attacks import FABT
from keras_srt.attacks.fab import project_on_hyperplane
from keras_srt.core.errors import InvalidSettings
from keras_srt.evaluation.runner import evaluate_robustness

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])
generator = np.random.default_rng(13)
WEIGHTS = generator.normal(size=(6, 6, 1, 4))
IMAGES = np.float32(generator.uniform(0.4, 0.6, (30, 6, 6, 1)))
LABELS = predict_classes(linear(WEIGHTS), IMAGES)


# The shortest step to a hyperplane in the box.


def smallest_length(point, normal, change, norm):
    """The least ‖δ‖ by a general solver, or None if the hyperplane misses the box."""
    low, high = -point, 1 - point
    size = len(point)
    if norm == "linf":  # min t with |δ_i| ≤ t
        below = np.block(
            [[np.eye(size), -np.ones((size, 1))], [-np.eye(size), -np.ones((size, 1))]]
        )
        solved = linprog(
            np.eye(size + 1)[-1], below, np.zeros(2 * size), np.append(normal, 0)[None], [change],
            [*zip(low, high, strict=True), (0, None)],
        )  # fmt: skip
        return solved.fun if solved.success else None
    solved = minimize(
        lambda way: way @ way, np.zeros(size), jac=lambda way: 2 * way, method="SLSQP",
        bounds=list(zip(low, high, strict=True)), options={"ftol": 1e-14, "maxiter": 500},
        constraints={
            "type": "eq", "fun": lambda way: way @ normal - change, "jac": lambda _: normal
        },
    )  # fmt: skip
    return np.sqrt(solved.fun) if solved.success else None


@NORMS
def test_no_general_solver_finds_a_shorter_step(norm):
    draw = np.random.default_rng(14)
    points = np.clip(draw.uniform(-0.3, 1.3, (40, 6)), 0, 1)
    normals = draw.normal(size=(40, 6)) * (draw.random((40, 6)) > 0.2)
    most = np.sum(np.where(normals > 0, normals * (1 - points), -normals * points), axis=1)
    change = most * draw.uniform(0.05, 0.95, 40)  # as far as the box allows, or nearer
    ways = project_on_hyperplane(points, normals, change, norm)
    np.testing.assert_allclose(np.sum(ways * normals, axis=1), change, atol=1e-12)
    assert (points + ways).min() >= -1e-12
    assert (points + ways).max() <= 1 + 1e-12
    for row in zip(points, normals, change, length(ways, norm), strict=True):
        best = smallest_length(*row[:3], norm)
        assert best == pytest.approx(row[3], abs=1e-6)


@NORMS
def test_far_from_the_box_the_step_has_a_closed_form(norm):
    points, normals = np.full((20, 50), 0.5), generator.normal(size=(20, 50))
    change = generator.uniform(-1, 1, 20)
    ways = project_on_hyperplane(points, normals, change, norm)
    reach = dual_norm(normals, norm)
    np.testing.assert_allclose(length(ways, norm), np.abs(change) / reach, rtol=1e-12)
    straight = np.sign(normals) / reach[:, None] if norm == "linf" else (
        normals / reach[:, None] ** 2
    )  # fmt: skip
    np.testing.assert_allclose(ways, change[:, None] * straight, atol=1e-12)


@NORMS
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_hyperplane_outside_the_box_leads_to_the_nearest_corner(norm, sign):
    points, normals = np.array([[0.2, 0.7, 0.4]]), np.array([[1.0, -2.0, 0.0]])
    corner = [1.0, 0.0, 0.4] if sign > 0 else [0.0, 1.0, 0.4]
    way = project_on_hyperplane(points, normals, np.array([sign * 9.0]), norm)
    np.testing.assert_allclose(points + way, [corner], atol=1e-12)


@NORMS
def test_steps_of_length_zero(norm):
    points = np.array([[0.0, 1.0, 0.5]] * 3)
    normals = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]])
    ways = project_on_hyperplane(points, normals, np.array([0.0, 1.0, 1.0]), norm)
    np.testing.assert_array_equal(ways, np.zeros((3, 3)))


@NORMS
def test_float32_keeps_its_type_and_agrees(norm):
    points, normals = generator.random((30, 200)), generator.normal(size=(30, 200))
    change = generator.normal(size=30) * 20
    exact = project_on_hyperplane(points, normals, change, norm)
    short = project_on_hyperplane(
        *(part.astype(np.float32) for part in (points, normals, change)), norm
    )
    assert short.dtype == np.float32
    np.testing.assert_allclose(short, exact, atol=1e-4)


# Linear models.


def nearest_of_linear(weights, images, labels, norm):
    """The distance to the nearest boundary within the box, by the closed form of each."""
    flat, points = (
        weights.reshape(-1, weights.shape[-1]),
        np.float64(images).reshape(len(images), -1),
    )
    logits = (points - 0.5) @ flat
    distances = []
    for other in range(flat.shape[1]):
        normals = flat[:, other] - flat[:, labels].T
        gap = logits[np.arange(len(images)), labels] - logits[:, other]
        ways = project_on_hyperplane(points, normals, gap, norm)
        arrives = np.abs(np.sum(ways * normals, axis=1) - gap) < 1e-9
        distances.append(np.where(arrives & (labels != other), length(ways, norm), np.inf))
    return np.min(distances, axis=0)


@NORMS
@pytest.mark.parametrize("spread", [0.1, 0.7], ids=["inside the box", "at its faces"])
def test_the_nearest_boundary_of_a_linear_model_is_found_within_1_percent(norm, spread):
    images = np.clip(0.5 + generator.uniform(-spread, spread, (30, 6, 6, 1)), 0, 1)
    images = np.float32(images)
    labels = predict_classes(linear(WEIGHTS), images)
    attack = FABT(epsilon=0.0, norm_ball=norm, num_steps=30)
    found, _ = run(attack, linear(WEIGHTS), images, labels)
    got = length((np.float64(found.nearest) - images).reshape(30, -1), norm)
    expected = nearest_of_linear(WEIGHTS, images, labels, norm)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=0.01)
    assert np.all(got >= expected - 1e-6)
    assert np.all(predict_classes(linear(WEIGHTS), found.nearest) != labels)


@NORMS
def test_success_requires_a_distance_within_epsilon(norm):
    distances = nearest_of_linear(WEIGHTS, IMAGES, LABELS, norm)
    epsilon = float(np.median(distances))
    attack = FABT(epsilon=epsilon, norm_ball=norm, num_steps=20)
    found, _ = run(attack, linear(WEIGHTS), IMAGES, LABELS)
    clear = np.abs(distances / epsilon - 1) > 0.01
    np.testing.assert_array_equal(found.success[clear], distances[clear] < epsilon)
    assert not moved(found, IMAGES)[~found.success].any()
    assert length(moved(found, IMAGES), norm).max() <= epsilon + 1e-6


@NORMS
def test_the_report_has_distances_and_the_accuracy_at_each_radius(norm):
    distances = np.sort(nearest_of_linear(WEIGHTS, IMAGES, LABELS, norm))
    radii = tuple(np.float64([1.02, 1.02]) * distances[[9, 19]])
    attack = FABT(epsilon=radii[0], epsilons=radii[1:], norm_ball=norm, num_steps=20)
    report = evaluate_robustness(linear(WEIGHTS), IMAGES, LABELS, [attack]).report()["attacks"][0]
    said = report["distance"]
    assert (said["norm"], said["found"]) == (norm, 30)
    assert said["mean"] == pytest.approx(distances.mean(), rel=0.01)
    assert said["median"] == pytest.approx(np.median(distances), rel=0.01)
    expected = [float(np.mean(distances > radius)) for radius in radii]
    assert [at["accuracy"] for at in said["accuracy_at"]] == pytest.approx(expected, abs=0.04)


@NORMS
def test_targets_are_reached_at_their_distance(norm):
    targets = np.int32((LABELS + 1) % 4)
    found, _ = run(
        FABT(epsilon=5.0 if norm == "l2" else 0.9, norm_ball=norm, num_steps=25),
        linear(WEIGHTS), IMAGES, LABELS, targets=targets,
    )  # fmt: skip
    free, _ = run(
        FABT(epsilon=5.0 if norm == "l2" else 0.9, norm_ball=norm, num_steps=15),
        linear(WEIGHTS), IMAGES, LABELS,
    )  # fmt: skip
    np.testing.assert_array_equal(predict_classes(linear(WEIGHTS), found.nearest), targets)
    aimed, any_class = (
        length((np.float64(f.nearest) - IMAGES).reshape(30, -1), norm) for f in (found, free)
    )
    assert np.all(aimed >= any_class * 0.99)
    assert aimed.mean() > 1.1 * any_class.mean()


# Curved boundaries and failures.


@NORMS
def test_the_nearest_point_of_a_sphere_is_found(norm):
    """Class 1 outside a ball around the middle: in L2 it is radius less distance away."""

    def logits(images):
        square = tf.reduce_sum(tf.square(images - 0.5), axis=[1, 2, 3])
        return tf.stack([0.5 - square, square - 0.5], axis=1)

    images = np.float32(0.5 + generator.uniform(-0.06, 0.06, (20, 6, 6, 1)))
    found, _ = run(FABT(epsilon=1.0, norm_ball=norm), logits, images, np.zeros(20, np.int32))
    got = length((np.float64(found.nearest) - images).reshape(20, -1), norm)
    away = np.abs(np.float64(images) - 0.5).reshape(20, -1)
    if norm == "l2":
        expected = np.sqrt(0.5) - length(away, "l2")
    else:  # every coordinate moves out by t: Σ(a_i + t)² = 1/2
        first, second = away.mean(axis=1), np.square(away).mean(axis=1)
        expected = -first + np.sqrt(first**2 - second + 0.5 / 36)
    np.testing.assert_allclose(got, expected, rtol=0.02)


def test_the_final_search_only_shortens_distances():
    (far, _), (near, model) = (
        run(
            FABT(epsilon=1.0, num_steps=1, overshoot=1.5, final_steps=steps),
            linear(WEIGHTS), IMAGES, LABELS,
        )
        for steps in (0, 3)
    )  # fmt: skip
    far_away, nearer = (
        length((np.float64(found.nearest) - IMAGES).reshape(30, -1), "linf")
        for found in (far, near)
    )
    expected = nearest_of_linear(WEIGHTS, IMAGES, LABELS, "linf")
    assert np.all(far_away > 1.4 * expected)
    np.testing.assert_allclose(nearer, expected, rtol=0.01)
    assert np.all(predict_classes(linear(WEIGHTS), near.nearest) != LABELS)
    # Before and after, the ranking, a step towards each of three; both ends and three steps.
    assert model.queries == 30 * (2 + 1 + 3 * 2 + 2 + 3)


def test_a_failure_returns_the_original():
    attack = FABT(epsilon=0.3, num_steps=4)
    found, model = run(attack, constant(4), IMAGES, np.zeros(30, np.int32))
    np.testing.assert_array_equal(found.nearest, IMAGES)
    assert not found.success.any()
    # Before and after, the ranking of classes, and two passes a step towards each of three.
    assert model.queries == 30 * (2 + 1 + 3 * 4 * 2)


def test_stopping_early_saves_queries_and_keeps_successes():
    distances = nearest_of_linear(WEIGHTS, IMAGES, LABELS, "linf")
    epsilon = float(np.median(distances)) * 1.02
    (every, all_asked), (early, asked) = (
        run(
            FABT(epsilon=epsilon, num_steps=15, stop_early=stop), linear(WEIGHTS), IMAGES, LABELS
        )
        for stop in (False, True)
    )  # fmt: skip
    np.testing.assert_array_equal(every.success, early.success)
    assert 10 < every.success.sum() < 25
    assert asked.queries < 0.8 * all_asked.queries


def test_the_seed_has_no_effect():
    attack = FABT(epsilon=0.1, num_steps=5)
    one, other = (
        run(attack, linear(WEIGHTS), IMAGES, LABELS, seed=seed)[0] for seed in ([0, 1], [5, 6])
    )
    np.testing.assert_array_equal(one.nearest, other.nearest)


def test_two_classes_have_one_boundary():
    weights = WEIGHTS[..., :2]
    labels = predict_classes(linear(weights), IMAGES)
    found, _ = run(FABT(epsilon=0.5, num_steps=20), linear(weights), IMAGES, labels)
    got = length((np.float64(found.nearest) - IMAGES).reshape(30, -1), "linf")
    np.testing.assert_allclose(got, nearest_of_linear(weights, IMAGES, labels, "linf"), rtol=0.01)


@pytest.mark.parametrize(
    "wrong", [{"alpha_max": 2}, {"overshoot": 0.9}, {"backward": -1}, {"norm_ball": "l0"}], ids=str
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings, match=next(iter(wrong))):
        FABT(epsilon=0.1, **wrong)
