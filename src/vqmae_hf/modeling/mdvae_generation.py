"""
What an MDVAE makes of latents: sound and face, other clips, clips that never were ([MD], generative model and its uses).

Letters: B clips, T frames, D numbers of a latent or features of a frame, H pixels of a side, N weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from .across_processes import draw_rows
from .mdvae_features import audio_features_to_latents, visual_features_to_latents
from .mdvae_inference import DynamicLatent
from .mdvae_latent_mixing import mix_latents
from .modeling_outputs_mdvae import MDVAEDecoding, MDVAELatents

# What each decoder starts from, in the order of the inputs of its first layer; what a model of one modality lacks is left
# out.
DECODER_INPUTS = {"audio": ("z_a", "w", "z_av"), "visual": ("z_v", "w", "z_av")}


class LatentSpace:
    """
    The generative half of an [`MDVAEModel`], whose inference is in its own file: decoding latents, and making new ones.

    The model has what is annotated here.
    """

    config: Any
    audio_tokenizer: Any
    visual_tokenizer: Any
    decoders: nn.ModuleDict
    dynamic_latents: nn.ModuleDict
    prepare_features: Any
    infer_latents: Any

    def part_sizes(self) -> dict[str, int]:
        """Numbers of what inference and decoders depend on: latents by name, f_a and f_v by modality."""
        config = self.config
        sizes = {"w": config.w_size, **{name: getattr(config, f"{name}_size") for name in config.dynamic_latents}}
        embedded = {"audio": config.audio_feature_size, "visual": config.visual_embedding_sizes[-1]}
        return sizes | {modality: embedded[modality] for modality in config.modalities}

    def noise_shapes(self, num_clips: int, num_frames: int) -> dict[str, tuple[int, ...]]:
        """The shape of each latent, by name, in the order of inference."""
        sizes = self.part_sizes()
        dynamic = {name: (num_clips, num_frames, sizes[name]) for name in self.config.dynamic_latents}
        return {"w": (num_clips, sizes["w"]), **dynamic}

    def decode(self, latents: MDVAELatents, output_values: bool | None = None) -> MDVAEDecoding:
        """
        Features of latents and, through quantizer and decoder of the tokenizers, sound and face ([MD], generative model).

        Args:
            latents: what `encode`, `swap`, `interpolate`, `continue_sequence` or `sample_prior` returned.
            output_values: whether to go on to spectra and pixels; by default where the model has tokenizers.

        Raises:
            ValueError: values wanted of a model without a tokenizer.
        """
        decoding = MDVAEDecoding()
        for modality, features in self.decode_features(latents).items():
            decoding[f"{modality}_features"] = features
            tokenizer = getattr(self, f"{modality}_tokenizer")
            if output_values and tokenizer is None:
                raise ValueError(
                    f"output_values=True needs the {modality} tokenizer, and the model has none; put one in with "
                    "`set_tokenizers`, or pass output_values=False."
                )
            if tokenizer is None or output_values is False:
                continue
            if modality == "audio":
                decoding["audio_values"] = self.decode_audio(features, latents.get("frame_mask"))
            else:
                decoding["pixel_values_videos"] = self.decode_visual(features)
        return decoding

    def decode_features(self, latents: MDVAELatents) -> dict[str, torch.Tensor]:
        """x_a from (z_a, w, z_av) and x_v from (z_v, w, z_av), by modality: (B, T, D) ([MD], generative model)."""
        decoded = {}
        for modality, decoder in self.decoders.items():
            dtype = next(decoder.parameters()).dtype
            parts = [latents[part].to(dtype) for part in DECODER_INPUTS[modality] if latents.get(part) is not None]
            decoded[modality] = decoder(parts) * getattr(self.config, f"{modality}_feature_scale")
        return decoded

    def decode_audio(self, audio_features: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Quantized, then decoded by the tokenizer: (B, T, D) -> power spectra (B, T, 513)."""
        latents = audio_features_to_latents(audio_features, self.config.audio_code_dim)
        return self.audio_tokenizer.decode_latents(self.audio_tokenizer.quantize(latents), frame_mask)

    def decode_visual(self, visual_features: torch.Tensor) -> torch.Tensor:
        """Quantized, then decoded by the tokenizer: (B, T, D) -> pixels minus 0.5 (B, T, 3, H, H)."""
        side, code_dim = self.config.visual_codes_per_side, self.config.visual_code_dim
        latents = visual_features_to_latents(visual_features, code_dim, side)
        return self.visual_tokenizer.decode_latents(self.visual_tokenizer.quantize(latents))

    def swap(self, source: MDVAELatents, target: MDVAELatents, factors: Sequence[str] = ("w",)) -> MDVAELatents:
        """
        `target` with the `factors` of `source` in place of its own ([MD], swapping of factors): `("w",)` puts the person and
        mood of `source` on what `target` says. As many frames as both have; with w alone, those of `target`.

        Raises:
            ValueError: factors that are unknown, or different numbers of clips.
        """
        return mix_latents(source, target, 1.0, factors)

    def interpolate(
        self,
        source: MDVAELatents,
        target: MDVAELatents,
        weight: float | torch.Tensor,
        factors: Sequence[str] = ("w",),
    ) -> MDVAELatents:
        """
        `target` with its `factors` a part of the way to those of `source` ([MD], interpolation of w): 0 is `target`, 1 what
        `swap` gives. `weight` (N,) gives one clip per weight: `torch.linspace(0, 1, 5)` a path of 5.
        """
        return mix_latents(source, target, weight, factors)

    @torch.no_grad()
    def continue_sequence(
        self,
        latents: MDVAELatents,
        num_frames: int,
        sample: bool = False,
        generator: torch.Generator | None = None,
        noise: Mapping[str, torch.Tensor] | None = None,
    ) -> MDVAELatents:
        """
        Clips continued by `num_frames` frames from the priors, w kept ([MD], generation).

        Args:
            latents: of T frames, all real; T may be 0.
            sample, generator, noise: as in `encode`; the means of the priors without. `noise` is of the new frames, and has
                no w.

        Returns:
            [`MDVAELatents`] of T + `num_frames` frames, of which the first T are the given ones.

        Raises:
            ValueError: `num_frames` below 1, or padding after which nothing can continue.
        """
        if num_frames < 1:
            raise ValueError(f"num_frames={num_frames} must be at least 1.")
        frame_mask = latents.get("frame_mask")
        if frame_mask is not None and not frame_mask.all():
            raise ValueError(
                "latents holds padding, after which no clip continues; encode clips of equal length together, without it."
            )
        w = latents["w"]
        if noise is None and sample:
            noise = draw_noise(self.noise_shapes(w.shape[0], num_frames), generator, w.device)
        continued = MDVAELatents(w=w)
        for name in self.config.dynamic_latents:
            dynamic = cast(DynamicLatent, self.dynamic_latents[name])
            added = dynamic.continue_from(latents[name], part_of(noise, name), num_frames)
            continued[name] = torch.cat([latents[name], added], dim=1)
        return continued

    @torch.no_grad()
    def sample_prior(
        self,
        num_clips: int,
        num_frames: int,
        generator: torch.Generator | None = None,
        w: torch.Tensor | None = None,
    ) -> MDVAELatents:
        """
        Latents of clips that never were, from the priors ([MD], generation): w from the standard normal distribution, or the
        given one (B, D), B = `num_clips`; the dynamic latents frame by frame.
        """
        parameter = next(self.dynamic_latents.parameters())
        shapes = self.noise_shapes(num_clips, 0)
        empty = {name: parameter.new_empty(shape) for name, shape in shapes.items() if name != "w"}
        if w is None:
            w = draw_noise({"w": shapes["w"]}, generator, parameter.device)["w"].to(parameter.dtype)
        if tuple(w.shape) != shapes["w"]:
            raise ValueError(f"w has shape {tuple(w.shape)}; {shapes['w']} is accepted, one row per clip.")
        return self.continue_sequence(MDVAELatents(w=w, **empty), num_frames, sample=True, generator=generator)

    @torch.no_grad()
    def denoise(
        self,
        audio_features: torch.Tensor | None = None,
        visual_features: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
        damaged_frames: torch.Tensor | None = None,
    ) -> MDVAEDecoding:
        """
        Clips as the model would have made them ([MD], audiovisual denoising): what noise or an occlusion adds to some frames
        of the face has no place in the latents, and the sound tells what the mouth did. Means throughout.

        Args:
            damaged_frames (`torch.BoolTensor` of shape `(B, T)`): frames of the face that are beyond use, where that is
                known: their z_v comes from its prior, given the frames before (ours).

        The other arguments are those of `forward`.

        Returns:
            [`MDVAEDecoding`] of all frames.

        Raises:
            ValueError: as `forward`, and for `damaged_frames` of another shape or of a model without z_v.
        """
        inputs = self.prepare_features(
            audio_features,
            visual_features,
            audio_values,
            pixel_values_videos,
            audio_attention_mask,
            visual_attention_mask,
        )
        expected = tuple(next(iter(inputs.features.values())).shape[:2])
        if damaged_frames is not None and ("visual" not in inputs.features or tuple(damaged_frames.shape) != expected):
            raise ValueError(
                f"damaged_frames has shape {tuple(damaged_frames.shape)}; {expected} is accepted, True where the face of a "
                f"frame is damaged, by a model that sees faces (modalities={tuple(self.config.modalities)})."
            )
        damaged = damaged_frames.bool() if damaged_frames is not None else None
        return self.decode(self.infer_latents(inputs, damaged_frames=damaged))


def draw_noise(
    shapes: Mapping[str, tuple[int, ...]], generator: torch.Generator | None, device: torch.device
) -> dict[str, torch.Tensor]:
    """Standard normal tensors of `shapes`, drawn in their order where the generator lives, on `device`."""
    source = device if generator is None else generator.device
    return {
        name: draw_rows(torch.randn, shape, generator, source).to(device, non_blocking=True)
        for name, shape in shapes.items()
    }


def part_of(noise: Mapping[str, torch.Tensor] | None, name: str) -> torch.Tensor | None:
    return None if noise is None else noise[name]
