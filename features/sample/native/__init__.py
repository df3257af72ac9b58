"""The sample's datasets in native columns, one file each, named as in `armorm.features.sources`."""
