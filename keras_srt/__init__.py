"""Semi-supervised robust training (SRT) of image classifiers in TensorFlow/Keras.

`__init__.pyi` lists the public names. They are imported on first use, so that
`import keras_srt` is quick and needs no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
