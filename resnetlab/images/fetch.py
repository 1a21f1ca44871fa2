"""A file from the network, once: resumed where it broke off, and only what was published."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from resnetlab.images.datasets import OFFLINE, STALLED_SECONDS
from resnetlab.images.pixels import BAR, DownloadError

TRIES, PAUSE_SECONDS = 5, 2.0  # in a row that bring nothing
CHUNK = 1024**2


def file(url: str, path: Path, *, size: int, md5: str) -> Path:
    """Download `url` to `path`, `size` bytes with that MD5, or return it if that lies there.

    What has come lies in PATH.part until the MD5 is right: a connection that stalls or breaks is taken
    up again where it stopped, in this call or the next one. Raises DownloadError without network (what
    came is kept) and for other content (which is removed).
    """
    from tqdm import tqdm

    part = path.with_name(f"{path.name}.part")
    if path.is_file() and path.stat().st_size == size:
        path.replace(part)  # another program's download: it is looked at like our own
    tries = TRIES
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, **BAR) as bar:
            before = part.stat().st_size
            bar.update(before)
            while before < size:
                try:
                    _append(url, part, before, size, bar.update)
                    reason = "the connection ended early"
                except (OSError, http.client.HTTPException) as error:
                    reason = str(getattr(error, "reason", error))
                now = part.stat().st_size
                tries = TRIES if now > before else tries - 1
                before = now
                if now < size and tries == 0:
                    raise DownloadError(
                        f"{url} could not be downloaded ({reason}); {now:,} of {size:,} bytes are kept "
                        f"in {part}, and the same command goes on from there. {OFFLINE}"
                    )
                if now < size:
                    time.sleep(PAUSE_SECONDS)
    except OSError as error:  # of the disk: those of the network are handled above
        raise DownloadError(f"{part} could not be written ({error.strerror})") from None
    with part.open("rb") as content:
        digest = hashlib.file_digest(content, "md5").hexdigest()
    if part.stat().st_size != size or digest != md5:
        part.unlink()
        raise DownloadError(
            f"{url} is not the published file (MD5 {digest}, {md5} was expected); what came was removed"
        )
    part.replace(path)
    return path


def _append(url: str, part: Path, start: int, size: int, progress: Callable[[int], object]) -> None:
    """What the server gives from byte `start` on, behind the `start` bytes of `part`."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=STALLED_SECONDS) as answer:
        # A server without ranges sends the whole file again.
        resumes = answer.status == http.client.PARTIAL_CONTENT
        with part.open("ab" if resumes else "wb") as out:
            if start and not resumes:
                progress(-start)
            # read1 gives what has come; read would wait for a whole chunk, and a stall lose its part.
            while out.tell() <= size and (chunk := answer.read1(CHUNK)):
                out.write(chunk)
                progress(len(chunk))
