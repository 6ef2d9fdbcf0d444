"""Write docs/spaces.md: the spaces of every rule, from what the rules declare. Run it after a change of a space."""

from __future__ import annotations

from pathlib import Path

from relaxbench.optim.options import in_toml, options_of
from relaxbench.optim.published import KINDS
from relaxbench.optim.registry import RULES
from relaxbench.optim.rule import Rule
from relaxbench.optim.spaces import rows

ESCAPED = "\\*"
PAGE = Path(__file__).resolve().parents[1] / "spaces.md"
MARK = "<!-- From here on written by docs/extensions/spaces.py: change the rule, then run it. -->"


def section(rule: type[Rule]) -> str:
    """Return the section of a rule: a table of its hyperparameters, its options, the sources of what was published."""
    searched = len(rule.space)
    lines = [
        f"### {rule.title} (`{rule.name}`)",
        "",
        f"{searched} dimensions by default, {len(rule.wide)} in the wide space.",
        "",
    ]
    lines += ["| hyperparameter | published | default | wide | why |", "|---|---|---|---|---|"]
    lines += [
        f"| `{row.name}` | {row.published.replace('*', ESCAPED)} | {row.default} | {row.wide} | {row.reason} |"
        for row in rows(rule)
    ]
    if described := options_of(rule):
        lines += ["", "Options:", ""]
        lines += [f"- `{name} = {in_toml(option)}`: {option.text}" for name, option in described.items()]
    sources: dict[str, list[str]] = {}
    assumed: dict[str, list[str]] = {}
    for publication in rule.publications:
        options = ", ".join(f"`{name} = {str(value).lower()}`" for name, value in publication.options.items())
        sources.setdefault(publication.source + (f"; with {options}" if options else ""), []).append(publication.kind)
        for name, reason in publication.assumed.items():
            if name not in assumed.setdefault(reason, []):
                assumed[reason].append(name)
    lines += ["", "Published:", ""]
    lines += [f"- {', '.join(kinds)}: {source}." for source, kinds in sources.items()]
    if assumed:
        lines += ["", "\\* Not given by the source:", ""]
        lines += [f"- {', '.join(f'`{name}`' for name in names)}: {reason}." for reason, names in assumed.items()]
    return "\n".join(lines)


def page() -> str:
    """Return the whole page: its introduction as it is, and the sections as the rules declare them."""
    introduction = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    kinds = ["| kind | problems |", "|---|---|", *(f"| `{kind}` | {words} |" for kind, words in KINDS.items())]
    sections = [section(rule) for rule in RULES.values()]
    return (
        "\n\n".join([f"{introduction}{MARK}", "## Kinds of problems", "\n".join(kinds), "## Every rule", *sections])
        + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
