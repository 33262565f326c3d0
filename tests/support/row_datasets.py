"""A stand-in for `datasets.Dataset` of Hugging Face, with the parts that the package uses."""

from PIL import Image as PillowImage


class Image:
    """The feature of a column of images."""


class ClassLabel:
    """The feature of a column of class ids."""


class Dataset:
    """Rows that are images and class ids."""

    def __init__(self, images, labels):
        self.features = {"image": Image(), "label": ClassLabel()}
        self._images, self._labels = images, labels

    def __len__(self):
        return len(self._images)

    def remove_columns(self, name):
        """The dataset without a column."""
        rest = Dataset(self._images, self._labels)
        del rest.features[name]
        return rest

    def __getitem__(self, key):
        if isinstance(key, int):
            return {name: values[0] for name, values in self[[key]].items()}
        images = [
            None
            if self._images[index] is None
            else PillowImage.fromarray(_squeezed(self._images[index]))
            for index in key
        ]
        return {"image": images, "label": [self._labels[index] for index in key]}


def _squeezed(image):
    """An image without the axis of its one channel."""
    return image[..., 0] if image.shape[-1] == 1 else image


# As that of Hugging Face.
Dataset.__module__ = "datasets.arrow_dataset"


def hugging_face(images, labels):
    """The library's own dataset if it is installed, else the stand-in."""
    try:
        import datasets
    except ImportError:
        return Dataset(images, labels)
    names = datasets.ClassLabel(num_classes=3)
    rows = {
        "image": [PillowImage.fromarray(image.squeeze()) for image in images],
        "label": [int(label) for label in labels],
    }
    features = datasets.Features({"image": datasets.Image(), "label": names})
    return datasets.Dataset.from_dict(rows, features=features)
