"""What the papers prove, computed: smoothed landscapes, densities of particles, expectations of a controlled SGD.

These are reference solutions in one and two dimensions, to check algorithms against and to plot.
"""
