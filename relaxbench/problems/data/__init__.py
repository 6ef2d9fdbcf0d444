"""Data sets: public ones, folders of images, the cache of decoded data, augmentation."""
