"""Buckets, exact to the bit, tied tensors once."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.weights import WeightBucket, pack_buckets, pack_weights, resolve, unpack_weights
from mica_ray.types import PolicyWeights
from tests.small_policy import small_model


@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), max_size=6),
    kinds=st.lists(
        st.sampled_from(["float32", "bfloat16", "float16", "int64", "bool"]), min_size=6, max_size=6
    ),
)
@settings(deadline=None, max_examples=60)
def test_unpacking_gives_back_what_was_packed(shapes: list[tuple[int, ...]], kinds: list[str]) -> None:
    import torch

    tensors = {
        f"weight{index}": (torch.randn(shape) * 10).to(getattr(torch, kinds[index]))
        for index, shape in enumerate(shapes)
    }
    bucket = pickle.loads(pickle.dumps(pack_weights(tensors.items())))
    received = dict(unpack_weights(bucket))
    assert list(received) == list(tensors)
    for name, tensor in tensors.items():
        assert received[name].dtype == tensor.dtype
        assert torch.equal(received[name], tensor)


def test_tensors_begin_on_cache_lines() -> None:
    import torch

    # 3 bytes, then 4: the second starts at 64 and ends at 68, padded to 128.
    bucket = pack_weights([("a", torch.zeros(3, dtype=torch.uint8)), ("b", torch.ones(1))])
    assert bucket.data.nbytes == 128
    assert bucket.data[64:68].view(np.float32)[0] == 1.0


def test_views_need_no_copy_and_read_only_memory_will_do() -> None:
    import torch

    bucket = pack_weights([("a", torch.arange(4.0))])
    bucket.data.flags.writeable = False
    ((_, view),) = unpack_weights(bucket)
    assert view.data_ptr() == bucket.data.ctypes.data


def test_tied_head_travels_once_under_the_name_of_the_embedding() -> None:
    model = small_model(tied=True)
    state = model.state_dict()
    head_first = [("lm_head.weight", state["lm_head.weight"]), *state.items()]
    for named in (state.items(), head_first):
        names = pack_weights(named).names
        assert "lm_head.weight" not in names
        assert names.count("model.embed_tokens.weight") == 1


def test_untied_head_travels() -> None:
    assert "lm_head.weight" in pack_weights(small_model(tied=False).named_parameters()).names


def test_transposed_view_is_no_tie() -> None:
    import torch

    square = torch.arange(4.0).reshape(2, 2)
    received = dict(unpack_weights(pack_weights([("a", square), ("b", square.T)])))
    assert received["b"].tolist() == [[0.0, 2.0], [1.0, 3.0]]


def test_buckets_are_packed_one_at_a_time_and_have_all_parameters() -> None:
    read: list[int] = []

    def named() -> Iterator[tuple[str, torch.Tensor]]:
        reused = torch.empty(5)  # As a gathered parameter, it is overwritten by the next one.
        for number, size in enumerate((2, 2, 5, 1, 2)):
            read.append(number)
            yield f"w{number}", reused[:size].fill_(number)

    buckets: list[WeightBucket] = []
    for bucket in pack_buckets(named(), lora_scale=0.5, size=16):
        buckets.append(bucket)
        assert len(read) == {1: 2, 2: 3, 3: 5}[len(buckets)]
    assert [bucket.names for bucket in buckets] == [("w0", "w1"), ("w2",), ("w3", "w4")]
    assert {bucket.lora_scale for bucket in buckets} == {0.5}
    found = {name: tensor.tolist() for name, tensor in unpack_weights(*buckets)}
    assert found == {"w0": [0, 0], "w1": [1, 1], "w2": [2] * 5, "w3": [3], "w4": [4, 4]}


def test_short_bucket_is_refused() -> None:
    bucket = WeightBucket(("a",), ((64,),), ("float32",), np.zeros(64, np.uint8))
    with pytest.raises(EngineError, match="has 64 bytes, its shapes need 256"):
        list(unpack_weights(bucket))


def test_without_ray_the_bucket_itself_is_published_and_ray_stays_unimported() -> None:
    # In its own process, because other tests may have started Ray in this one.
    program = (
        "import sys, numpy as np; from mica_ray.rollout.weights import *;"
        "bucket = WeightBucket((), (), (), np.zeros(0, np.uint8)); weights = publish(bucket, 3);"
        "assert weights.version == 3 and resolve(weights) == (bucket,) and 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=Path(__file__).parents[2])


def test_foreign_source_is_refused() -> None:
    with pytest.raises(EngineError, match="Weights version 1 have a source of type str"):
        resolve(PolicyWeights(1, "somewhere"))
