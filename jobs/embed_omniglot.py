"""Write the embedded Omniglot benchmarks from the dataset's own archives.

    python jobs/embed_omniglot.py --archives DIR

DIR holds images_background_small1.zip, images_background_small2.zip and one_shot_runs.zip. Keeps the original 105 x
105 PNG bytes, one Parquet shard an alphabet, in the layout the package reads (`image: struct<bytes, path>`, `label`,
class names in the schema metadata), and the 20 official one-shot runs as an episode file. Takes a few seconds;
run it again only if the selection of alphabets changes.
"""

import sys

from rayfs.experiments.omniglot.flags import EmbedConfig
from rayfs.flags.command_line import run_job


def main(config: EmbedConfig) -> int:
    from rayfs.experiments.omniglot.job import embed_omniglot  # what reads images takes a while to import

    return embed_omniglot(config)


if __name__ == "__main__":
    sys.exit(run_job(main, EmbedConfig, __doc__))
