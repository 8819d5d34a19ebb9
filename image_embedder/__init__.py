"""Pictures to embeddings: the one preprocessing that batch and search server share.

A picture that was embedded by the batch and the same picture that a user sends must become the same vector; so both go
through this package, and neither has a preprocessing of its own.
"""

from image_embedder.decoding import PictureUnreadable
from image_embedder.detector import CROPPING, Box, Detector, Region, crop, crop_pixels, missed, open_picture, overlap
from image_embedder.embedder import Device, Embedder, InputRefused, finite
from image_embedder.preprocessing import PREPROCESSING, Pixels, preprocess, preprocess_decoded, preprocessed_shape

__all__ = [
    "CROPPING",
    "PREPROCESSING",
    "Box",
    "Detector",
    "Device",
    "Embedder",
    "InputRefused",
    "PictureUnreadable",
    "Pixels",
    "Region",
    "crop",
    "crop_pixels",
    "finite",
    "missed",
    "open_picture",
    "overlap",
    "preprocess",
    "preprocess_decoded",
    "preprocessed_shape",
]
