"""The number of classes that a user gives, before it becomes part of a pattern."""

from fastconv import _geometry


def count_of(classes):
    """`classes` as an int; an error names the argument, not a pattern that nobody wrote."""
    return _geometry._integer("nets", "classes", classes, 1)
