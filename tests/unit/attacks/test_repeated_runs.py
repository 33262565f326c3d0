"""Repeated runs: each image keeps its first success, or else its highest loss."""

import numpy as np
import pytest

from keras_srt.attacks import AttackResult
from keras_srt.attacks.repeated_runs import of_same_images, run_repeatedly

IMAGES = np.zeros((4, 1, 1, 1), np.float32)
# Loss of run r on image i; runs above 9 succeed.
LOSSES = np.float32([[1, 2, 11, 4], [3, 12, 13, 2], [2, 14, 1, 3]])


def runs(calls):
    def run(numbers, active):
        calls.append((list(numbers), list(active)))
        losses = LOSSES[np.ix_(numbers, active)].reshape(-1)
        images = losses[:, None, None, None] / 100
        return AttackResult(images, images, losses > 9), losses

    return run


@pytest.mark.parametrize("max_together", [1, 4, 8, 100])
def test_the_result_does_not_depend_on_how_many_runs_are_made_at_once(max_together):
    found = run_repeatedly(IMAGES, runs([]), 3, max_together)
    np.testing.assert_allclose(found.images.ravel(), [0.03, 0.12, 0.11, 0.04])
    np.testing.assert_array_equal(found.success, [False, True, True, False])
    np.testing.assert_array_equal(found.parameters, found.images)


def test_few_images_take_several_runs_at_once():
    calls = []
    run_repeatedly(IMAGES, runs(calls), 3, 1)
    assert calls == [([0], [0, 1, 2, 3]), ([1], [0, 1, 3]), ([2], [0, 3])]
    calls.clear()
    run_repeatedly(IMAGES, runs(calls), 3, 6)
    assert calls == [([0], [0, 1, 2, 3]), ([1, 2], [0, 1, 3])]
    calls.clear()
    run_repeatedly(IMAGES[1:2], lambda numbers, active: runs(calls)(numbers, active + 1), 3, 6)
    assert calls == [([0, 1, 2], [1])]


def test_no_run_is_made_without_images_or_runs():
    calls = []
    assert run_repeatedly(IMAGES[:0], runs(calls), 3).images.shape == (0, 1, 1, 1)
    assert not run_repeatedly(IMAGES, runs(calls), 0).success.any()
    assert calls == []


def test_runs_of_an_image_end_together():
    rows, adversarial = np.array([5, 2, 5, 2, 7]), np.array([0, 1, 0, 0, 0], bool)
    np.testing.assert_array_equal(of_same_images(rows, adversarial), [0, 1, 0, 1, 0])
