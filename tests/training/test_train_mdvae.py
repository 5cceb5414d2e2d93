"""MDVAE on a latent store: what it is trained on, what is logged, and that it goes on where it stopped."""

import json
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.test_train_tokenizers import interrupt_after
from transformers import AutoModel, AutoProcessor, Trainer, TrainerState, TrainingArguments

from vqmae_hf import (
    AudioVQVAEModel,
    MDVAEConfig,
    MDVAEForAudioVisualClassification,
    MDVAEModel,
    MDVAEProcessor,
)
from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.data.shards import StaleStoreError
from vqmae_hf.data.token_store import tokenizer_fingerprint
from vqmae_hf.training import train_mdvae
from vqmae_hf.training.assembly import build_mdvae, load_tokenizers
from vqmae_hf.training.latent_batches import (
    FeatureCollator,
    FeatureStatistics,
    LatentWindows,
    VariationalCollator,
    feature_statistics,
    start_from_statistics,
    start_static_latent,
)
from vqmae_hf.training.mdvae_arguments import MDVAEArguments
from vqmae_hf.training.recipes import build_arguments
from vqmae_hf.training.stages import split_speakers_of


def mdvae_arguments(latents, folder, **values):
    values = {**latents, "output_dir": str(folder), "disable_tqdm": True, **values}
    return build_arguments(MDVAEArguments, recipe="debug", **values)


@pytest.fixture(scope="module")
def trained(latents, tmp_path_factory):
    return train_mdvae.run(mdvae_arguments(latents, tmp_path_factory.mktemp("mdvae")))


# ---- windows ----


def test_windows_are_pieces_of_their_clips_and_all_of_them_cover_every_frame(latent_world):
    config = MDVAEConfig.from_preset("tiny", num_frames=20)
    store = latent_world.store
    everything = LatentWindows(store, config, windows="all")
    seen = {}
    for i in range(len(everything)):
        clip = int(everything.clip_index[i])
        row = np.reshape(store[clip]["audio_features"], (-1, config.audio_feature_size))
        window = everything[i]["audio_features"]
        start = next(t for t in range(len(row) - 19) if np.array_equal(row[t : t + 20], window))
        seen.setdefault(clip, set()).update(range(start, start + 20))
    assert {clip: len(frames) for clip, frames in seen.items()} == dict(enumerate(store["num_frames"]))


def test_each_epoch_draws_other_windows_which_sound_and_face_share(latent_world):
    config = MDVAEConfig.from_preset("tiny", num_frames=20)
    data = LatentWindows(latent_world.store, config, seed=3)
    starts = []
    for epoch in range(8):
        data.set_epoch(epoch)
        found = []
        for name in ("audio", "visual"):
            row = np.reshape(latent_world.store[1][f"{name}_features"], (-1, 256))
            window = data[1][f"{name}_features"]
            assert window.shape == (20, 256)
            found.append({t for t in range(len(row) - 19) if np.array_equal(row[t : t + 20], window)})
        assert found[0] & found[1]
        starts.append(min(found[1]))
    assert len(set(starts)) > 3
    data.set_epoch(5)
    again = np.reshape(latent_world.store[1]["visual_features"], (-1, 256))[starts[5] : starts[5] + 20]
    np.testing.assert_array_equal(data[1]["visual_features"], again)


def test_short_clips_are_padded_and_masked(latent_world):
    config = MDVAEConfig.from_preset("tiny", num_frames=55)  # clips have 50 and 60 frames
    data = LatentWindows(latent_world.store, config)
    batch = FeatureCollator(55)(data.__getitems__([0, 3]))
    assert batch["audio_features"].shape == batch["visual_features"].shape == (2, 55, 256)
    assert batch["audio_attention_mask"].sum(1).tolist() == [50, 55]
    assert not batch["visual_features"][0, 50:].any()
    assert set(FeatureCollator()(data.__getitems__([3, 4]))) == {"audio_features", "visual_features"}


def test_a_clip_that_lacks_a_modality_of_the_model_is_left_out(latent_world):
    store = latent_world.store.map(
        lambda row, i: {"num_spectra": 0 if i == 2 else row["num_spectra"]}, with_indices=True
    )
    config = MDVAEConfig.from_preset("tiny")
    both, seen = (LatentWindows(store, config, modalities=names) for names in (("audio", "visual"), ("visual",)))
    assert len(both) == len(store) - 1
    assert len(seen) == len(store)
    assert store["clip_id"][2] not in both.store["clip_id"][:]


