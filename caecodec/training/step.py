"""One training step, entirely on the device: crops, loss, gradients, Adam, running average.

On CUDA the whole step is one graph that is launched repeatedly, so nothing in it may read a number from the device.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .crops import Crops
from .loss import Distortion, rate_distortion, squared_error
from .recipe import Recipe

BETAS = (0.9, 0.99)
CLIP = 1.0  # the largest norm of the whole gradient
FORGET = 0.02  # decay of each quality's typical loss, by which its loss is divided
BEFORE_GRAPH = 3  # steps before the graph is captured, in which libraries choose their algorithms


class Step:
    """Advances a network (`models.family.TrainableNetwork`) and its running average; `measure` is the loss's distortion.

    average : the running average of the parameters, by name
    typical : (qualities,), the running mean of each quality's loss
    sums : (qualities, 4), sums of bpp, MSE, distortion and 1 over the crops since they were last set to zero
    """

    def __init__(self, backbone: Any, recipe: Recipe, crops: Crops, measure: Distortion, compiled: bool) -> None:
        self.backbone, self.recipe, self.crops, self.measure = backbone, recipe, crops, measure
        self.device = next(backbone.parameters()).device
        names, self._parameters = zip(*backbone.named_parameters(), strict=True)
        self._gradients = [torch.zeros_like(parameter) for parameter in self._parameters]
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self.average = {name: value.detach().clone() for name, value in zip(names, self._parameters, strict=True)}
        count = len(recipe.points)
        self.typical = torch.zeros(count, device=self.device)
        self.sums = torch.zeros(count, 4, device=self.device)
        self.quality = torch.arange(recipe.crops, device=self.device) % count
        self._share = nn.functional.one_hot(self.quality, count).float()
        self._share /= self._share.sum(0)  # weight of each crop in the mean of its quality
        self._importance = torch.tensor(recipe.shares, device=self.device)
        self._lmbdas = torch.tensor(recipe.lmbdas, device=self.device)[self.quality]
        self._keep = torch.zeros((), device=self.device)
        groups = [
            {"params": parameters, "lr": torch.zeros((), device=self.device), "rate": rate}
            for rate, parameters in backbone.learning_groups()
        ]
        self._optimiser = torch.optim.Adam(groups, betas=BETAS, fused=True, capturable=self.device.type == "cuda")
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graphs = self.device.type == "cuda"
        if compiled:
            self._compile()

    def __call__(self, lr: float, keep: float) -> None:
        """Take one step at this learning rate; the average keeps the share `keep` of its old value."""
        for group in self._optimiser.param_groups:
            group["lr"].fill_(lr * group["rate"])
        self._keep.fill_(keep)
        if self._graphs and self._graph is None and self._taken >= BEFORE_GRAPH:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
        elif self._graphs:  # on a separate stream, as PyTorch requires before capture
            stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # its annotations are incomplete
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                self._advance()
            torch.cuda.current_stream(self.device).wait_stream(stream)
        else:
            self._advance()
        self._taken += 1

    def state(self) -> dict[str, Any]:
        """The state to continue from: moments of the optimiser, typical losses, and the state of the random numbers."""
        moments = self._optimiser.state_dict()["state"]
        return {
            "optimiser": moments,
            "typical": self.typical,
            "device": self.device.type,
            "random": self.crops.random.get_state(),
        }

    def load(self, state: Mapping[str, Any], average: Mapping[str, Tensor]) -> None:
        """Continue from a state, which may come from another kind of device; then the random numbers are different."""
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": state["optimiser"]})
        for name, value in self.average.items():
            value.copy_(average[name])
        self.typical.copy_(state["typical"])
        if state["device"] == self.device.type:
            self.crops.random.set_state(state["random"].cpu())
        else:
            self.crops.random.manual_seed(self.recipe.seed + 1)

    def _advance(self) -> None:
        x = self.crops.draw(self.recipe.crops, self.recipe.size)
        torch._foreach_zero_(self._gradients)
        measured = rate_distortion(self.backbone, x, self.quality, self.measure, self.crops.random)
        bpp, _, distortion = measured
        losses = self._share.T @ (bpp + self._lmbdas * distortion)  # each quality has its own mean
        with torch.no_grad():
            right = losses.isfinite()
            self.typical.copy_(
                torch.where(right, torch.where(self.typical == 0, losses, self.typical.lerp(losses, FORGET)), self.typical)
            )
            rows = torch.stack([*measured, torch.ones_like(bpp)], 1)
            self.sums.add_(torch.where(right[:, None], self._share.T @ rows, 0.0))
        (self._importance * losses / self.typical).sum().backward()  # type: ignore[no-untyped-call]  # Tensor.backward has no annotations
        with torch.no_grad():
            norm = torch.stack(torch._foreach_norm(self._gradients)).norm()
            torch._foreach_mul_(self._gradients, (CLIP / norm).clamp(max=1.0))
            for gradient in self._gradients:
                gradient.nan_to_num_(0.0, 0.0, 0.0)  # skip a step whose norm is not finite
        self._optimiser.step()
        with torch.no_grad():
            averages = list(self.average.values())
            change = torch._foreach_sub(self._parameters, averages)
            torch._foreach_mul_(change, 1 - self._keep)
            torch._foreach_add_(averages, change)

    def _capture(self) -> None:
        """Capture a step as a graph; if that fails, warn and continue without one."""
        try:
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.crops.random)
            torch.cuda.synchronize(self.device)
            with torch.cuda.graph(graph):
                self._advance()
            self._graph = graph
        except RuntimeError as error:
            warnings.warn(f"training continues without a CUDA graph, which is slower: {error}", stacklevel=2)
            self._graphs = False
            self.crops.random = torch.Generator(self.device).manual_seed(self.recipe.seed + 1)  # the graph has the old one

    def _compile(self) -> None:
        """Compile the point-wise parts of the network; if that fails, warn and continue without."""
        self.backbone.use_compiled(True)
        try:
            x = self.crops.draw(self.recipe.crops, self.recipe.size)
            _, mse, _ = rate_distortion(self.backbone, x, self.quality, squared_error, self.crops.random)
            mse.sum().backward()  # type: ignore[no-untyped-call]  # Tensor.backward has no annotations
        # torch.compile does not document its errors; an error of ours would be raised again without it.
        except Exception as error:
            warnings.warn(f"training continues without torch.compile, which is slower: {error!r}"[:500], stacklevel=2)
            self.backbone.use_compiled(False)
