"""What several commands read from their arguments."""

from __future__ import annotations

from energysplit.errors import InputError


def image_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width of "3,224,224".

    Raises:
        InputError: the text is no such shape.
    """
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--image {text}: expected channels, height and width, such as 3,224,224")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width
