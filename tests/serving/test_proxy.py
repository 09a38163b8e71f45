"""The environment variables for Ray Serve; those the operator has set are kept."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mica_ray.serving.proxy import choose_proxy, has_haproxy


@pytest.mark.skipif(not has_haproxy(), reason="ray[serve] brings HAProxy on Linux only")
def test_requests_pass_through_haproxy_and_grpc() -> None:
    environment: dict[str, str] = {}
    choose_proxy(environment)
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environment["RAY_SERVE_USE_GRPC_BY_DEFAULT"] == "1"


@pytest.mark.skipif(not has_haproxy(), reason="ray[serve] brings HAProxy on Linux only")
def test_two_services_on_one_machine_have_different_stats_ports() -> None:
    first: dict[str, str] = {}
    second: dict[str, str] = {}
    choose_proxy(first)
    choose_proxy(second)
    assert first["RAY_SERVE_HAPROXY_STATS_PORT"] != second["RAY_SERVE_HAPROXY_STATS_PORT"]


def test_variables_of_the_operator_are_kept() -> None:
    environment = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0"}
    choose_proxy(environment)
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == environment["RAY_SERVE_USE_GRPC_BY_DEFAULT"] == "0"
    assert "RAY_SERVE_HAPROXY_STATS_PORT" not in environment


def test_ray_serve_knows_every_setting() -> None:
    environment: dict[str, str] = {}
    choose_proxy(environment)
    constants = importlib.import_module("ray.serve._private.constants")
    known = Path(str(constants.__file__)).read_text(encoding="utf-8")
    assert [name for name in environment if f'"{name}"' not in known] == []
