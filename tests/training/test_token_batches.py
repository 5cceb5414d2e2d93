import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader

from vqmae_hf import VQMAEConfig
from vqmae_hf.training.token_batches import ClassificationCollator, PretrainingCollator, TokenWindows

CONFIG = VQMAEConfig.from_preset("tiny")


def make_store(lengths, audio=True, visual=True):
    """Clips whose codes say where they come from: audio step s has code s % 64, visual step t has code t % 128."""
    rows = []
    for i, (frames, has_audio, has_visual) in enumerate(
        zip(lengths, np.broadcast_to(audio, len(lengths)), np.broadcast_to(visual, len(lengths)), strict=True)
    ):
        S, T = 2 * frames * has_audio, frames * has_visual
        rows.append(
            {
                "clip_id": f"clip{i}",
                "speaker": f"s{i}",
                "emotion": i % 3,
                "num_spectra": S,
                "num_frames": T,
                "audio_codes": (np.arange(S) % 64).repeat(64),
                "visual_codes": (np.arange(T) % 128).repeat(64),
            }
        )
    return Dataset.from_list(rows)


def first_steps(item):
    return int(item["audio_codes"][0, 0]), int(item["visual_codes"][0, 0, 0])


def test_windows_are_cut_in_step_and_within_the_clip():
    data = TokenWindows(make_store([60, 50, 64]), CONFIG, seed=3)
    starts = set()
    for epoch in range(20):
        data.set_epoch(epoch)
        for i, item in enumerate(data.__getitems__([0, 1, 2])):
            spectrum, frame = first_steps(item)
            assert spectrum == 2 * frame
            np.testing.assert_array_equal(item["audio_codes"][:, 0], np.arange(2 * frame, 2 * frame + 100) % 64)
            np.testing.assert_array_equal(item["visual_codes"][:, 3, 5], np.arange(frame, frame + 50))
            assert frame <= data.lengths[i] - 50
            starts.add((i, frame))
    assert {frame for i, frame in starts if i == 1} == {0}
    assert len({frame for i, frame in starts if i == 0}) > 5


def test_draws_depend_on_seed_and_epoch_and_not_on_order():
    store = make_store([80] * 6)
    data = TokenWindows(store, CONFIG, seed=1)
    data.set_epoch(4)
    forwards = [first_steps(item) for item in data.__getitems__(range(6))]
    backwards = [first_steps(data[i]) for i in reversed(range(6))]
    assert forwards == backwards[::-1]
    data.set_epoch(5)
    assert [first_steps(data[i]) for i in range(6)] != forwards
    other = TokenWindows(store, CONFIG, seed=2)
    other.set_epoch(4)
    assert [first_steps(other[i]) for i in range(6)] != forwards


def test_all_windows_cover_every_frame():
    data = TokenWindows(make_store([120, 30, 50]), CONFIG, windows="all")
    assert data.clip_index.tolist() == [0, 0, 0, 1, 2]
    seen = np.concatenate([data[i]["visual_codes"][:, 0, 0] for i in range(3)])
    assert set(seen.tolist()) == set(range(120))
    assert len(data[3]["visual_codes"]) == 30
    data.set_epoch(7)
    assert first_steps(data[2]) == ((2 * 70) % 64, 70)


def test_short_clips_are_padded_with_a_mask_and_full_ones_need_none():
    data = TokenWindows(make_store([30, 50]), CONFIG)
    batch = PretrainingCollator(CONFIG)(data.__getitems__([0, 1]))
    assert batch["audio_codes"].shape == (2, 100, 64)
    assert batch["visual_codes"].shape == (2, 50, 8, 8)
    assert batch["visual_codes"].dtype == torch.int64
    assert batch["audio_attention_mask"].sum(1).tolist() == [60, 100]
    assert batch["visual_attention_mask"][0].tolist() == [1] * 30 + [0] * 20
    assert batch["visual_codes"][0, 30:].abs().sum() == 0
    full = PretrainingCollator(CONFIG)(data.__getitems__([1]))
    assert not any("attention_mask" in name for name in full)


