"""Images: reading them, choosing the training images, their order, and augmentation."""
