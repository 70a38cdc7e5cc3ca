"""Weight updates, without the `torch.optim` objects: constructing one imports torch._dynamo, 1.5 to 2.4 s and 70 MB in
every process, and on a small network its step costs 5 to 30 times the kernel.

SGD, Adam and AdamW call torch's fused kernels, one call for all parameters. These are private, so each is tried on one
number first, and torch's public functions stand in where it fails. The other optimizers are those functions
(`torch.optim.nadam.nadam` and so on). Tests hold every one against its `torch.optim` class.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, assert_never

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer
from torch.optim._adafactor import adafactor
from torch.optim.adadelta import adadelta
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam
from torch.optim.adamax import adamax
from torch.optim.adamw import adamw
from torch.optim.nadam import nadam
from torch.optim.radam import radam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from core.spec.optimizers import (
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    AnyOptimizer,
    Lbfgs,
    NAdam,
    RAdam,
    RMSprop,
    Sgd,
)

Evaluate = Callable[[], tuple[Tensor, Sequence[Tensor]]]  # the loss and the gradients where the weights are now


class Updater(Protocol):
    learning_rate: float  # set before each step by the schedule

    def step(self, gradients: Sequence[Tensor], again: Evaluate) -> None:
        """Moves every parameter, in place. A line search may ask `again` from other points."""

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on."""

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Puts that back."""


def updater(chosen: AnyOptimizer, network: Sequence[Tensor]) -> Updater:
    """What moves these parameters: their memory, apart from the graph, so that no update has to switch autograd off."""
    parameters = [parameter.detach() for parameter in network]

    def zeros() -> list[Tensor]:
        return [torch.zeros_like(parameter) for parameter in parameters]

    match chosen:
        case Sgd(name="sgd"):
            return SgdUpdater(chosen, parameters)
        case Adam(name="adam"):
            return AdamUpdater(chosen, parameters, _kernel("_fused_adam_"), adam)
        case AdamW(name="adamw"):
            return AdamUpdater(chosen, parameters, _kernel("_fused_adamw_"), adamw)
        case NAdam(name="nadam"):
            products = [torch.ones(()) for _ in parameters]
            return ListUpdater(
                chosen,
                parameters,
                nadam,
                {"mean": zeros(), "square": zeros(), "mu_product": products},
                **_betas(chosen),
                momentum_decay=chosen.momentum_decay,
            )
        case RAdam(name="radam"):
            return ListUpdater(chosen, parameters, radam, {"mean": zeros(), "square": zeros()}, **_betas(chosen))
        case Adamax(name="adamax"):
            return ListUpdater(chosen, parameters, adamax, {"mean": zeros(), "largest": zeros()}, **_betas(chosen))
        case Adagrad(name="adagrad"):
            sums = [torch.full_like(parameter, chosen.initial_accumulator_value) for parameter in parameters]
            return ListUpdater(
                chosen, parameters, adagrad, {"sum": sums}, eps=chosen.eps, lr_decay=chosen.lr_decay, maximize=False
            )
        case Adadelta(name="adadelta"):
            buffers = {"square": zeros(), "delta": zeros()}
            return ListUpdater(chosen, parameters, adadelta, buffers, eps=chosen.eps, rho=chosen.rho, maximize=False)
        case RMSprop(name="rmsprop"):
            return ListUpdater(
                chosen,
                parameters,
                rmsprop,
                {
                    "square": zeros(),
                    "mean": zeros() if chosen.centered else [],
                    "velocity": zeros() if chosen.momentum else [],
                },
                alpha=chosen.alpha,
                eps=chosen.eps,
                momentum=chosen.momentum,
                centered=chosen.centered,
            )
        case Adafactor(name="adafactor"):
            return AdafactorUpdater(chosen, parameters)
        case Lbfgs(name="lbfgs"):
            return LbfgsUpdater(chosen, parameters)
        case _:
            assert_never(chosen)


def _betas(chosen: NAdam | RAdam | Adamax) -> dict[str, float]:
    return {"beta1": chosen.betas[0], "beta2": chosen.betas[1], "eps": chosen.eps}


def _kernel(name: str) -> Callable[..., None]:
    """A private kernel of torch, or what says that there is none."""

    def missing(*_: Any, **__: Any) -> None:
        raise NotImplementedError(name)

    found: Callable[..., None] = getattr(torch, name, missing)
    return found


def _works(kernel: Callable[..., None], *lists: list[Tensor], **options: Any) -> bool:
    """Whether a private kernel of torch takes these arguments and has a place for this device."""
    try:
        kernel(*lists, **options)
    except (NotImplementedError, RuntimeError, TypeError):
        return False
    return True


class _Buffers:
    """Tensors by name, a list of one for each parameter."""

    def __init__(self, buffers: dict[str, list[Tensor]]) -> None:
        self._buffers = buffers

    def state(self) -> dict[str, Tensor]:
        return {
            f"{name}.{place}": tensor for name, tensors in self._buffers.items() for place, tensor in enumerate(tensors)
        }

    def restore(self, saved: dict[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(saved[name])


class AdamUpdater(_Buffers):
    """Adam and AdamW: one kernel for all parameters."""

    def __init__(
        self, chosen: Adam | AdamW, parameters: list[Tensor], kernel: Callable[..., None], public: Callable[..., None]
    ) -> None:
        self.learning_rate = chosen.learning_rate
        self._parameters = parameters
        self._first = [torch.zeros_like(parameter) for parameter in parameters]
        self._second = [torch.zeros_like(parameter) for parameter in parameters]
        self._largest = [torch.zeros_like(parameter) for parameter in parameters] if chosen.amsgrad else []
        # One counter for all: each would cost a kernel call of its own.
        self._steps = torch.zeros((), device=parameters[0].device)
        super().__init__(
            {"first": self._first, "second": self._second, "largest": self._largest, "steps": [self._steps]}
        )
        self._options: dict[str, Any] = {
            "beta1": chosen.betas[0],
            "beta2": chosen.betas[1],
            "weight_decay": chosen.weight_decay,
            "eps": chosen.eps,
            "amsgrad": chosen.amsgrad,
            "maximize": False,
        }
        self._kernel = kernel
        one = [torch.zeros_like(parameters[0].flatten()[:1].detach()) for _ in range(5)]
        lists = [[tensor] for tensor in one[:4]]
        largest = [one[4]] if chosen.amsgrad else []
        steps = [torch.ones_like(self._steps)]
        if not _works(kernel, *lists, largest, steps, lr=0.0, **self._options):
            self._kernel = self._call_public(public)

    def step(self, gradients: Sequence[Tensor], again: Evaluate) -> None:
        self._steps += 1
        self._kernel(
            self._parameters,
            list(gradients),
            self._first,
            self._second,
            self._largest,
            [self._steps] * len(self._parameters),
            lr=self.learning_rate,
            **self._options,
        )

    def _call_public(self, public: Callable[..., None]) -> Callable[..., None]:
        """torch's public function in the place of the kernel: it counts the steps itself."""

        def call(*lists: list[Tensor], **options: Any) -> None:
            *buffers, steps = lists
            public(*buffers, [step - 1 for step in steps], foreach=True, **options)

        return call


