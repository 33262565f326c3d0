"""Shell completion: what bash offers, and that zsh gets a script too."""

import shutil
import subprocess

import pytest
from helpers import python

from keras_srt.cli import completion
from keras_srt.cli import main as cli


def offered(script, *words):
    """What bash offers for the last of these words, when the script has been read."""
    line = " ".join(words)
    ask = f"""
{script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
COMP_LINE='{line}'
COMP_POINT={len(line)}
{function_of(script)}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def function_of(script):
    (line,) = [line for line in script.splitlines() if line.startswith("complete ")]
    words = line.split()
    assert words[-1] == "keras-srt"
    return words[words.index("-F") + 1]


@pytest.fixture(scope="module")
def bash():
    return completion.script(cli.make_parser(), "bash")


def test_commands_are_offered(bash):
    commands = {"train", "info", "evaluate", "export", "predict", "serve", "reproduce"}
    assert commands | {"completion"} <= offered(bash, "keras-srt", "")
    assert offered(bash, "keras-srt", "ev") == {"evaluate"}


def test_options_of_a_command_are_offered(bash):
    found = offered(bash, "keras-srt", "train", "--")
    assert {"--config", "--variant", "--set", "--resume", "--strategy"} <= found
    assert "--sort-into" not in found


def test_choices_are_offered(bash):
    assert offered(bash, "keras-srt", "completion", "") >= set(completion.SHELLS)
    found = offered(bash, "keras-srt", "train", "--strategy", "mi")
    assert found == {"mirrored"}


def test_files_are_offered_where_a_file_is_meant(bash, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").touch()
    for words in (["train", "--config"], ["evaluate", "--output"], ["predict"]):
        assert offered(bash, "keras-srt", *words, "mi") == {"mine.json"}


def test_zsh_gets_a_script_that_it_can_read():
    script = completion.script(cli.make_parser(), "zsh")
    assert script.startswith("#compdef keras-srt")
    assert "--run-dir" in script
    zsh = shutil.which("zsh")
    if zsh is not None:
        subprocess.run([zsh, "-n"], input=script, text=True, check=True)


def test_the_command_prints_it_without_tensorflow(bash):
    code = (
        "import sys; from keras_srt.cli.main import main; code = main(['completion', 'bash'])\n"
        "print(code, 'tensorflow' in sys.modules, file=sys.stderr)"
    )
    process = python("-c", code)
    assert process.stdout == bash + "\n"
    assert process.stderr.split() == ["0", "False"]


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["completion", "fish"])
    assert end.value.code == 2
    assert "bash" in capsys.readouterr().err
