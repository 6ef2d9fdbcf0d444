"""relaxbench: does a relaxation optimizer beat a well-tuned SGD on this model, by how much, and how sure is that?"""

__version__ = "0.1.0"
