"""Model families by name; the wire ids are in bitstream/header.py."""

from .factorized import FactorizedPrior

FAMILIES = {"cae": FactorizedPrior}
