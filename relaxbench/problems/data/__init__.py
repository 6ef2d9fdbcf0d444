"""Data sets: public ones, folders of images, the cache of decoded data, augmentation.

Start with `sources`, which chooses where labelled images come from: `published` (through torchvision) or `folders`
(your own).
"""