def test_statistics_are_means_and_how_much_features_move_within_their_clip(latent_world):
    rows = latent_world.store.select(range(5))
    statistics = feature_statistics(rows, MDVAEConfig.from_preset("tiny"), clips_at_once=2)
    for name, (mean, spread, movement, components) in statistics.items():
        clips = [np.reshape(values, (-1, 256)).astype(np.float64) for values in rows[f"{name}_features"]]
        np.testing.assert_allclose(mean, np.concatenate(clips).mean(axis=0), rtol=1e-6)
        moves = np.concatenate([clip - clip.mean(axis=0) for clip in clips])
        assert movement == pytest.approx(np.sqrt(np.square(moves).mean()), rel=1e-6)
        deviations = np.concatenate(clips) - mean
        assert spread == pytest.approx(np.sqrt(np.square(deviations).mean()), rel=1e-6)
        along = deviations @ (components / np.square(components).sum(axis=0))
        np.testing.assert_allclose(along.T @ along / len(along), np.eye(components.shape[1]), atol=1e-6)
        assert np.square(components).sum() <= np.square(deviations).sum() / len(deviations) * (1 + 1e-6)


def test_statistics_of_many_clips_are_those_of_some_of_them(latent_world, monkeypatch):
    config = MDVAEConfig.from_preset("tiny")
    expected = feature_statistics(latent_world.store.select([0, 2, 4]), config)
    monkeypatch.setattr("vqmae_hf.training.latent_batches.MOST_CLIPS_OF_STATISTICS", 3)
    found = feature_statistics(latent_world.store.select(range(5)), config)
    for name in expected:
        np.testing.assert_array_equal(found[name].components, expected[name].components)
        assert found[name].movement == expected[name].movement


def test_training_starts_from_the_means(latent_world):
    torch.manual_seed(0)
    model = MDVAEModel(MDVAEConfig.from_preset("tiny", kl_weight=0.0)).eval()
    batch = FeatureCollator()(LatentWindows(latent_world.store, model.config, windows="all").__getitems__(range(8)))
    statistics = feature_statistics(latent_world.store, model.config)
    with torch.no_grad():
        start_from_statistics(model, statistics)
        for name, (mean, spread, movement, _) in statistics.items():
            assert getattr(model.config, f"{name}_feature_scale") == spread
            deviation = batch[f"{name}_features"] - torch.from_numpy(mean).float()
            expected = float((deviation / movement).square().sum(-1).mean())
            assert float(model(**batch)[f"{name}_loss"]) == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("modalities", [("audio", "visual"), ("audio",), ("visual",)])
@pytest.mark.parametrize("sees_mean", [False, True])
def test_after_the_start_mean_features_are_what_zeros_were(latent_world, modalities, sees_mean):
    torch.manual_seed(0)
    model = MDVAEModel(MDVAEConfig.from_preset("tiny", modalities=modalities, w_sees_mean=sees_mean)).eval()
    statistics = feature_statistics(latent_world.store, model.config)
    means = {
        f"{name}_features": torch.from_numpy(mean).float().expand(1, 4, -1) for name, (mean, *_) in statistics.items()
    }
    with torch.no_grad():
        plain = deepcopy(model)
        start_static_latent(plain)
        before = plain.encode(**{name: torch.zeros_like(values) for name, values in means.items()})
        start_from_statistics(model, statistics)
        after = model.encode(**means)
    for name in ("w", *model.config.dynamic_latents):
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-4)


