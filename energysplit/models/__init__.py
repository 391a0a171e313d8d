"""Networks by name: a registered builder, torchvision's, timm's, or "module:callable" of the user's own.

Growth changes widths only, so any grown network can be built again from its builder's name, its arguments and its
widths.
"""

from __future__ import annotations

from energysplit.models import cnn as cnn  # these six: imported for their registration
from energysplit.models import mlp as mlp
from energysplit.models import mobilenet_v1 as mobilenet_v1
from energysplit.models import mobilenet_v2 as mobilenet_v2
from energysplit.models import resnet_cifar as resnet_cifar
from energysplit.models import vgg as vgg
from energysplit.models.by_name import build, build_seed, built_in, default_image, rebuild, resolve, shapes
from energysplit.models.image import check_image
from energysplit.models.registry import arguments, names, register

__all__ = [
    "arguments",
    "build",
    "build_seed",
    "built_in",
    "check_image",
    "default_image",
    "names",
    "rebuild",
    "register",
    "resolve",
    "shapes",
]
