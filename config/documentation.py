"""Writes `docs/settings.md` from the settings themselves.

`python -m config.documentation` writes it; with `--check` it only says whether the page is up to date (exit code 1 when
it is not).
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ByteSize

from config.catalogue import Setting, every_option_of_an_issuer, every_setting, size
from config.sections import Settings
from config.tokens import Issuer

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"

_HEAD = """\
# Settings

<!-- Generated from config/sections.py and tokens.py by `python -m config.documentation`. -->

Every setting has a name in the TOML file and one in the environment. The command line goes over the environment, that
over the file, that over the default.

- The file is `chalkwire.toml` in the working directory, or what `--config` names. A relative path in a setting starts
  at the working directory.
- In the environment, sections are joined by `__`. A list is `a,b` or JSON. An empty variable counts as unset.
- A wrong or unknown setting stops the start (exit code 2) with its names, the bad value and what would do. A variable
  that begins with `CHALKWIRE_` and is no setting is unknown too.
- `chalkwire config` prints what is in effect, with secrets hidden.

```toml
nodes = 4
data_dir = "/var/lib/chalkwire"

[http]
host = "0.0.0.0"

[channel.namespaces.news]
allow_subscribe_for_client = true
history_size = 100
```

The same namespace from the environment:
`CHALKWIRE_CHANNEL__NAMESPACES='{"news": {"allow_subscribe_for_client": true, "history_size": 100}}'`
"""


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for section, settings in groupby(every_setting(), key=lambda setting: setting.path[:-1]):
        parts.append(_title(section))
        parts.append("| TOML | environment | takes | default | meaning |\n|---|---|---|---|---|")
        parts[-1] += "".join("\n" + _row(setting) for setting in settings) + "\n"
        if section == ("token",):
            parts.append(f"### token.issuers.&lt;name&gt;\n\n{Issuer.__doc__}\n")
            parts.append("| TOML | takes | default | meaning |\n|---|---|---|---|")
            parts[-1] += "".join("\n" + _option(setting) for setting in every_option_of_an_issuer()) + "\n"
    return "\n".join(parts)


def _title(section: tuple[str, ...]) -> str:
    model = Settings
    for name in section:
        model = model.model_fields[name].annotation  # type: ignore[assignment]
    return f"## {'.'.join(section)}\n\n{' '.join(str(model.__doc__).split())}\n" if section else "## Top level\n"


def _row(setting: Setting) -> str:
    return _cells(
        f"`{setting.toml}`",
        f"`{setting.environment}`",
        setting.kind,
        _default(setting.field.default),
        setting.description,
    )


def _option(setting: Setting) -> str:
    default = "required" if setting.field.is_required() else _default(setting.field.default)
    return _cells(f"`{setting.toml}`", setting.kind, default, setting.description)


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, ByteSize):
        return f"`{size(value)}`"
    if isinstance(value, Path):
        value = str(value)
    if value in ((), {}):
        return "empty"
    return f"`{json.dumps(value)}`"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m config.documentation", description="Write docs/settings.md.")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    if not parser.parse_args().check:
        PAGE.write_text(page(), "utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text("utf-8") == page():
        return 0
    print(f"{PAGE} is stale: run python -m config.documentation", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