class SgdUpdater(_Buffers):
    """Gradient descent, with momentum where asked."""

    def __init__(self, chosen: Sgd, parameters: list[Tensor]) -> None:
        self.learning_rate = chosen.learning_rate
        self._parameters = parameters
        self._velocity = [torch.zeros_like(parameter) for parameter in parameters] if chosen.momentum else []
        self._has_stepped = torch.zeros(())
        super().__init__({"velocity": self._velocity, "has_stepped": [self._has_stepped]})
        self._options: dict[str, Any] = {
            "weight_decay": chosen.weight_decay,
            "momentum": chosen.momentum,
            "dampening": chosen.dampening,
            "nesterov": chosen.nesterov,
            "maximize": False,
        }
        one = [torch.zeros_like(parameters[0].flatten()[:1].detach()) for _ in range(3)]
        self._kernel = _kernel("_fused_sgd_")
        self._fused = _works(
            self._kernel,
            [one[0]],
            [one[1]],
            [one[2]] if chosen.momentum else [],
            lr=0.0,
            is_first_step=False,
            **self._options,
        )

    def step(self, gradients: Sequence[Tensor], again: Evaluate) -> None:
        first = not self._has_stepped  # torch's first velocity is the gradient itself, without dampening
        lists: tuple[list[Tensor], ...] = (self._parameters, list(gradients), self._velocity)
        if self._fused:
            self._kernel(*lists, lr=self.learning_rate, is_first_step=bool(first), **self._options)
        else:
            known: list[Any] = [None] * len(self._parameters) if first or not self._velocity else list(self._velocity)
            public: Callable[..., None] = sgd
            public(lists[0], lists[1], known, foreach=True, lr=self.learning_rate, **self._options)
            for velocity, new in zip(self._velocity, known, strict=False):
                velocity.copy_(new)
        self._has_stepped.fill_(1.0)


class ListUpdater(_Buffers):
    """Any optimizer of torch in its functional form: `function(parameters, gradients, *buffers, steps, ...)`."""

    def __init__(
        self,
        chosen: NAdam | RAdam | Adamax | Adagrad | Adadelta | RMSprop,
        parameters: list[Tensor],
        function: Callable[..., None],
        buffers: dict[str, list[Tensor]],
        **options: Any,
    ) -> None:
        self.learning_rate = chosen.learning_rate
        self._parameters = parameters
        self._function = function
        self._steps = [torch.zeros(()) for _ in parameters]
        self._lists = [*buffers.values(), self._steps]
        self._options = {"weight_decay": chosen.weight_decay, **options}
        super().__init__({**buffers, "steps": self._steps})

    def step(self, gradients: Sequence[Tensor], again: Evaluate) -> None:
        self._function(
            self._parameters, list(gradients), *self._lists, foreach=True, lr=self.learning_rate, **self._options
        )


