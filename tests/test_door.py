"""Who comes in: no foreign frame, and starting needs the token that the printed address carries."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dashboard import door
from resnetlab import cli

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """Port and token of the dashboard as `streamlit run dashboard/app.py` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "streamlit", "run", "dashboard/app.py", "--server.port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != door.TOKEN}
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=PROJECT,
        env=environment | {"RESNETLAB_RESULTS": str(tmp_path_factory.mktemp("door"))},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = ""
        while "token=" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        yield port, said.partition("token=")[2].strip()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def get(port: int, path: str) -> tuple[int, Mapping[str, str]]:
    """Status and headers of the answer; a redirection is not followed."""
    return ask(port, path, f"127.0.0.1:{port}")[:2]


def ask(port: int, path: str, host: str) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and text of the answer to who asks for that name."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        with connection.getresponse() as answer:
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")


@pytest.mark.slow
def test_no_page_of_another_site_can_frame_any_answer(server: tuple[int, str]) -> None:
    for path in ("/", "/lab", "/_stcore/health", "/?token=wrong"):
        _, headers = get(server[0], path)
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'", path
        assert headers["X-Frame-Options"] == "DENY", path


@pytest.mark.slow
def test_the_token_becomes_a_cookie_and_leaves_the_address(server: tuple[int, str]) -> None:
    port, token = server
    status, headers = get(port, f"/lab?study=a%2Fb&token={token}")
    assert status == 303
    assert headers["Location"] == "?study=a%2Fb"
    cookie = headers["Set-Cookie"]
    assert cookie.startswith(f"resnetlab-{port}={token};")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    status, headers = get(port, f"/lab?token={token[:-1]}")
    assert (status, headers["Location"]) == (303, "?")
    assert "Set-Cookie" not in headers
    assert get(port, "/lab")[0] == 200, "reading needs none"


@pytest.mark.slow
def test_a_name_that_is_not_its_own_is_refused_on_the_page(server: tuple[int, str]) -> None:
    port, _ = server
    assert ask(port, "/", f"localhost:{port}")[0] == 200
    status, headers, page = ask(port, "/", "evil<b>.example.org")
    assert status == 403
    assert headers["X-Frame-Options"] == "DENY"
    assert "not served under the name evil&lt;b&gt;.example.org" in page
    assert "127.0.0.1, localhost" in page
    assert "resnetlab dashboard --url https://" in page
    assert ask(port, "/lab", "")[0] == 403


@pytest.mark.slow
def test_behind_a_proxy_it_goes_by_the_name_and_path_that_readers_use(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "resnetlab", "dashboard", "--no-browser", "--port", str(port)]
    words += ["--url", "https://lab.example.org/res/net/", "--results", str(tmp_path)]
    command = [sys.executable, *words]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        first, second = process.stdout.readline(), process.stdout.readline()
        token = re.match(r"https://lab\.example\.org/res/net/\?token=(\S+) ", first)
        assert token is not None, first
        assert f"leads to http://127.0.0.1:{port}/res/net, WebSockets too" in second
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                if ask(port, "/res/net/_stcore/health", "localhost")[0] == 200:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert ask(port, "/res/net/", "lab.example.org")[0] == 200
        assert ask(port, "/res/net/", "other.example.org")[0] == 403
        status, headers, _ = ask(port, f"/res/net/lab?token={token[1]}", "lab.example.org")
        assert (status, headers["Location"]) == (303, "?")
        assert "Set-Cookie" in headers
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    "url",
    ["lab.example.org", "ftp://x.org", "https://", "https://x.org/?a=b", "https://x.org:port"],
)
def test_an_address_that_no_browser_opens_is_refused(url: str, resnetlab: Any) -> None:
    code, out, error = resnetlab("dashboard", "--url", url)
    assert (code, out) == (2, "")
    assert "--url: an address such as https://lab.example.org/resnet is needed" in error


def test_the_browser_is_opened_by_a_page_that_only_its_owner_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command line, which the token would stand in, is there for every user of the machine."""
    monkeypatch.setenv("RESNETLAB_RESULTS", str(tmp_path / "results"))
    page = door._page_that_leads_to("http://127.0.0.1:8501/?token=secret&x")
    assert page is not None
    assert "url=http://127.0.0.1:8501/?token=secret&amp;x" in page.read_text()
    if os.name == "posix":
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
    (tmp_path / "a file").touch()
    monkeypatch.setenv("RESNETLAB_RESULTS", str(tmp_path / "a file"))
    assert door._page_that_leads_to("http://127.0.0.1:8501/") is None


@pytest.mark.parametrize(
    ("words", "opens"), [([], True), (["--no-browser"], False), (["--no-lab"], True)]
)
def test_the_printed_address_carries_the_token_and_the_command_line_does_not(
    words: list[str], opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *given: seen.append(given))
    monkeypatch.setattr("socket.socket.bind", lambda *given: None)  # its port may be taken here
    monkeypatch.delenv(door.TOKEN, raising=False)
    done = CliRunner().invoke(cli.app.app, ["dashboard", "--port", "9999", *words])
    assert done.exit_code == 0, done.output
    _, command, environment = seen[0]
    told = re.search(r"http://127\.0\.0\.1:9999(?:/\?token=(\S{20,}))?", done.output)
    assert told is not None
    token = told[1]
    assert (token is None) is (words == ["--no-lab"])
    assert environment.get(door.TOKEN) == token
    assert token is None or token not in " ".join(command)
    assert (environment.get(door.OPEN) == "http://127.0.0.1:9999") is opens


def test_where_the_port_is_taken_no_address_is_printed(
    resnetlab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("started"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, out, error = resnetlab("dashboard", "--port", port)
    assert (code, out) == (2, "")
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in error
