"""Caption data sets: COCO and drawn scenes, vocabulary, batches and stored image features."""
