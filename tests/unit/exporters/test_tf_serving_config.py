"""TF Serving's model.config."""

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_srt.exporters.tf_serving_config import model_config, write_model_config


def models_in(text):
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert all(model.model_platform == "tensorflow" for model in config.model_config_list.config)
    return {model.name: model.base_path for model in config.model_config_list.config}


def test_config_lists_every_model(tmp_path):
    versions = ("b/1", "a-1.x/3", "Wörter/1")
    # Not versions.
    others = ("empty", "other/.draft-1", "other/v1")
    for name in (*versions, *others):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "file").touch()
    path = write_model_config(tmp_path)
    expected = {"a-1.x": "/models/a-1.x", "b": "/models/b", "Wörter": "/models/Wörter"}
    assert models_in(path.read_text(encoding="utf-8")) == expected
    assert path.stat().st_mode & 0o777 == 0o644
    assert not list(tmp_path.glob(".draft-*"))


def test_config_is_replaced_atomically(tmp_path):
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "a" / "1" / "saved_model.pb").touch()
    (tmp_path / "model.config").write_text("old")
    with (tmp_path / "model.config").open() as reader:
        write_model_config(tmp_path)
        assert reader.read() == "old"
    same = (tmp_path / "model.config").stat().st_mtime_ns
    write_model_config(tmp_path)
    assert (tmp_path / "model.config").stat().st_mtime_ns == same
    assert models_in(model_config(tmp_path)) == {"a": "/models/a"}
