"""What training starts from: weights of the recipe's family, the principal components of the training images, or noise."""

from typing import Any

import torch

from .. import weights
from ..entropy.layered_tables import layers_of
from ..errors import ParameterError
from ..models import registry
from ..models.factorized import compressai
from ..models.family import Tensors
from .crops import Crops
from .layered_trainer import LayeredTrainer
from .recipe import LMBDAS, Recipe
from .state import family_of

KLT, RANDOM = "klt", "random"
KLT_CROPS = 1200
RATE_CROPS = 128
SIZE = 128  # pixels a side of these crops


def default_init(recipe: Recipe) -> str:
    """The shipped weights, NAME@DIGEST, of the recipe's family, metric and first quality; "klt" if there are none."""
    stored_name = registry.by_name(recipe.family).stored_name
    for source in weights.by_place()["shipped"]:
        if (source.family, source.metric) == (stored_name, recipe.metric) and recipe.qualities[0] in source.qualities:
            return str(source.spec)
    return KLT


def start(init: str, recipe: Recipe, crops: Crops, dtype: torch.dtype) -> Any:
    """The network (`models.family.TrainableNetwork`) that training starts from, on the device of the crops."""
    trainer = recipe.trainer
    network = trainer.network(recipe.qualities, recipe.metric, dtype)
    if init == KLT:
        # Principal components minimise the squared error, whatever the loss.
        mse = [LMBDAS["mse"][quality - 1] for quality in recipe.qualities]
        trainer.start_from_images(network, crops.draw(KLT_CROPS, SIZE).cpu(), mse)
    elif init != RANDOM:
        trainer.start_from_weights(network, _stored(init, recipe), dict(enumerate(LMBDAS[recipe.metric], 1)))
    network = network.to(crops.pixels.device)
    trainer.start_rate(network, crops.draw(RATE_CROPS, SIZE))
    return network


def _stored(init: str, recipe: Recipe) -> Tensors:
    """The tensors of installed weights, of a weights file or of a checkpoint; they must be of the recipe's family."""
    spec = weights.Spec.parse(init)
    wanted, layers = registry.by_name(recipe.family), False
    if spec.path is None or spec.path.suffix == ".safetensors":
        quality = recipe.qualities[0]
        if spec.path is None:
            source = weights.resolve(spec, recipe.metric, quality)
        else:
            source = weights.open_file(spec.path, recipe.metric, quality)
        found, tensors = registry.by_stored_name(source.family), weights.read_tensors(source)
        layers = layers_of(tensors) > 0
    else:
        state = compressai.read(spec.path)
        trained = family_of(state)
        if trained is None:
            found = registry.by_stored_name(weights.CHECKPOINTS)
            tensors = compressai.from_state_dict(state, recipe.qualities[0])
        else:
            found, trainer = trained
            layers, tensors = isinstance(trainer, LayeredTrainer), trainer.tensors(state)
    if layers:
        raise ParameterError(
            f"init is {init!r}, of layers, but training starts from qualities; choose weights without layers, or continue a "
            "checkpoint with resume (--resume)"
        )
    if found is not wanted:
        raise ParameterError(
            f"init is {init!r}, of family {found.name!r}, but the recipe's family is {wanted.name!r}; choose weights of that "
            f"family, {KLT!r}, {RANDOM!r}, or the other family (--family)"
        )
    return tensors
