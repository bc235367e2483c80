"""Names and the numbers that stand for them in payloads. Numbers are literals: never reused, never renumbered."""

from collections.abc import Iterator, Mapping

from ..errors import FormatVersionError


class WireIds(Mapping[int, str]):
    """The names that one field of a header can have, by wire id.

    what : the name of the field, for errors
    largest : the largest number that the field has room for
    """

    def __init__(self, what: str, names: Mapping[int, str], largest: int = 255) -> None:
        self.what, self.largest = what, largest
        self._names = dict(names)

    def __getitem__(self, number: int) -> str:
        return self._names[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, number: int, name: str) -> None:
        """Make a name known under a wire id; ValueError if either is taken already, or the number is too large."""
        if self._names.get(number) == name:
            return
        if number in self._names or name in self.values() or not 0 <= number <= self.largest:
            raise ValueError(
                f"{self.what} {number} cannot stand for {name!r}: it must be a free number from 0 to {self.largest} and a new "
                f"name; taken are {self._names}"
            )
        self._names[number] = name

    def remove(self, number: int) -> None:
        """Forget a wire id."""
        del self._names[number]

    def number(self, name: str) -> int:
        """The wire id of a name, which must be known."""
        return next(number for number, known in self._names.items() if known == name)

    def name(self, number: int) -> str:
        """The name behind a wire id that was read from a payload; FormatVersionError if it is not known here."""
        if number not in self._names:
            known = ", ".join(map(str, sorted(self._names)))
            raise FormatVersionError(
                f"{self.what} of the payload is {number} but this caecodec knows {known}; upgrade caecodec"
            )
        return self._names[number]
