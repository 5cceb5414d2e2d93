"""`python -m vqmae_hf.quickstart`: the whole path, once; what `make quickstart` runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vqmae_hf.quickstart.chain import Quickstart, format_table, new_quickstart, results_table
from vqmae_hf.quickstart.real_clips import continue_on_real_clips, find_real_clips
from vqmae_hf.quickstart.report import Findings, closing_lines, write_report, write_results
from vqmae_hf.quickstart.sizes import SIZES


def run(quickstart: Quickstart, real_clips: str | Path | None = None) -> Findings:
    """All steps in order; the report lies in `quickstart.output_dir` afterwards."""
    real_paths = find_real_clips(real_clips, quickstart.size.real_clips)
    with quickstart.step("synthetic corpus"):
        corpus = quickstart.make_corpus()
    with quickstart.step("tokenizers"):
        tokenizers = quickstart.train_tokenizers()
    with quickstart.step("tokens"):
        store = quickstart.tokenize()
    with quickstart.step("pre-training"):
        pretrained = quickstart.pretrain()
    with quickstart.step("fine-tuning"):
        results = quickstart.finetune_all()
        quickstart.publish(results)
    with quickstart.step("pipeline on held-out files"):
        answers = quickstart.classify_held_out(corpus, results)
    real = None
    if real_paths:
        with quickstart.step("real recordings"):
            real = continue_on_real_clips(quickstart, real_paths)
    table = results_table(results)
    findings = Findings(corpus, tokenizers, store, pretrained, results, table, answers, real)
    with quickstart.step("report"):
        page = write_report(quickstart, findings)
    write_results(quickstart, findings)
    print(closing_lines(findings, page, [format_table(table)]), flush=True)
    return findings


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m vqmae_hf.quickstart", description=__doc__)
    parser.add_argument("--output_dir", default="quickstart", help="folder of the report, the model and all else")
    parser.add_argument("--real_clips", default=None, help="folder of your own videos to continue on")
    parser.add_argument("--size", default="full", choices=sorted(SIZES), help="'debug' takes seconds, for tests")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus, the split and the training")
    arguments = parser.parse_args(argv)
    try:
        run(new_quickstart(arguments.output_dir, arguments.size, arguments.seed), arguments.real_clips)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
