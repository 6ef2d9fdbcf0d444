"""Where the settings of a method come from that is run as published: which publication, and for which problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from relaxbench.store.facts import MethodFacts, PublicationFacts


def origin(published: PublicationFacts | None) -> str:
    """Return where published settings come from, in one or two sentences; empty where they are not known."""
    if published is None:
        return ""
    words = f"Its settings were published for {published['kind']}: {published['source'].rstrip('.')}."
    return f"{words} {_borrowed(published)}".rstrip()


def warning(published: PublicationFacts | None) -> str:
    """Return the warning of settings that were published for another kind of problem; empty where they were not."""
    if published is None or published["fits"]:
        return ""
    return f"its settings were published for {published['kind']}. {_borrowed(published)}"


def origins(methods: Mapping[str, MethodFacts], problems: Iterable[str]) -> list[str]:
    """Return one line per method that is run as published and publication: where its settings come from.

    Args:
        methods: label → facts.
        problems: names.
    """
    places: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        for about in methods.values():
            words = origin(about["publications"].get(problem))
            if words:
                places.setdefault((about["title"], words), []).append(problem)
    return [f"{title} on {', '.join(names)}: {words[0].lower()}{words[1:]}" for (title, words), names in places.items()]


def _borrowed(published: PublicationFacts) -> str:
    """Say that the settings are not for this kind of problem; empty where they are."""
    if published["fits"]:
        return ""
    if not published["wanted"]:
        return "This is the rule's first publication: the problem does not state its kind, so they may not suit it."
    return f"They may not suit this problem: for {published['wanted']} the rule has no published settings."
