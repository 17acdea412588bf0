"""Real small models through the whole path: a frame, the embedded server, typed columns."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pytest

import dobatch_pandas as dobatch
from dobatch_pandas.server import weights

pytestmark = [pytest.mark.model, pytest.mark.slow]


def needs(model, library):
    missing = importlib.util.find_spec(library) is None or not weights.present(model)
    return pytest.mark.skipif(missing, reason=f"needs {library} and `dobatch fetch-model {model}`")


@needs("smollm2", "xllamacpp")
@pytest.mark.timeout(900)  # the model shares its cores with whatever else runs
def test_a_real_model_fills_typed_columns(serve):
    """
    A JSON schema, a real language model, and columns of the right types; the same rows again cost nothing.
    """
    serve(model="smollm2")
    frame = dobatch.datasets.load_reviews(6)
    schema = {"sentiment": ["positive", "negative"], "stars": int}
    job = frame.dobatch.submit(
        'Judge this review.\n\n"{text}"', model="smollm2", schema=schema, max_tokens=60
    )
    frame.dobatch.update(job)

    answered = frame["response_error"].isna()
    assert answered.sum() >= 4
    assert isinstance(frame["sentiment"].dtype, pd.CategoricalDtype)
    assert set(frame["sentiment"][answered]) <= {"positive", "negative"}
    assert str(frame["stars"].dtype) == "Int64"
    assert job.usage().prompt_tokens > 0


@needs("minilm", "onnxruntime")
def test_real_embeddings_tell_likes_from_likes(serve):
    """
    Vectors of a real model: what means the same is near.
    """
    serve(model="minilm")
    frame = pd.DataFrame({"text": ["a cat sleeps", "a kitten is napping", "stock prices fell"]})
    frame.dobatch.update(
        frame.dobatch.submit("{text}", model="all-minilm", endpoint="embeddings", into="vector")
    )

    vectors = dobatch.matrix(frame["vector"])
    assert vectors.shape == (3, 384)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > far + 0.2
    assert np.isfinite(vectors).all()
