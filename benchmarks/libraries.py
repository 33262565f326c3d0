"""Attacks of other libraries behind one interface: images and labels in, images out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from small_classifier import torch_twin

from keras_srt.core.tensorflow import keras

# Module -> distribution.
DISTRIBUTIONS = {
    "foolbox": "foolbox",
    "art": "adversarial-robustness-toolbox",
    "pyautoattack": "pyautoattack",
    "torchattacks": "torchattacks",
}


class Subject:
    """A classifier in the forms that the libraries need, each made on first use.

    Args:
        classifier: Images float32 [batch, height, width, channels] in [0, 1] -> logits.
    """

    def __init__(self, classifier: keras.Sequential) -> None:
        self.classifier = classifier

    @cached_property
    def twin(self) -> Any:
        """The same network in Torch."""
        return torch_twin(self.classifier)

    @cached_property
    def foolbox_tensorflow(self) -> Any:
        """Foolbox' TensorFlow model."""
        import foolbox

        return foolbox.TensorFlowModel(self.classifier, bounds=(0, 1))

    @cached_property
    def foolbox_torch(self) -> Any:
        """Foolbox' Torch model."""
        import foolbox

        return foolbox.PyTorchModel(self.twin, bounds=(0, 1), device="cpu")

    @cached_property
    def art(self) -> Any:
        """ART's TensorFlow model."""
        from art.estimators.classification import TensorFlowV2Classifier

        return TensorFlowV2Classifier(
            self.classifier,
            nb_classes=self.classifier.output_shape[-1],
            input_shape=self.classifier.input_shape[1:],
            loss_object=keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="none"
            ),
            clip_values=(0.0, 1.0),
        )


def seed_all() -> None:
    """Seeds NumPy, TensorFlow and Torch: no library takes a seed for every attack."""
    import torch

    keras.utils.set_random_seed(0)
    torch.manual_seed(0)


# Subject, images float32 [n, height, width, channels], labels int32 [n] -> adversarial images.
Attacker = Callable[[Subject, np.ndarray, np.ndarray], np.ndarray]


class LibraryAttack(NamedTuple):
    """An attack of another library.

    Attributes:
        module: The library's module.
        attack: The attack's name in the library.
        attacker: Runs the attack.
    """

    module: str
    attack: str
    attacker: Attacker

    @property
    def library(self) -> str:
        """Distribution and version, such as `foolbox 3.3.4`."""
        name = DISTRIBUTIONS[self.module]
        return f"{name} {metadata.version(name)}"


def foolbox(
    attack: str, settings: Mapping[str, Any], epsilon: float | None = None, torch: bool = False
) -> LibraryAttack:
    """An attack of Foolbox.

    Args:
        attack: Class in `foolbox.attacks`.
        settings: Its arguments.
        epsilon: Radius; None for minimum-norm attacks.
        torch: Whether the attack needs the Torch model.
    """

    def attacker(subject: Subject, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        from foolbox import attacks

        inputs: tuple[Any, ...] = (subject.foolbox_tensorflow, *_tensors(images, labels))
        if torch:
            inputs = (subject.foolbox_torch, *_torch_tensors(images, labels))
        _, found, _ = getattr(attacks, attack)(**settings)(*inputs, epsilons=epsilon)
        return _from_torch(found) if torch else found.numpy()

    return LibraryAttack("foolbox", f"{attack}{' (Torch)' if torch else ''}", attacker)


def art(
    attack: str, settings: Mapping[str, Any], targets: Callable[..., Any] | None = None
) -> LibraryAttack:
    """An attack of the Adversarial Robustness Toolbox.

    Args:
        attack: Class in `art.attacks.evasion`.
        settings: Its arguments.
        targets: Labels -> target classes, for targeted attacks.
    """

    def attacker(subject: Subject, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        made = _art(attack, subject, settings)
        return made.generate(images, labels if targets is None else targets(labels))

    return LibraryAttack("art", attack, attacker)


def art_image_by_image(attack: str, settings: Mapping[str, Any]) -> LibraryAttack:
    """An attack of ART that searches one perturbation for all images of a call."""

    def attacker(subject: Subject, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        def found(image: np.ndarray) -> np.ndarray:
            made = _art(attack, subject, settings)
            return made.generate(image[None])[0]

        return np.stack([found(image) for image in images])

    return LibraryAttack("art", f"{attack}, image by image", attacker)


def torchattacks(attack: str, settings: Mapping[str, Any]) -> LibraryAttack:
    """An attack of torchattacks on the Torch model."""

    def attacker(subject: Subject, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        import torchattacks

        made = getattr(torchattacks, attack)(subject.twin, **settings)
        return _from_torch(made(*_torch_tensors(images, labels)))

    return LibraryAttack("torchattacks", attack, attacker)


def autoattack(
    attacks: Sequence[str], norm: str, epsilon: float, queries: int = 5000
) -> LibraryAttack:
    """AutoAttack's own Torch code.

    Args:
        attacks: Some of `apgd-ce`, `apgd-t`, `fab-t` and `square`.
        norm: "Linf" or "L2".
        epsilon: Radius.
        queries: Queries of Square.
    """

    def attacker(subject: Subject, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        from pyautoattack import AutoAttack

        made = AutoAttack(subject.twin, norm=norm, eps=epsilon, seed=0)
        made.attacks_to_run = list(attacks)
        made.square.n_queries = queries
        found, _ = made.run_standard_evaluation(
            *_torch_tensors(images, labels), batch_size=len(images)
        )
        return _from_torch(found)

    return LibraryAttack("pyautoattack", f"AutoAttack {'+'.join(attacks)}", attacker)


def fab_nearest(norm: str, steps: int) -> LibraryAttack:
    """The nearest result of AutoAttack's FAB-T over all nine targets."""

    def attacker(subject: Subject, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        from pyautoattack.fab_pt import FABAttack_PT

        inputs, answers = _torch_tensors(images, labels)
        made = FABAttack_PT(subject.twin, norm=norm, n_iter=steps, targeted=True, device="cpu")
        nearest, shortest = np.array(images), np.full(len(images), np.inf)
        for number in range(2, 11):
            made.target_class = number
            found = _from_torch(made.attack_single_run(inputs, answers, is_targeted=True))
            order = np.inf if norm == "Linf" else 2
            length = np.linalg.norm((found - images).reshape(len(images), -1), order, axis=1)
            better = (length > 0) & (length < shortest)
            nearest[better], shortest[better] = found[better], length[better]
        return nearest

    return LibraryAttack("pyautoattack", "FABAttack_PT, nearest of 9 targets", attacker)


def _art(attack: str, subject: Subject, settings: Mapping[str, Any]) -> Any:
    from art.attacks import evasion
    from art.attacks.evasion.projected_gradient_descent import projected_gradient_descent_numpy

    # ART's only PGD class with momentum.
    numpy_pgd = projected_gradient_descent_numpy.ProjectedGradientDescentNumpy
    kind = numpy_pgd if attack == numpy_pgd.__name__ else getattr(evasion, attack)
    quiet = {} if attack == "FastGradientMethod" else {"verbose": False}
    return kind(subject.art, **settings, **quiet)


def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    from keras_srt.core.tensorflow import tf

    return tf.constant(images), tf.constant(labels)


def _torch_tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    import torch

    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(channels_first), torch.from_numpy(np.int64(labels))


def _from_torch(images: Any) -> np.ndarray:
    return images.detach().numpy().transpose(0, 2, 3, 1)