def test_masks_are_drawn_from_the_clips_and_the_epoch():
    data = TokenWindows(make_store([50] * 4), CONFIG)
    collator = PretrainingCollator(CONFIG, seed=5)

    def noise(epoch, indices):
        data.set_epoch(epoch)
        return torch.rand(3, generator=collator(data.__getitems__(indices))["generator"]).tolist()

    assert noise(0, [1, 2]) == noise(0, [1, 2])
    assert noise(0, [1, 2]) != noise(1, [1, 2])
    assert noise(0, [1, 2]) != noise(0, [2, 1])


def test_worker_processes_give_the_same_batches():
    data = TokenWindows(make_store([60] * 8), CONFIG, seed=1)
    data.set_epoch(2)
    collator = PretrainingCollator(CONFIG, seed=1)
    alone = list(DataLoader(data, 4, collate_fn=collator))
    helped = list(DataLoader(data, 4, collate_fn=collator, num_workers=1))
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one["visual_codes"], other["visual_codes"])
        assert torch.equal(one["generator"].get_state(), other["generator"].get_state())


def test_a_clip_without_a_modality_is_padding_and_a_clip_without_any_is_left_out():
    store = make_store([50, 50, 40, 50], audio=[True, False, True, False], visual=[True, True, False, False])
    data = TokenWindows(store, CONFIG)
    assert data.store["clip_id"][:] == ["clip0", "clip1", "clip2"]
    batch = ClassificationCollator(CONFIG)(data.__getitems__([0, 1, 2]))
    assert batch["audio_attention_mask"].sum(1).tolist() == [100, 0, 80]
    assert batch["visual_attention_mask"].sum(1).tolist() == [50, 50, 0]
    assert batch["labels"].tolist() == [0, 1, 2]
    only = ClassificationCollator(CONFIG)(TokenWindows(store, CONFIG, modalities=["audio"]).__getitems__([0, 1]))
    assert sorted(only) == ["audio_attention_mask", "audio_codes", "labels"]
    with pytest.raises(ValueError, match="no clip of the store has the codes of visual"):
        TokenWindows(store.select([2]), CONFIG, modalities=["visual"])


def test_dropout_leaves_out_one_modality_of_a_batch_and_never_in_validation():
    store = make_store([50] * 4)
    collator = ClassificationCollator(CONFIG, modality_dropout=0.5, seed=0)
    data = TokenWindows(store, CONFIG)
    kinds = []
    for epoch in range(200):
        data.set_epoch(epoch)
        batch = collator(data.__getitems__([0, 1]))
        kinds.append(tuple(name for name in ("audio", "visual") if f"{name}_codes" in batch))
    shares = {kind: kinds.count(kind) / 200 for kind in set(kinds)}
    assert shares[("audio", "visual")] == pytest.approx(0.5, abs=0.1)
    assert shares[("audio",)] == pytest.approx(0.25, abs=0.1)
    assert shares[("visual",)] == pytest.approx(0.25, abs=0.1)
    whole = TokenWindows(store, CONFIG, windows="all")
    for epoch in range(20):
        whole.set_epoch(epoch)
        assert {"audio_codes", "visual_codes"} <= set(collator(whole.__getitems__([0, 1])))


def test_dropout_never_leaves_a_clip_with_nothing():
    data = TokenWindows(make_store([50, 50], audio=[True, False]), CONFIG)
    collator = ClassificationCollator(CONFIG, modality_dropout=0.99)
    for epoch in range(30):
        data.set_epoch(epoch)
        assert "visual_codes" in collator(data.__getitems__([0, 1]))


