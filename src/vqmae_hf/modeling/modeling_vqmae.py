"""
VQ-MAE: a masked autoencoder over the codes of voice and face, and its fine-tuning for emotion ([AV]; [S] with the audio
modality alone).

Letters: B clips, S spectra, T frames, L tubes of a modality, V of them visible to the encoder, P codes per tube, d numbers
per code, D = P d width, K codebook size, C classes. Where both modalities stand in one sequence, the visual comes first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_blocks import FusionTransformer, GlobalPooling, QueriesKeysValues, VQMAECrossAttention, VQMAELayer
from .configuration_vqmae import VQMAEConfig
from .losses import info_nce
from .masking import TubeMasking, draw_ratios, explicit_masking, gather_tubes, random_masking
from .modeling_outputs_vqmae import VQMAEClassifierOutput, VQMAEForPreTrainingOutput, VQMAEModelOutput
from .query2emo import Query2Emo
from .tokenized_model import TokenizedPreTrainedModel
from .tokenizer_blocks import init_tokenizer_weights
from .tube_inputs import (
    TubeInputs,
    clips_with_both,
    join_streams,
    mean_over_real,
    mean_over_time,
    prepare_tubes,
)
from .vqmae_decoder import VQMAEDecoder
from .vqmae_embeddings import TubeEmbeddings, TubePositions, standardize_codebook

MODALITIES = ("visual", "audio")  # their order in a sequence


class VQMAEPreTrainedModel(TokenizedPreTrainedModel):
    """
    Base of the VQ-MAE family: how weights start, and how the tokenizers stay frozen.

    Linear layers start Xavier-uniform with zero bias (with `matched_attention_init`, keys like queries); code embeddings
    standard normal; learned positions, modality embeddings, mask and class tokens and queries normal with
    `initializer_range`; norms at the identity.
    """

    config: VQMAEConfig
    base_model_prefix = "model"
    main_input_name = "audio_codes"
    input_modalities = ["audio", "video"]  # noqa: RUF012 - a class attribute of every model, never changed
    supports_gradient_checkpointing = True
    _no_split_modules = ["VQMAELayer", "GlobalPooling"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": VQMAELayer,
        "attentions": OutputRecorder(VQMAELayer, index=1),
        "global_attentions": OutputRecorder(VQMAECrossAttention, index=1, layer_name="global_pooling"),
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
            if isinstance(module, QueriesKeysValues) and self.config.matched_attention_init:
                queries, _, values = module.weight.chunk(3)
                init.copy_(module.weight, torch.cat([queries, queries, values]))
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, GlobalPooling):
            init.normal_(module.query, std=std)
        elif isinstance(module, Query2Emo):
            init.normal_(module.class_queries, std=std)
        elif isinstance(module, nn.ParameterDict):  # learned positions, modality embeddings, class tokens
            for parameter in module.values():
                init.normal_(parameter, std=std)
        elif isinstance(module, VQMAEDecoder):
            init.normal_(module.mask_token, std=std)
        elif isinstance(module, TubePositions):
            module.fill_sinusoids()
        else:
            init_tokenizer_weights(module)

    @property
    def base_model(self) -> "VQMAEModel":
        """The encoder: the model itself, or the one inside a model with a head."""
        return cast(VQMAEModel, super().base_model)

    def get_input_embeddings(self) -> nn.Module:
        """The code embedding of the first modality in the configuration, where the model has one of its own."""
        if self.config.code_embedding == "tokenizer":
            raise NotImplementedError("the codebooks of the tokenizers embed the codes; there is no table to return.")
        return self.base_model.embeddings.code_table(self.config.modalities[0])

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base_model.embeddings.codes[self.config.modalities[0]] = value


class VQMAEModel(VQMAEPreTrainedModel):
    r"""
    The encoder: codes of a clip become one local representation per tube and one global representation per modality
    ([AV], encoder and global representations).
    """

    def __init__(self, config: VQMAEConfig):
        super().__init__(config)
        self.modalities = [modality for modality in MODALITIES if modality in config.modalities]
        self.build_tokenizers()
        self.embeddings = TubeEmbeddings(config, self.modalities)
        self.encoder = FusionTransformer(
            config, config.encoder_fusion, config.num_hidden_layers, config.num_attention_heads, final_norm=True
        )
        self.global_pooling = nn.ModuleDict(
            {modality: GlobalPooling(config) for modality in self.modalities}
            if config.global_representation == "attention_pooling"
            else {}
        )
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        audio_codes: torch.Tensor | None = None,
        visual_codes: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
        audio_mask: torch.Tensor | TubeMasking | None = None,
        visual_mask: torch.Tensor | TubeMasking | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VQMAEModelOutput:
        r"""
        Encode the visible tubes of clips.

        Args:
            audio_codes (`torch.LongTensor` of shape `(B, S, codes per spectrum)`): or `audio_values`, not both.
            visual_codes (`torch.LongTensor` of shape `(B, T, G, G)`): or `pixel_values_videos`, not both.
            audio_values (`torch.Tensor` of shape `(B, S, 513)`): power spectra, for models with an audio tokenizer.
            pixel_values_videos (`torch.Tensor` of shape `(B, T, 3, H, H)`): pixels minus 0.5, for models with a visual
                tokenizer.
            audio_attention_mask (`torch.Tensor` of shape `(B, S)`), visual_attention_mask (`(B, T)`): 1 for real spectra
                and frames, 0 for padding.
            audio_mask, visual_mask (`torch.BoolTensor` of shape `(B, L)`): True = hidden from the encoder. Everything is
                visible without.

        A modality of the configuration may be missing altogether: its tubes are simply not there.

        Returns:
            [`VQMAEModelOutput`].

        Raises:
            ValueError: for no input at all, codes and values of one modality, values without a tokenizer, and shapes,
                types or lengths that the configuration does not allow; the message says which are.
        """
        tubes = self.prepare_tubes(
            audio_codes, visual_codes, audio_values, pixel_values_videos, audio_attention_mask, visual_attention_mask
        )
        masks = {"audio": audio_mask, "visual": visual_mask}
        maskings = {modality: _as_masking(masks[modality], tubes[modality], modality) for modality in tubes}
        return self.encode_tubes(tubes, maskings, **kwargs)

    def prepare_tubes(
        self,
        audio_codes: torch.Tensor | None = None,
        visual_codes: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
    ) -> dict[str, TubeInputs]:
        """The tubes of every modality that is given (visual first), tokenized where values are given; see `forward`."""
        given = {
            "visual": (visual_codes, pixel_values_videos, visual_attention_mask, self.visual_tokenizer),
            "audio": (audio_codes, audio_values, audio_attention_mask, self.audio_tokenizer),
        }
        tubes = {
            modality: prepare_tubes(self.config, modality, *arguments)
            for modality, arguments in given.items()
            if arguments[0] is not None or arguments[1] is not None
        }
        if not tubes:
            raise ValueError(
                "no input was given; at least one of audio_codes, audio_values, visual_codes and pixel_values_videos is "
                "needed."
            )
        sizes = {modality: inputs.codes.shape[0] for modality, inputs in tubes.items()}
        counts = list(sizes.values())  # compared in pairs: a number that torch.export traces has no hash
        if any(count != counts[0] for count in counts):
            raise ValueError(f"the modalities have different numbers of clips: {sizes}.")
        return tubes

    def frozen_codebook(self, modality: str) -> torch.Tensor | None:
        """The tokenizer's code vectors (K, d) where they embed the codes, None where the model has a table of its own."""
        if self.config.code_embedding == "learned":
            return None
        return standardize_codebook(getattr(self, f"{modality}_tokenizer").get_codebook())

    @torch.no_grad()
    def start_from_codebooks(self) -> None:
        """
        Start the learned code embeddings at the tokenizers' codebooks: codes that look or sound alike begin alike, which
        a table of random vectors has to find out first.

        Modalities without a tokenizer, or with another code dimension, keep their random vectors.
        """
        for modality in self.embeddings.codes:
            table, tokenizer = self.embeddings.code_table(modality).weight, getattr(self, f"{modality}_tokenizer")
            codebook: torch.Tensor | None = tokenizer.get_codebook() if tokenizer is not None else None
            if codebook is not None and codebook.shape == table.shape:
                table.copy_(standardize_codebook(codebook))

    def encode_tubes(
        self, tubes: dict[str, TubeInputs], maskings: Mapping[str, TubeMasking | None], **kwargs: Any
    ) -> VQMAEModelOutput:
        """Embed what is visible, run the encoder, and pool one global representation per modality."""
        dtype = next(self.encoder.parameters()).dtype
        embedded = {
            modality: self.embeddings(modality, inputs, maskings[modality], self.frozen_codebook(modality), dtype)
            for modality, inputs in tubes.items()
        }
        sizes = {modality: hidden.shape[1] for modality, (hidden, _) in embedded.items()}
        hidden, real = join_streams(list(embedded.values()))
        hidden = self.encoder(hidden, sizes, real, **kwargs)

        output = VQMAEModelOutput()
        for modality, local in zip(sizes, hidden.split(list(sizes.values()), dim=1), strict=True):
            local_real = embedded[modality][1]
            global_vector = None
            if self.config.global_representation == "cls_token":
                global_vector, local = local[:, 0], local[:, 1:]
                local_real = local_real[:, 1:] if local_real is not None else None
            elif self.global_pooling:
                global_vector = self.global_pooling[modality](local, local_real, **kwargs)
            masking = maskings[modality]
            results = {
                "last_hidden_state": local,
                "global": global_vector,
                "tube_mask": local_real,
                "tube_ids": masking.visible_ids if masking is not None else None,
            }
            for name, tensor in results.items():
                if tensor is not None:  # a ModelOutput has no key for what is not there
                    output[f"{modality}_{name}"] = tensor
        return output


