"""What nets of another age need to be imported with today's Python and NumPy.

For tests alone: fastconv never changes NumPy or the standard library behind a user's back.
"""
