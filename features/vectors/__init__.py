"""Feature shards: vectors as Arrow files, and how far those of two backbones are apart."""
