"""The command put together: its verbs, three of its own (`bench`, `dashboard`, `lab`), its end."""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import logging
import os
import secrets
import socket
import subprocess
import sys
import warnings
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

import typer
from typer import Argument, Option

from resnetlab import config, files, machine, store

# The order of the verbs in the help:
# isort: off
from resnetlab.cli import training, testing, tables, recipes, pages, data

# isort: on
from resnetlab.cli.options import ANOTHER_WRITER, INTERRUPTED, ResultsOption, app
from resnetlab.cli.streams import outlived
from resnetlab.cli.terminal import fail
from resnetlab.config import UsageError, extras
from resnetlab.studies import copies, kernels

NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)  # of a name that was given
# Loading them is what makes the command know their verbs.
VERBS = (training, testing, tables, recipes, pages, data)


@app.command()
def bench(
    parts: Annotated[
        list[str] | None, Argument(help="Scripts in benchmarks/, such as speed (default: all)")
    ] = None,
) -> None:
    """Measure speed here and write the tables of benchmarks/. Leave the machine alone meanwhile."""
    folder = files.project() / "benchmarks"
    known = [path.stem for path in sorted(folder.glob("*.py")) if "def main" in path.read_text()]
    if not known:
        raise UsageError("the benchmarks come with a clone of the project, not with the package")
    for part in parts or known:
        if part not in known:
            raise UsageError(f"no benchmark {part!r}{config.did_you_mean(part, known)}")
    failed = []
    for part in parts or known:
        print(f"-- {part}", flush=True)
        if subprocess.run([sys.executable, str(folder / f"{part}.py")]).returncode:
            failed.append(part)
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


def _published(url: str | None) -> SplitResult | None:
    """The address behind a proxy, in its parts. UsageError for one that no browser would open."""
    if url is None:
        return None
    parts = urlsplit(url)
    try:
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        port_is_number = False
    more = parts.query or parts.fragment or parts.username
    if parts.scheme not in ("http", "https") or not parts.hostname or more or not port_is_number:
        raise UsageError(
            f"--url: an address such as https://lab.example.org/resnet is needed, got {url!r}"
        )
    return parts


