"""The CIFAR-10 speed recipe: a small convolutional network and what makes it train fast."""
