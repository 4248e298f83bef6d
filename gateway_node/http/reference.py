"""The reference page at `/schema`: the OpenAPI document as HTML, without a script, a font or a style from elsewhere.

Litestar's own pages load their programs from a CDN; this one works on a machine that has no way out.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer }
code, pre { font: .875em/1.5 ui-monospace, monospace }
pre { background: var(--soft); border-radius: .4rem; overflow: auto; padding: .6rem }
.method { display: inline-block; font-weight: 700; min-width: 3.5rem }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"


class ReferencePage(OpenAPIRenderPlugin):
    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return "".join(_page(openapi_schema)).encode()


def _page(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
    yield f"<p>{escape(info.get('description', ''))}</p>"
    yield '<p>The same for programs: <a href="/schema/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            groups.setdefault(operation["tags"][0], []).append((method, path, operation))
    for tag, operations in groups.items():
        yield f"<h2>{escape(tag)}</h2>"
        for method, path, operation in operations:
            yield from _operation(method, path, operation)
    yield "<h2>Types</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        yield f"<pre>{escape(json.dumps(schema, indent=2))}</pre></details>"
    yield "</body></html>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<details><summary><span class="method">{method.upper()}</span> <code>{escape(path)}</code></summary>'
    yield f"<p>{escape(operation.get('description', ''))}</p><table>"
    for parameter in operation.get("parameters", []):
        name = f"{parameter['name']} ({parameter['in']})"
        yield f"<tr><th>{escape(name)}</th><td>{escape(parameter.get('description', ''))}</td></tr>"
    if body := operation.get("requestBody"):
        yield f"<tr><th>body</th><td>{_type_of(body)}</td></tr>"
    for status, response in operation["responses"].items():
        text = escape(response.get("description", ""))
        yield f"<tr><th>{escape(status)}</th><td>{text} {_type_of(response)}</td></tr>"
    yield "</table></details>"


def _type_of(described: dict[str, Any]) -> str:
    for media_type, content in described.get("content", {}).items():
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        link = f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>' if name else ""
        return f"{link} <code>{escape(media_type)}</code>"
    return ""