@app.command()
def dashboard(
    port: Annotated[int, Option(min=1, max=65535)] = 8501,
    listen: Annotated[
        str, Option(help="Address to listen on; another than this machine's opens it to others")
    ] = "127.0.0.1",
    lab: Annotated[
        bool | None,
        Option("--lab/--no-lab", help="Start runs from the page (default: only on 127.0.0.1)"),
    ] = None,
    url: Annotated[
        str | None,
        Option(help="Where readers find it behind a proxy: https://lab.example.org/resnet"),
    ] = None,
    results: ResultsOption = None,
    browser: Annotated[bool, Option(help="Open the page")] = True,
) -> None:
    """Open the dashboard on 127.0.0.1. It reads results and never loads torch."""
    published = _published(url)
    script = files.project() / "dashboard" / "app.py"
    listen = "127.0.0.1" if listen == "localhost" else listen
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        raise UsageError(
            f"--listen: an address such as 127.0.0.1 or 0.0.0.0 is needed, got {listen!r}"
        ) from None
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        try:
            trial.bind((listen, port))
        except OSError as error:
            raise UsageError(f"cannot listen on {listen}, port {port}: {error.strerror}") from None
    alone = address.is_loopback
    with_lab = alone if lab is None else lab
    settings = {
        "server.address": listen,
        "server.port": str(port),
        "logger.hideWelcomeMessage": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    names = ["127.0.0.1", "localhost", listen]
    if published is not None:
        names.append(str(published.hostname))
        settings["server.baseUrlPath"] = published.path.strip("/")
        settings["browser.serverAddress"] = str(published.hostname)
    elif not alone:
        names = ["*"]  # those by which others reach it are not known here
    words = [word for key, value in settings.items() for word in (f"--{key}", value)]
    words += [word for name in dict.fromkeys(names) for word in ("--server.allowedHosts", name)]
    environment = os.environ | {
        store.RESULTS_VARIABLE: str(store.results_root(results).resolve()),
        "RESNETLAB_LAB": "1" if with_lab else "0",
    }
    here = listen if not address.is_unspecified else "::1" if address.version == 6 else "127.0.0.1"
    host = f"[{here}]" if address.version == 6 else here
    seen = f"http://{host}:{port}" if published is None else published.geturl().rstrip("/")
    if browser:
        environment["RESNETLAB_OPEN"] = seen
    if with_lab:
        environment["RESNETLAB_TOKEN"] = token = secrets.token_urlsafe()
        seen += f"/?token={token}"
    who = "; whoever has this address may start runs" if with_lab else ""
    print(f"{seen}  (Ctrl-C ends it{who})", flush=True)
    if published is not None:
        path = f"/{settings['server.baseUrlPath']}".rstrip("/")
        print(
            f"The proxy leads to http://{host}:{port}{path}, WebSockets too. Whoever can reach it may "
            "read every result here.",
            flush=True,
        )
    if not alone:
        off = "and start runs with the token; --no-lab turns the Live lab off"
        may = off if with_lab else "but start none: the Live lab is off"
        print(
            f"warning: everyone who can reach {listen} may read every result here, {may}. "
            "No password, no encryption.",
            flush=True,
        )
    command = [sys.executable, "-m", "streamlit", "run", str(script), *words]
    os.execve(sys.executable, command, environment)  # signals then reach Streamlit itself


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    folder: Annotated[
        str | None,
        Argument(help=f"Where to (default: notebooks/ itself in a clone, elsewhere ./{copies.USUAL})"),
    ] = None,
    port: Annotated[int, Option(min=1, max=65535)] = 8888,
    results: ResultsOption = None,
    browser: Annotated[bool, Option(help="Open the page")] = True,
    start: Annotated[bool, Option(help="Start JupyterLab; without, notebooks are only copied")] = True,
) -> None:
    """Copy the notebooks out, never over changed ones, and open JupyterLab there.

    Other options are JupyterLab's own, such as --ip=0.0.0.0 or --allow-root.
    """
    given = [word for word in (folder, *context.args) if word is not None]
    options = [word for word in given if word.startswith("-")]
    names = [word for word in given if word not in options]
    if len(names) > 1:
        raise UsageError(
            f"one folder is needed, got {' '.join(names)!r}; JupyterLab's as --OPTION=VALUE"
        )
    target = copies.place(config.expanded(names[0]) if names else None)
    if not copies.is_source(target):
        told = store.results_root(results) if results or store.RESULTS_VARIABLE in os.environ else None
        copied = copies.copy_out(target, told)
        store.prepare_root(copied.results)
        print(f"{target}: {copied}\nresults: {copied.results}", flush=True)
    if not start:
        return
    if importlib.util.find_spec("jupyterlab") is None:
        raise UsageError("JupyterLab is not installed: pip install 'resnetlab[lab]'")
    environment = os.environ | {kernels.VARIABLE: kernels.path()}
    if results:
        environment[store.RESULTS_VARIABLE] = str(store.results_root(results).resolve())
    os.chdir(target)
    words = ["-m", "jupyterlab", f"--port={port}", *([] if browser else ["--no-browser"])]
    words += options
    os.execve(sys.executable, [sys.executable, *words], environment)


def main() -> None:
    """Entry point: a usage error exits with 2, another writer with 75, any other known failure with 1.

    Each in one message.
    """
    # Torch's warnings are for who writes torch; what a user should know, we say.
    warnings.filterwarnings("ignore", module=r"torch(\.|$)")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with outlived() as output:
        try:
            machine.settle_home()
            _run()
        except SystemExit as leaving:
            sys.stdout.flush()
            # Without its table a command has not done what it is for; a run is there, on the disk.
            trains = sys.argv[1:2] in (["train"], ["study"])
            if leaving.code or trains or not any(stream.lost for stream in output):
                raise
            sys.exit(1)


def _run() -> None:
    try:
        app()
    except config.WordedError as error:
        fail(str(error), error.code)
    except ModuleNotFoundError as error:
        if error.name not in extras.TRAIN:
            raise
        fail(str(extras.missing(error.name)), 2)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except store.AnotherWriterError as error:
        fail(str(error), ANOTHER_WRITER)
    except (RuntimeError, OSError, MemoryError) as error:
        if os.environ.get("RESNETLAB_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            fail("the disk is full; free some space, then the same command goes on", 1)
        if isinstance(error, OSError) and error.errno in NO_PATH:
            fail(f"{str(error.filename)[:100]}: {error.strerror}", 2)
        fail(f"{error or type(error).__name__}", 1)


if __name__ == "__main__":
    main()
