"""What all sections of a recipe have in common: what no section may hold, and numbers above zero."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from energysplit.amounts import LARGEST

Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of a recipe: frozen, unknown keys refused, types not converted, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @model_validator(mode="after")
    def _no_absurd_numbers(self) -> Self:
        for key in type(self).model_fields:
            value = getattr(self, key)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and abs(number) > LARGEST:
                    raise ValueError(f"{key} is above {LARGEST:g}, more than anything here can use")
        return self
