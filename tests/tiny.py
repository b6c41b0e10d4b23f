"""Tiny models with random weights, saved the way the real ones are, so that the real loading code loads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
import torchvision
from safetensors.torch import save_file
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

CLIP_CONFIG: dict[str, dict[str, Any]] = {
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}


def save_clip(directory: Path) -> None:
    """A CLIP of 3.7 MB with OpenAI's preprocessing."""
    directory.mkdir(parents=True)
    (directory / "open_clip_config.json").write_text(json.dumps(CLIP_CONFIG))
    torch.manual_seed(1)
    model = open_clip.CLIP(**CLIP_CONFIG["model_cfg"])
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")


def save_resnet50(directory: Path) -> None:
    """A ResNet-50 of full size: its loader knows no other."""
    directory.mkdir(parents=True)
    torch.manual_seed(2)
    model = torchvision.models.resnet50(weights=None)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, directory / "resnet50.safetensors"
    )


def save_dinov2(directory: Path, *, seed: int = 3) -> None:
    """A DINOv2 of 150 kB with the real one's preprocessing, at its real size."""
    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=56)
    Dinov2Model(config).save_pretrained(directory)
    BitImageProcessor(
        size={"shortest_edge": 256},
        resample=3,
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(directory)


TINY_TEXT = {
    **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "init_std": 0.6},
    "max_position_embeddings": 600,
}
TINY_VISION = {
    **{"depths": [1] * 4, "embed_dim": [8, 16, 16, 32], "num_heads": [1, 2, 2, 4], "num_groups": [1, 2, 2, 4]},
    **{"window_size": 4, "projection_dim": 32, "drop_path_rate": 0.0, "initializer_range": 0.3},
}


def save_florence2(
    directory: Path,
    *,
    text: Mapping[str, Any] = TINY_TEXT,
    vision: Mapping[str, Any] = TINY_VISION,
    side: int = 64,
    image_tokens: int = 5,
    special_locations: bool = False,
) -> None:
    """A Florence-2; by default of 127 thousand parameters, with captions that depend on the picture (the weights are wide)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        BartTokenizer,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        GenerationConfig,
    )

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(["a red car on a road", "what does the image describe"], trainer)
    learned = json.loads(words.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = BartTokenizer(vocab=learned["vocab"], merges=merges, extra_special_tokens={"image_token": "<image>"})
    tokenizer.add_tokens(
        [*(f"<loc_{location}>" for location in range(1000)), "<poly>", "</poly>", "<sep>", "<od>", "</od>", "<ground>"],
        special_tokens=special_locations,
    )
    pictures = CLIPImageProcessor(size={"height": side, "width": side}, do_center_crop=False)
    pictures.image_seq_length = image_tokens
    kinds = (
        *("ocr", "phrase_grounding", "pure_text", "description_with_bboxes", "description_with_polygons", "polygons"),
        *("bboxes", "description_with_bboxes_or_polygons"),
    )
    parsing = {kind: {"PATTERN": "", "AREA_THRESHOLD": 0.0} for kind in kinds}
    processor = Florence2Processor(image_processor=pictures, tokenizer=tokenizer, post_processor_config=parsing)
    words_config = {"model_type": "bart", "vocab_size": len(tokenizer), **text}
    torch.manual_seed(5)
    config = Florence2Config(
        text_config=words_config, vision_config=dict(vision), image_token_id=tokenizer.image_token_id
    )
    model = Florence2ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        num_beams=3,
        no_repeat_ngram_size=3,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_bos_token_id=0,
        forced_eos_token_id=2,
    )
    model.save_pretrained(directory)
    processor.save_pretrained(directory)


def save_rt_detr(directory: Path, classes: tuple[str, ...] = ("cat", "cup", "rocket")) -> None:
    """An RT-DETR of fixed classes, with its image processor."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    torch.manual_seed(7)
    seen_by = RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 16, 32, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=seen_by,
        **{"encoder_hidden_dim": 32, "encoder_in_channels": [16, 32, 32], "feat_strides": [8, 16, 32], "d_model": 32},
        **{"encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2, "num_queries": 20},
        **{
            "decoder_in_channels": [32, 32, 32],
            "decoder_ffn_dim": 32,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
        },
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
    )
    RTDetrForObjectDetection(config).save_pretrained(directory)
    RTDetrImageProcessor(size={"height": 128, "width": 128}).save_pretrained(directory)


def save_grounding_dino(directory: Path) -> None:
    """A Grounding DINO, which looks for words, with its processor."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(8)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "a", "cat", "cup", "red", "rocket"]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            **{"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 20, "num_feature_levels": 4},
    )
    GroundingDinoForObjectDetection(config).save_pretrained(directory)
    pictures = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(directory)