def test_a_model_starts_blind_to_what_features_never_do_and_decodes_none_of_it(latent_world):
    torch.manual_seed(0)
    model = MDVAEModel(MDVAEConfig.from_preset("tiny")).eval()
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.standard_normal((256, 5)))[0]
    components = axes[:, :3] * [4.0, 2.0, 1.0]
    statistics = {name: FeatureStatistics(np.zeros(256), 1.0, 1.0, components) for name in ("audio", "visual")}
    start_from_statistics(model, statistics)
    inputs = {name: np.repeat(axes[:, i].T[None, None], 6, axis=1) for name, i in (("never", 4), ("often", 1))}
    with torch.no_grad():
        encoded = {
            name: model.encode(**dict.fromkeys(("audio_features", "visual_features"), torch.from_numpy(x).float()))
            for name, x in {"zero": np.zeros((1, 6, 256)), **inputs}.items()
        }
        decoded = model.decode_features(encoded["often"])
    for latent in ("w", "z_av", "z_a", "z_v"):
        torch.testing.assert_close(encoded["never"][latent], encoded["zero"][latent], rtol=0, atol=1e-5)
        assert (encoded["often"][latent] - encoded["zero"][latent]).abs().max() > 1e-3
    for features in decoded.values():
        outside = features.numpy() - features.numpy() @ axes[:, :3] @ axes[:, :3].T
        assert np.abs(outside).max() < 1e-5 < np.abs(features.numpy()).max()


def test_features_that_never_move_are_refused(latent_world):
    still = latent_world.store.select([0]).map(lambda row: {"audio_features": [0.5] * len(row["audio_features"])})
    with pytest.raises(ValueError, match="the audio features of 1 clips never move"):
        feature_statistics(still, MDVAEConfig.from_preset("tiny"))


def test_the_noise_of_a_batch_is_its_own(latent_world):
    data, collator = LatentWindows(latent_world.store, MDVAEConfig.from_preset("tiny")), VariationalCollator(30)
    draws = [collator(data.__getitems__(rows))["generator"].initial_seed() for rows in ([0, 1], [0, 1], [2, 3])]
    assert draws[0] == draws[1] != draws[2]


# ---- training ----


def test_every_term_is_logged_and_the_loss_is_their_sum(trained):
    config = trained.model.config
    entries = [entry for entry in trained.log_history if "loss" in entry]
    for entry in entries:
        divergences = sum(entry[f"{name}_kl"] for name in ("w", "z_av", "z_a", "z_v"))
        assert divergences > 0
        assert entry["audio_loss"] + entry["visual_loss"] < entry["loss"] + 1e-3
    validation = trained.metrics["validation"]
    divergences = sum(validation[f"{name}_kl"] for name in ("w", "z_av", "z_a", "z_v"))
    total = validation["audio_loss"] + validation["visual_loss"] + config.kl_weight * divergences
    assert validation["loss"] == pytest.approx(total, rel=1e-4)
    last = [entry for entry in trained.log_history if "eval_loss" in entry][-2:]
    assert last[0]["eval_loss"] == last[1]["eval_loss"]  # the noise of validation is fixed


def test_the_report_says_what_is_explained_and_what_is_in_use(trained, latent_world):
    health = json.loads((trained.output_dir / "results.json").read_text())
    assert health == trained.health
    assert set(health["explained_variance"]) == {"audio", "visual"}
    sizes = {name: getattr(trained.model.config, f"{name}_size") for name in ("w", "z_av", "z_a", "z_v")}
    assert all(0 <= health["active_numbers"][name] <= size for name, size in sizes.items())


def test_the_divergences_are_warmed_up(latents, tmp_path):
    arguments = mdvae_arguments(latents, tmp_path, kl_warmup_steps=0.5, kl_weight=3.0, max_steps=8)
    model = train_mdvae.build_model(arguments)
    weight_at = train_mdvae.kl_schedule(arguments, model)
    weights = [weight_at(TrainerState(global_step=step, max_steps=8))["kl_weight"] for step in (0, 1, 2, 4, 7)]
    assert weights == [0.0, 0.75, 1.5, 3.0, 3.0]
    absolute = train_mdvae.kl_schedule(mdvae_arguments(latents, tmp_path, kl_warmup_steps=100), model)
    assert absolute(TrainerState(global_step=25, max_steps=8)) == {"kl_weight": 0.25}


