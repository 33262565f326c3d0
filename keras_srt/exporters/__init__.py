"""Exporters: SavedModel for TF Serving, TFLite for devices.

`export` publishes a classifier in all formats as one version; `savedmodel`, `tflite` and
`trainable_tflite` each write one format; `warmup` and `tf_serving_config` write the files that
TF Serving reads beside a SavedModel; `model_versions` publishes versions atomically.
"""
