"""The models as flat files: torch, numpy, transformers and their siblings only, so that a Hub repository can carry them."""
