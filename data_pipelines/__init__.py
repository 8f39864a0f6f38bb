"""From any corpus to packed rows: the offline half of Step-Audio in JAX.

SeqIO, TensorFlow and Beam live in this package and nowhere else, and even
here they are imported only by the doors that need them.
"""
