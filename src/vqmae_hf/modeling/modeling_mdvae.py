"""
MDVAE: a dynamical variational autoencoder of talking faces ([MD]), which tells what a clip keeps (w: who speaks, in which
mood) from what changes in every frame: shared by sound and face (z_av), the sound's alone (z_a), the face's alone (z_v).

Letters: B clips, T frames (one spectrum each), D features of a frame, x_a, x_v features, f_a, f_v what inference makes of
them, C classes.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers.utils.generic import can_return_tuple

from .across_processes import batch_share, num_processes, sum_over_processes
from .configuration_mdvae import LATENTS, MDVAEConfig
from .mdvae_features import FrameFeatures, in_units, join_frame_masks, prepare_features
from .mdvae_generation import DECODER_INPUTS, LatentSpace, draw_noise, part_of
from .mdvae_inference import DynamicLatent, StaticEncoder, infer_together
from .mdvae_losses import gaussian_kl, mean_over_real_items, reconstruction_loss, standard_normal, with_free_bits
from .mdvae_networks import FeatureDecoder, Gaussian, Perceptron, init_mdvae_weights
from .modeling_outputs_mdvae import MDVAEClassifierOutput, MDVAEEncoding, MDVAEOutput
from .tokenized_model import TokenizedPreTrainedModel
from .tokenizer_blocks import init_tokenizer_weights

# What the posterior of each dynamic latent depends on besides its history, in the order of the inputs of its first layer;
# what a model of one modality lacks is left out.
CONDITIONS = {"z_av": ("w", "audio", "visual"), "z_a": ("w", "audio", "z_av"), "z_v": ("w", "visual", "z_av")}
DECODER_ACTIVATION: dict[str, Any] = {"audio": "tanh", "visual": "relu"}


class MDVAEPreTrainedModel(TokenizedPreTrainedModel):
    """
    Base of the MDVAE family. Linear layers and recurrences start as torch starts them (uniform within 1 / sqrt(fan-in)).

    The recurrences and distributions of inference are in float32 whatever the autocast, and their weights stay in float32
    when loaded in half precision: rounding would add up over the frames. There are no stacked layers whose activations
    gradient checkpointing could save.
    """

    config: MDVAEConfig
    base_model_prefix = "model"
    main_input_name = "audio_features"
    input_modalities = ["audio", "video"]  # noqa: RUF012 - a class attribute of every model, never changed
    supports_gradient_checkpointing = False
    _keep_in_fp32_modules_strict = ["static_latent", "dynamic_latents"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        init_mdvae_weights(module)
        init_tokenizer_weights(module)

    @property
    def base_model(self) -> "MDVAEModel":
        """The autoencoder: the model itself, or the one inside a model with a head."""
        return cast(MDVAEModel, super().base_model)


class MDVAEModel(MDVAEPreTrainedModel, LatentSpace):
    r"""
    The multimodal dynamical variational autoencoder ([MD]): inference and generation of talking faces, and the training
    objective.

    ```python
    latents = model.encode(**processor(audio=waveform, videos=frames))
    other = model.encode(**processor(audio=other_waveform, videos=other_frames))
    decoded = model.decode(model.swap(other, latents, factors=("w",)))  # .pixel_values_videos, .audio_values
    ```
    """

    def __init__(self, config: MDVAEConfig):
        super().__init__(config)
        self.build_tokenizers()
        sizes = self.part_sizes()
        self.visual_embedding = (
            Perceptron(config.visual_feature_size, config.visual_embedding_sizes, "relu")
            if "visual" in sizes
            else None
        )
        self.static_latent = StaticEncoder(
            sum(sizes[modality] for modality in config.modalities),
            config.static_history_size,
            config.w_posterior_sizes,
            config.w_size,
            config.w_sees_mean,
        )
        self.dynamic_latents = nn.ModuleDict(
            {
                name: DynamicLatent(
                    sizes[name],
                    config.history_size,
                    sum(sizes[part] for part in CONDITIONS[name] if part in sizes),
                    getattr(config, f"{name}_posterior_sizes"),
                    getattr(config, f"{name}_prior_sizes"),
                )
                for name in config.dynamic_latents
            }
        )
        self.decoders = nn.ModuleDict(
            {
                modality: FeatureDecoder(
                    sum(sizes[part] for part in DECODER_INPUTS[modality] if part in sizes),
                    getattr(config, f"{modality}_decoder_sizes"),
                    getattr(config, f"{modality}_feature_size"),
                    DECODER_ACTIVATION[modality],
                    positive=getattr(config, f"{modality}_reconstruction_loss") == "itakura_saito",
                )
                for modality in config.modalities
            }
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        audio_features: torch.Tensor | None = None,
        visual_features: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
        sample: bool | None = None,
        generator: torch.Generator | None = None,
        noise: Mapping[str, torch.Tensor] | None = None,
        kl_weight: float | torch.Tensor | Mapping[str, float] | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> MDVAEOutput:
        r"""
        Infer the latents, decode them, and measure both ([MD], training objective).

        Args:
            audio_features (`torch.Tensor` of shape `(B, T, D)`): x_a, latents of the audio tokenizer before quantization; or
                `audio_values`, not both. D is 512 in [MD].
            visual_features (`torch.Tensor` of shape `(B, T, D)`): x_v; or `pixel_values_videos`, not both. 2048 in [MD].
            audio_values (`torch.Tensor` of shape `(B, T, 513)`): power spectra, for models with an audio tokenizer.
            pixel_values_videos (`torch.Tensor` of shape `(B, T, 3, H, H)`): pixels minus 0.5, for models with a visual
                tokenizer.
            audio_attention_mask, visual_attention_mask (`torch.Tensor` of shape `(B, T)`): 1 for real frames, 0 for padding
                at the end. A frame counts where both say so.
            sample (`bool`): samples of the posteriors, or their means; by default samples in training mode only.
            generator (`torch.Generator`): source of all noise; the default generator without.
            noise (mapping of `"w"` `(B, D)`, `"z_av"`, `"z_a"`, `"z_v"` `(B, T, D)`): the noise itself, standard normal.
            kl_weight (`float`, or mapping of latents to `float`): beta in place of the configuration's, for warm-up; for all
                latents or for those that are named.
            return_loss (`bool`): whether to compute the losses.

        Returns:
            [`MDVAEOutput`].

        Raises:
            ValueError: for a modality of the model that is missing or given twice, values without a tokenizer, and shapes
                that the configuration does not allow; the message says which are.
        """
        inputs = self.prepare_features(
            audio_features,
            visual_features,
            audio_values,
            pixel_values_videos,
            audio_attention_mask,
            visual_attention_mask,
        )
        sample = self.training if sample is None else sample
        encoding = self.infer_latents(inputs, self.posterior_noise(inputs, sample, generator, noise))
        output = MDVAEOutput()
        decoded = self.decode_features(encoding)
        if return_loss:
            self.add_losses(output, inputs, encoding, decoded, kl_weight)
        for modality, features in decoded.items():
            output[f"{modality}_features"] = features
        output["encoding"] = encoding
        return output

    def prepare_features(
        self,
        audio_features: torch.Tensor | None = None,
        visual_features: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
    ) -> FrameFeatures:
        """The features of every modality of the model, tokenized where values are given; see `forward`."""
        given = {
            "audio": (audio_features, audio_values, audio_attention_mask, self.audio_tokenizer),
            "visual": (visual_features, pixel_values_videos, visual_attention_mask, self.visual_tokenizer),
        }
        features = {m: prepare_features(self.config, m, *given[m]) for m in given if m in self.config.modalities}
        masks = {"audio": audio_attention_mask, "visual": visual_attention_mask}
        return FrameFeatures(features, join_frame_masks(features, masks))

    # ---- inference ----

    def encode(
        self,
        audio_features: torch.Tensor | None = None,
        visual_features: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        noise: Mapping[str, torch.Tensor] | None = None,
    ) -> MDVAEEncoding:
        """
        The latents of clips of any length, with their posteriors and priors; arguments as in `forward`.

        Deterministic (means) unless `sample=True` or `noise` is given. In the dynamic latents, time only flows forwards:
        those of a frame depend on w and on the frames up to it.
        """
        inputs = self.prepare_features(
            audio_features,
            visual_features,
            audio_values,
            pixel_values_videos,
            audio_attention_mask,
            visual_attention_mask,
        )
        return self.infer_latents(inputs, self.posterior_noise(inputs, sample, generator, noise))

    def infer_latents(
        self,
        inputs: FrameFeatures,
        noise: Mapping[str, torch.Tensor] | None = None,
        w: torch.Tensor | None = None,
        damaged_frames: torch.Tensor | None = None,
    ) -> MDVAEEncoding:
        """
        w from the whole clip, then z_av, then z_a and z_v, each frame by frame ([MD], inference model).

        Args:
            inputs: features and frame mask.
            noise: as in `forward`; means are taken without.
            w: (B, D) in place of the inferred one, whose posterior is reported all the same.
            damaged_frames: (B, T) bool, frames whose z_v comes from its prior instead of the face seen.
        """
        known = self.embed_features(inputs.features)
        posterior = self.infer_static(known, inputs.frame_mask)
        known["w"] = posterior.sample(part_of(noise, "w")) if w is None else w
        encoding = MDVAEEncoding(w=known["w"], frame_mask=inputs.frame_mask)
        _put(encoding, "w", posterior)
        for names in self.independent_latents(alone=damaged_frames is not None):
            inferred = infer_together(
                [cast(DynamicLatent, self.dynamic_latents[name]) for name in names],
                [[known[part] for part in CONDITIONS[name] if part in known] for name in names],
                None if noise is None else [noise[name] for name in names],
                damaged_frames if names == ("z_v",) else None,
            )
            for name, (sample, posterior, prior) in zip(names, inferred, strict=True):
                known[name] = encoding[name] = sample
                _put(encoding, name, posterior)
                _put(encoding, f"{name}_prior", prior)
        return encoding

    def independent_latents(self, alone: bool = False) -> list[tuple[str, ...]]:
        """Names of the dynamic latents in the order of inference; z_a and z_v are inferred together, unless `alone`."""
        names = self.config.dynamic_latents
        if alone or len(names) == 1:
            return [(name,) for name in names]
        return [("z_av",), ("z_a", "z_v")]

    def embed_features(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """f_a = x_a and f_v, the reduced x_v, by modality, from features in units of their scale: (B, T, D), as precise as
        inference."""
        dtype = next(self.static_latent.parameters()).dtype
        embedded = {}
        for modality, values in features.items():
            values = in_units(values, getattr(self.config, f"{modality}_feature_scale"))
            if modality == "visual" and self.visual_embedding is not None:
                values = self.visual_embedding(values.to(next(self.visual_embedding.parameters()).dtype))
            embedded[modality] = values.to(dtype)
        return embedded

    def infer_static(self, known: Mapping[str, torch.Tensor], frame_mask: torch.Tensor | None) -> Gaussian:
        """The posterior of w from f_v and f_a, in that order, of all real frames."""
        embedded = [known[modality] for modality in ("visual", "audio") if modality in known]
        return self.static_latent(embedded, frame_mask)

    def posterior_noise(
        self,
        inputs: FrameFeatures,
        sample: bool,
        generator: torch.Generator | None,
        noise: Mapping[str, torch.Tensor] | None,
    ) -> Mapping[str, torch.Tensor] | None:
        """The given noise, checked; drawn noise where samples are wanted; None for means."""
        first = next(iter(inputs.features.values()))
        shapes = self.noise_shapes(*first.shape[:2])
        if noise is not None:
            found = {name: tuple(noise[name].shape) for name in shapes if name in noise}
            if found != shapes:
                raise ValueError(f"noise has shapes {found}; standard normal tensors of shapes {shapes} are accepted.")
            return noise
        return draw_noise(shapes, generator, first.device) if sample else None

    # ---- training objective ----

    def add_losses(
        self,
        output: MDVAEOutput,
        inputs: FrameFeatures,
        encoding: MDVAEEncoding,
        decoded: Mapping[str, torch.Tensor],
        kl_weight: float | torch.Tensor | Mapping[str, float] | None = None,
    ) -> None:
        """Fill in every term and their weighted sum ([MD], training objective); padding takes no part in any of them."""
        total = encoding["w"].new_zeros((), dtype=torch.float32)
        shares = self.batch_shares(inputs)
        for modality, features in decoded.items():
            kind = getattr(self.config, f"{modality}_reconstruction_loss")
            scale = getattr(self.config, f"{modality}_feature_scale")
            target, reconstruction = in_units(inputs.features[modality], scale), in_units(features, scale)
            movement_weight = getattr(self.config, f"{modality}_movement_weight")
            term = reconstruction_loss(target, reconstruction, kind, inputs.frame_mask, movement_weight)
            term = term * getattr(self.config, f"{modality}_loss_weight") * shares["frames"]
            output[f"{modality}_loss"] = term
            total = total + term
        usual = self.config.kl_weight
        betas = kl_weight if isinstance(kl_weight, Mapping) else dict.fromkeys(LATENTS, kl_weight)
        for name, divergences in self.latent_divergences(encoding).items():
            divergences = divergences * shares["clips" if name == "w" else "frames"]
            output[f"{name}_kl"] = divergences.sum()
            beta = betas.get(name)
            weight = (usual if beta is None else beta) * getattr(self.config, f"{name}_kl_weight")
            overall = divergences
            if self.training and self.config.free_bits > 0:
                overall = sum_over_processes(divergences) / num_processes()
            total = total + weight * with_free_bits(divergences, self.config.free_bits, overall)
        output["loss"] = total

    def batch_shares(self, inputs: FrameFeatures) -> dict[str, Any]:
        """`batch_share` of the real frames, and of the clips that have some; 1 outside of training."""
        if not self.training or num_processes() == 1:
            return {"frames": 1.0, "clips": 1.0}
        first = next(iter(inputs.features.values()))
        real = first.new_ones(first.shape[:2]) if inputs.frame_mask is None else inputs.frame_mask
        counts = torch.stack([real.sum(), real.any(dim=1).sum()])
        shares = cast(torch.Tensor, batch_share(counts, first.device))
        return {"frames": shares[0], "clips": shares[1]}

    def latent_divergences(self, encoding: MDVAEEncoding) -> dict[str, torch.Tensor]:
        """KL of each number (D,) of each latent: mean over the clips for w, over the real frames for the others."""
        frame_mask = encoding.get("frame_mask")
        clips = frame_mask.any(dim=1) if frame_mask is not None else None
        w = _gaussian(encoding, "w")
        divergences = {"w": mean_over_real_items(gaussian_kl(w, standard_normal(w.mean)), clips)}
        for name in self.config.dynamic_latents:
            divergence = gaussian_kl(_gaussian(encoding, name), _gaussian(encoding, f"{name}_prior"))
            divergences[name] = mean_over_real_items(divergence, frame_mask)
        return divergences


class MDVAEForAudioVisualClassification(MDVAEPreTrainedModel):
    r"""
    Emotion of a clip from its static latent ([MD], emotion recognition): the mean of w, then one linear layer. With
    `freeze_encoder` in the configuration that layer alone is trained.
    """

    def __init__(self, config: MDVAEConfig):
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)  # transformers gives every configuration labels
        self.loss_type = "ForSequenceClassification"  # for the problem types that self.loss_function serves
        self.model = MDVAEModel(config)
        self.classifier = nn.Linear(config.w_size, self.num_labels)
        self.post_init()
        self.train(self.training)

    def train(self, mode: bool = True) -> "MDVAEForAudioVisualClassification":
        """Training mode, with a frozen encoder out of the gradient."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.model.eval().requires_grad_(False)
        return self

    @can_return_tuple
    def forward(
        self,
        audio_features: torch.Tensor | None = None,
        visual_features: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MDVAEClassifierOutput:
        r"""
        Classify clips. Only w is inferred: nothing is stepped but its own recurrence.

        Args:
            audio_features, visual_features, audio_values, pixel_values_videos, audio_attention_mask, visual_attention_mask:
                see [`MDVAEModel.forward`].
            labels (`torch.LongTensor` of shape `(B,)`): class indices; with `problem_type` "regression" or
                "multi_label_classification" float targets of shape `(B,)` or `(B, C)`.

        Returns:
            [`MDVAEClassifierOutput`].

        Raises:
            ValueError: as [`MDVAEModel.forward`].
        """
        inputs = self.model.prepare_features(
            audio_features,
            visual_features,
            audio_values,
            pixel_values_videos,
            audio_attention_mask,
            visual_attention_mask,
        )
        known = self.model.embed_features(inputs.features)
        w = self.model.infer_static(known, inputs.frame_mask).mean
        logits = self.classifier(w.to(self.classifier.weight.dtype))
        return MDVAEClassifierOutput(
            loss=self.classification_loss(logits, labels) if labels is not None else None, logits=logits, w=w
        )


def _put(encoding: MDVAEEncoding, name: str, gaussian: Gaussian) -> None:
    encoding[f"{name}_mean"], encoding[f"{name}_logvar"] = gaussian


def _gaussian(encoding: MDVAEEncoding, name: str) -> Gaussian:
    return Gaussian(encoding[f"{name}_mean"], encoding[f"{name}_logvar"])
