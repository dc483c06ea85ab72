"""The shelf of datasets: one file each, found by its place here (:data:`kinemix.data.sources.DATASETS`)."""
