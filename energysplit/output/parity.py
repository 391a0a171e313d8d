"""How far an exported model is from the network it was exported from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class OnnxParity(BaseModel):
    """Outputs of ONNX Runtime against torch's, measured on `images` random images.

    path: the exported file. absolute: largest |difference| of any output. relative: that, divided by the largest
    |output| of torch. tolerance: the relative difference that was allowed. Both sides compute in float32 on the CPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    absolute: float
    relative: float
    tolerance: float
    images: int
    opset: int
    runtime: str
    torch: str
