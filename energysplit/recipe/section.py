"""What all sections of a recipe have in common: what no section may hold, and numbers above zero."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from energysplit.amounts import LARGEST
from energysplit.plain_data import checked

Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of a recipe: frozen, unknown keys refused, types not converted, no NaN, no infinity, plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*")
    @classmethod
    def _plain(cls, value: object) -> object:
        """What is typed may be no text (a path that is not UTF-8): a saved recipe that holds it could not be read."""
        return value if isinstance(value, int) else checked(value)  # numbers have bounds of their own

    @model_validator(mode="after")
    def _no_absurd_numbers(self) -> Self:
        for key in type(self).model_fields:
            value = getattr(self, key)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and abs(number) > LARGEST:
                    raise ValueError(f"{key} is above {LARGEST:g}, more than anything here can use")
        return self
