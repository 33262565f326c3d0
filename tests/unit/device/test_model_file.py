"""Model files: labels, checksums, damage."""

import zipfile

import pytest

from keras_srt.device import BadModel, Classifier
from keras_srt.device.__main__ import main
from keras_srt.device.model_file import add_labels, read_labels


def damaged(path, kind):
    """The bytes of a file, damaged."""
    content = path.read_bytes()
    return {
        "empty": b"",
        "few bytes": content[:7],
        "cut in the model": content[:500],
        "cut in the labels": content[:-10],
        "a bit in the model": content[:300] + bytes([content[300] ^ 1]) + content[301:],
        "zeros in the model": content[:200] + bytes(200) + content[400:],
        "garbage with the right mark": b"\xff\xff\xff\x7fTFL3" + bytes(range(256)),
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "few bytes",
        "cut in the model",
        "cut in the labels",
        "a bit in the model",
        "zeros in the model",
        "garbage with the right mark",
        "a picture",
    ],
)
def test_damaged_file_is_not_passed_to_the_interpreter(model, tmp_path, kind, capsys):
    path = tmp_path / "damaged.tflite"
    path.write_bytes(damaged(model, kind))
    with pytest.raises(BadModel, match=r"damaged\.tflite: ") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    assert main(["x.png", "--model", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {caught.value}\n"


def test_every_changed_byte_of_a_model_is_detected(model, tmp_path):
    content = model.read_bytes()
    end = content.rindex(b"PK\x03\x04")
    path = tmp_path / "damaged.tflite"
    for position in range(0, end, 97):
        changed = bytearray(content)
        changed[position] ^= 0x80
        path.write_bytes(changed)
        with pytest.raises(BadModel):
            read_labels(path)


def test_missing_files_and_folders_are_errors(tmp_path):
    with pytest.raises(BadModel, match="No such file"):
        Classifier(tmp_path / "nothing.tflite")
    with pytest.raises(BadModel, match="directory"):
        Classifier(tmp_path)


def test_model_with_missing_or_wrong_labels_is_rejected(model, tmp_path):
    content = model.read_bytes()
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with pytest.raises(BadModel, match=r"no labels\.txt inside"):
        Classifier(bare)
    add_labels(bare, ["only", "two"])
    with pytest.raises(BadModel, match=r"\(1, 3\).*\[1, 2\]"):
        Classifier(bare)


def test_labels_without_a_checksum_are_accepted(model, tmp_path):
    content = model.read_bytes()
    path = tmp_path / "other.tflite"
    path.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "a\nb\nc\n")
    assert Classifier(path).labels == ["a", "b", "c"]
