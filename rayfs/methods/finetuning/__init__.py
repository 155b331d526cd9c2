"""What methods share that finetune a copy of the network: settings, recipe, spaces; batches and the loop of steps."""
