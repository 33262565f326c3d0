"""Which versions of a model are served, and their labels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keras_srt.core.errors import UserError
from keras_srt.core.version_folders import is_version

_LABEL = re.compile(r"(?:(?P<model>[^:=/]+):)?(?P<label>[^:=/]+)=(?P<version>[^:=/]+)")


@dataclass(frozen=True)
class VersionPolicy:
    """The versions that are served, in TF Serving's terms.

    Attributes:
        latest: Number of newest versions; infinity for all.
        specific: Further versions.
        labels: Version by label, by model; "" for all models. Labeled versions are served, too.
    """

    latest: float = 1
    specific: frozenset[int] = frozenset()
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def labels_of(self, model: str) -> dict[str, int]:
        """Return the version by label of a model."""
        return {**self.labels.get("", {}), **self.labels.get(model, {})}


LATEST = VersionPolicy()


def parse_policy(policy: str, labels: Sequence[str] = ()) -> VersionPolicy:
    """Parse the options `--version-policy` and `--version-labels`.

    Args:
        policy: `latest`, `latest:2`, `all` or `specific:3,4`.
        labels: `LABEL=VERSION`, or `MODEL:LABEL=VERSION` for one model.

    Raises:
        UserError: They are invalid.

    Example:
        >>> parse_policy("latest:2", ["stable=3"]).labels_of("digits")
        {'stable': 3}
    """
    kind, _, value = policy.partition(":")
    versions = value.split(",")
    by_model = _parse_labels(labels)
    if policy in ("latest", "all"):
        return VersionPolicy(1 if policy == "latest" else math.inf, labels=by_model)
    if kind == "latest" and is_version(value) and int(value):
        return VersionPolicy(int(value), labels=by_model)
    if kind == "specific" and all(map(is_version, versions)):
        return VersionPolicy(0, frozenset(map(int, versions)), by_model)
    raise UserError(f"--version-policy: got {policy}; allowed: latest, latest:2, all, specific:3,4")


def _parse_labels(labels: Sequence[str]) -> dict[str, dict[str, int]]:
    by_model: dict[str, dict[str, int]] = {}
    for text in labels:
        match = _LABEL.fullmatch(text)
        if match is None or not is_version(match["version"]):
            raise UserError(f"--version-labels: got {text}; allowed: stable=3, digits:canary=4")
        by_model.setdefault(match["model"] or "", {})[match["label"]] = int(match["version"])
    return by_model
