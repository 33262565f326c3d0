"""The training step: the Keras model, optimization, schedules, callbacks, checkpoints."""
