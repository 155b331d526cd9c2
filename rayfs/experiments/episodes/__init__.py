"""The main job: methods on episodes."""
