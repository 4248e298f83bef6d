"""The chat page: the static files of `gateway_node/web`, served at `/`.

They are read once, at the start. The page itself is asked for again each time (an `ETag` makes that cheap). What it
refers to lies under a path with a digest of all files in it, and is kept by browsers for a year: so a page never runs
with modules of another version.
"""

from __future__ import annotations

from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

FOLDER = Path(__file__).parents[1] / "web"
PAGE = "index.html"
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # The browser itself refuses to take text for markup: nothing here needs innerHTML and its kind.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}


class Page:
    """The files, by their path below the folder; in the page, `{base}` and `{modules}` are filled in."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = (path for path in folder.rglob("*") if path.suffix in MEDIA_TYPES)
        self._files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}
        digest = sha256()
        for name, content in self._files.items():
            digest.update(b"%s\0%d\0%s" % (name.encode(), len(content), content))
        self.version = digest.hexdigest()[:16]
        # All modules at once: else a browser finds the next ones only in those that it has, a round trip each time.
        modules = (name for name in self._files if name.endswith(".js"))
        links = "\n    ".join(f'<link rel="modulepreload" href="{{base}}/{name}">' for name in modules)
        page = self._files[PAGE].decode().replace("{modules}", links).replace("{base}", f"/page/{self.version}")
        self._files[PAGE] = page.encode()

    def file(self, name: str) -> bytes | None:
        return self._files.get(name)


def router() -> Router:
    page = Page()

    @get("/", operation_id="page")
    async def index(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _answer(request, PAGE, page, {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})

    @get("/page/{version:str}/{name:path}", operation_id="pageFile")
    async def part(request: Request[Any, Any, Any], version: FromPath[str], name: FromPath[Path]) -> Response[bytes]:
        if version != page.version:
            raise NotFoundException("this server has another version of the page")
        return _answer(request, name.as_posix().lstrip("/"), page, KEPT)

    return Router(path="/", route_handlers=[index, part], include_in_schema=False)


def _answer(request: Request[Any, Any, Any], name: str, page: Page, headers: dict[str, str]) -> Response[bytes]:
    content = page.file(name)
    if content is None:
        raise NotFoundException("the page has no such file")
    etag = f'"{page.version}"'
    headers = {**headers, "ETag": etag}
    if etag in (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")):
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=MEDIA_TYPES[Path(name).suffix], headers=headers)
