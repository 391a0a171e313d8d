"""Where and how training runs: device, precision, threads, processes. The only file that knows accelerate.

Accelerate keeps its state in a process-wide singleton; a new session resets it, so sessions can follow each other in
one process (the stages of a run, tests). Accelerate's own wrapping of models is not used: it replaces `forward` on the
module, which surgery and tracing would then see.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any

import torch
import torch.utils.deterministic
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from energysplit.errors import InputError
from energysplit.train.processes import Processes, launched, timeout

PRECISIONS = ("no", "bf16", "fp16")


class Session:
    """A place to train and evaluate.

    Settings that torch keeps for the whole process (threads, deterministic algorithms) hold from here on; `close`, or
    leaving a `with` block, puts the former ones back.

    Args:
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:1".
        precision: "no" (float32), "bf16" or "fp16" (gradients scaled, GPU only).
        threads: of torch's operators on the CPU; None leaves torch's choice. Sums depend on it in the last bit.
        channels_last: keep 4-d tensors in that memory format.
        deterministic: the same numbers each time. On the CPU all operators are held to it; on CUDA cuDNN's choice is,
            and a few backward operators may still differ in the last bit.

    Where a launcher started this process as one of several, they meet here; `team` is how they agree, and each takes
    the GPU of its number on its machine.

    A device that is not here, or a precision it does not have, is an InputError.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str = "no",
        threads: int | None = None,
        channels_last: bool = False,
        deterministic: bool = True,
    ) -> None:
        _check(device, precision, threads)
        self._before = _TorchSettings()
        self.channels_last = channels_last
        self._accelerator = _accelerator(device, precision)
        place: torch.device = self._accelerator.device
        # Accelerate numbers the CPU too where there are several processes.
        self.device = torch.device("cpu") if place.type == "cpu" else place
        self.processes: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self.team = Processes(self.rank, self.processes)
        if threads is not None:
            torch.set_num_threads(threads)
        if self.device.type == "cpu":
            # As `use_deterministic_algorithms`, which also imports torch's compiler to tell it: seconds, for nothing.
            torch.set_deterministic_debug_mode("error" if deterministic else "default")
            # Filling new memory guards against operators that read before they write; none here does, and it costs
            # time.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        else:
            torch.backends.cudnn.deterministic = deterministic
            torch.backends.cudnn.benchmark = not deterministic

    def __enter__(self) -> Session:
        """The session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the session."""
        self.close()

    def close(self) -> None:
        """Put torch's process-wide settings back as they were before this session."""
        self._before.restore()

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this process is the first one on its machine."""
        return bool(self._accelerator.is_local_main_process)

    def place(self, module: nn.Module) -> nn.Module:
        """The same module object, moved to the device and memory format."""
        module.to(self.device)
        # "preserve" would leave weights as they are; contiguous undoes an earlier session's channels_last.
        module.to(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)
        return module

    def shard(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """This process's part of a batch, on the device and in the memory format."""
        inputs, targets = batch
        if self.processes > 1:
            inputs, targets = inputs[self.rank :: self.processes], targets[self.rank :: self.processes]
        inputs = inputs.to(self.device, non_blocking=True)
        if self.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs, targets.to(self.device, non_blocking=True)

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which the forward pass and the loss run, in the session's precision."""
        return self._accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss, scaled first where the precision needs it."""
        self._accelerator.backward(loss)

    def gathering(self, model: nn.Module, last: bool) -> AbstractContextManager[None]:
        """The context of a batch's forward and backward pass: processes exchange gradients at an update's last one."""
        if isinstance(model, DistributedDataParallel) and not last:
            return model.no_sync()
        return nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, the same bits on each; the tensor itself when there is one."""
        if self.processes == 1:
            return tensor
        # NCCL takes tensors on the GPU only.
        total = self._accelerator.reduce(tensor.to(self.device), reduction="sum")
        assert isinstance(total, Tensor)
        return total.to(tensor.device)

    def seed(self, seed: int) -> None:
        """Set torch's global random state (dropout), differently for each process."""
        torch.manual_seed(seed + self.rank)

    @contextmanager
    def training(
        self, module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> Iterator[tuple[nn.Module, torch.optim.Optimizer]]:
        """The module and the optimiser to train with: gradients are averaged over processes, steps unscaled.

        Both wrappers act on the objects given; nothing is left on them afterwards.

        Yields:
            The module to call and the optimiser to step.
        """
        model = module
        if self.processes > 1:
            model = DistributedDataParallel(
                module, device_ids=[self.device] if self.device.type == "cuda" else None, **_OWN_BUFFERS
            )
        prepared = self._accelerator.prepare_optimizer(optimiser, device_placement=False)
        try:
            yield model, prepared
        finally:
            # Accelerate keeps every optimiser it has prepared, and with it the tensors of all stages.
            self._accelerator._optimizers.clear()
            optimiser.zero_grad(set_to_none=True)


_NAMES = inspect.signature(DistributedDataParallel.__init__).parameters
# Buffers are made the same once an epoch (statistics.py), not the main process's at every step. Torch renamed this.
_OWN_BUFFERS: dict[str, Any] = {
    ("forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"): False
}


class _TorchSettings:
    """Torch's process-wide settings at one moment."""

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self.deterministic = torch.get_deterministic_debug_mode()
        self.fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        self.cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)

    def restore(self) -> None:
        """Set them all again."""
        torch.set_num_threads(self.threads)
        torch.set_deterministic_debug_mode(self.deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = self.fill  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = self.cudnn


def _accelerator(device: str, precision: str) -> Accelerator:
    """A fresh accelerator; the one of an earlier session loses its state.

    Raises:
        InputError: the device does not have that precision, or one device is named for several processes.
    """
    if device.startswith("cuda:"):
        if launched():
            raise InputError(
                f"run.device = {device!r} with several processes: each takes the GPU of its own number; use 'cuda', "
                "and CUDA_VISIBLE_DEVICES to choose GPUs"
            )
        torch.cuda.set_device(torch.device(device))
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    reason = "gradients in fp16 need a scaler, which is for GPUs"
    # "auto" is CUDA or the CPU: other accelerators lack the float64 that eigen-solvers and sums need.
    cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    meeting = [InitProcessGroupKwargs(timeout=timeout())] if launched() else None
    try:
        accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=meeting)
        if precision != "fp16" or accelerator.device.type == "cuda":
            return accelerator
    except ValueError as error:
        reason = str(error)
    raise InputError(
        f"run.precision = {precision!r} does not work on run.device = {device!r} here ({reason}); "
        "use precision 'no' or 'bf16', or another device"
    )


def _check(device: str, precision: str, threads: int | None) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
        raise InputError(f"run.device = {device!r}: 'auto', 'cpu', 'cuda' or 'cuda:<number>' expected")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"run.device = {device!r}: torch sees no CUDA device; use 'auto' or 'cpu'")
    if number and int(number) >= torch.cuda.device_count():
        raise InputError(
            f"run.device = {device!r}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0"
        )
    if precision not in PRECISIONS:
        raise InputError(f"run.precision = {precision!r}: one of {', '.join(PRECISIONS)} expected")
    if threads is not None and not 1 <= threads <= 4 * (os.cpu_count() or 1):
        raise InputError(f"run.threads = {threads}: a number from 1 to {4 * (os.cpu_count() or 1)} is expected")
