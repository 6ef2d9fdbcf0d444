"""What the papers prove, computed: smoothed landscapes, densities of particles, expectations of a controlled SGD.

These are reference solutions in one and two dimensions, made to check algorithms against, and to be looked at.
"""
