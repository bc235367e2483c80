import pytest
from helpers import processes

from caecodec import settings
from caecodec.errors import ParameterError


def test_defaults(monkeypatch):
    for name in settings.Settings.__dataclass_fields__:
        monkeypatch.delenv(f"CAECODEC_{name.upper()}", raising=False)
    assert settings.current() == settings.Settings()


@pytest.mark.parametrize(("text", "size"), [("512M", 2**29), ("2g", 2**31), ("1GiB", 2**30), ("20000000", 20000000)])
def test_memory(text, size):
    with settings.using(memory=text):
        assert settings.current().memory == size


@pytest.mark.parametrize(("name", "value"), [
    ("device", "gpu"), ("precision", "fp16"), ("threads", "-1"), ("threads", "two"), ("max_batch", "0"), ("memory", "1K"),
    ("memory", "lots"),
])  # fmt: skip
def test_values_out_of_range_change_nothing(name, value):
    before = settings.current()
    with pytest.raises(ParameterError, match=f"CAECODEC_{name.upper()} is"):
        settings.configure(**{name: value})
    assert settings.current() == before


def test_unknown_setting():
    with pytest.raises(ParameterError, match="unknown setting 'gpus'"):
        settings.configure(gpus=2)


def test_child_processes_have_them():
    with settings.using(threads=3):
        code = "from caecodec import settings; print(settings.current().threads)"
        assert processes.run("-c", code).stdout == "3\n"
    assert settings.current().threads == 0


def test_defaults_on_cuda():
    with settings.using(max_batch=None, memory=None, user_weights=None):
        assert settings.on_cuda(2**36) == settings.Settings(max_batch=settings.CUDA_BATCH, memory=2**34)
        with settings.using(max_batch=7):
            assert settings.on_cuda(2**36) == settings.Settings(max_batch=7, memory=2**34)
        with settings.using(memory="2G"):
            assert settings.on_cuda(2**36) == settings.Settings(max_batch=settings.CUDA_BATCH, memory=2**31)
