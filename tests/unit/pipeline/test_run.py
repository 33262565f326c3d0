"""A run: how often it plans, reads its dataset and builds its classifier."""


def test_a_run_plans_and_reads_each_part_once_and_builds_two_classifiers(counted_run):
    """One classifier is trained, and one holds the best weights."""
    once = dict.fromkeys(("split_sizes", "open", "load_train", "load_test"), 1)
    assert counted_run[1] == once | {"build": 2}
