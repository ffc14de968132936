"""PaliGemma: SigLIP with its last norm and Gemma; no template, and a prompt that sees itself.

    paligemma-hub  google/paligemma-3b-*'s names and files
    paligemma-v5   transformers 5's; several heads of keys
    paligemma2     google/paligemma2-3b-*'s names; Gemma 2
"""
import json

import common
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PaliGemmaConfig, PaliGemmaProcessor, PreTrainedTokenizerFast
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]


def tokenizer():
    """As Gemma's: spaces are U+2581, single bytes where nothing else is, no beginning of its own."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.train_from_iterator(common.CORPUS, trainers.BpeTrainer(vocab_size=110, special_tokens=[], show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    pieces = SPECIAL[:4] + ["\n"] + [f"<0x{b:02X}>" for b in range(256)]
    pieces += sorted(learned["vocab"], key=learned["vocab"].get)
    vocab = {piece: i for i, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocab, [tuple(m) for m in learned["merges"]], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
                                   unk_token="<unk>", extra_special_tokens={"image_token": "<image>"})  # fmt: skip


def processor():
    import transformers.models.paligemma.processing_paligemma as module

    module.EXTRA_TOKENS = []  # 1,152 of them would make the vocabulary; they are words like any other
    image = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    image.image_seq_length = 16
    return PaliGemmaProcessor(image, tokenizer())


def config(text):
    def make(tokenizer):
        return PaliGemmaConfig(
            vision_config=dict(model_type="siglip_vision_model", hidden_size=48, intermediate_size=40, num_hidden_layers=2,
                               num_attention_heads=2, image_size=28, patch_size=7, vision_use_head=False),
            text_config=dict(model_type="gemma", hidden_size=64, intermediate_size=80, num_hidden_layers=2,
                             num_attention_heads=4, vocab_size=(len(tokenizer) + 15) // 8 * 8, head_dim=24,
                             max_position_embeddings=2048, eos_token_id=1, bos_token_id=2, pad_token_id=0) | text,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"), projection_dim=64, hidden_size=64,
            eos_token_id=1, bos_token_id=2, pad_token_id=0)  # fmt: skip

    return make


def inputs(processor, prompt, images):
    """`prompt` is what the whole text is; the processor itself puts <bos> and the newline in."""
    if not images:
        made = processor.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        return dict(made) | {"token_type_ids": common.torch.zeros_like(made["input_ids"])}
    marks, question = prompt.split("<bos>")
    assert question.endswith("\n")
    made = processor(text=[marks + question[:-1]], images=[images], add_special_tokens=False, return_tensors="pt")
    return {k: made[k] for k in ("input_ids", "attention_mask", "token_type_ids", "pixel_values")}


def tiles(inputs, images):
    return inputs["pixel_values"], [1] * len(images)


def as_on_the_hub(path):
    """paligemma-3b-pt-224 of 2024: flat preprocessor_config.json, hidden_act "gelu" and the tanh one meant."""
    joint = json.loads((path / "processor_config.json").read_text())
    image = joint.pop("image_processor")
    image |= {"image_processor_type": "SiglipImageProcessor", "image_seq_length": 16, "processor_class": "PaliGemmaProcessor"}
    (path / "preprocessor_config.json").write_text(json.dumps(image, indent=1) + "\n")
    (path / "processor_config.json").unlink()
    config = json.loads((path / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    text, vision = config["text_config"], config["vision_config"]
    for part in (text, vision):
        part.pop("dtype", None)
    text |= {"hidden_act": "gelu_pytorch_tanh", "torch_dtype": "float32"}
    text.pop("rope_parameters", None)
    text.pop("use_bidirectional_attention", None)
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def ask(text, pictures=1):
    return "<image>" * pictures + f"<bos>{text}\n"


FOLDERS = [
    common.Folder(
        "paligemma-hub", processor, config(dict(num_key_value_heads=1)),
        [("square", [(28, 28)], ask("What is shown in this picture?")),
         ("tall", [(47, 211)], ask("caption en")),
         ("dot", [(1, 1)], ask("Why?")),
         ("thin", [(4000, 30)], ask("answer en Read the heading.")),
         ("two", [(31, 50), (60, 20)], ask("How many?", 2))],
        tiles, "language_model", special=SPECIAL, settle=as_on_the_hub, processor_inputs=inputs,
        zero_norms=("language_model",), embed=0.04),
    common.Folder(
        "paligemma-v5", processor, config(dict(num_key_value_heads=2)),
        [("wide", [(77, 31)], ask("Which word is green?"))],
        tiles, "language_model", special=SPECIAL, hub_names=False, processor_inputs=inputs,
        zero_norms=("language_model",), embed=0.04),
    common.Folder(
        "paligemma2", processor,
        config(dict(model_type="gemma2", num_key_value_heads=2, query_pre_attn_scalar=20, attn_logit_softcapping=2.0,
                    final_logit_softcapping=4.0, sliding_window=1024)),
        [("wide", [(77, 31)], ask("Which word is green?")),
         ("two", [(31, 50), (60, 20)], ask("How many?", 2))],
        tiles, "language_model", special=SPECIAL, settle=as_on_the_hub, processor_inputs=inputs,
        zero_norms=("language_model",), embed=0.02, attention="eager"),
]  # fmt: skip

if __name__ == "__main__":
    common.main(FOLDERS)
