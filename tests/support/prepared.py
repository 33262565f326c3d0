"""A tiny TFDS dataset for tests: 30 training images in three shards, 6 to test, three classes."""

import numpy as np


def prepare(folder, size=4, shape=None):
    """Prepares it in a folder as `tiny`; gives the files of its training part and all images.

    `shape` is what its description says of the images.
    """
    import tensorflow_datasets as tfds

    images = np.random.default_rng(0).integers(0, 256, (36, size, size, 1), dtype=np.uint8)

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Made here."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=shape or (size, size, 1)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, manager):
            return {
                "train": self._generate_examples(0, 30),
                "test": self._generate_examples(30, 36),
            }

        def _generate_examples(self, first, end):
            for index in range(first, end):
                yield index, {"image": images[index], "label": index % 3}

    builder = Tiny(data_dir=folder)
    config = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(download_config=config)
    return builder.info.splits["train"].filepaths, images
