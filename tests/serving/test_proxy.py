"""The environment variables for Ray Serve; those the operator has set are kept."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from mica_ray.serving.proxy import choose_proxy, has_haproxy, private_folder


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


@pytest.mark.skipif(not has_haproxy(), reason="ray[serve] brings HAProxy on Linux only")
def test_only_this_user_reaches_the_admin_socket() -> None:
    environment: dict[str, str] = {}
    choose_proxy(environment)
    for name in ("SOCKET_PATH", "METRICS_SOCKET_PATH", "CONFIG_FILE_LOC", "SERVER_STATE_FILE"):
        folder = Path(environment[f"RAY_SERVE_HAPROXY_{name}"]).parent
        assert folder.stat().st_mode & 0o077 == 0, folder
        assert folder.stat().st_uid == os.geteuid()
    # Ray adds the id of a node, 56 characters, and HAProxy an ending of its own.
    assert len(environment["RAY_SERVE_HAPROXY_SOCKET_PATH"]) + 57 + 12 <= 107


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o700])
def test_a_folder_of_this_user_is_closed_to_others(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / f"mica-serve-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(mode)
    assert private_folder(tmp_path) == folder
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_name_that_another_user_took_is_not_used(tmp_path: Path, kind: str) -> None:
    taken = tmp_path / f"mica-serve-{os.geteuid()}"
    other = tmp_path / "other"
    other.mkdir()
    if kind == "link":
        taken.symlink_to(other)
    else:
        taken.write_text("")
    found = private_folder(tmp_path)
    assert found not in (taken, other) and found.is_dir() and not found.is_symlink()
    assert found.stat().st_mode & 0o077 == 0


def test_a_service_with_its_own_certificate_does_without_haproxy() -> None:
    environment = {"RAY_SERVE_ENABLE_HA_PROXY": "1"}
    choose_proxy(environment, has_tls=True)
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert "RAY_SERVE_HAPROXY_SOCKET_PATH" not in environment