class AdafactorUpdater(_Buffers):
    """The squares of a matrix are a column and a row; those of a vector are a vector."""

    def __init__(self, chosen: Adafactor, parameters: list[Tensor]) -> None:
        self.learning_rate = chosen.learning_rate
        self._chosen, self._parameters = chosen, parameters
        matrices = [parameter for parameter in parameters if parameter.dim() > 1]
        vectors = [parameter for parameter in parameters if parameter.dim() == 1]
        rows = [torch.zeros_like(matrix[..., :1]) for matrix in matrices]
        columns = [torch.zeros_like(matrix[:1]) for matrix in matrices]
        squares = [torch.zeros_like(vector) for vector in vectors]
        self._steps = [torch.zeros(()) for _ in parameters]
        super().__init__({"row": rows, "column": columns, "square": squares, "steps": self._steps})
        of_rows, of_columns, of_squares = iter(rows), iter(columns), iter(squares)
        self._lists: list[list[Tensor | None]] = [
            [next(of_rows) if parameter.dim() > 1 else None for parameter in parameters],
            [next(of_columns) if parameter.dim() > 1 else None for parameter in parameters],
            [None if parameter.dim() > 1 else next(of_squares) for parameter in parameters],
        ]

    def step(self, gradients: Sequence[Tensor], again: Evaluate) -> None:
        rows, columns, squares = self._lists
        adafactor(
            self._parameters,
            list(gradients),
            rows,
            columns,
            squares,
            self._steps,
            foreach=False,
            d=self._chosen.d,
            lr=self.learning_rate,
            beta2_decay=self._chosen.beta2_decay,
            weight_decay=self._chosen.weight_decay,
            eps1=None,  # type: ignore[arg-type]  # torch's default: the resolution of the numbers
            eps2=1e-3,
            maximize=False,
        )


class _Lbfgs(LBFGS):
    """torch's own, without the import of torch._dynamo that wrapping this method costs."""

    add_param_group: Any = inspect.unwrap(Optimizer.add_param_group)


class LbfgsUpdater:
    """L-BFGS with torch's line search: a step is up to `max_iter` iterations on the same rows."""

    _TENSORS = ("d", "prev_flat_grad")
    _LISTS = ("old_dirs", "old_stps", "ro")
    _NUMBERS = ("t", "H_diag", "prev_loss", "n_iter", "func_evals")

    def __init__(self, chosen: Lbfgs, parameters: list[Tensor]) -> None:
        self.learning_rate = chosen.learning_rate
        self._parameters = parameters
        line_search: Literal["strong_wolfe"] | None = chosen.line_search_fn  # all that torch has
        make: Any = _Lbfgs
        self._optimizer = make(
            parameters,
            lr=chosen.learning_rate,
            max_iter=chosen.max_iter,
            tolerance_grad=chosen.tolerance_grad,
            tolerance_change=chosen.tolerance_change,
            history_size=chosen.history_size,
            line_search_fn=line_search,
        )

    def step(self, gradients: Sequence[Tensor], again: Evaluate) -> None:
        def evaluate() -> Any:
            loss, found = again()
            for parameter, gradient in zip(self._parameters, found, strict=True):
                parameter.grad = gradient
            return loss

        self._optimizer.param_groups[0]["lr"] = self.learning_rate
        self._optimizer.step(evaluate)

    def state(self) -> dict[str, Tensor]:
        held = self._optimizer.state[self._parameters[0]]
        found = {name: held[name] for name in self._TENSORS if name in held}
        for name in self._LISTS:
            found |= {f"{name}.{place}": tensor for place, tensor in enumerate(held.get(name, ()))}
        numbers = {name: held[name] for name in self._NUMBERS if name in held}
        return found | {name: torch.as_tensor(value, dtype=torch.float64) for name, value in numbers.items()}

    def restore(self, saved: dict[str, Tensor]) -> None:
        held = self._optimizer.state[self._parameters[0]]
        # Copied to where torch puts tensors: the last bit of a dot product depends on the alignment of its vectors.
        saved = {name: tensor.clone() for name, tensor in saved.items()}
        held.update({name: saved[name] for name in self._TENSORS if name in saved})
        for name in self._LISTS:
            count = sum(key.startswith(f"{name}.") for key in saved)
            if count or "d" in saved:
                held[name] = [saved[f"{name}.{place}"].clone() for place in range(count)]
        held.update({name: saved[name].item() for name in self._NUMBERS if name in saved})
        for name in ("n_iter", "func_evals"):
            if name in held:
                held[name] = int(held[name])