def test_latents_that_start_late_are_held_to_their_priors_until_then(latents, tmp_path):
    starts = {"z_v": 0.0, "z_a": 0.4}
    arguments = mdvae_arguments(
        latents, tmp_path, kl_weight=2.0, kl_warmup_steps=0.0, latent_starts=starts, max_steps=20
    )
    weights_at = train_mdvae.kl_schedule(arguments, train_mdvae.build_model(arguments))
    weights = [weights_at(TrainerState(global_step=step, max_steps=20))["kl_weight"] for step in range(20)]
    assert {w["w"] for w in weights} == {2.0}
    assert [w["z_a"] for w in weights[:9]] == [2000.0] * 9
    assert weights[9]["z_a"] == pytest.approx(2 * 1000**0.5)  # half of the release in logarithms
    assert [w["z_a"] for w in weights[10:]] + [w["z_v"] for w in weights[2:]] == pytest.approx([2.0] * 28)
    result = train_mdvae.run(arguments)
    logged = [entry for entry in result.log_history if "loss" in entry]
    assert [entry["kl_weight/z_a"] for entry in logged][-1] == 2.0
    with pytest.raises(ValueError, match=r"latent_starts=.'w': 0\.5. must give some of"):
        mdvae_arguments(latents, tmp_path, latent_starts={"w": 0.5})


def test_the_warmed_up_weight_is_that_of_the_loss_and_of_training_alone(latents, tmp_path, monkeypatch):
    seen = []
    forward = MDVAEModel.forward

    def record(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        seen.append((self.training, kwargs.get("kl_weight"), output))
        return output

    record.__signature__ = __import__("inspect").signature(forward)
    monkeypatch.setattr(MDVAEModel, "forward", record)
    train_mdvae.run(mdvae_arguments(latents, tmp_path, kl_warmup_steps=4))
    assert [weight for training, weight, _ in seen if training] == [0.0, 0.25, 0.5, 0.75]
    assert {weight for training, weight, _ in seen if not training} == {None}
    for training, weight, output in seen:
        divergences = sum(output[f"{name}_kl"] for name in ("w", "z_av", "z_a", "z_v"))
        expected = output["audio_loss"] + output["visual_loss"] + (weight if training else 1.0) * divergences
        torch.testing.assert_close(output["loss"], expected)


def test_free_bits_reach_the_model_and_are_free(latents, tmp_path):
    result = train_mdvae.run(mdvae_arguments(latents, tmp_path, free_bits=50.0, max_steps=2))
    sizes = sum(getattr(result.model.config, f"{name}_size") for name in ("w", "z_av", "z_a", "z_v"))
    validation = result.metrics["validation"]
    # No number carries 50 bits: all that the loss has beside the reconstruction is the price of what is free.
    rest = validation["loss"] - validation["audio_loss"] - validation["visual_loss"]
    assert rest == pytest.approx(sizes * 50 * math.log(2), rel=1e-4)


def test_units_are_those_of_the_training_speakers_and_can_be_left_alone(trained, latent_world, latents, tmp_path):
    arguments = mdvae_arguments(latents, tmp_path, scale_features=False, max_steps=2, picture_clips=0)
    rows = split_speakers_of(latent_world.store, arguments)["train"]
    expected = feature_statistics(rows, trained.model.config)["visual"].spread
    assert trained.model.config.visual_feature_scale == pytest.approx(expected, rel=1e-9)
    assert train_mdvae.run(arguments).model.config.audio_feature_scale == 1


def test_the_checkpoint_takes_clips_of_any_length(trained, latent_world, world):
    model, processor = AutoModel.from_pretrained(trained.output_dir), AutoProcessor.from_pretrained(trained.output_dir)
    assert type(model) is MDVAEModel
    assert isinstance(processor, MDVAEProcessor)
    assert (processor.feature_extractor.hop_length, processor.video_processor.frames_per_second) == (533, 30)
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    alone = AudioVQVAEModel.from_pretrained(world.tokens["audio_tokenizer"])
    assert tokenizer_fingerprint(model.audio_tokenizer) == tokenizer_fingerprint(alone)
    arrays = clip_arrays(latent_world.clips, 3)  # 60 frames, trained on 10
    inputs = processor(audio=arrays.waveform, videos=[arrays.frames], padding="longest")
    decoded = model.decode(model.encode(**inputs))
    assert decoded["pixel_values_videos"].shape == (1, 60, 3, 64, 64)
    assert decoded["audio_values"].shape == (1, 60, 513)


def test_values_give_the_latents_that_the_store_gives(trained, latent_world):
    model, processor = trained.model, AutoProcessor.from_pretrained(trained.output_dir)
    arrays = clip_arrays(latent_world.clips, 0)
    from_values = model.encode(**processor(audio=arrays.waveform, videos=[arrays.frames], padding="longest"))
    row = latent_world.store[0]
    features = {f"{m}_features": torch.tensor(row[f"{m}_features"]).view(1, -1, 256) for m in ("audio", "visual")}
    from_store = model.encode(**features)
    for name in ("w", "z_av", "z_a", "z_v"):
        # float16, in units of the small deviations of these untrained tokenizers
        torch.testing.assert_close(from_store[name], from_values[name], rtol=0, atol=1e-2)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(accumulation, latents, tmp_path, monkeypatch):
    values = {"max_steps": 10, "save_steps": 4, "eval_steps": 4, "gradient_accumulation_steps": accumulation}
    values |= {"kl_warmup_steps": 8, "picture_clips": 0}
    straight = train_mdvae.run(mdvae_arguments(latents, tmp_path / "straight", **values))
    interrupt_after(monkeypatch, 9 * accumulation)
    with pytest.raises(KeyboardInterrupt):
        train_mdvae.run(mdvae_arguments(latents, tmp_path / "killed", **values))
    monkeypatch.undo()
    resumed = train_mdvae.run(mdvae_arguments(latents, tmp_path / "killed", **values))
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    last = [[entry for entry in run.log_history if "loss" in entry][-1] for run in (straight, resumed)]
    assert last[0] == last[1]


@pytest.mark.parametrize(("modality", "latent"), [("audio", "z_a"), ("visual", "z_v")])
def test_one_modality_alone(modality, latent, latents, tmp_path):
    other = {"audio": "visual", "visual": "audio"}[modality]
    arguments = mdvae_arguments(latents, tmp_path, modalities=[modality], max_steps=2, **{f"{other}_tokenizer": None})
    result = train_mdvae.run(arguments)
    assert result.model.config.dynamic_latents == (latent,)
    assert {f"{modality}_loss", "w_kl", f"{latent}_kl"} <= set(result.metrics["validation"])
    assert not {f"{other}_loss", "z_av_kl"} & set(result.metrics["validation"])
    loaded = MDVAEModel.from_pretrained(tmp_path)
    assert getattr(loaded, f"{other}_tokenizer") is None


def test_half_precision_trains_nearly_as_full(latents, tmp_path):
    runs = [
        train_mdvae.run(mdvae_arguments(latents, tmp_path / str(half), bf16=half, picture_clips=0)) for half in (0, 1)
    ]
    losses = [run.metrics["validation"]["loss"] for run in runs]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)


