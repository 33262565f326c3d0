"""The registry of datasets."""

from keras_srt.data import DATASETS, Arrays


def test_registry_names():
    assert set(DATASETS) == {"digits", "mnist", "cifar10", "tfds", "folder", "synthetic"}


def test_only_the_users_own_images_are_private():
    """Exported models contain sample images of the other datasets."""
    assert {name for name, source in DATASETS.items() if source.is_private} == {"folder"}
    assert Arrays.is_private
