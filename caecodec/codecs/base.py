"""The interface of a codec, through which everything else encodes, decodes, converts, measures and inspects.

    arguments ──parse──▶ parameters ──config──▶ stored metadata
    array ──encode──▶ payload ──parse_payload──▶ parsed payload ──start_decode──▶ Decoding ──result──▶ array
                                                                ──describe──▶ Description

A codec is one object of a class derived from `Codec`. To add one:

1. Derive its parameters from `Parameters`: a frozen dataclass with what array metadata stores.
2. Derive the codec from `Codec`, and pass one object of that class to `registry.register`. From then on its payloads can be
   decoded and inspected, and images can be converted to it and measured with it. The codecs of this package have a line in
   registry.py instead.
3. Write the signature that users see once, as a class whose `__init__` sets `parameters` and `gpu` and then calls
   `super().__init__()`; `codecs/autoencoder/parameters.py` has an example. Derive the classes for numcodecs and zarr from it:
   `class Mine(MineArguments, caecodec.numcodecs.Compressor)` with `codec_id` and with `codec`, the object of step 2, and
   `class Mine(MineArguments, caecodec.zarr.Serializer)` with `codec`. Make them known to numcodecs and zarr by entry points
   named `Codec.codec_id` and `Codec.zarr_name`, or by `numcodecs.register_codec` and `zarr.registry.register_codec`.

This module does not import torch. A codec should import it only when it encodes or decodes, so that metadata opens without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from ..bitstream.prefix import ChunkHeader
from ..chunks.axes import Axes
from ..chunks.pending import Pending
from ..chunks.planes import fill
from ..errors import ParameterError
from ..weights import DEFAULT, Source, Spec
from .reports import Report

if TYPE_CHECKING:
    from torch import Tensor

Gpu = bool | str | None  # True: CUDA if present; False: the CPU; a device by name; None: the device of the settings


class Dependencies(NamedTuple):
    """What decoding may need besides the payload.

    weights : where to look, besides the installed ones, for the weights whose digest a payload names
    network : the network section that the payloads of an array share; None if they share none
    layers : how many layers of a scalable payload to decode; None: as many as the settings say
    """

    weights: Spec = Spec(DEFAULT)
    network: bytes | None = None
    layers: int | None = None


@dataclass(frozen=True)
class Parameters:
    """What array metadata stores of a codec. Derived classes are frozen dataclasses whose fields are in the stored order.

    One of the fields must be `channel_axis`. Fields that are None are not stored, except channel_axis.
    """

    if TYPE_CHECKING:  # at run time a derived dataclass would take the property for the default of its field

        @property
        def channel_axis(self) -> int | None:
            """The axis of a chunk that holds its channels; None if there is none."""

    def arguments(self) -> dict[str, Any]:
        """The arguments of the codec's constructors by name, without `gpu`."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def config(self) -> dict[str, Any]:
        """What array metadata stores, as values that JSON can hold."""
        return {name: value for name, value in self.arguments().items() if value is not None or name == "channel_axis"}

    def on_axis(self, channel_axis: int | None) -> Self:
        """The same parameters for chunks with another channel axis."""
        changes: dict[str, Any] = {"channel_axis": channel_axis}
        return replace(self, **changes)

    @property
    def dependencies(self) -> Dependencies:
        """What decoding payloads that were written with these parameters needs."""
        return Dependencies()

    def needed_weights(self) -> tuple[Source, ...]:
        """The weights that readers of such an array need; WeightsError if they are not installed here."""
        return ()

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())


class Payload(Protocol):
    """A parsed payload: its header, and whatever else its codec needs."""

    @property
    def header(self) -> ChunkHeader:
        """Shape, dtype, channel axis and memory order of the chunk."""


@dataclass(frozen=True, eq=False)
class Decoding:
    """A payload that is being decoded.

    pending : the C-contiguous chunk, as an array or a tensor
    fortran : whether the chunk that was encoded was F-contiguous
    kept : whether the chunk is a tensor that stays on the device that was asked for
    big_endian : whether the bytes of the array that was encoded were in big-endian order
    """

    pending: "Pending[npt.NDArray[Any] | Tensor]"
    fortran: bool
    kept: bool = False
    big_endian: bool = False

    @classmethod
    def constant(cls, header: ChunkHeader, colour: bytes) -> "Decoding":
        """A chunk whose pixels all have these values: one for each channel, in the chunk's dtype, little-endian."""
        axes = Axes.of(len(header.shape), header.channel_axis)
        values = np.frombuffer(colour, header.numpy_dtype.newbyteorder("<")).astype(header.dtype)
        return cls(Pending(partial(fill, values, header.shape, axes)), header.fortran)

    def result(self, copy: bool = True) -> npt.NDArray[Any]:
        """The chunk in the memory order in which it was encoded. Waits for it, and raises its errors.

        copy : copy a chunk that is a part of a batch, so that it does not keep the whole batch in memory
        """
        found = self.pending.result()
        array = found if isinstance(found, np.ndarray) else found.cpu().numpy()
        if self.fortran:
            return np.asfortranarray(array)
        return array.copy() if copy and self.pending.begun else array

    def as_given(self) -> npt.NDArray[Any]:
        """`result` in the byte order of the array that was encoded, for callers who take its bytes for that array's."""
        array = self.result()
        return array.astype(array.dtype.newbyteorder(">" if self.big_endian else "<"), copy=False)

    def tensor(self, copy: bool = True) -> "Tensor":
        """The chunk as a tensor, on the device if it was kept there, ready for this thread's CUDA stream.

        copy : as for `result`
        """
        import torch

        found = self.pending.result()
        if isinstance(found, np.ndarray):
            return torch.from_numpy(found)
        if found.is_cuda:
            found.record_stream(torch.cuda.current_stream(found.device))
        return found.clone() if copy and self.pending.begun else found


