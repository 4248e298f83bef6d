"""The chat page's files: what they are served as, and how long browsers may keep them."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from gateway_node.http.web import FOLDER, Page


async def parts(client: httpx.AsyncClient) -> list[str]:
    page = await client.get("/")
    return re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text)


async def test_the_page(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert "{" not in page.text


async def test_the_policy_lets_nothing_in_from_elsewhere(client: httpx.AsyncClient) -> None:
    policy = (await client.get("/")).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "http" not in policy


async def test_every_part_is_there_and_may_be_kept(client: httpx.AsyncClient) -> None:
    addresses = await parts(client)
    assert len(addresses) > 30
    for address in addresses:
        part = await client.get(address)
        assert part.status_code == 200, address
        assert part.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert part.headers["x-content-type-options"] == "nosniff"
        kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[address.rpartition(".")[2]]
        assert part.headers["content-type"].partition(";")[0] == kind


async def test_an_unchanged_file_is_not_sent_again(client: httpx.AsyncClient) -> None:
    for address in ("/", (await parts(client))[0]):
        etag = (await client.get(address)).headers["etag"]
        for condition in (etag, f'"other", W/{etag}'):
            again = await client.get(address, headers={"If-None-Match": condition})
            assert again.status_code == 304
            assert again.content == b""
            assert again.headers["etag"] == etag
        assert (await client.get(address, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_what_is_not_there(client: httpx.AsyncClient) -> None:
    base = (await parts(client))[0].rpartition("/")[0]
    names = ("nothing.js", "../../../pyproject.toml", "..%2f..%2fhttp%2fweb.py", "%00", "styles", "index.html/x")
    for address in [f"{base}/{name}" for name in names] + ["/page/0000000000000000/main.js"]:
        assert (await client.get(address)).status_code == 404, address


def test_the_version_is_that_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("{base}")
    (tmp_path / "a.js").write_text("1")
    before = Page(tmp_path).version
    assert Page(tmp_path).version == before
    (tmp_path / "a.js").write_text("2")
    assert Page(tmp_path).version != before


def test_nothing_comes_from_elsewhere() -> None:
    for path in FOLDER.rglob("*"):
        if path.suffix in {".html", ".css"}:
            assert "//" not in path.read_text(), path
        if path.suffix == ".js":
            text = path.read_text()
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path
            assert not re.search(r"from '(?!\.\.?/)", text), path
