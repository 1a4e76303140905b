"""Writes the values of a chart into its README, from the comments of values.yaml.

usage: python readme.py CHART            rewrites the part of README.md between the two marks
       python readme.py --check CHART    fails if it would change, or if a value has no comment

Each value has one comment above it. A key that only holds others needs none; what stands above it heads its table.
"""

import json
import re
import sys
from pathlib import Path

import yaml

BEGIN, END = "<!-- values: begin, made by deploy/check/readme.py -->", "<!-- values: end -->"
LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z0-9_.-]+):(?: (?P<value>.*))?$")


def comments(text: str) -> dict[str, str]:
    """The comment above each key, by its path."""
    found, pending, path = {}, [], []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            pending.append(stripped.lstrip("# ").strip())
            continue
        match = LINE.match(line)
        if match:
            depth = len(match["indent"]) // 2
            path = [*path[:depth], match["key"]]
            if pending:
                found[".".join(path)] = " ".join(pending)
        pending = []
    return found


def leaves(values: dict, documented: dict[str, str], path: str = ""):
    """Each value with its path: what is documented is one value, even if it holds others."""
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value and (here not in documented or any(it.startswith(f"{here}.") for it in documented)):
            yield from leaves(value, documented, here)
        else:
            yield here, value


def table(chart: Path) -> tuple[str, list[str]]:
    text = (chart / "values.yaml").read_text()
    documented, values = comments(text), yaml.safe_load(text)
    rows, missing = ["| Value | Default | Meaning |", "|---|---|---|"], []
    for path, value in leaves(values, documented):
        if path not in documented:
            missing.append(path)
        shown = json.dumps(value, ensure_ascii=False).replace("|", "\\|")
        rows.append(f"| `{path}` | `{shown}` | {documented.get(path, '').replace('|', chr(92) + '|')} |")
    return "\n".join(rows), missing


def main() -> int:
    check = sys.argv[1] == "--check"
    chart = Path(sys.argv[-1])
    readme = chart / "README.md"
    rows, missing = table(chart)
    for path in missing:
        print(f"{chart}/values.yaml: {path} has no comment")
    before = readme.read_text()
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    after = f"{head}{BEGIN}\n{rows}\n{END}{tail}"
    if not check:
        readme.write_text(after)
    elif after != before:
        print(f"{readme} is not what values.yaml says: python deploy/check/readme.py {chart}")
        return 1
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
