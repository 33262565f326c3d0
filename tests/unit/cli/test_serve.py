"""`keras-srt serve`."""

import socket

import pytest

from keras_srt.cli import main as cli


def run_serve(capsys, *arguments):
    code = cli.main(["serve", *map(str, arguments)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--port", 70_000, "error: --port: got 70000; allowed: a number from 0 to 65535\n"),
        ("--max-connections", 0, "--max-connections: got 0; allowed: a number from 1 to 1e+06\n"),
        ("--max-queue", 0, "error: --max-queue: got 0; allowed: a number from 1 to 10000\n"),
        ("--attack-queries", -1, "--attack-queries: got -1; allowed: a number from 0 to 100000\n"),
        ("--timeout", 0, "error: --timeout: got 0; allowed: a number from 0.1 to 3600\n"),
        ("--max-body-mb", "nan", "--max-body-mb: got nan; allowed: a number from 0.001 to 1024\n"),
    ],
)
def test_invalid_options_are_one_line_errors(capsys, option, value, text):
    code, errors = run_serve(capsys, option, value)
    assert (code, errors.endswith(text), errors.count("\n")) == (2, True, 1)


def test_missing_models_and_unusable_addresses_are_one_line_errors(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, text in (
            ([], "saved_models: contains no model; export one with `keras-srt export"),
            (["--model", tmp_path / "empty"], f"{tmp_path / 'empty'}: contains no model; give a"),
            (
                ["--model", "x", "--port", port],
                f"127.0.0.1:{port}: can't listen on this address (Address",
            ),
            (["--model", "x", "--host", "no.such.host.invalid"], "not an address of this machine"),
            (["--model", "a/m", "b/m"], "--model: two folders have the same name"),
            (["--backend", "http://x", "--grpc-port", 0], "--grpc-port: not with --backend"),
            (["--backend", "http://x", "--version-policy", "all"], "--version-policy: not with"),
            (["--model", "x", "--version-policy", "new"], "--version-policy: got new; allowed: l"),
            (["--models-dir", "none"], "none: contains no model"),
            (["--backend", "localhost:8501"], "--backend localhost:8501: allowed: an address"),
        ):
            more = [] if "--port" in arguments else ["--port", 0]
            code, errors = run_serve(capsys, *arguments, *more)
            assert (code, text in errors, errors.count("\n")) == (2, True, 1), errors


def test_model_that_cannot_be_loaded_is_a_one_line_error(capsys, tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_text("broken")
    code, errors = run_serve(capsys, "--model", tmp_path / "m", "--port", 0)
    assert code == 2
    assert f"{tmp_path / 'm'}: no version can be loaded (" in errors
