"""`keras-srt tune`: searches settings with keras-tuner; each trial is a run of its own."""
