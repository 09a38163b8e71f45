"""A small HTTP proxy and a small SOCKS5 proxy, which count what passes through them."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ProxyServer:
    """A proxy that listens on this machine; `login` is the "user:password" that it demands, if any."""

    scheme = ""

    def __init__(self, login: str = "") -> None:
        self.login = login
        self.num_passed = self.num_rejected = 0

    async def __aenter__(self) -> ProxyServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.address = f"{self.scheme}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def address_with(self, login: str) -> str:
        return f"{self.scheme}://{login}@127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._exchange(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client gave up first.
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class HttpProxy(ProxyServer):
    """Forwards requests whose target is a whole address."""

    scheme = "http"

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        expected = "Basic " + base64.b64encode(self.login.encode()).decode()
        if self.login and expected not in head:
            self.num_rejected += 1
            writer.write(
                b"HTTP/1.1 407 Login first\r\nContent-Length: 12\r\nConnection: close\r\n\r\nlogin first\n"
            )
            return
        self.num_passed += 1
        method, target, version = head.split("\r\n")[0].split(" ")
        parts = urlsplit(target)
        path = parts._replace(scheme="", netloc="").geturl()
        upstream = await asyncio.open_connection(parts.hostname, parts.port)
        upstream[1].write(
            head.replace(f"{method} {target} {version}", f"{method} {path} {version}", 1).encode()
        )
        await _join((reader, writer), upstream)


class SocksProxy(ProxyServer):
    """SOCKS 5 (RFC 1928) with the command CONNECT, and logins by RFC 1929."""

    scheme = "socks5"

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, num_methods = await reader.readexactly(2)
        methods = await reader.readexactly(num_methods)
        method = 2 if self.login else 0
        if method not in methods:
            self.num_rejected += 1
            writer.write(b"\x05\xff")
            return
        writer.write(bytes((5, method)))
        if self.login and not await self._is_login_right(reader, writer):
            self.num_rejected += 1
            return
        _, _, _, kind = await reader.readexactly(4)
        length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        raw = await reader.readexactly(length)
        host = raw.decode() if kind == 3 else ".".join(map(str, raw))
        port = int.from_bytes(await reader.readexactly(2))
        upstream = await asyncio.open_connection(host, port)
        self.num_passed += 1
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        await _join((reader, writer), upstream)

    async def _is_login_right(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        _, length = await reader.readexactly(2)
        user = await reader.readexactly(length)
        password = await reader.readexactly((await reader.readexactly(1))[0])
        is_right = f"{user.decode()}:{password.decode()}" == self.login
        writer.write(b"\x01\x00" if is_right else b"\x01\x01")
        return is_right


async def _join(client: Streams, upstream: Streams) -> None:
    """Copy bytes both ways until the upstream server closes."""
    forth = asyncio.ensure_future(_copy(client[0], upstream[1]))
    await _copy(upstream[0], client[1])
    forth.cancel()
    upstream[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
