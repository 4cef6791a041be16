"""fastconv against its peers, layer by layer: ``python -m benchmarks.peers --help``.

=============  ===========================================================================
tasks          what is measured: operations, batch sizes, the training step
work           the arrays of one layer, and how a result is verified
adapters       one small file for each peer: how it is asked to do the work
measure        candidates of a layer are verified, then timed in turns
bars           the speed that fastconv sets itself, and what came of it
command        the command line; markdown and chart write what was found
=============  ===========================================================================
"""
