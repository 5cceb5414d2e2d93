"""`python -m vqmae_hf.demo --checkpoint FOLDER`: the web demo on this machine."""

import argparse
import sys
from collections.abc import Sequence

from vqmae_hf.demo import ended_by_sigterm, launch


def build_parser() -> argparse.ArgumentParser:
    """The options of the program."""
    parser = argparse.ArgumentParser(
        prog="python -m vqmae_hf.demo",
        description="A web page to try the models with clips of one's own. It sends nothing to other machines.",
    )
    parser.add_argument(
        "--checkpoint", metavar="FOLDER", help="classifier, for the tab Emotion (a folder or a Hub id)"
    )
    parser.add_argument("--pretraining", metavar="FOLDER", help="masked autoencoder, for the tab Mask and reconstruct")
    parser.add_argument("--mdvae", metavar="FOLDER", help="MDVAE, for the tab Factors")
    parser.add_argument("--examples", metavar="FOLDER", help="clips to choose from (default: two synthetic faces)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--max_seconds", type=float, default=15.0, help="longest clip (default: %(default)s)")
    parser.add_argument("--max_megabytes", type=float, default=50.0, help="largest file (default: %(default)s)")
    parser.add_argument("--keep_minutes", type=float, default=30.0, help="delete uploads after (default: %(default)s)")
    parser.add_argument("--open_browser", action="store_true", help="show the page in the default browser")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until stopped."""
    options = vars(build_parser().parse_args(arguments))
    try:
        with ended_by_sigterm():  # so that the uploads are deleted then, too
            launch(**options)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
