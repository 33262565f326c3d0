"""RobustBench's entry of a model."""

import pytest

from keras_srt.attacks import AutoAttack
from keras_srt.core.registry import settings_of
from keras_srt.report.robustbench import robustbench_entry


def report(attack, **changes):
    settings = {key: value for key, value in settings_of(attack).items() if key != "name"}
    entry = {"name": attack.name, "epsilon": attack.epsilon, "settings": settings}
    return {
        "name": "cifar_pixel-record",
        "model": {"name": "resnet9"},
        "dataset": {"name": "cifar10", "num_test": 10_000},
        "clean": {"accuracy": 0.755},
        "attacks": [entry | {"accuracy": 0.388, "n": 1000}],
        "worst_case": {"accuracy": 0.3875},
        **changes,
    }


def test_an_entry_has_the_keys_and_formats_of_robustbench():
    assert robustbench_entry(report(AutoAttack("8/255"))) == {
        "link": "",
        "name": "cifar_pixel-record",
        "authors": "",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "threat_model": "Linf",
        "venue": "",
        "architecture": "resnet9",
        "eps": "8/255",
        "clean_acc": "75.50",
        "reported": "38.75",
        "autoattack_acc": "38.80",
        "unreliable": False,
        "footnote": "The first 1,000 of 10,000 test images.",
    }


@pytest.mark.parametrize(("epsilon", "text"), [(0.3, "0.3"), ("4/255", "4/255"), (0.5, "0.5")])
def test_epsilon_is_written_as_robustbench_does(epsilon, text):
    entry = robustbench_entry(report(AutoAttack(epsilon, norm_ball="l2")))
    assert (entry["eps"], entry["threat_model"]) == (text, "L2")


def test_a_result_with_warnings_is_unreliable():
    assert robustbench_entry(report(AutoAttack(0.3), warnings=["masked"]))["unreliable"] is True


@pytest.mark.parametrize("changes", [{"queries": 1000}, {"version": "rand"}, {"num_targets": 3}])
def test_weaker_settings_are_not_comparable(changes):
    assert robustbench_entry(report(AutoAttack(0.3, **changes))) is None
