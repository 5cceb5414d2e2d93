import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from vqmae_hf.experiments.figures import _draw_alone, _draw_systems, draw_results
from vqmae_hf.experiments.tables import (
    BEGIN,
    COMMAND,
    END,
    best_row,
    is_results,
    render,
    replace_generated,
    update_page,
)

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
PUBLISHED = sorted(path for path in RESULTS.glob("*.json") if is_results(path))


def spread(mean, std=None):
    return {"mean": mean, "std": std, "values": [mean]}


def row(title, accuracy, *, std=None, main=True, view="audio+visual"):
    metrics = {name: spread(accuracy, std) for name in ("accuracy", "uar", "macro_f1", "weighted_f1")}
    return {
        "title": title,
        "view": view,
        "is_main": main,
        "seeds": [0, 1],
        "pooled": metrics,
        "folds": [metrics, metrics],
        "over_folds": {name: {"mean": accuracy, "std": 0.01} for name in metrics},
        "confusion_matrix": [[3, 1], [0, 0]],
        "predicted": ["0 0 1 0"],
    }


@pytest.fixture
def results():
    rows = {
        "net": row("the network", 0.9, std=0.02),
        "net@audio": row("the network, audio alone", 0.7, main=False, view="audio"),
        "guess": row("guessing", 0.5, view="none"),
    }
    pair = {"first": "net", "second": "guess", "difference": 0.4, "interval": [0.3, 0.5], "num_runs": 4}
    return {
        "experiment": "small",
        "title": "A small world",
        "size": "full",
        "classes": ["no", "yes"],
        "chance": 0.5,
        "folds": [["a"], ["b"]],
        "seeds": [0, 1],
        "tokenizers": {"audio": "of each fold"},
        "rows": rows,
        "comparisons": [{**pair, "p_speakers": 0.0004, "p_clips": 0.02, "p_t": None, "p_wilcoxon": 1.0}],
        "incomplete": {"slow": 3},
        "seconds": 90.0,
        "environments": [{"commit": "abc", "device": "cpu"}],
        "clips": {"clip_id": ["a1", "a2", "b1", "b2"], "speaker": "a a b b", "fold": "0 0 1 1", "label": "0 0 0 0"},
    }


def test_what_is_done_of_unfinished_systems_stands_apart(results):
    assert "Of these" not in render(results)

    def cell(fold, accuracy):
        return {
            "fold": fold,
            "system": {"title": "a slow one"},
            "test": {"audio": {"metrics": {"accuracy": accuracy}}},
        }

    text = render({**results, "unfinished": {"slow": {"x": cell(1, 0.25), "y": cell(1, 0.5)}}})
    assert "| system | fold 0 | fold 1 |\n| --- | ---: | ---: |\n| a slow one | - | 25.0, 50.0 |" in text


def test_tables_say_what_the_results_say(results):
    text = render(results)
    assert "| the network | audio+visual | 90.0 ± 2.0 |" in text
    assert "| guessing | none | 50.0 |" in text
    assert "| the network, audio alone | 70.0 | 90.0 | 50.0 |" in text  # half of the gain over guessing is left
    assert "| the network − guessing | +40.0 (+30.0 to +50.0) | < 0.001 | 0.020 | - | 1.000 | 4 |" in text
    assert "| no | 75.0 | 25.0 |" in text
    assert "`slow` (3 cells missing)" in text
    assert "run small --only 'net/*/*'" in text
    assert best_row(results) == "net"
    assert "only show that everything runs" not in text
    assert "only show that everything runs" in render({**results, "size": "debug"})


def test_tokenizers_from_elsewhere_are_told(results):
    assert "the audio tokenizer is runs/audio" in render({**results, "tokenizers": {"audio": "runs/audio"}})


def test_it_is_told_where_validation_speakers_are_trained_on(results):
    assert "were trained on too" not in render({**results, "train_on_validation": False})
    assert "these were trained on too; no epoch was chosen" in render({**results, "train_on_validation": True})


def test_every_table_is_rectangular(results):
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", render(results), flags=re.MULTILINE)
    assert len(blocks) == 5
    for block in blocks:
        assert len({line.count("|") for line in block.strip().splitlines()}) == 1


def test_what_people_wrote_stays_and_the_tables_are_the_same_again(results, tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    page = update_page(path)
    first = page.read_bytes()
    assert update_page(path).read_bytes() == first
    page.write_text(first.decode().replace("# A small world", "# Mine") + "\nMy remark.\n", encoding="utf-8")
    results["rows"]["net"]["title"] = "the other network"
    path.write_text(json.dumps(results), encoding="utf-8")
    text = update_page(path).read_text(encoding="utf-8")
    assert text.startswith("# Mine")
    assert text.endswith("My remark.\n")
    assert "the other network" in text
    assert "| the network |" not in text


def test_half_a_pair_of_markers_is_refused():
    with pytest.raises(ValueError, match="one of its two markers"):
        replace_generated(BEGIN.format(name="small", command=COMMAND), "small", "")


def test_a_picture_is_drawn_from_the_json(results, tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    first = draw_results(path).read_bytes()
    assert first[:4] == b"\x89PNG"
    assert draw_results(path).read_bytes() == first


def test_what_is_said_with_one_modality_missing_is_marked_on_its_systems_bar(results):
    rows = results["rows"]
    axes = Figure().subplots()
    _draw_systems(axes, [row for row in rows.values() if row["is_main"]], results["chance"])
    of_bars = len(axes.lines)
    _draw_alone(axes, rows)
    (marks,) = axes.lines[of_bars:]  # nobody was asked to see alone
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert marks.get_label() == "audio alone"
    assert marks.get_xydata().tolist() == [[pytest.approx(70), axes.get_yticks()[names.index("the network")]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["audio alone"]
    del rows["net@audio"]
    axes = Figure().subplots()
    _draw_alone(axes, rows)
    assert axes.get_legend() is None


@pytest.mark.parametrize("path", PUBLISHED, ids=[path.stem for path in PUBLISHED])
def test_published_tables_are_those_of_their_json(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    begin, end = BEGIN.format(name=path.stem, command=COMMAND), END.format(name=path.stem)
    assert text.count(begin) == text.count(end) == 1
    assert replace_generated(text, path.stem, render(results)) == text
    assert results["experiment"] == path.stem
    assert results["size"] == "full"
    assert path.with_suffix(".png").exists()
