"""Data sets: published ones, folders of images, the cache of decoded data, augmentation."""
