"""Versions are subfolders that are named by whole numbers."""

from keras_srt.core.version_folders import version_folders


def test_only_numbered_folders_are_versions(tmp_path):
    names = ("1", "12", ".draft-3", ".tmp-4", "tflite", "v5", "6.5", "-7", "٣", "0" * 200, "9" * 50)
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "8").write_text("a file")
    assert sorted(version_folders(tmp_path)) == [0, 1, 12]


def test_leading_zeros_do_not_count(tmp_path):
    for name in ("002", "02", "0010"):
        (tmp_path / name).mkdir()
    assert version_folders(tmp_path) == {2: tmp_path / "02", 10: tmp_path / "0010"}
