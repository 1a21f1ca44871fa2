"""Who comes in: no page of another site frames these, and only the printed address starts runs.

A name that this server does not go by is refused on the page itself: Streamlit alone would let the
page come and then refuse its data without a word.

Reading needs nothing. The Live lab's start and stop need the token of the address that the terminal
printed, as JupyterLab's pages do: another user of this machine, whom 127.0.0.1 does not keep out, has
not seen it. The first request hands it over, a cookie keeps it, and it leaves the address bar at once,
so no copied link has it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import webbrowser
from collections.abc import AsyncIterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard import lab
from resnetlab import store

TOKEN, OPEN = "RESNETLAB_TOKEN", "RESNETLAB_OPEN"  # variables that `resnetlab dashboard` sets
PAGE = ".open-dashboard.html"  # in the results folder, readable by its owner alone
HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def enters() -> bool:
    """Whether the reader of this page came by the printed address, and may start and stop runs."""
    return _same(st.context.cookies.get(_cookie(), ""))


def _same(offered: str) -> bool:
    token = os.environ.get(TOKEN, "")
    return bool(token) and secrets.compare_digest(offered.encode(), token.encode())


def _cookie() -> str:
    """Its name: cookies of one machine do not tell ports apart."""
    return f"resnetlab-{st.get_option('server.port')}"


REFUSED = """<!doctype html><meta charset="utf-8"><title>Not served under this name</title>
<h1>This dashboard is not served under the name {name}</h1>
<p>It answers to {known}. Behind a proxy, start it with the address that readers use:</p>
<pre>resnetlab dashboard --url https://{name}/</pre>"""


def _goes_by(host: str) -> bool:
    """Whether it is a name of this server: one that Streamlit allows, any if it allows all."""
    with contextlib.suppress(ValueError):
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        for known in (str(one).lower() for one in _names()):
            if known in ("*", name) or (known.startswith("*.") and name.endswith(known[1:])):
                return True
    return not _names()


def _names() -> list[str]:
    return list(st.get_option("server.allowedHosts") or [])


class _Door:
    """Puts HEADERS on every answer, refuses other names, turns a token in the address into a cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "")
        if not _goes_by(host):
            name, known = (escape(text) for text in (host[:200], ", ".join(_names())))
            refused = HTMLResponse(REFUSED.format(name=name, known=known), status_code=403)
            await refused(scope, receive, with_headers)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        offered = [value for name, value in query if name == "token"]
        if not offered:
            await self.app(scope, receive, with_headers)
            return
        # Relative, as a server in front of this one may have put the pages elsewhere.
        rest = urlencode([pair for pair in query if pair[0] != "token"])
        answer = RedirectResponse(f"?{rest}", status_code=303)
        if _same(offered[0]):
            answer.set_cookie(_cookie(), offered[0], httponly=True, samesite="strict")
        await answer(scope, receive, with_headers)


@contextlib.asynccontextmanager
async def _lifespan(app: object) -> AsyncIterator[None]:
    """Say where to start runs if nobody has; open the page if that is wished."""
    token = os.environ.get(TOKEN)
    if token is None and lab.enabled(st.get_option("server.address")):
        token = os.environ[TOKEN] = secrets.token_urlsafe()
        print(f"  To start runs in the Live lab: that address with /?token={token}\n", flush=True)
    page = None
    if url := os.environ.get(OPEN):
        page = _page_that_leads_to(f"{url}/?token={token}") if token else None
        webbrowser.open(page.as_uri() if page else url)
    yield
    if page:
        page.unlink(missing_ok=True)


def _page_that_leads_to(url: str) -> Path | None:
    """A file for the browser's command line, which every user of the machine can read: no token there.

    None where the results folder cannot be written.
    """
    path = store.results_root() / PAGE
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f'<meta http-equiv="refresh" content="0; url={escape(url)}">')
        return path.absolute()
    return None


# What Streamlit's App is given beside its script.
AROUND: dict[str, Any] = {"middleware": [Middleware(_Door)], "lifespan": _lifespan}