@dataclass(frozen=True)
class Description:
    """What one payload adds to the report on its array.

    version : its format version
    constant : whether the chunk has one colour
    digest : the digest of the weights that it names, if any
    parts : its bytes by part. The keys are fields of the codec's report; the values add up to the length of the payload
    facts : what may differ from chunk to chunk. The keys are fields of the report, which hold the sorted tuple of all values
    """

    version: int
    constant: bool = False
    digest: bytes | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Option(NamedTuple):
    """An option of `caecodec encode` and of `caecodec.ngff.Options`; its name is that of the parameter that it sets.

    type : converts the text from the command line to a value
    choices : the allowed values; a function if others can be registered later
    short : a second name on the command line, such as "-m"
    """

    name: str
    help: str
    type: Callable[[str], Any] = str
    choices: Sequence[str] | Callable[[], Sequence[str]] | None = None
    short: str | None = None


P = TypeVar("P", bound=Parameters)
D = TypeVar("D", bound=Payload)


class Codec(ABC, Generic[P, D]):
    """A codec with parameters of class P and parsed payloads of class D.

    name : its name on the command line, in options and in reports
    codec_id, zarr_name : its names in the metadata of Zarr v2 and of Zarr v3 arrays
    report : the class of the reports that `inspect` makes of its arrays
    heading : the heading above its options in the help of the command line
    options : the parameters that a conversion can set; `channel_axis` is not among them, because it follows from the image
    slow : whether encoding a chunk takes seconds or more, so that conversions show the progress of each chunk, and evaluation
        does not encode one to warm up
    carries_weights : whether conversions can store the weights that `Parameters.needed_weights` names in the group
    shares : whether conversions can fit parameters that all chunks of an array share
    """

    name: ClassVar[str]
    codec_id: ClassVar[str]
    zarr_name: ClassVar[str]
    report: ClassVar[type[Report]] = Report
    heading: ClassVar[str]
    options: ClassVar[tuple[Option, ...]] = ()
    slow: ClassVar[bool] = False
    carries_weights: ClassVar[bool] = False
    shares: ClassVar[bool] = False

    @abstractmethod
    def parse(self, **arguments: Any) -> P:
        """Checked parameters; omitted ones have their defaults.

        Raises ParameterError for values that are out of range or contradict each other, and WeightsError for weights that are
        not installed here.
        """

    @abstractmethod
    def owns(self, version: int, family: int) -> bool:
        """Whether payloads with this format version and family byte belong to this codec. Only one codec may own a payload."""

    @abstractmethod
    def encode(self, parameters: P, array: npt.NDArray[Any], gpu: Gpu = None) -> bytes:
        """The payload of a chunk in any memory order; ParameterError for a chunk that the codec does not accept."""

    def in_batches(self, gpu: Gpu) -> bool:
        """Whether a device works on batches of chunks; a thread for each chunk would limit the size of the batches."""
        return False

    def start_encode(self, parameters: P, array: "npt.NDArray[Any] | Tensor", gpu: Gpu = None) -> Pending[bytes]:
        """Begin to encode a chunk, which may also be a tensor on a GPU; errors are those of `encode`."""
        return Pending(lambda: self.encode(parameters, array if isinstance(array, np.ndarray) else array.cpu().numpy(), gpu))

    @abstractmethod
    def parse_payload(self, data: bytes | bytearray | memoryview) -> D:
        """The payload in data, which must hold one payload of this codec and nothing else.

        Raises CorruptionError for a damaged payload, and FormatVersionError for wire ids that only a newer caecodec knows.
        """

    @abstractmethod
    def start_decode(self, payload: D, dependencies: Dependencies, gpu: Gpu = None, keep: bool = False) -> Decoding:
        """Begin to decode a payload on a device, or leave it to the thread that asks for the result.

        keep : leave what a device decodes on the device

        Raises, here or with the result, CorruptionError for damage that parsing cannot see, and WeightsError if the weights or
        the network that the payload needs are missing.
        """

    @abstractmethod
    def describe(self, payload: D) -> Description:
        """What a payload adds to the report on its array. Runs no network."""

    def summary(self, parameters: P) -> dict[str, Any]:
        """The fields of the report that follow from the parameters: "asked" (in words), "metric", "weights" (a Spec)."""
        return {"asked": str(parameters)}

    def payload_summary(self, payload: D) -> dict[str, Any]:
        """The same fields for a payload without an array, as far as the payload tells."""
        return {}

    def first_layers(self, layers: int | None) -> int | None:
        """How many layers of its payloads to fetch and decode if a caller asks for `layers`; None for all of them.

        Raises ParameterError if a caller asks for layers and the codec has none.
        """
        if layers is not None:
            raise ParameterError(f"layers is {layers} but arrays of codec {self.name!r} have no layers; leave it out")
        return None

    def layer_count(self, parameters: P) -> int:
        """How many layers payloads have that are written with these parameters; 0 if they have none.

        Raises WeightsError if the weights that tell are not installed here.
        """
        return 0

    def share(self, parameters: P, chunks: Sequence[npt.NDArray[Any]], gpu: Gpu = None) -> P:
        """Parameters that all chunks of an array can share, fitted to a sample of them. Only called if `shares` is set."""
        return parameters

    def operating_points(self, qualities: Sequence[int] | None = None) -> list[tuple[str, P]]:
        """The points of the codec's rate-distortion curve with their names, for chunks (height, width, 3) of uint8.

        qualities : the qualities to measure; None: all. A codec without qualities has one point
        """
        return [("default", self.parse())]
