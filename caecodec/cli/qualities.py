"""Lists of qualities on the command line."""

import re

from ..errors import ParameterError


def parse_qualities(text: str) -> tuple[int, ...]:
    """The numbers in a list such as 1-5 or 1,3 or 1-3,5; ParameterError for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([1-8])(?:-([1-8]))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ParameterError(f"qualities is {text!r} but must be numbers from 1 to 8, such as 1-5 or 2,4")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(numbers)
