"""The summary of a folder of images."""

import shutil

from keras_srt.data import Folder
from keras_srt.folders.summary import summarize


def test_test_images_are_counted(root):
    settings = {"labeled": str(root / "labeled"), "unlabeled": str(root / "unlabeled")}
    seen = summarize(Folder(**settings).list_files(None))
    assert seen.describe()[0] == "images    40 labeled, 30 unlabeled"
    assert seen.dataset_info(Folder(**settings), 28).num_test == 8  # a fifth of 40
    shutil.copytree(root / "labeled", root / "test")
    source = Folder(**settings, test=str(root / "test"))
    seen = summarize(source.list_files(None))
    assert seen.describe()[0] == "images    40 labeled, 30 unlabeled, 40 test"
    assert seen.dataset_info(source, 28).num_test == 40
