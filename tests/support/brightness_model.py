"""A SavedModel with the exported signatures and outputs that are easy to compute."""

import io

import numpy as np
from PIL import Image

from keras_srt.core.tensorflow import tf

CLASSES = ("dark", "gray", "../bright")
SIZE = 8
# The predicted class is the one with the nearest brightness.
_CENTERS = (0.0, 0.5, 1.0)


def expected(brightness):
    """The model's distribution for an image of one brightness: exp(-20 d^2), normalized."""
    weights = np.exp(-20.0 * (brightness - np.array(_CENTERS)) ** 2)
    return weights / weights.sum()


def png(level, size=(SIZE, SIZE)):
    """A gray PNG of one level from 0 to 255."""
    file = io.BytesIO()
    Image.new("L", size, level).save(file, "PNG")
    return file.getvalue()


def save_brightness_model(folder, signatures=("serving_default", "image")):
    """Save a model that distinguishes dark, gray and bright images.

    Like TensorFlow Serving, it fails a batch as a whole when one image can't be decoded;
    an image of another format than PNG is invalid alone.
    """
    module = _module()
    chosen = {name: getattr(module, name) for name in signatures}
    tf.saved_model.save(module, str(folder), signatures=chosen)
    return folder


def _answers(images, valid):
    brightness = tf.reduce_mean(images, axis=[1, 2, 3])
    logits = -20.0 * (brightness[:, None] - tf.constant(_CENTERS)) ** 2
    probabilities = tf.where(valid[:, None], tf.nn.softmax(logits), 0.0)
    class_id = tf.where(valid, tf.argmax(probabilities, axis=-1, output_type=tf.int32), -1)
    names = tf.constant(CLASSES)
    return {
        "probabilities": probabilities,
        "class_id": class_id,
        "class_name": tf.where(valid, tf.gather(names, tf.maximum(class_id, 0)), ""),
        "score": tf.reduce_max(probabilities, axis=-1),
        "valid": valid,
        "classes": tf.tile(names[None], [tf.shape(images)[0], 1]),
    }


def _module():
    bytes_spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    image_spec = tf.TensorSpec([None, SIZE, SIZE, 1], tf.float32, name="image")

    def decode(data):
        pixels = tf.cast(tf.io.decode_png(data, channels=1), tf.float32) / 255.0
        return tf.image.resize(pixels, (SIZE, SIZE), antialias=True)

    class Module(tf.Module):
        @tf.function(input_signature=[bytes_spec])
        def serving_default(self, image_bytes):
            valid = tf.strings.substr(image_bytes, 0, 4) == b"\x89PNG"
            blank = tf.constant(png(0))
            readable = tf.where(valid, image_bytes, blank)
            images = tf.map_fn(decode, readable, fn_output_signature=tf.float32)
            return _answers(images, valid)

        @tf.function(input_signature=[image_spec])
        def image(self, image):
            in_range = (image >= 0.0) & (image <= 1.0)
            return _answers(image, tf.reduce_all(in_range, axis=[1, 2, 3]))

    return Module()