def test_time_masking_hides_whole_tubes_and_leaves_one():
    data = TokenWindows(make_store([50, 12]), CONFIG)
    collator = ClassificationCollator(CONFIG, time_masking=0.5)
    shares = []
    for epoch in range(60):
        data.set_epoch(epoch)
        batch = collator(data.__getitems__([0, 1]))
        frames = batch["visual_attention_mask"].view(2, 10, 5)
        assert all(len(set(tube.tolist())) == 1 for tube in frames[0])
        assert batch["visual_attention_mask"][1, 12:].sum() == 0
        assert (batch["visual_attention_mask"].sum(1) > 0).all()
        assert (batch["audio_attention_mask"].sum(1) > 0).all()
        shares.append(1 - frames[0].float().mean().item())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


def make_copies(store, speeds=(0.9, 1.1)):
    """Copies of the clips, in reverse order, whose codes say at which speed they are: 50 for 0.9, 51 for 1.1."""
    rows = []
    for row in store:
        for number, speed in enumerate(speeds):
            S = round(row["num_spectra"] / speed)
            codes = np.full(64 * S, 50 + number)
            rows.append({**row, "num_spectra": S, "audio_codes": codes, "num_frames": 0, "visual_codes": []})
    return Dataset.from_list(rows[::-1], features=store.features)


def test_a_clip_or_one_of_its_copies_is_drawn_in_every_epoch():
    config = VQMAEConfig.from_preset("speech-6", audio_num_spectra=40, audio_codebook_size=64)
    store = make_store([15] * 12, visual=False)
    others = Dataset.from_dict({**store.to_dict(), "clip_id": [f"other{i}" for i in range(12)]}, store.features)
    copies = concatenate_datasets([make_copies(others), make_copies(store)])
    data = TokenWindows(store, config, modalities=["audio"], seed=1, copies=copies)
    assert len(data) == 12
    assert data.store["clip_id"][:] == store["clip_id"][:]
    drawn = []
    for epoch in range(60):
        data.set_epoch(epoch)
        items = data.__getitems__(range(12))
        assert [item["label"] for item in items] == store["emotion"][:]
        drawn.append([int(item["audio_codes"][0, 0]) for item in items])
        # The window of 40 holds all of a clip of 30 and of its copies.
        assert {len(item["audio_codes"]) for item in items} <= {30, 33, 27}
    drawn = np.array(drawn)  # 0: the clip itself
    for code in (0, 50, 51):
        assert np.mean(drawn == code) == pytest.approx(1 / 3, abs=0.06)
    assert all(len(set(clip)) == 3 for clip in drawn.T)
    data.set_epoch(7)
    assert [int(data[i]["audio_codes"][0, 0]) for i in (3, 0, 11)] == drawn[7][[3, 0, 11]].tolist()


def test_windows_of_copies_are_within_them_and_evaluation_takes_none():
    config = VQMAEConfig.from_preset("speech-6", audio_num_spectra=40, audio_codebook_size=64)
    store = make_store([20] * 4, visual=False)
    copies = make_copies(store)
    data = TokenWindows(store, config, modalities=["audio"], copies=copies)
    lengths = set()
    for epoch in range(30):
        data.set_epoch(epoch)
        lengths |= {(int(i["audio_codes"][0, 0]), len(i["audio_codes"])) for i in data.__getitems__(range(4))}
    assert {length for code, length in lengths if code == 50} == {40}  # of 44
    assert {length for code, length in lengths if code == 51} == {36}
    plain = TokenWindows(store, config, modalities=["audio"])
    none = TokenWindows(store, config, modalities=["audio"], copies=copies.select([]))
    for one, other in zip(plain.__getitems__(range(4)), none.__getitems__(range(4)), strict=True):
        np.testing.assert_array_equal(one["audio_codes"], other["audio_codes"])
    with pytest.raises(ValueError, match='copies: found some beside windows="all"'):
        TokenWindows(store, config, modalities=["audio"], windows="all", copies=copies)


def test_an_audio_only_model_counts_in_spectra():
    config = VQMAEConfig.from_preset("speech-6", num_hidden_layers=1, audio_codebook_size=64)
    data = TokenWindows(make_store([150]), config, windows="all")
    assert [len(data[i]["audio_codes"]) for i in range(2)] == [200, 200]
    assert data[1]["audio_codes"][0, 0] == 100 % 64
