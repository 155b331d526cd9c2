"""Engine: device placement, feature extraction, the finetuning step."""
