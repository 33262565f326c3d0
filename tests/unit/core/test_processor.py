"""Which bfloat16 instructions a processor has."""

import pytest

from keras_srt.config.schema import TrainingSettings
from keras_srt.core import processor


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16 amx_bf16 amx_tile", "amx_bf16"),
        ("fpu avx512f avx512_bf16", "avx512_bf16"),
        ("fpu avx2 avx512f", None),
    ],
)
def test_the_fastest_bfloat16_instructions(flags, expected, tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: amx_bf16\nflags\t\t: {flags}\n")
    assert processor.bfloat16_instructions(path) == expected
    assert processor.bfloat16_instructions(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("instructions", "precision"), [(None, "float32"), ("amx_bf16", "mixed_bfloat16")]
)
def test_auto_is_resolved_in_the_config(instructions, precision, monkeypatch):
    monkeypatch.setattr(processor, "bfloat16_instructions", lambda: instructions)
    assert TrainingSettings(steps=1, precision="auto").precision == precision
    assert TrainingSettings(steps=1, precision="mixed_float16").precision == "mixed_float16"