class VQMAEForPreTraining(VQMAEPreTrainedModel):
    r"""The masked autoencoder ([AV], self-supervised learning): predict the codes of hidden tubes from the visible ones."""

    def __init__(self, config: VQMAEConfig):
        super().__init__(config)
        self.model = VQMAEModel(config)
        self.decoder = VQMAEDecoder(config, self.model.modalities)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        audio_codes: torch.Tensor | None = None,
        visual_codes: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
        mask_ratio: float | Sequence[float] | None = None,
        audio_mask: torch.Tensor | None = None,
        visual_mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        output_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VQMAEForPreTrainingOutput:
        r"""
        Mask, encode, decode, and measure the prediction of the masked codes.

        Args:
            audio_codes, visual_codes, audio_values, pixel_values_videos, audio_attention_mask, visual_attention_mask: see
                [`VQMAEModel.forward`].
            mask_ratio (`float` or `(visual, audio)`): masked fractions instead of the configuration's or drawn ones.
            audio_mask, visual_mask (`torch.BoolTensor` of shape `(B, L)`): True = masked, instead of a random mask of that
                modality.
            generator (`torch.Generator`): source of ratios and permutations; the default generators without.
            return_loss (`bool`): whether to compute the losses.
            output_logits (`bool`): whether to compute the logits of all tubes, `(B, L, P, K)`, which are large.

        Returns:
            [`VQMAEForPreTrainingOutput`].

        Raises:
            ValueError: as [`VQMAEModel.forward`], and for ratios outside [0, 1].
        """
        tubes = self.model.prepare_tubes(
            audio_codes, visual_codes, audio_values, pixel_values_videos, audio_attention_mask, visual_attention_mask
        )
        explicit = {"audio": audio_mask, "visual": visual_mask}
        maskings = self.mask_tubes(tubes, explicit, mask_ratio, generator)
        encoded = self.model(
            audio_codes=audio_codes if audio_codes is not None else _codes(tubes, "audio"),
            visual_codes=visual_codes if visual_codes is not None else _codes(tubes, "visual"),
            audio_attention_mask=audio_attention_mask,
            visual_attention_mask=visual_attention_mask,
            audio_mask=maskings.get("audio"),
            visual_mask=maskings.get("visual"),
            **kwargs,
        )
        # Visible tubes are decoded no further than masked ones need, unless their logits are wanted.
        decoded = self.decoder(encoded, tubes, maskings, masked_only=not output_logits)

        output = VQMAEForPreTrainingOutput(
            visual_global=encoded.visual_global,
            audio_global=encoded.audio_global,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        for modality in tubes:
            output[f"{modality}_mask"] = maskings[modality].mask
            if output_logits:
                output[f"{modality}_logits"] = self.decoder.logits(modality, decoded[modality])
                decoded[modality] = gather_tubes(decoded[modality], maskings[modality].masked_ids)
        if return_loss:
            self.add_losses(output, encoded, decoded, tubes, maskings)
        return output

    def mask_tubes(
        self,
        tubes: dict[str, TubeInputs],
        explicit: Mapping[str, torch.Tensor | None],
        mask_ratio: float | Sequence[float] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, TubeMasking]:
        """The masking of every modality: the explicit one, or a random one of the given, configured or drawn ratio."""
        ratios = self.mask_ratios(mask_ratio, generator)
        maskings = {}
        for modality, inputs in tubes.items():
            masking = _as_masking(explicit[modality], inputs, modality)
            if masking is None:
                masking = random_masking(
                    inputs.codes.shape[0],
                    inputs.grid,
                    ratios[modality],
                    self.config.mask_strategy,
                    inputs.real,
                    generator,
                    inputs.codes.device,
                )
            maskings[modality] = masking
        return maskings

    def mask_ratios(
        self, mask_ratio: float | Sequence[float] | None, generator: torch.Generator | None
    ) -> dict[str, float]:
        """Masked fraction per modality: the argument, else the configuration's, else drawn, see `draw_ratios`."""
        mask_ratio = self.config.mask_ratio if mask_ratio is None else mask_ratio
        if mask_ratio is None:
            mask_ratio = draw_ratios(self.config.dirichlet_alpha, self.config.coupled_masking, generator)
        pair = [float(r) for r in mask_ratio] if isinstance(mask_ratio, Sequence) else [float(mask_ratio)]
        pair = pair * 2 if len(pair) == 1 else pair
        if len(pair) != 2 or not all(0 <= ratio <= 1 for ratio in pair):
            raise ValueError(f"mask_ratio={mask_ratio} must be one number or (visual, audio), within [0, 1].")
        return {"visual": pair[0], "audio": pair[1]}

    def add_losses(
        self,
        output: VQMAEForPreTrainingOutput,
        encoded: VQMAEModelOutput,
        decoded: dict[str, torch.Tensor],
        tubes: dict[str, TubeInputs],
        maskings: Mapping[str, TubeMasking],
    ) -> None:
        """Fill in the three terms and their weighted sum ([AV], total loss)."""
        loss = next(iter(decoded.values())).new_zeros((), dtype=torch.float32)
        for modality, inputs in tubes.items():
            term = self.decoder.code_loss(modality, decoded[modality], inputs, maskings[modality])
            output[f"{modality}_loss"] = term
            loss = loss + getattr(self.config, f"{modality}_loss_weight") * term
        if self.config.contrastive and len(tubes) == 2:
            term = info_nce(
                encoded["visual_global"],
                encoded["audio_global"],
                self.config.contrastive_temperature,
                clips_with_both(tubes),
                gather=self.training,
            )
            output["contrastive_loss"] = term
            loss = loss + self.config.contrastive_loss_weight * term
        output["loss"] = loss


class VQMAEForAudioVisualClassification(VQMAEPreTrainedModel):
    r"""
    Emotion of a clip ([AV], fine-tuning): the encoder over all tubes, then one of four heads. `mean` and `attention`
    classify concat(audio, visual) of the mean local and of the global representations linearly; `query2emo` asks the local
    representations once per class. `temporal_mean` is not in the papers: like `mean`, but bands of frequencies and parts of
    the picture stay apart, side by side, and the mean is over time alone (Niizumi et al. 2022, "Masked spectrogram modeling
    using masked autoencoders for learning general-purpose audio representation").
    """

    def __init__(self, config: VQMAEConfig):
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)  # transformers gives every configuration labels
        self.loss_type = "ForSequenceClassification"  # for the problem types that self.loss_function serves
        self.model = VQMAEModel(config)
        if config.classifier_pooling == "query2emo":
            self.classifier: nn.Module = Query2Emo(config)
        else:
            width = sum(self.pooled_width(modality) for modality in config.modalities)
            self.classifier = nn.Linear(width, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        audio_codes: torch.Tensor | None = None,
        visual_codes: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        visual_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        visual_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VQMAEClassifierOutput:
        r"""
        Classify clips. A missing modality is legal, as an argument left out or as an attention mask of zeros.

        Args:
            audio_codes, visual_codes, audio_values, pixel_values_videos, audio_attention_mask, visual_attention_mask: see
                [`VQMAEModel.forward`].
            labels (`torch.LongTensor` of shape `(B,)`): class indices; with `problem_type` "regression" or
                "multi_label_classification" float targets of shape `(B,)` or `(B, C)`.
            audio_mask, visual_mask (`torch.BoolTensor` of shape `(B, L)`): tubes to hide from the encoder.

        Returns:
            [`VQMAEClassifierOutput`].

        Raises:
            ValueError: as [`VQMAEModel.forward`].
        """
        encoded = self.model(
            audio_codes=audio_codes,
            visual_codes=visual_codes,
            audio_values=audio_values,
            pixel_values_videos=pixel_values_videos,
            audio_attention_mask=audio_attention_mask,
            visual_attention_mask=visual_attention_mask,
            audio_mask=audio_mask,
            visual_mask=visual_mask,
            **kwargs,
        )
        if self.config.classifier_pooling == "query2emo":
            logits = self.classifier(*self.join_local(encoded))
        else:
            logits = self.classifier(self.pool_modalities(encoded))
        return VQMAEClassifierOutput(
            loss=self.classification_loss(logits, labels) if labels is not None else None,
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            global_attentions=encoded.get("global_attentions"),
        )

    def join_local(self, encoded: VQMAEModelOutput) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Local representations of all given modalities, (B, V, D), and which are real, (B, V) or None."""
        return join_streams(
            [
                (encoded[f"{modality}_last_hidden_state"], encoded.get(f"{modality}_tube_mask"))
                for modality in MODALITIES
                if encoded.get(f"{modality}_last_hidden_state") is not None
            ]
        )

    def pooled_width(self, modality: str) -> int:
        """How many numbers a linear head is given of a modality: D, with `temporal_mean` D for each place."""
        if self.config.classifier_pooling != "temporal_mean":
            return self.config.hidden_size
        return self.config.hidden_size * getattr(self.config, f"num_{modality}_places")

    def pool_modalities(self, encoded: VQMAEModelOutput) -> torch.Tensor:
        """One vector per modality of the configuration, audio first, zeros for one that is missing, side by side."""
        present = next(v for m in MODALITIES if (v := encoded.get(f"{m}_last_hidden_state")) is not None)
        pooled = []
        for modality in ("audio", "visual"):
            if modality not in self.config.modalities:
                continue
            local, real = encoded.get(f"{modality}_last_hidden_state"), encoded.get(f"{modality}_tube_mask")
            if local is None or local.shape[1] == 0:  # not given, or hidden altogether
                pooled.append(present.new_zeros(present.shape[0], self.pooled_width(modality)))
                continue
            if self.config.classifier_pooling == "mean":
                vector = mean_over_real(local, real)
            elif self.config.classifier_pooling == "temporal_mean":
                num_places = getattr(self.config, f"num_{modality}_places")
                vector = mean_over_time(local, real, encoded.get(f"{modality}_tube_ids"), num_places)
            else:
                vector = encoded[f"{modality}_global"]
            if real is not None:
                vector = vector.masked_fill(~real.any(dim=1, keepdim=True), 0.0)
            pooled.append(vector)
        return torch.cat(pooled, dim=1)


def _codes(tubes: Mapping[str, TubeInputs], modality: str) -> torch.Tensor | None:
    return tubes[modality].grid_codes if modality in tubes else None


def _as_masking(mask: torch.Tensor | TubeMasking | None, inputs: TubeInputs, modality: str) -> TubeMasking | None:
    """The masking of a boolean mask, whose shape is checked against the tubes."""
    if mask is None or isinstance(mask, TubeMasking):
        return mask
    expected = tuple(inputs.codes.shape[:2])
    if mask.dtype != torch.bool or tuple(mask.shape) != expected:
        raise ValueError(
            f"{modality}_mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; a boolean tensor of shape {expected} "
            "(clips, tubes), True = masked, is accepted."
        )
    return explicit_masking(mask)
