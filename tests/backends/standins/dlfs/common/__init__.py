"""A small stand-in for the folder ``common`` of Deep Learning from Scratch: the same names."""
