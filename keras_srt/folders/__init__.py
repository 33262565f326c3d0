"""Folders of images before a training: a check of every file and a starting config."""
