"""A small stand-in for CS231n's assignment 2: the same modules and names, as plain loops."""
