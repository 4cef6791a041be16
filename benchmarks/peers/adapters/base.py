"""What all adapters share."""

from importlib import metadata

from benchmarks.peers.tasks import Task


class NotAvailable(Exception):
    """A candidate that this version of a peer does not have."""


class Peer:
    """One library. A method named as ``Task.method`` gives its candidates for such work.

    Attributes
    ----------
    name : str
        The word that --peers takes, and the name of the candidate.
    packages : tuple of str
        What has to be installed, for the list of versions.
    note : str
        What a reader of the numbers has to know.
    extra : dict
        Further candidates by method.
    """

    name = ""
    packages: tuple[str, ...] = ()
    note = ""
    extra: dict[str, tuple[str, ...]] = {}  # noqa: RUF012

    def __init__(self, threads: int):
        self.threads = threads

    @property
    def version(self) -> str:
        return ", ".join(f"{package} {metadata.version(package)}" for package in self.packages)

    def names(self, task: Task) -> tuple[str, ...]:
        """The candidates it has for a task."""
        if not hasattr(self, task.method):
            return ()
        return (self.name, *self.extra.get(task.method, ()))

    def calls(self, task: Task, work) -> dict:
        """A `Call` for each of its candidates."""
        return getattr(self, task.method)(work)
