"""What a net is and costs before it runs, and where its time goes when it does.

`fastconv.summary` and `fastconv.receptive_field` read a net without running it, `fastconv.profile`
times it layer by layer. `facts` is where a layer class of one's own says what it costs:

>>> from fastconv.analysis import Facts, facts
>>> from fastconv.layers import Layer
>>> class Double(Layer):
...     def _forward(self, x):
...         return 2 * x, ()
...     def output_shape(self, in_shape):
...         return tuple(in_shape)
>>> @facts.register
... def _(layer: Double, x_shape, y_shape):
...     return Facts(detail="times 2")
"""

from fastconv.analysis.field import ReceptiveField, Window
from fastconv.analysis.layer_facts import Facts, facts
from fastconv.analysis.profiler import Profile, ProfileRow, profile
from fastconv.analysis.summarize import (
    Summary,
    SummaryRow,
    SummaryTotals,
    receptive_field,
    summary,
)

__all__ = [
    "Facts",
    "Profile",
    "ProfileRow",
    "ReceptiveField",
    "Summary",
    "SummaryRow",
    "SummaryTotals",
    "Window",
    "facts",
    "profile",
    "receptive_field",
    "summary",
]
