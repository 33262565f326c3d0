"""The features of this machine's processor that decide about the speed of a training."""

from __future__ import annotations

from pathlib import Path

# Linux' names of the instructions that multiply bfloat16 numbers, the fastest first.
_BFLOAT16 = ("amx_bf16", "avx512_bf16")


def bfloat16_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Return the fastest bfloat16 instructions of the processor: "amx_bf16", "avx512_bf16" or None.

    Args:
        cpuinfo: The file that describes the processor. Without it, as on macOS and Windows, the
            result is None.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags = {
        flag
        for line in text.splitlines()
        if line.startswith("flags")
        for flag in line.partition(":")[2].split()
    }
    return next((name for name in _BFLOAT16 if name in flags), None)


def fast_precision() -> str:
    """Return "mixed_bfloat16" where the processor has bfloat16 instructions, else "float32"."""
    return "float32" if bfloat16_instructions() is None else "mixed_bfloat16"
