"""Where things lie in the broker's folder, and how names of queues become names of files.

Owns the encoding of names and of the connection URL. It makes folders and looks at none.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

#: The scheme of the connection URL. kombu takes a scheme with a `+` apart, so it has none.
SCHEME = "tapfs"

#: Folders are never for others: the messages hold people's arguments, and who can open a lock can hold it.
FOLDER_MODE = 0o770
FILE_MODE = 0o660

#: Longest encoded name, in characters; what the file system allows, less what is put around it.
MAX_NAME = 150


def broker_url(directory: str | os.PathLike[str]) -> str:
    """Return the connection URL of the broker in `directory`, for instance `tapfs:///srv/shop/control/broker`.

    Args:
        directory: where the broker's folder is or will be; a relative one is taken from the current directory now.

    Raises:
        UnicodeEncodeError: the path is not valid text, and so has no URL.
    """
    return f"{SCHEME}://{quote(os.path.abspath(directory))}"


def broker_dir(url: str) -> Path:
    """Return the folder that a connection URL names; the way back from `broker_url`.

    Raises:
        ValueError: it names none, or a host.
    """
    scheme, _, path = url.partition("://")
    if scheme != SCHEME or not path.strip("/") or not path.startswith("/"):
        hint = f"it has the form '{SCHEME}:///srv/control/broker', with three slashes"
        raise ValueError(f"cannot use broker URL {url!r}: it names no absolute path; {hint}")
    return Path(unquote(path))


def encode_name(name: str) -> str:
    """Return a file name for a queue or exchange: one to one, never a path, never hidden."""
    encoded = quote(name, safe="@", errors="surrogatepass") or "%"
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) <= MAX_NAME:
        return encoded
    # "%-" stands in no percent-encoded text, so a cut name can not be another queue's whole one.
    digest = hashlib.sha256(encoded.encode()).hexdigest()[:32]
    return f"{encoded[: MAX_NAME - 34]}%-{digest}"


@dataclass(frozen=True)
class Layout:
    """The paths below one broker's folder. A `folder` is an encoded queue name."""

    root: Path

    @property
    def lock_path(self) -> Path:
        return self.root / "lock"

    @property
    def queues_dir(self) -> Path:
        return self.root / "queues"

    @property
    def consumers_dir(self) -> Path:
        return self.root / "consumers"

    @property
    def broken_dir(self) -> Path:
        return self.root / "broken"

    @property
    def tmp_dir(self) -> Path:
        return self.root / "tmp"

    def queue_dir(self, folder: str) -> Path:
        return self.queues_dir / folder

    def table_path(self, exchange: str) -> Path:
        return self.root / "exchanges" / f"{encode_name(exchange)}.json"


def make_dir(folder: Path) -> None:
    """Make a folder and those above it, if absent."""
    if not folder.parent.exists():
        make_dir(folder.parent)  # `parents=True` would give those above the mode of any folder
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
