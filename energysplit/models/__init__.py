"""Networks by name: a registered builder, or "module:callable" of the user's own.

All built-in models are plain chains with free widths: growth changes widths only, so any grown network can be built
again from its builder's name, its arguments and its widths.
"""

from __future__ import annotations

from energysplit.models import cnn as cnn  # these four: imported for their registration
from energysplit.models import mlp as mlp
from energysplit.models import mobilenet_v1 as mobilenet_v1
from energysplit.models import vgg as vgg
from energysplit.models.image import check_image
from energysplit.models.registry import arguments, build, default_image, names, register

__all__ = ["arguments", "build", "check_image", "default_image", "names", "register"]
