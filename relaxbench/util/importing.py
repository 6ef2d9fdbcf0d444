"""Imported first by a process that imports much, for its effect: no garbage is looked for among what stays."""

from relaxbench.util.malloc import look_for_garbage_seldom

look_for_garbage_seldom()
