"""Tools for folders of images: a check of every file and a starting config."""