def test_latents_of_other_tokenizers_are_refused(latents, world, tmp_path):
    other = AudioVQVAEModel.from_pretrained(world.tokens["audio_tokenizer"])
    with torch.no_grad():
        other.quantizer.codebook += 1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(StaleStoreError, match="holds the latents of another audio tokenizer"):
        train_mdvae.run(mdvae_arguments(latents, tmp_path / "run", audio_tokenizer=str(tmp_path / "other")))


def test_what_is_missing_is_named_at_once(tmp_path):
    with pytest.raises(ValueError, match="problem") as caught:
        build_arguments(MDVAEArguments, output_dir=str(tmp_path), modalities=["sound"], kl_weight=-1.0)
    for name in ("latent_store", "modalities=", "kl_weight=-1"):
        assert name in str(caught.value)


def test_the_classifier_is_trained_by_a_plain_trainer(latents, latent_world, tmp_path):
    tokenizers = load_tokenizers(latents["audio_tokenizer"], latents["visual_tokenizer"])
    names = latent_world.store.features["emotion"].names
    fields = {"num_frames": 30, "id2label": dict(enumerate(names)), "classifier_loss": "cross_entropy"}
    torch.manual_seed(0)
    model = build_mdvae("tiny", tokenizers, MDVAEForAudioVisualClassification, **fields)
    start_from_statistics(model.base_model, feature_statistics(latent_world.store, model.config))
    arguments = TrainingArguments(
        str(tmp_path), max_steps=400, per_device_train_batch_size=18, learning_rate=5e-4, use_cpu=True
    )
    arguments = arguments.set_save("no").set_logging(steps=1, report_to=[])
    arguments.remove_unused_columns, arguments.disable_tqdm = False, True
    data = LatentWindows(latent_world.store, model.config)
    trainer = Trainer(model, arguments, data_collator=FeatureCollator(with_labels=True), train_dataset=data)
    trainer.train()
    output = trainer.predict(data)
    assert (output.predictions[0].argmax(-1) == output.label_ids).mean() > 0.9
