"""A made-up world that fills the native files of the real datasets, and a tiny backbone to embed them with."""

from armorm.features.sample.backbone import sample_texts, write_backbone
from armorm.features.sample.datasets import DATASETS, DatasetManifest, SampleManifest, write_sample

__all__ = ["DATASETS", "DatasetManifest", "SampleManifest", "sample_texts", "write_backbone", "write_sample"]
