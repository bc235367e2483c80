import pytest

import caecodec
from caecodec.cli.qualities import parse_qualities


@pytest.mark.parametrize(("text", "numbers"), [("3", (3,)), ("1-3", (1, 2, 3)), ("2, 4-5", (2, 4, 5)), ("1-3,5", (1, 2, 3, 5))])
def test_qualities(text, numbers):
    assert parse_qualities(text) == numbers


@pytest.mark.parametrize("text", ["", "x", "1-", "5-3", "0", "9", "1,,2", "1.5", "1-b"])
def test_no_qualities(text):
    with pytest.raises(caecodec.ParameterError, match="numbers from 1 to 8"):
        parse_qualities(text)
