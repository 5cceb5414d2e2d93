"""Print the path of a configuration for `accelerate launch`: `python -m vqmae_hf.training.launch_files fsdp`"""

import argparse

from vqmae_hf.training.launch_files import launch_file, launch_names

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m vqmae_hf.training.launch_files", description=__doc__)
    parser.add_argument("name", choices=launch_names())
    print(launch_file(parser.parse_args().name))
