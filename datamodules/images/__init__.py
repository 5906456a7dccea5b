"""Image data sets, preprocessing, augmentation, HOG and color features."""
