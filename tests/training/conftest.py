"""A torch process group of one rank, as Ray Train opens it in a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = dist.FileStore(  # pyright: ignore[reportPrivateImportUsage]
        str(tmp_path_factory.mktemp("group") / "store"), 1
    )
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LOCAL_RANK", "0")  # Ray Train sets it in its workers, and DeepSpeed reads it.
        yield
    dist.destroy_process_group()
