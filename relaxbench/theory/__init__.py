"""Reference solutions of the papers' theory, in one and two dimensions, to check algorithms against and to plot.

Smoothed landscapes (`pde`), densities of particles (`diffusion`, `particles`) and the theorem on controlled SGD
(`expectation`), on the landscapes of `scenes`. Start with `page`, which puts all of them on one page.
"""
