"""Pixel balls of an evaluation."""

from keras_srt.attacks import FGSM, PGD, CarliniWagner, GridAdv, PGDPlus, Square
from keras_srt.evaluation.threats import Threat, threats_of


def test_threats_are_the_largest_balls_that_gradient_attacks_search():
    attacks = [
        FGSM(epsilon=0.1),
        PGD(epsilon=0.3),
        PGD(epsilon=0.2),
        PGD(epsilon=1.0, norm_ball="l2"),
        PGDPlus(epsilon=0.5),
        Square(epsilon=0.9),
        CarliniWagner(epsilon=3.0),
        GridAdv(),
        PGD(epsilon=0.0),
    ]
    assert threats_of(attacks) == [Threat("linf", 0.3), Threat("l2", 1.0)]


def test_without_gradient_attacks_in_a_ball_there_is_no_threat():
    attacks = [GridAdv(), Square(epsilon=0.3), CarliniWagner(epsilon=1.0), FGSM(epsilon=0)]
    assert threats_of(attacks) == []
