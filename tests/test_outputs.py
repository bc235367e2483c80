"""Outputs of functions that take texts: a URL is refused before the work, and no local folder is named after it."""

import pytest

import caecodec
from caecodec.evaluation import Scores, evaluate, report, write_scores
from caecodec.training.export import export, to_compressai
from caecodec.training.fit_entropy import fit_entropy
from caecodec.training.layered import fit_layers
from caecodec.training.recipe import Recipe
from caecodec.training.train import train

URL = "memory://a/b.safetensors"


@pytest.mark.parametrize(
    "make",
    [
        lambda: train([], URL, Recipe(steps=1)),
        lambda: export("a.ckpt", URL),
        lambda: to_compressai("default", 4, URL),
        lambda: fit_entropy("a.safetensors", [], URL),
        lambda: fit_layers("a.safetensors", [], URL),
        lambda: evaluate([], URL),
        lambda: report([], URL),
        lambda: write_scores(Scores((), ()), URL),
    ],
    ids=["train", "export", "to_compressai", "fit_entropy", "fit_layers", "evaluate", "report", "write_scores"],
)
def test_a_url_is_no_output(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(caecodec.ParameterError, match=f"output is the URL {URL} but must be a path"):
        make()
    assert list(tmp_path.iterdir()) == []
