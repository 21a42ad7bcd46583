"""The models of a pool: descriptors, files, prices."""
