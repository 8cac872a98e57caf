"""The networks that the scaling study trains from scratch: the base scaled along an axis, and reference models.

N images, R x R pixels, K classes.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from src.interface.scaling_params import Arm, Scaling, ScalingAblation
from src.models.references import build_reference
from src.scaling import arithmetic
from src.scaling.equations import Coefficients
from src.scaling.matching import OWN_ARMS, plan_arms
from src.scaling.networks import Model, scaled


def named(arms: Mapping[str, Arm], arguments: Sequence[str]) -> str:
    """The one arm that a stage's command line names.

    Raises:
        ValueError: it names none, several, or one that params.yaml does not have.
    """
    if len(arguments) != 1 or arguments[0] not in arms:
        allowed = ", ".join(arms) or "none, scaling_arms is empty"
        raise ValueError(f"{' '.join(arguments) or 'no arm'}: allowed: one of scaling_arms in params.yaml ({allowed})")
    return arguments[0]


def specify(
    name: str,
    arm: Arm,
    settings: Scaling,
    ablation: ScalingAblation,
    coefficients: Coefficients,
    *,
    classes: int,
) -> Model:
    """The model that the arm `name` trains: an axis of scaling, a backbone, or small_cnn, by its key or its own name.

    Raises:
        ValueError: a resolution below what the strides need, or a budget that not all axes can meet.
    """
    network = arm.name or name
    if network in OWN_ARMS:
        return scaled(plan_arms(settings, ablation, coefficients, classes=classes)[network], settings, classes=classes)
    key = f"scaling_arms.{name}.resolution" if arm.resolution else "scaling.base_resolution"
    resolution = arm.resolution or settings.base_resolution
    if network != "small_cnn":  # all others have 32 pixels behind one pixel of their last map, as EfficientNet has
        arithmetic.check_resolution(resolution, stem_stride=2, name=key)
    return Model(make=partial(build_reference, network, classes=classes), resolution=resolution, factors={})
