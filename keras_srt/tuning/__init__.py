"""`keras-srt tune`: hyperparameter search with keras-tuner; each trial is a run."""
