"""Problems of scientific computing: small networks in float64 whose losses are badly conditioned.

Start with `residual`, which has their base class, and `derivatives`, which carries derivatives in the inputs through a
network. There is one file per family of problems; `catalogue` has their names.
"""
